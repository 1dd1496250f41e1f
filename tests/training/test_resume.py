"""A run that was stopped and started again, or spread over devices, is the same run."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from ddpm_jax import build, command_line, runs, train
from ddpm_jax.data import pipeline, records
from ddpm_jax.training import monitoring, state
from ddpm_jax.training import step as steps
from ddpm_jax.training.checkpoint import Checkpoints


def saved(config, workdir, step):
    """Everything in a checkpoint: (state, position in the data)."""
    net = build.model(config, build.condition_schema(config))
    like = state.create(
        net.init(jax.random.key(0)), build.optimizer(config), build.ema_rates(config)
    )
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(step, like)


def assert_same_run(config, one, other, step=4):
    """Parameters, optimiser, averages and data position, bit for bit."""
    (state1, data1), (state2, data2) = (saved(config, w, step) for w in (one, other))
    assert jax.tree.structure(state1) == jax.tree.structure(state2)
    assert int(state1.step) == step
    jax.tree.map(np.testing.assert_array_equal, state1, state2)
    assert data1 == data2
    losses = [
        [entry["loss"] for entry in monitoring.read_metrics(workdir)]
        for workdir in (one, other)
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_two_steps_and_two_more_are_four(tiny_config, tiny_run, tmp_path, monkeypatch):
    """SIGTERM in step 1 of 4 ends the run after step 2, saved; the same command goes
    on from there. Each process traces the step once."""
    traced = []
    make_step, rate = steps.make_step, monitoring.Clock.rate

    def counting(*args):
        step = make_step(*args)

        def traced_step(*args):
            traced.append(len(traced))
            return step(*args)

        return traced_step

    def stopping(clock, step):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return rate(clock, step)

    monkeypatch.setattr(steps, "make_step", counting)
    monkeypatch.setattr(monitoring.Clock, "rate", stopping)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(command_line.Preempted):
        train.train(tiny_config, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2]
    assert len(traced) == 1
    train.train(tiny_config, tmp_path)
    assert len(traced) == 2
    assert_same_run(tiny_config, tiny_run, tmp_path)


def test_finished_run_is_left_as_it_is(tiny_config, tiny_run, tmp_path):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    train.train(tiny_config, workdir)
    assert_same_run(tiny_config, tiny_run, workdir)


def test_another_config_is_refused(tiny_config, tiny_run):
    config = tiny_config.copy_and_resolve_references()
    config.model.emb = 64
    config.optimizer.skip_above = 10.0  # its state is in the checkpoint
    config.train.log_every = 3  # may change
    with pytest.raises(ValueError) as raised:
        train.train(config, tiny_run)
    assert (
        "differs in config.model.emb: 32 -> 64; config.optimizer.skip_above: 0.0 -> "
        "10.0; expected the same, or another --workdir."
    ) in str(raised.value)


@pytest.mark.parametrize("key, value", [("flip", 0.5), ("balance", ("view",))])
def test_a_run_from_before_flips_and_balance(
    tiny_config, tiny_run, tmp_path, key, value
):
    """Its config.json lacks the keys; it goes on as it began, and not otherwise."""
    path = shutil.copytree(tiny_run, tmp_path / "run") / "config.json"
    stored = json.loads(path.read_text())
    for name in ("flip", "balance", "balance_power"):
        del stored["data"][name]
    path.write_text(json.dumps(stored))
    config = tiny_config.copy_and_resolve_references()
    config.data[key] = value
    with pytest.raises(
        ValueError, match=f"differs in config.data.{key}: .* -> .*; exp"
    ):
        train.train(config, path.parent)
    schema = build.condition_schema(config)
    manifest = records.load_manifest(tiny_config.data.folder)
    runs.begin(path.parent, tiny_config, schema, manifest)


def test_another_data_set_is_refused(tiny_config, tiny_run, tmp_path):
    from tests.datasets import write_dataset

    config = tiny_config.copy_and_resolve_references()
    config.data.folder = str(write_dataset(tmp_path, size=16, seed=1))
    with pytest.raises(ValueError, match="differs in its data set"):
        train.train(config, tiny_run)


ON_EIGHT = """
import sys
from pathlib import Path
import jax
from configs import tiny
from ddpm_jax.train import train
assert jax.device_count() == 8
config = tiny.get_config()
config.data.folder = sys.argv[1]
train(config, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_eight_devices_are_one(tiny_data, tiny_run, tmp_path):
    """The same losses but for the order of sums: float32 over 4 steps."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} {os.environ['XLA_FLAGS']}",
        "JAX_PLATFORMS": "cpu",
    }
    subprocess.run(
        [sys.executable, "-c", ON_EIGHT, str(tiny_data), str(tmp_path / "run")],
        env=environment,
        check=True,
        capture_output=True,
    )
    one, eight = (
        monitoring.read_metrics(folder) for folder in (tiny_run, tmp_path / "run")
    )
    for name in ("loss", "grad_norm"):
        values = [[entry[name] for entry in entries] for entries in (one, eight)]
        np.testing.assert_allclose(values[1], values[0], 1e-4, err_msg=name)


def test_a_batch_must_split_over_the_devices(tiny_config, tmp_path):
    config = tiny_config.copy_and_resolve_references()
    config.data.batch = 0
    with pytest.raises(ValueError, match="config.data.batch = 0: expected a positive"):
        train.train(config, tmp_path)


def test_passes_over_the_data(tiny_config):
    """Every record once a pass, in another order in each; state is plain JSON."""
    schema = build.condition_schema(tiny_config)
    iterator = pipeline.train_iterator(tiny_config, schema)
    batches = [next(iterator) for _ in range(8)]  # 2 passes of 32 records by 8
    json.dumps(iterator.get_state())
    iterator.close()
    orders = []
    for batches_of_pass in (batches[:4], batches[4:]):
        images = np.concatenate([batch["image"] for batch in batches_of_pass])
        assert images.dtype == np.uint16
        orders.append([image.tobytes() for image in images])
    assert len(set(orders[0])) == 32
    assert set(orders[0]) == set(orders[1]) and orders[0] != orders[1]
