"""Killed at any moment, a run ends with the bits of one that never was."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from ddpm_jax.training import best, monitoring
from tests.datasets import write_dataset
from tests.training import kills
from tests.training.test_resume import saved

TIMES = {"images_per_second", "step_seconds", "data_wait_share", "mfu"}


def without_times(entries):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def same_files(one, other):
    assert [p.name for p in one] == [p.name for p in other]
    for path, again in zip(one, other, strict=True):
        whole, killed = load_file(path), load_file(again)
        assert whole.keys() == killed.keys()
        for name, value in whole.items():
            np.testing.assert_array_equal(killed[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("steps, count", [(20, 3), (200, 25)])
def test_a_killed_run_is_the_whole_run(tmp_path, steps, count):
    """SIGKILL and SIGTERM, half of each, while it starts and while it trains: the same
    parameters, moments, averages, position in the data, lines of metrics.jsonl and
    best model."""
    import jax

    (tmp_path / "data").mkdir()
    counts = (("train", 32), ("validation", 20))
    data = write_dataset(tmp_path / "data", size=16, counts=counts)
    command = [sys.executable, "-m", "tests.training.kills"]
    result = subprocess.run(
        [*command, *map(str, (data, tmp_path, steps, count, 1))],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    said = (tmp_path / "killed.log").read_text()
    assert result.returncode == 0, result.stderr + said
    *attempts, (_, last) = json.loads(result.stdout.splitlines()[-1])
    assert last == 0 and "Traceback" not in said, said
    for sent, status in attempts:
        by_now = {"SIGKILL": {-signal.SIGKILL}, "SIGTERM": {-signal.SIGTERM, 75}}
        assert status in by_now.get(sent, {0}), said
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    config = kills.config_of(str(data), steps)
    states = [saved(config, workdir, steps) for workdir in (whole, killed)]
    (state1, data1), (state2, data2) = states
    assert int(state1.step) == steps and data1 == data2
    assert jax.tree.structure(state1) == jax.tree.structure(state2)
    jax.tree.map(np.testing.assert_array_equal, state1, state2)
    entries = [monitoring.read_metrics(workdir) for workdir in (whole, killed)]
    assert without_times(entries[0]) == without_times(entries[1])
    lines = (killed / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(entries[0])
    averages = [sorted((w / "ema").glob("*.safetensors")) for w in (whole, killed)]
    assert len(averages[0]) == steps // 10
    same_files(*averages)
    ours, theirs = (best.newest(workdir) for workdir in (killed, whole))
    assert ours.measured == theirs.measured
    assert sum("fd" in entry for entry in entries[0]) == steps // 4
    same_files([ours.path], [theirs.path])
