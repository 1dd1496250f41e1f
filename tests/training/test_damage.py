"""What users and kills do to run folders, through the commands themselves."""

import shutil

import numpy as np
import pytest

from ddpm_jax import runs
from ddpm_jax.train import train
from ddpm_jax.training import monitoring
from ddpm_jax.training.checkpoint import Checkpoints


@pytest.fixture
def run_copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def largest_file(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def test_resuming_over_a_damaged_checkpoint_leaves_a_sound_one(run_copy, tiny_config):
    whole = runs.load(run_copy).params
    largest_file(run_copy / "checkpoints" / "4").write_bytes(b"0123456789")
    train(tiny_config, run_copy)
    again = runs.load(run_copy)
    assert again.step == 4
    for name, value in whole.items():
        np.testing.assert_array_equal(again.params[name], value)
    assert list((run_copy / "damaged").iterdir())


def test_reading_a_run_leaves_what_its_trainer_is_writing(run_copy):
    pending = run_copy / "checkpoints" / "6.orbax-checkpoint-tmp"
    pending.mkdir()
    (pending / "half").write_text("written")
    runs.load(run_copy)
    assert (pending / "half").read_text() == "written"


@pytest.mark.parametrize("lost", ["checksums", "checkpoints"])
def test_half_a_run_folder_is_refused(run_copy, tiny_config, lost):
    shutil.rmtree(run_copy / lost)
    with pytest.raises(ValueError, match="do not belong together"):
        train(tiny_config, run_copy)


def test_checkpoints_without_their_config_are_refused(run_copy, tiny_config):
    (run_copy / "config.json").unlink()
    with pytest.raises(ValueError, match="no config.json"):
        train(tiny_config, run_copy)


def test_fewer_steps_than_saved_are_refused(run_copy, tiny_config):
    config = tiny_config.copy_and_resolve_references()
    config.train.steps = 3
    with pytest.raises(ValueError, match="is at step 4 already"):
        train(config, run_copy)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"schema": 3}'])
@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_edited_run_files_are_one_clear_line(run_copy, name, content):
    (run_copy / name).write_text(content)
    with pytest.raises(ValueError, match="json"):
        runs.load(run_copy)


def test_a_broken_list_of_checksums_counts_as_damage(run_copy):
    (run_copy / "checksums" / "4.json").write_text("[")
    with Checkpoints(run_copy, read_only=True) as checkpoints:
        assert checkpoints.latest() == 2


def test_lines_after_the_checkpoint_and_one_cut_short_by_a_kill_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"step": {step}, "loss": 0.1}}\n' for step in (1, 2, 3)]
    path.write_text("".join(lines) + '{"step": 4, "lo')
    writer = monitoring.JsonLines(path, after=2)
    assert path.read_text() == "".join(lines[:2])
    writer.write_scalars(3, {"loss": 0.1})
    writer.close()
    assert path.read_text() == "".join(lines)


@pytest.mark.parametrize("key", ["steps", "log_every", "save_every", "sample_every"])
def test_counts_below_one_are_refused_before_data(tiny_config, tmp_path, key):
    config = tiny_config.copy_and_resolve_references()
    config.train[key] = 0
    with pytest.raises(ValueError, match=f"config.train.{key} = 0: expected 1"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
