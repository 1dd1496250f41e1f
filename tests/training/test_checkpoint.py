"""Checkpoints that were damaged after they were written."""

import errno
import functools
import os
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from ddpm_jax import runs
from ddpm_jax.training import snapshots
from ddpm_jax.training.checkpoint import Checkpoints, checksums
from ddpm_jax.training.state import State


@pytest.fixture
def workdir(tiny_run, tmp_path):
    """A copy of the tiny run, which has checkpoints 2 and 4."""
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def warned(monkeypatch):
    """Warnings as they are shown, line by line."""
    lines = []
    monkeypatch.setattr(
        logging, "warning", lambda text, *rest: lines.append(text % rest)
    )
    return lines


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
def test_newest_good_checkpoint_is_used(workdir, damage, warned):
    path = largest(workdir, 4)
    name = path.relative_to(workdir / "checkpoints" / "4").as_posix()
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest() == 4 and checkpoints.fault(4) is None
        damage(path)
        assert checkpoints.fault(4) == DAMAGE[damage].format(name)
        assert checkpoints.latest() == 2
    assert warned == [DAMAGE[damage].format(name)]


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
        checkpoints.finish()
        restored, data_state = checkpoints.restore(3, small_state(0))
        average = checkpoints.restore_ema(3, "0.1", state.params)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert data_state == {"position": [1, 2]}
    np.testing.assert_array_equal(average["a/b"], state.params["a/b"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_older_ones_go_only_after_the_new_one_is_whole(tmp_path, monkeypatch):
    deleted, delete = [], shutil.rmtree
    with Checkpoints(tmp_path, keep=2) as checkpoints:

        def checked(folder):
            newest = checkpoints.steps()[-1]
            assert checkpoints.fault(newest) is None
            deleted.append((int(folder.name), newest))
            delete(folder)

        monkeypatch.setattr(shutil, "rmtree", checked)
        for step in (1, 2, 3, 4):
            checkpoints.save(step, small_state(step), {})
        checkpoints.finish()
        assert checkpoints.steps() == [3, 4] and checkpoints.latest() == 4
    assert deleted == [(1, 3), (2, 4)]
    assert names(tmp_path / "checksums") == ["3.json", "4.json"]


def dies(*args, **kwargs):
    raise KeyboardInterrupt


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_interrupted_save_leaves_the_older_ones(tmp_path, monkeypatch):
    """Died before the third was verified: both older ones are still there."""
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path, 2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small_state(step), {})
        checkpoints.finish()
        monkeypatch.setattr("ddpm_jax.training.checkpoint.checksums", dies)
        checkpoints.save(3, small_state(3), {})
    monkeypatch.undo()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [1, 2] and checkpoints.latest() == 2
        checkpoints.set_aside(after=2)
        checkpoints.save(3, small_state(3), {})
        checkpoints.finish()
        assert checkpoints.latest() == 3
    assert [name[:2] for name in names(tmp_path / "damaged")] == ["3_"]


def test_an_interrupted_deletion_is_made_up_for(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        (checkpoints.folder / "1" / "state").mkdir(parents=True)
        for step in (2, 3):
            checkpoints.save(step, small_state(step), {})
    assert names(tmp_path / "checkpoints") == ["3"]


def test_half_written_and_empty_ones_are_reported_and_passed_over(tmp_path, warned):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, small_state(3), {})
    half = tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp"
    (half / "state").mkdir(parents=True)
    (tmp_path / "checkpoints" / "4").mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.start() == 3
        checkpoints.set_aside(after=3)
    assert names(tmp_path / "checkpoints") == ["3"]
    (aside,) = (tmp_path / "damaged").iterdir()
    assert warned == [
        f"checkpoint 4, whose checksums are missing, is set aside in {aside}",
        "checkpoint 5 was half written and is removed",
    ]


def test_what_is_set_aside_does_not_fill_the_disk(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (5, 7, 9, 11):
            (checkpoints.folder / str(step)).mkdir()
            checkpoints.set_aside(after=1)
        assert len(names(tmp_path / "damaged")) == 4
        checkpoints.save(2, small_state(2), {})
    assert [name.split("_")[0] for name in names(tmp_path / "damaged")] == ["11", "9"]


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_saved_is_the_step_of_the_save_whatever_is_donated_later(tmp_path):
    """Six saves, five steps that overwrite the state after each: each checkpoint and
    each average holds what its step had."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        return jax.tree.map(lambda x: x + jnp.ones_like(x), state)

    params = {"a/b": jnp.zeros((512, 513), jnp.float32)}
    state = State(jnp.int32(0), params, (), {"0.1": jax.tree.map(jnp.copy, params)})
    expected = {}
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for _ in range(6):
            number = int(state.step)
            expected[number] = jax.tree.map(lambda x: np.array(x, copy=True), state)
            snapshots.save(tmp_path, number, state.ema, checkpoints.submit)
            checkpoints.save(number, state, {})
            for _ in range(5):
                state = step(state)
            jax.block_until_ready(state)
        checkpoints.finish()
        assert checkpoints.steps() == [0, 5, 10, 15, 20, 25]
        for number, whole in expected.items():
            restored, _ = checkpoints.restore(number, state)
            jax.tree.map(np.testing.assert_array_equal, restored, whole)
    averages = snapshots.Lazy(snapshots.readers(tmp_path, 99))
    assert {step for step, _ in averages} == set(expected)
    for number, whole in expected.items():
        np.testing.assert_array_equal(
            averages[number, 0.1]["a/b"], whole.ema["0.1"]["a/b"]
        )


def test_the_loop_does_not_wait_for_the_disk(tmp_path):
    """`save` returns while an earlier job of the disk is still held up, and what was
    saved counts only after it."""
    free = threading.Event()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.submit(free.wait)
        checkpoints.save(3, small_state(3), {})
        checkpoints.check()
        assert checkpoints.steps() == []
        free.set()
        checkpoints.finish()
        assert checkpoints.steps() == [3]


def test_a_disk_that_fills_up_is_one_line_and_costs_no_checkpoint(tmp_path):
    """In a process that may not write a file as large as the third checkpoint."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.full_disk", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"error: {tmp_path / 'checkpoints' / '3'}: checkpoint not written (File too "
        "large); checkpoint 2 is intact. Make room for it or repair the folder, then "
        "run the same command again.\n"
    )
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1, 2] and checkpoints.start() == 2


@pytest.mark.parametrize("what", ["checksums", "flush"])
def test_a_failure_while_verifying_shows_at_the_next_look(tmp_path, monkeypatch, what):
    with pytest.raises(OSError) as raised, Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        checkpoints.finish()
        monkeypatch.setattr(f"ddpm_jax.training.checkpoint.{what}", full)
        checkpoints.save(2, small_state(2), {})
        while True:
            checkpoints.check()
    monkeypatch.undo()
    message = str(raised.value)
    assert (
        f"{tmp_path / 'checkpoints' / '2'}: checkpoint not written (No space" in message
    )
    assert "checkpoint 1 is intact" in message and "\n" not in message
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.start() == 1 and checkpoints.fault(1) is None


def test_a_failure_that_the_next_save_meets_is_told_once(tmp_path, monkeypatch, warned):
    monkeypatch.setattr("ddpm_jax.training.checkpoint.checksums", full)
    with (
        pytest.raises(OSError, match="checkpoints/1: checkpoint not written .No space"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(1, small_state(1), {})
        checkpoints.save(2, small_state(2), {})
    assert warned == []


def test_a_folder_that_is_removed_meanwhile(tmp_path):
    with pytest.raises(OSError) as raised, Checkpoints(tmp_path) as checkpoints:
        held = threading.Event()
        checkpoints.submit(held.wait)
        checkpoints.save(1, small_state(1), {})
        checkpoints.orbax.wait_until_finished()
        shutil.rmtree(tmp_path / "checkpoints")
        held.set()
        checkpoints.finish()
    assert "not written (No such file or directory); none is there" in str(raised.value)


def test_a_failed_save_does_not_hide_what_ended_the_run(tmp_path, monkeypatch, warned):
    monkeypatch.setattr("ddpm_jax.training.checkpoint.checksums", full)
    with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        raise ZeroDivisionError
    assert ["checkpoint not written" in line for line in warned] == [True]


def test_what_ends_a_run_waits_for_what_is_being_saved(tmp_path):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(1), {})
        raise KeyboardInterrupt
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1


def test_an_average_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "save_file", full)
    with pytest.raises(OSError, match="average not written .No space left on device"):
        snapshots.save(tmp_path, 1, small_state(1).ema)


def test_checksums_name_files_by_relative_path(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checksums(tmp_path) == {"a/b": digest}
