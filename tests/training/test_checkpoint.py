"""Checkpoints that were damaged after they were written."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from ddpm_jax import runs
from ddpm_jax.training.checkpoint import Checkpoints, checksums
from ddpm_jax.training.state import State


@pytest.fixture
def workdir(tiny_run, tmp_path):
    """A copy of the tiny run, which has checkpoints 2 and 4."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def largest(workdir, step):
    files = [p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


def add(path):
    path.with_name("stray").write_bytes(b"")


DAMAGE = {
    flip: "checkpoint 4: the file {} is not as it was written",
    truncate: "checkpoint 4: the file {} is not as it was written",
    remove: "checkpoint 4 lacks the file {}",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_newest_good_checkpoint_is_used(workdir, damage, monkeypatch):
    warned = []
    monkeypatch.setattr(logging, "warning", lambda *args: warned.append(args))
    path = largest(workdir, 4)
    name = path.relative_to(workdir / "checkpoints" / "4").as_posix()
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest() == 4 and checkpoints.fault(4) is None
        damage(path)
        assert checkpoints.fault(4) == DAMAGE[damage].format(name)
        assert checkpoints.latest() == 2
    assert [text % tuple(rest) for text, *rest in warned] == [
        DAMAGE[damage].format(name)
    ]


def test_a_stray_file_is_a_fault(workdir):
    add(largest(workdir, 4))
    with Checkpoints(workdir) as checkpoints:
        assert "stray is not as it was written" in checkpoints.fault(4)


def test_sampling_uses_the_newest_good_one(workdir):
    assert runs.load(workdir).step == 4
    flip(largest(workdir, 4))
    assert runs.load(workdir).step == 2


def test_all_damaged(workdir):
    flip(largest(workdir, 2))
    flip(largest(workdir, 4))
    with pytest.raises(ValueError) as raised:
        runs.load(workdir)
    message = str(raised.value)
    assert "every checkpoint is damaged; checkpoint 4: the file" in message
    assert "\n" not in message


def test_a_checkpoint_without_its_list_was_never_finished(workdir):
    (workdir / "checksums" / "4.json").unlink()
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.steps() == [2] and checkpoints.latest() == 2


def test_nothing_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [] and checkpoints.latest() is None


def test_run_without_checkpoints(workdir):
    for step in (2, 4):
        (workdir / "checksums" / f"{step}.json").unlink()
    with pytest.raises(ValueError, match="do not belong together"):
        runs.load(workdir)
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(ValueError, match="no finished checkpoint yet; train it first"):
        runs.load(workdir)


def small_state(value):
    params = {"a/b": jnp.full((2, 3), value, jnp.float32)}
    return State(jnp.int32(value), params, (), {"0.1": params})


def test_save_and_restore(tmp_path):
    state = small_state(3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state, {"position": [1, 2]})
        restored, data_state = checkpoints.restore(3, small_state(0))
        average = checkpoints.restore_ema(3, "0.1", state.params)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert data_state == {"position": [1, 2]}
    np.testing.assert_array_equal(average["a/b"], state.params["a/b"])


def test_older_ones_go_only_after_the_new_one_is_whole(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        deleted = []
        delete = checkpoints.manager.delete

        def checked(step):
            newest = checkpoints.steps()[-1]
            assert checkpoints.fault(newest) is None
            deleted.append((step, newest))
            delete(step)

        monkeypatch.setattr(checkpoints.manager, "delete", checked)
        for step in (1, 2, 3, 4):
            checkpoints.save(step, small_state(step), {})
        assert checkpoints.steps() == [3, 4] and checkpoints.latest() == 4
    assert deleted == [(1, 3), (2, 4)]
    assert sorted(p.name for p in (tmp_path / "checksums").iterdir()) == [
        "3.json",
        "4.json",
    ]


def test_an_interrupted_save_leaves_the_older_ones(tmp_path, monkeypatch):
    """Died while writing the third: both older ones are still there."""
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {})

        def dies(folder):
            raise KeyboardInterrupt

        monkeypatch.setattr("ddpm_jax.training.checkpoint.checksums", dies)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(3, small_state(3), {})
        monkeypatch.undo()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [1, 2] and checkpoints.latest() == 2
        checkpoints.set_aside(after=2)
        checkpoints.save(3, small_state(3), {})
        assert checkpoints.latest() == 3


def test_checksums_name_files_by_relative_path(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checksums(tmp_path) == {"a/b": digest}
