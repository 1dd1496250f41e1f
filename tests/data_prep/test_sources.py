"""Other pixels, other tables, other depths: the same records and the same ledger."""

import dataclasses
import json

import imagecodecs
import numpy as np
import pytest

from data_prep import pipeline, verify
from data_prep.job import Job
from data_prep.worker import Reading
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import records
from tests.data_prep.test_engine import KEY
from tests.dicoms import archive, noise, save, write_labels

SHARES = {"train": 0.5, "test": 0.5}


def run(folder, labels, out, reading, **options):
    job = Job(folder, labels, out, KEY, PELVIS, SHARES, reading=reading, **options)
    return pipeline.run(job)


def stored(out) -> dict[bytes, dict]:
    found = {}
    for split, shards in records.load_manifest(out).splits.items():
        if shards:
            for example in records.open_split(out, split):
                found[example["record_id"]] = example
    return found


def test_png_and_tiff_are_the_records_of_dicom(tmp_path):
    rows = []
    for i in range(8):
        pixels = noise(i, (32, 32))
        save(tmp_path / "dicom" / f"{i}.dcm", pixels, PatientID=f"P{i}")
        path = tmp_path / "images" / f"{i}.dcm"
        path.parent.mkdir(exist_ok=True)
        encode = imagecodecs.tiff_encode if i % 2 else imagecodecs.png_encode
        path.write_bytes(encode(pixels))
        rows.append({"file": path.name, "patient_id": f"P{i}", "view": "AP"})
    (tmp_path / "images" / "notes.txt").write_text("nothing")
    rows.append({"file": "notes.txt", "patient_id": "P9", "view": "AP"})
    labels = write_labels(tmp_path / "l.csv", rows)
    run(tmp_path / "dicom", labels, tmp_path / "one", Reading(32))
    reading = Reading(32, source="images", image_bits=12)
    manifest = run(tmp_path / "images", labels, tmp_path / "two", reading)
    assert manifest.ledger["codes"] == {"NOT_IMAGE": 1, "WRITTEN": 8}
    one, two = stored(tmp_path / "one"), stored(tmp_path / "two")
    assert set(one) == set(two) and len(one) == 8
    for key, example in one.items():
        for name in ("image", "output_hash", "patient_key", "view", "content_box"):
            np.testing.assert_array_equal(example[name], two[key][name])
    assert not list(verify.faults(tmp_path / "two"))


@pytest.mark.parametrize("codec", ["htj2k", "png"])
def test_eight_bits(tmp_path, codec):
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    save(tmp_path / "a" / "0.dcm", pixels)
    labels = write_labels(tmp_path / "l.csv", [{"file": "0.dcm", "view": "AP"}])
    out = tmp_path / "out"
    manifest = run(tmp_path / "a", labels, out, Reading(64, bits=8), codec=codec)
    assert manifest.bits == 8 and not list(verify.faults(out))
    (example,) = stored(out).values()
    image = records.decode_image(example["image"], codec)
    np.testing.assert_array_equal(image, np.rint(pixels * (255 / 4095)))
    if codec == "png":
        assert imagecodecs.png_decode(example["image"]).dtype == np.uint8


def test_a_labs_own_names(tmp_path):
    for i in range(3):
        save(tmp_path / "a" / f"{i}.dcm", noise(i), PatientID=f"P{i}")
    rows = [
        {"Img": f"{i}.dcm", "Seite": side, "TEP rechts": implant}
        for i, (side, implant) in enumerate((("Rt", "1"), ("Lt", "0"), ("", "Y")))
    ]
    labels = write_labels(tmp_path / "l.csv", rows)
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "columns: {Img: file, Seite: side, TEP rechts: prosthesis_right}\n"
        "values:\n"
        "  side: {Rt: right, Lt: left}\n"
        "  prosthesis_right: {1: yes, 0: no, Y: yes}\n"
    )
    run(tmp_path / "a", labels, tmp_path / "o", Reading(16), labels_map=mapping)
    found = stored(tmp_path / "o").values()
    pairs = sorted((int(e["side"]), int(e["prosthesis_right"])) for e in found)
    assert pairs == [(0, 2), (1, 2), (2, 1)]


def test_random_ids_are_resumed_and_the_key_is_deleted(tmp_path):
    from tests.data_prep.test_engine import run as command_line

    folder, labels = archive(tmp_path, count=6)
    arguments = [
        *("--dicom", folder, "--labels", labels, "--out", tmp_path / "out"),
        *("--size=16", "--id_mode=random", "--splits=train=0.5,test=0.5"),
    ]
    key = tmp_path / "out.private" / "random.key"
    for step in ("plan", "write"):
        assert command_line([*arguments, f"--step={step}"]).returncode == 0
        secret = key.read_bytes()
        assert key.stat().st_mode & 0o777 == 0o600
    done = command_line([*arguments, "--step=finish"])
    assert done.returncode == 0, done.stderr
    assert not key.exists()
    for path in [*tmp_path.rglob("out/*"), *tmp_path.rglob("out.private/**/*")]:
        if path.is_file():
            assert secret.strip() not in path.read_bytes()


def test_trainer_refuses_a_shard_of_the_right_size_and_other_bytes(tmp_path):
    folder, labels = archive(tmp_path, count=12)
    out = tmp_path / "out"
    manifest = run(folder, labels, out, Reading(16))
    records.check_split(out, "train")
    path = out / manifest.splits["train"][0].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not what the manifest says"):
        records.check_split(out, "train")


def test_spectrum_is_in_the_manifest(tmp_path):
    folder, labels = archive(tmp_path, count=6)
    manifest = run(folder, labels, tmp_path / "out", Reading(16))
    spectrum = manifest.statistics["spectrum"]
    assert len(spectrum["power"]) == 8
    assert spectrum["logsnr_low"] < spectrum["logsnr_high"]
    again = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert again["statistics"] == dataclasses.asdict(manifest)["statistics"]
