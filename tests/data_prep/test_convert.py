"""The whole way: an archive and a label table become a data set, or a clear line."""

import base64
import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from data_prep import pipeline, planning, shards, verify, worker
from data_prep.codes import ACTIONS, MEANINGS
from data_prep.deidentify import Ids
from data_prep.job import Job
from data_prep.manifest import check_ledger, summary
from data_prep.worker import Reading
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records
from ddpm_jax.data import shards as writing
from tests.dicoms import archive, dataset, noise, read, save, write_labels

KEY = b"a key for tests, sixteen or more"


def job(folder: Path, labels: Path, out: Path, **options) -> Job:
    reading = Reading(options.pop("size", 16), **options.pop("reading", {}))
    defaults = {"workers": 1, "shares": {"train": 0.7, "test": 0.3}}
    return Job(folder, labels, out, KEY, PELVIS, reading=reading, **defaults | options)


def label(i: int, **values) -> dict:
    empty = dict.fromkeys(("sop_instance_uid", "file", *PELVIS.names), "")
    return empty | {"file": f"{i}.dcm"} | values


def examples(out: Path) -> list[dict]:
    manifest = records.load_manifest(out)
    return [
        example
        for split in manifest.splits
        if manifest.count(split)
        for example in records.open_split(out, split)
    ]


def by_content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_code_has_an_action_and_a_meaning():
    assert set(ACTIONS) == set(MEANINGS)


def test_records_hold_the_labels(tmp_path):
    folder, labels = archive(tmp_path)
    manifest = pipeline.run(job(folder, labels, tmp_path / "out"))
    assert manifest == records.load_manifest(tmp_path / "out")
    assert manifest.ledger["written"] == manifest.ledger["listed"] == 12
    ids, expected = Ids(KEY), {}
    for line, row in enumerate(csv.DictReader(labels.read_text().splitlines())):
        row = {name: row[name] for name in PELVIS.names}
        row["bmi"] = round(float(row["bmi"]), 1)
        expected[line] = PELVIS.encode([row])
    found = examples(tmp_path / "out")
    assert len(found) == 12
    images = {}
    for i in range(12):
        tags = {"PatientID": f"P{i % 6}", "SOPInstanceUID": f"1.2.3.{i}"}
        save(tmp_path / "one" / f"{i}.dcm", noise(i), **tags)
        digest = read(tmp_path / "one" / f"{i}.dcm").digest
        images[ids.record(digest)] = i
    for example in found:
        i = images[example["record_id"]]
        assert example["patient_key"] == ids.patient(f"|P{i % 6}")
        for name, value in expected[i].items():
            np.testing.assert_allclose(example[name], value[0], rtol=1e-6)
        assert records.decode_image(example["image"], "htj2k").shape == (16, 16)


def test_bytes_do_not_depend_on_workers(tmp_path):
    folder, labels = archive(tmp_path)
    options = {"records_per_shard": 3}
    pipeline.run(job(folder, labels, tmp_path / "one", **options))
    pipeline.run(job(folder, labels, tmp_path / "two", workers=2, **options))
    assert by_content(tmp_path / "one") == by_content(tmp_path / "two")


def test_finished_shards_are_kept_and_broken_ones_rebuilt(tmp_path, monkeypatch):
    folder, labels = archive(tmp_path)
    out = tmp_path / "out"
    options = {"records_per_shard": 2, "overwrite": True}
    pipeline.run(job(folder, labels, out, **options))
    whole = by_content(out)
    victim = next(out.glob("*.array_record-00000-of-*[0-9]"))
    victim.write_bytes(victim.read_bytes()[:-100])
    (out / records.MANIFEST).unlink()
    (out / "radiographs-train.array_record-00000-of-00009.tmp").write_bytes(b"x")
    converted = []
    one = shards.convert_row
    monkeypatch.setattr(
        shards, "convert_row", lambda *a: converted.append(a) or one(*a)
    )
    pipeline.run(job(folder, labels, out, records_per_shard=2))
    assert by_content(out) == whole
    assert 0 < len(converted) <= 2


@pytest.mark.parametrize("change", ["size", "label", "key", "file"])
def test_shards_are_rebuilt_when_anything_changed(tmp_path, change):
    folder, labels = archive(tmp_path)
    out = tmp_path / "out"
    pipeline.run(job(folder, labels, out))
    options = {"overwrite": True}
    if change == "size":
        options["size"] = 24
    if change == "label":
        labels.write_text(labels.read_text().replace("20.25", "33"))
    if change == "file":
        save(folder / "000.dcm", noise(99), PatientID="P0", SOPInstanceUID="1.2.3.0")
    new = job(folder, labels, out, **options)
    if change == "key":
        new = Job(**vars(new) | {"key": b"another key of sixteen"})
    pipeline.run(new)
    fresh = Job(**vars(new) | {"out": tmp_path / "fresh"})
    pipeline.run(fresh)
    assert by_content(out) == by_content(fresh.out)


def test_same_picture_of_one_patient_is_kept_once(tmp_path):
    for i, syntax in enumerate((JPEG2000Lossless, RLELossless)):
        save(tmp_path / "a" / f"{i}.dcm", noise(1), syntax, SOPInstanceUID=f"1.{i}")
    save(tmp_path / "a" / "2.dcm", noise(2))
    labels = write_labels(tmp_path / "l.csv", [label(i) for i in range(3)])
    manifest = pipeline.run(job(tmp_path / "a", labels, tmp_path / "out"))
    assert manifest.ledger["codes"] == {"DUP_SAME": 1, "WRITTEN": 2}
    assert len(examples(tmp_path / "out")) == 2
    assert not list(verify.faults(tmp_path / "out"))


def test_same_picture_under_two_patients_is_quarantined(tmp_path):
    for i, patient in enumerate("ABA"):
        save(tmp_path / "a" / f"{i}.dcm", noise(1), PatientID=patient)
    save(tmp_path / "a" / "3.dcm", noise(2), PatientID="C")
    labels = write_labels(tmp_path / "l.csv", [label(i) for i in range(4)])
    manifest = pipeline.run(job(tmp_path / "a", labels, tmp_path / "out"))
    assert manifest.ledger["codes"] == {"DUP_CROSS": 3, "WRITTEN": 1}


def test_dropped_picture_comes_back_when_its_twin_is_gone(tmp_path):
    for i, patient in enumerate("AB"):
        save(tmp_path / "a" / f"{i}.dcm", noise(1), PatientID=patient)
    save(tmp_path / "a" / "2.dcm", noise(2), PatientID="C")
    labels = write_labels(tmp_path / "l.csv", [label(i) for i in range(3)])
    run = job(tmp_path / "a", labels, tmp_path / "out", records_per_shard=1)
    assert pipeline.run(run).ledger["written"] == 1
    (tmp_path / "a" / "1.dcm").unlink()
    manifest = pipeline.run(Job(**vars(run) | {"overwrite": True}))
    assert manifest.ledger["written"] == 2


def test_ledger_of_a_mixed_archive(tmp_path):
    """One of each ending that a small file can have; the sums are checked inside."""
    a = tmp_path / "a"
    tags = [
        {},
        {"NumberOfFrames": 2},
        {"PresentationIntentType": "FOR PROCESSING"},
        {"BurnedInAnnotation": "YES"},
        {"PatientID": ""},
        {"Rows": 999},
        {"Modality": "CT"},
        {"WindowWidth": 0},
    ]
    for i, each in enumerate(tags):
        save(a / f"{i}.dcm", noise(i), **each)
    save(a / "blank.dcm", noise(0) * 0)
    save(a / "extra.dcm", noise(50))
    save(a / "twice.dcm", noise(51))
    (a / "notes.txt").write_text("nothing")
    os.mkfifo(a / "fifo")
    (a / "link").symlink_to(a / "0.dcm")
    rows = [label(i) for i in range(len(tags))]
    rows += [label(0, file=f) for f in ("blank.dcm", "twice.dcm", "twice.dcm", "gone")]
    rows[0] |= {"bmi": 2900, "age": 97}
    labels = write_labels(tmp_path / "l.csv", rows)
    manifest = pipeline.run(job(a, labels, tmp_path / "out"))
    assert manifest.ledger["codes"] == {
        "BLANK": 1,
        "FOR_PROCESSING": 1,
        "LABEL_DUP": 1,
        "LABEL_MISSING": 1,
        "MULTIFRAME": 1,
        "NOT_DICOM": 1,
        "NOT_REGULAR": 2,
        "NO_PATIENT": 1,
        "PHI_SUSPECT": 1,
        "SOP_CLASS": 1,
        "TRUNCATED": 1,
        "WRITTEN": 2,
    }
    ledger = manifest.ledger
    assert ledger["flags"] == {"LABEL_RANGE": 1, "VOI_INVALID": 1}
    assert ledger["labels"]["without_image"] == 1
    assert ledger["listed"] == 14 and not check_ledger(manifest)
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()
    assert len(rejected) == 1 + 12
    assert "14  listed" in summary(manifest)
    assert not list(verify.faults(tmp_path / "out"))


def test_patient_from_the_table_where_the_header_has_none(tmp_path):
    save(tmp_path / "a" / "0.dcm", noise(0), PatientID="")
    save(tmp_path / "a" / "1.dcm", noise(1), PatientID="X")
    rows = [label(i, patient_id="X") for i in range(2)]
    labels = write_labels(tmp_path / "l.csv", rows)
    pipeline.run(job(tmp_path / "a", labels, tmp_path / "out"))
    assert len({e["patient_key"] for e in examples(tmp_path / "out")}) == 1


def test_every_real_file_ends_in_a_code(tmp_path, shared_data):
    folder = shared_data / "dicom"
    files = planning.list_files(folder)
    rows = [label(0, file=file, view="AP") for file in files]
    labels = write_labels(tmp_path / "l.csv", rows)
    run = job(folder, labels, tmp_path / "out", max_conflict=1)
    manifest = pipeline.run(run)
    codes = Counter(manifest.ledger["codes"])
    assert manifest.ledger["listed"] == codes.total() == len(files)
    assert codes["DUP_SAME"] == 4  # one hip, five lossless encodings
    assert codes["GREY_RGB"] == 6
    assert codes["WRITTEN"] == 7


CANARIES = ("CANARYNAME", "MRN8842", "19520203", "1.2.826.99.7", "CANARYPATH")


def test_nothing_of_a_patient_is_written_or_said(tmp_path, capfd):
    tags = {
        "PatientName": "CANARYNAME^Jane",
        "PatientID": "MRN8842",
        "PatientBirthDate": "19520203",
        "StudyDate": "19520203",
    }
    a = tmp_path / "CANARYPATH"
    for i in range(4):
        uid = f"1.2.826.99.7.{i}"
        path = save(a / f"CANARYPATH{i}.dcm", noise(i), SOPInstanceUID=uid, **tags)
    path.write_bytes(path.read_bytes()[:-50])
    rows = [
        label(0, file=f"CANARYPATH{i}.dcm", sop_instance_uid=f"1.2.826.99.7.{i}")
        for i in range(4)
    ]
    labels = write_labels(tmp_path / "l.csv", rows)
    manifest = pipeline.run(job(a, labels, tmp_path / "out"))
    print(summary(manifest))
    assert manifest.ledger["codes"] == {"TRUNCATED": 1, "WRITTEN": 3}
    said = capfd.readouterr()
    haystack = [said.out.encode(), said.err.encode()]
    for path in (tmp_path / "out").rglob("*"):  # the private folder is not shared
        haystack += [path.name.encode(), path.read_bytes()]
    haystack = b"\0".join(haystack)
    for canary in CANARIES:
        for needle in spellings(canary):
            assert needle not in haystack, needle


def spellings(text: str) -> list[bytes]:
    """Plain, UTF-16, and base64 at each of its three alignments."""
    plain = text.encode()
    shifted = [base64.b64encode(b"\0" * i + plain)[4 if i else 0 :] for i in range(3)]
    return [
        plain,
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        plain.hex().encode(),
        *(each[: len(each) // 4 * 4 - 4] for each in shifted),
    ]


def test_private_folder_is_private_and_finds_every_file(tmp_path):
    folder, labels = archive(tmp_path, count=4)
    pipeline.run(job(folder, labels, tmp_path / "out"))
    private = tmp_path / "out.private"
    audit = private / "audit.csv"
    assert private.stat().st_mode & 0o777 == 0o700
    assert audit.stat().st_mode & 0o777 == 0o600
    assert (private / "review.html").stat().st_mode & 0o777 == 0o600
    lines = audit.read_text().splitlines()
    rows = {row["file"]: row for row in csv.DictReader(lines)}
    assert sorted(rows) == [f"{i:03d}.dcm" for i in range(4)]
    ids = {example["record_id"].hex() for example in examples(tmp_path / "out")}
    assert ids == {row["record_id"] for row in rows.values()}


def test_header_that_contradicts_the_table(tmp_path):
    for i in range(4):
        save(tmp_path / "a" / f"{i}.dcm", noise(i), PatientSex="F")
    rows = [label(i, sex="M" if i == 0 else "F") for i in range(4)]
    labels = write_labels(tmp_path / "l.csv", rows)
    run = job(tmp_path / "a", labels, tmp_path / "out", max_conflict=0.5)
    manifest = pipeline.run(run)
    assert manifest.ledger["flags"] == {"LABEL_CONFLICT": 1}
    assert manifest.ledger["labels"]["conflicts"]["sex"]["conflicts"] == 1
    assert sorted(e["sex"] for e in examples(tmp_path / "out")) == [1, 1, 1, 2]
    with pytest.raises(ValueError, match="LABEL_CONFLICT"):
        pipeline.run(job(tmp_path / "a", labels, tmp_path / "o2", max_conflict=0.2))


@pytest.mark.parametrize("step", ["scan", "read"])
def test_defect_of_ours_costs_one_file(tmp_path, monkeypatch, step):
    folder, labels = archive(tmp_path, count=4)
    good = getattr(worker, step)

    def sometimes(path, root, reading):
        return 1 / 0 if path.name == "002.dcm" else good(path, root, reading)

    monkeypatch.setattr(worker, step, sometimes)
    manifest = pipeline.run(job(folder, labels, tmp_path / "out"))
    assert manifest.ledger["codes"] == {"CRASH": 1, "WRITTEN": 3}


def test_lost_file_is_fatal(tmp_path):
    folder, labels = archive(tmp_path, count=4)
    run = job(folder, labels, tmp_path / "out")
    pipeline.run(dataclasses.replace(run, step="plan"))
    paths = tmp_path / "out.private" / "plan" / "paths.json"
    paths.write_text(json.dumps(json.loads(paths.read_text()) | {"lost": "x.dcm"}))
    pipeline.run(dataclasses.replace(run, step="write"))
    with pytest.raises(ValueError, match="LEDGER"):
        pipeline.run(dataclasses.replace(run, step="finish"))
    assert not (tmp_path / "out" / records.MANIFEST).exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dicom": Path("/nowhere")}, "--dicom = /nowhere: no such folder"),
        ({"labels": Path("/nowhere.csv")}, "--labels = /nowhere.csv: no such file"),
        ({"name": "My Data"}, "--name = 'My Data'"),
        ({"private": Path("{out}/p")}, "--private = .* lies inside --out"),
        ({"private": Path("{dicom}/p")}, "--private = .* lies inside --dicom"),
        ({"out": Path("{dicom}/out")}, "--out = .* lies inside --dicom"),
    ],
)
def test_jobs_that_cannot_work(tmp_path, change, message):
    folder, labels = archive(tmp_path, count=2)
    places = {"out": tmp_path / "out", "dicom": folder}
    change = {
        name: Path(str(value).format(**places)) if isinstance(value, Path) else value
        for name, value in change.items()
    }
    good = job(folder, labels, tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        pipeline.run(Job(**vars(good) | change))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(tmp_path):
    folder, labels = archive(tmp_path, count=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files"):
        pipeline.run(job(folder, labels, out))
    pipeline.run(job(folder, labels, out, overwrite=True))
    assert (out / "thesis.tex").read_text() == "years of work"
    (out / "thesis.tex").unlink()
    with pytest.raises(ValueError, match="a finished data set"):
        pipeline.run(job(folder, labels, out))


def test_trainer_refuses_a_shard_that_was_cut(tmp_path):
    folder, labels = archive(tmp_path)
    out = tmp_path / "out"
    manifest = pipeline.run(job(folder, labels, out))
    shard = out / manifest.splits["train"][0].file
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="the manifest says"):
        records.open_split(out, "train")


def command(*arguments, module="data_prep.convert", key=None):
    environment = {k: v for k, v in os.environ.items() if k != "DDPM_JAX_KEY"}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment | ({"DDPM_JAX_KEY": key} if key else {}),
    )


def test_command_line_from_key_to_verified_data(tmp_path):
    folder, labels = archive(tmp_path)
    key, out = tmp_path / "key", tmp_path / "out"
    assert command("--make_key", key).returncode == 0
    paths = ["--dicom", folder, "--labels", labels, "--out", out]
    splits = "--splits=train=0.5,test=0.5"
    done = command(*paths, "--key_file", key, "--size=16", "--codec=png", splits)
    assert done.returncode == 0, done.stderr
    assert "12  WRITTEN" in done.stdout and "Traceback" not in done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["codec"] == "png" and set(manifest["splits"]) == {"train", "test"}
    done = command("--data", out, module="data_prep.verify")
    assert done.returncode == 0, done.stderr
    shard = next(out.glob("*.array_record-00000-of-*[0-9]"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = command("--data", out, module="data_prep.verify")
    assert done.returncode == 1 and f"{shard.name}: its sha256" in done.stdout


def test_command_line_mistakes_are_one_line(tmp_path):
    folder, labels = archive(tmp_path, count=2)
    paths = ["--dicom", folder, "--labels", labels, "--out", tmp_path / "out"]
    labels.write_text(labels.read_text().replace("AP", "SECRET"))
    for arguments, key, message in (
        (paths, "0123456789abcdef", "column view, row 2: expected one of AP"),
        (paths, None, "NO_KEY"),
        ([*paths, "--codec=gif"], None, "--codec"),
        ([*paths, "--runner=Nothing"], "0123456789abcdef", "column view"),
        ([*paths, "--shards=2/2"], "0123456789abcdef", "expected i/n"),
        ([*paths, "--shards=0/2"], "0123456789abcdef", "no plan in it"),
        ([*paths, "--images=x"], "0123456789abcdef", "expected one of them"),
    ):
        done = command(*arguments, key=key)
        assert done.returncode != 0 and message in done.stderr
        assert done.stderr.count("\n") == 1 and "SECRET" not in done.stderr


def test_nothing_written_is_a_failure(tmp_path):
    ds = dataset(noise(0), Modality="CT")
    (tmp_path / "a").mkdir()
    ds.save_as(tmp_path / "a" / "0.dcm", enforce_file_format=True)
    labels = write_labels(tmp_path / "l.csv", [label(0)])
    paths = ["--dicom", tmp_path / "a", "--labels", labels, "--out", tmp_path / "out"]
    done = command(*paths, key="0123456789abcdef")
    assert done.returncode == 1 and "no file could be converted" in done.stderr
    assert "1  SOP_CLASS" in done.stdout


def test_a_folder_that_cannot_be_read_stops_the_run(tmp_path, monkeypatch):
    """As root every folder can be read, so the refusal is the system call's."""
    folder, labels = archive(tmp_path)
    (folder / "closed").mkdir()
    scandir = os.scandir

    def refuses(path="."):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(ValueError, match="a folder below it cannot be read"):
        pipeline.run(job(folder, labels, tmp_path / "out"))


def test_a_shard_that_cannot_be_written_is_an_os_error(tmp_path, monkeypatch):
    folder, labels = archive(tmp_path)

    class Full:
        def __init__(self, path, options):
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(writing, "ArrayRecordWriter", Full)
    with pytest.raises(OSError, match="cannot be written .No space left on device"):
        pipeline.run(job(folder, labels, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.json"))
