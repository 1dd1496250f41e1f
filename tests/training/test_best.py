"""The best model of a run on disk: which one it is, whatever happens to the files."""

import os
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_jax.training import best, snapshots


def keep(workdir, step, fd=1.0):
    tracks = {"0.1": {"a/b": jnp.full((2, 3), step, jnp.float32)}}
    measured = best.Measured(step, fd, 0.5, 100, "like this")
    best.save(workdir, measured, tracks)
    return measured


@pytest.fixture
def warned(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda *args: found.append(args))
    return found


def test_what_is_kept_is_read_back(tmp_path):
    assert best.newest(tmp_path) is None
    keep(tmp_path, 9, 2.0)
    measured = keep(tmp_path, 10, 1 / 3)
    found = best.newest(tmp_path)
    assert found.measured == measured
    np.testing.assert_array_equal(found.read("0.1")["a/b"], np.full((2, 3), 10))
    assert str(measured) == "step 10, of Fréchet distance 0.333 (real images: 0.5)"


def test_a_damaged_one_is_not_the_best(tmp_path, warned):
    keep(tmp_path, 1), keep(tmp_path, 2)
    path = tmp_path / "best" / "0000002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert best.newest(tmp_path).measured.step == 1
    assert [str(args[1]) for args in warned] == [str(path)]


class Killed(BaseException):
    """Nothing handles it: what is on disk then is what a kill leaves there."""


@pytest.mark.parametrize(
    "module, name, call",
    [
        (snapshots, "save_file", 1),
        (snapshots, "sha256", 1),
        (os, "replace", 1),
        (os, "replace", 2),
    ],
)
def test_killed_while_it_is_written_the_old_one_is_the_best(
    tmp_path, monkeypatch, module, name, call
):
    keep(tmp_path, 1)
    act, calls = getattr(module, name), []

    def dying(*args):
        calls.append(args)
        if len(calls) == call:
            raise Killed
        return act(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, name, dying)
        keep(tmp_path, 2)
    assert best.newest(tmp_path).measured.step == 1
    best.set_aside(tmp_path, after=5)
    names = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert names == ["0000001.safetensors", "0000001.sha256"]
    keep(tmp_path, 2)
    assert best.newest(tmp_path).measured.step == 2


@given(
    st.sets(st.integers(1, 30), min_size=1, max_size=6),
    st.sets(st.integers(1, 30), max_size=3),
)
@settings(deadline=None, max_examples=30)
def test_going_on_from_any_checkpoint_finds_the_best_of_then(kept, saved):
    """And of those before the oldest checkpoint, the last alone is left."""
    for after in saved | {30}:
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder)
            for step in sorted(kept):
                keep(workdir, step)
            best.drop_older(workdir, list(saved))
            left = snapshots.steps(workdir / "best")
            assert sum(step <= min(saved, default=0) for step in left) <= 1
            best.set_aside(workdir, after)
            found = best.newest(workdir)
            then = max((step for step in kept if step <= after), default=None)
            assert (found.measured.step if found else None) == then


def test_the_old_one_stays_until_its_successor_is_verified(tmp_path, warned):
    keep(tmp_path, 1), keep(tmp_path, 2)
    path = tmp_path / "best" / "0000002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    best.drop_older(tmp_path, [4])
    assert best.newest(tmp_path).measured.step == 1
    keep(tmp_path, 3)
    best.drop_older(tmp_path, [4])
    assert snapshots.steps(tmp_path / "best") == [3]
