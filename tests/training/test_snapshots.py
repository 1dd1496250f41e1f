"""Averages kept on the way, and any width made of them from the command line."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from safetensors.numpy import load_file

from ddpm_jax import runs
from ddpm_jax.training import snapshots
from ddpm_jax.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """Six steps of configs/tiny.py with two widths, averages kept at each."""
    from ddpm_jax.train import train

    config = tiny_config.copy_and_resolve_references()
    config.ema.widths = (0.05, 0.10)
    config.ema.snapshot_every = 1
    config.train.steps = 6
    workdir = tmp_path_factory.mktemp("runs") / "snapshots"
    train(config, workdir)
    return workdir


def tracks(value):
    return {w: {"a/b": jnp.full((2, 3), value, jnp.float32)} for w in ("0.05", "0.1")}


def test_what_is_kept_is_read_back(tmp_path):
    for step in (10, 20, 30):
        snapshots.save(tmp_path, step, tracks(step))
    snapshots.save(tmp_path, 20, tracks(21))
    stored = snapshots.Lazy(snapshots.readers(tmp_path, until=20))
    assert sorted(stored) == [(10, 0.05), (10, 0.1), (20, 0.05), (20, 0.1)]
    assert len(stored) == 4
    np.testing.assert_array_equal(stored[20, 0.1]["a/b"], np.full((2, 3), 21))


def test_damaged_and_unfinished_ones_are_left_out(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr(logging, "warning", lambda *args: warned.append(args))
    for step in (1, 2, 3):
        snapshots.save(tmp_path, step, tracks(step))
    damaged = tmp_path / "ema" / "0000002.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    (tmp_path / "ema" / "0000003.sha256").unlink()
    assert {step for step, _ in snapshots.readers(tmp_path, 9)} == {1}
    assert [str(args[1]) for args in warned] == [str(damaged)]
    assert snapshots.readers(tmp_path / "none", 9) == {}


def test_kept_averages_are_those_of_the_checkpoints(run):
    loaded = runs.load(run)
    with Checkpoints(run, read_only=True) as checkpoints:
        saved = checkpoints.restore_ema(6, "0.1", loaded.params)
    stored = snapshots.Lazy(snapshots.readers(run, 6))
    assert {step for step, _ in stored} == {1, 2, 3, 4, 5, 6}
    for name, value in stored[6, 0.10].items():
        np.testing.assert_array_equal(value, saved[name])


def test_another_width_lies_between_the_trained_ones(run):
    """Nearer to both than they are to each other; a trained width is read as it is."""
    narrow, middle, wide = (runs.load(run, w) for w in ("0.05", "0.075", "0.10"))
    assert (middle.ema, middle.step, wide.ema) == ("0.075", 6, "0.1")

    def distance(one, other):
        pairs = ((one.params[n], other.params[n]) for n in one.params)
        return float(sum(jnp.sum((a - b) ** 2) for a, b in pairs))

    apart = distance(narrow, wide)
    assert 0 < distance(narrow, middle) < apart > distance(middle, wide) > 0


def test_sample_and_export_take_any_width(command, run, tmp_path):
    exported, images = tmp_path / "sampler", tmp_path / "images"
    result = command("export", f"--workdir={run}", f"--out={exported}", "--ema=0.075")
    assert result.status == 0, result.err
    weights = load_file(exported / "weights.safetensors")
    for name, value in runs.load(run, "0.075").params.items():
        np.testing.assert_array_equal(weights[name], value)
    arguments = (f"--out={images}", "--prompt=AP", "--ema=0.075")
    result = command("sample", f"--workdir={run}", *arguments)
    assert result.status == 0, result.err
    result = command("sample", f"--sampler={exported}", *arguments, "--overwrite")
    assert result.status == 1 and "has its average built in" in result.err


@pytest.mark.parametrize(
    "width, message",
    [
        ("wide", "--ema = 'wide': expected a number"),
        ("0.3", "EMA width = 0.3: expected more than 0, less than 0.28"),
        ("0.02", "stored averages come within .*config.ema.snapshot_every"),
    ],
)
def test_widths_that_cannot_be_made(run, width, message):
    with pytest.raises(ValueError, match=message):
        runs.load(run, width)
