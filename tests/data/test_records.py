"""The on-disk contract: what is written is what is read, and damage is named."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records

PIXELS = np.random.default_rng(0).integers(0, 4096, (13, 17), np.uint16)


def record(**values) -> records.Record:
    defaults = records.Record(
        record_id=bytes(range(16)),
        patient_key=bytes(16),
        image=records.encode_image(PIXELS, "htj2k"),
        codec="htj2k",
        bits=12,
        height=13,
        width=17,
        content_box=(0, 1, 13, 16),
        original_rows=2140,
        original_columns=1760,
        spacing_mm=(0.8, math.nan),
        voi_source="lut",
        inverted=True,
        flags=records.flag_bits(["MIRRORED"]),
        output_hash=records.image_hash(PIXELS),
        row={"view": "AP", "age": 67, "prosthesis_left": "not in view"},
    )
    return dataclasses.replace(defaults, **values)


@pytest.mark.parametrize("codec", records.CODECS)
@pytest.mark.parametrize("shape", [(1, 1), (13, 17), (64, 8)])
@pytest.mark.parametrize("most", [4095, 65535])
def test_codecs_lose_nothing(codec, shape, most):
    pixels = np.random.default_rng(1).integers(0, most + 1, shape, np.uint16)
    found = records.decode_image(records.encode_image(pixels, codec), codec)
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == np.uint16


@pytest.mark.parametrize(
    "function, first",
    [(records.encode_image, PIXELS), (records.decode_image, b"x")],
)
def test_unknown_codec(function, first):
    with pytest.raises(ValueError, match="codec = 'gif': expected one of htj2k, png"):
        function(first, "gif")


def test_entry_holds_every_field():
    entry = records.serialize(record(), PELVIS)
    found = records.features(PELVIS).deserialize_example_np(entry)
    expected = dataclasses.asdict(record())
    row = PELVIS.encode([expected.pop("row")])
    for name, value in row.items():
        np.testing.assert_array_equal(found[name], value[0])
    assert found["codec"] == b"htj2k"
    assert records.VOI_SOURCES[found["voi_source"]] == "lut"
    np.testing.assert_allclose(found["spacing_mm"], (0.8, math.nan))
    for name in set(expected) - {"codec", "voi_source", "spacing_mm"}:
        np.testing.assert_array_equal(found[name], expected[name])
    assert set(found) == set(expected) | set(PELVIS.names)


def test_entry_is_the_same_in_every_process():
    """TFDS leaves the order of the fields to a hash that differs from run to run."""
    code = (
        "import hashlib; from tests.data.test_records import *;"
        "print(hashlib.sha256(records.serialize(record(), PELVIS)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


def test_row_that_the_schema_does_not_know():
    with pytest.raises(ValueError, match="expected one of AP, lateral, oblique"):
        records.serialize(record(row={"view": "skyline"}), PELVIS)
    with pytest.raises(ValueError, match="not in the schema"):
        records.serialize(record(row={"name": "Jane"}), PELVIS)


@given(st.sets(st.sampled_from(records.FLAGS)))
@settings(deadline=None)
def test_flag_bits(names):
    bits = records.flag_bits([*names, *names])
    assert {f for i, f in enumerate(records.FLAGS) if bits >> i & 1} == names


def test_image_hash_is_of_shape_and_values():
    assert records.image_hash(PIXELS) == records.image_hash(PIXELS.copy(order="F"))
    assert records.image_hash(PIXELS) != records.image_hash(PIXELS.T)
    assert records.image_hash(PIXELS) != records.image_hash(PIXELS ^ 1)
    assert len(records.image_hash(PIXELS)) == 16


def test_manifest_survives_json(tiny_data):
    manifest = records.load_manifest(tiny_data)
    again = records.Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
    assert again == manifest and again.fingerprint() == manifest.fingerprint()


def test_fingerprint_is_of_the_shards(tiny_data):
    manifest = records.load_manifest(tiny_data)
    first = manifest.splits["train"][0]
    other = {"train": (dataclasses.replace(first, sha256="0"),)}
    changed = dataclasses.replace(manifest, splits={**manifest.splits, **other})
    assert changed.fingerprint() != manifest.fingerprint()


def test_open_split_reads_all(tiny_data):
    manifest = records.load_manifest(tiny_data)
    for split in manifest.splits:
        source = records.open_split(tiny_data, split)
        assert len(source) == manifest.count(split)
        example = source[len(source) - 1]
        image = records.decode_image(example["image"], example["codec"].decode())
        assert image.shape == (manifest.height, manifest.width)


@pytest.fixture
def copy(tiny_data, tmp_path):
    return shutil.copytree(tiny_data, tmp_path / "copy")


def test_no_manifest(tmp_path):
    with pytest.raises(ValueError, match="no finished data set"):
        records.load_manifest(tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a readable manifest"),
        ("[]", "not a readable manifest"),
        ("{}", "not a readable manifest"),
        ('{"version": 1}', "not a readable manifest"),
        ('{"version": 99}', "data set version 99"),
    ],
)
def test_unreadable_manifest(tmp_path, text, message):
    (tmp_path / records.MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=message):
        records.load_manifest(tmp_path)


def test_unknown_split(tiny_data):
    with pytest.raises(ValueError, match="no split 'dev'; expected one of train, test"):
        records.open_split(tiny_data, "dev")


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "text"])
def test_damaged_shard(copy, damage):
    path = copy / records.load_manifest(copy).splits["train"][0].file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "text":
        path.write_text("no shard" * 20000)
    if damage == "gone":
        path.unlink()
    with pytest.raises(ValueError, match="0 readable records, the manifest says"):
        records.open_split(copy, "train")


def test_empty_split(copy):
    manifest = records.load_manifest(copy)
    empty = dataclasses.replace(manifest, splits={**manifest.splits, "test": ()})
    (copy / records.MANIFEST).write_text(json.dumps(empty.to_json()))
    with pytest.raises(ValueError, match="split 'test' holds no records"):
        records.open_split(copy, "test")


def test_importing_records_does_not_import_jax():
    code = "import sys, ddpm_jax.data.records; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_htj2k_is_awake_before_any_thread_can_use_it():
    """Its first use by two threads at once gave wrong bytes in 3 of 308 processes."""
    code = (
        "import sys, ddpm_jax.data.records; sys.exit('imagecodecs._htj2k' not in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
