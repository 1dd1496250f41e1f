"""Nothing of the user's is deleted or mixed up: each case was once accepted."""

import dataclasses
import json
import os
import shutil

import pytest

from data_prep import pipeline, verify
from data_prep.label_map import load_map
from data_prep.labels import read_labels
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records
from ddpm_jax.data.shards import write_atomically
from tests.data_prep.test_engine import KEY, make
from tests.dicoms import archive


@pytest.fixture
def job(tmp_path):
    archive(tmp_path, count=6)
    return make(tmp_path, tmp_path / "out", workers=1)


def step(job, name, **changes):
    return pipeline.run(dataclasses.replace(job, step=name, **changes))


def test_a_users_key_is_never_deleted(job, tmp_path):
    job.private_folder.mkdir()
    key = job.private_folder / "random.key"
    key.touch(0o600)
    key.write_bytes(KEY)
    pipeline.run(dataclasses.replace(job, key_file=key))
    assert key.read_bytes() == KEY


def test_files_with_the_names_of_ours_are_kept(job):
    job.out.mkdir()
    for name in ("manifest.json", "report.html", "rejected.csv"):
        (job.out / name).write_text("mine")
    with pytest.raises(ValueError, match="no data set of this program"):
        pipeline.run(dataclasses.replace(job, overwrite=True))
    assert (job.out / "report.html").read_text() == "mine"


def test_the_label_table_is_never_replaced(job):
    job.out.mkdir()
    labels = job.out / "rejected.csv"
    shutil.copy(job.labels, labels)
    with pytest.raises(ValueError, match="holds rejected.csv, which is read"):
        pipeline.run(dataclasses.replace(job, labels=labels))
    assert labels.read_bytes() == job.labels.read_bytes()


def test_archive_inside_out_or_private_is_refused(job):
    with pytest.raises(ValueError, match="holds .*, which is read"):
        pipeline.run(dataclasses.replace(job, out=job.dicom.parent))
    with pytest.raises(ValueError, match="lies inside --private"):
        pipeline.run(dataclasses.replace(job, private=job.dicom.parent))


def test_files_exchanged_after_planning_are_not_mixed_up(job):
    step(job, "plan")
    one, two, aside = (job.dicom / name for name in ("000.dcm", "001.dcm", "x"))
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    step(job, "write")
    assert step(job, "finish").ledger["codes"] == {"CHANGED": 2, "WRITTEN": 4}
    again = pipeline.run(dataclasses.replace(job, overwrite=True))
    assert again.ledger["codes"] == {"LABEL_DUP": 2, "WRITTEN": 4}


def test_another_out_than_planned_is_refused(job, tmp_path):
    step(job, "plan")
    elsewhere = {"out": tmp_path / "other", "private": job.private_folder}
    for name in ("write", "finish"):
        with pytest.raises(ValueError, match="--out = .* is for"):
            step(job, name, **elsewhere)
    with pytest.raises(ValueError, match="--shards: not with --step finish"):
        step(job, "finish", shards=(1, 2))


@pytest.mark.parametrize(
    "place, value",
    [
        (("outcomes", 0, 0), "x"),
        (("outcomes", 0, 1), "x"),
        (("outcomes", 0, 2), "x"),
        (("outcomes", 0, 3), "00" * 16),
        (("outcomes", 0, 4), None),
        (("dropped",), ["x"]),
        (("payload",), None),
        (("shard", "file"), "x"),
    ],
)
def test_an_edited_sidecar_is_no_finished_shard(job, place, value):
    step(job, "plan")
    step(job, "write")
    path = next(job.out.glob("*.json"))
    content = json.loads(path.read_text())
    at = content
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="do not match the plan"):
        step(job, "finish")
    step(job, "write")
    assert step(job, "finish").ledger["written"] == 6


@pytest.mark.parametrize(
    "name, value",
    [("bits", None), ("bits", 0), ("codec", "x"), ("ledger", []), ("name", None)],
)
def test_an_edited_manifest_is_one_line(job, name, value):
    pipeline.run(job)
    path = job.out / records.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ValueError, match="not a readable manifest"):
        list(verify.faults(job.out))


def test_a_map_that_raises_shows_no_row(job, tmp_path):
    mapping = tmp_path / "map.py"
    mapping.write_text(
        "class Odd(BaseException): pass\ndef row(row): raise Odd(str(row))\n"
    )
    with pytest.raises(ValueError, match="raised Odd") as caught:
        read_labels(job.labels, PELVIS, load_map(mapping))
    assert "000.dcm" not in str(caught.value)


def test_full_disk_names_the_file_and_leaves_no_part(tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="report.html: cannot be written .No space"):
        write_atomically(tmp_path / "report.html", "text")
    assert not list(tmp_path.iterdir())
