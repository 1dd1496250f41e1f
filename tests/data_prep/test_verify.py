"""Each fault that a data set can have is found, and a good one has none."""

import dataclasses
import json

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from data_prep import pipeline, verify
from data_prep.job import Job
from data_prep.worker import Reading
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records, shards
from tests.dicoms import archive

SPLITS = {"train": 0.5, "test": 0.5}


@pytest.fixture
def data(tmp_path):
    folder, labels = archive(tmp_path, count=8)
    out, key = tmp_path / "out", b"a key for tests, sixteen or more"
    reading = Reading(16)
    job = Job(folder, labels, out, key, PELVIS, SPLITS, reading=reading, workers=1)
    pipeline.run(job)
    return out


def change(data, **values):
    manifest = dataclasses.replace(records.load_manifest(data), **values)
    (data / records.MANIFEST).write_text(json.dumps(manifest.to_json()))


def rewrite(data, edit):
    """One shard with `edit` applied to its examples; the manifest goes along."""
    manifest, features = records.load_manifest(data), records.features(PELVIS)
    shard = manifest.splits["train"][0]
    entries = list(shards.read_entries(data / shard.file))
    writer = ArrayRecordWriter(str(data / shard.file), shards.OPTIONS)
    for entry in entries:
        example = features.deserialize_example_np(entry)
        edit(example)
        writer.write(features.serialize_example(features.encode_example(example)))
    writer.close()
    digest = records.file_digest(data / shard.file)
    new = dataclasses.replace(shard, sha256=digest)
    change(data, splits={**manifest.splits, "train": (new,)})


def test_good_data_has_no_fault(data):
    assert list(verify.faults(data)) == []


def test_missing_shard(data):
    shard = records.load_manifest(data).splits["train"][0]
    (data / shard.file).unlink()
    assert f"{shard.file}: is missing" in list(verify.faults(data))


@pytest.mark.parametrize("keep", [0, 100, 60000, -1])
def test_cut_shard(data, keep):
    shard = records.load_manifest(data).splits["train"][0]
    path = data / shard.file
    path.write_bytes(path.read_bytes()[:keep])
    found = "\n".join(verify.faults(data))
    assert f"{shard.file}: its sha256 is not the manifest's" in found
    assert f"0 readable records, the manifest says {shard.records}" in found


def test_shard_that_nobody_knows(data):
    (data / "radiographs-train.array_record-00007-of-00009").write_bytes(b"x")
    assert "the manifest does not know it" in next(verify.faults(data))


def test_ledger_that_does_not_add_up(data):
    ledger = dict(records.load_manifest(data).ledger)
    change(data, ledger=ledger | {"written": 7})
    found = list(verify.faults(data))
    assert len(found) == 2 and all("LEDGER" in fault for fault in found)


def set_key(key):
    return lambda example: example.update(patient_key=key)


@pytest.mark.parametrize(
    "edit, fault",
    [
        (lambda e: e.update(image=b"nothing"), "cannot be decoded"),
        (lambda e: e.update(codec=b"gif"), "cannot be decoded"),
        (lambda e: e.update(output_hash=bytes(16)), "not the one that was written"),
        (lambda e: e.update(content_box=[0, 0, 17, 16]), "content box is not inside"),
        (lambda e: e.update(content_box=[3, 3, 4, 4]), "not 0 outside"),
        (lambda e: e.update(record_id=bytes(16)), "and again in train"),
    ],
)
def test_record_that_is_wrong(data, edit, fault):
    rewrite(data, edit)
    assert any(fault in line for line in verify.faults(data))


def test_patient_in_two_splits(data):
    source = records.open_split(data, "test")
    rewrite(data, set_key(source[0]["patient_key"]))
    assert any("SPLIT_LEAK" in line for line in verify.faults(data))


def test_codec_that_is_not_the_manifests(data):
    change(data, codec="png")
    assert "its codec is not the manifest's" in next(verify.faults(data))
