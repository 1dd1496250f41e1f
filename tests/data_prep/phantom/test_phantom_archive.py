"""The archive: addressed randomness, files that display right, labels, command line."""

import csv
import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import get_frame

from data_prep.phantom import archive, instance
from data_prep.phantom.patient import draw_patient
from tests.dicoms import read

ROOT = Path(__file__).parents[3]
COUNT, SIZE, SEED = 14, 24, 3
PROSTHESES = ("prosthesis_right", "prosthesis_left")
DECODERS = {
    "JPEGLosslessSV1": imagecodecs.jpeg8_decode,
    "JPEGLSLossless": imagecodecs.jpegls_decode,
    "JPEG2000Lossless": imagecodecs.jpeg2k_decode,
}


def run(*flags, timeout=60):
    command = [sys.executable, "-m", "data_prep.phantom", *map(str, flags)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "new" / "archive"
    flags = ("--count", COUNT, "--size", SIZE, "--seed", SEED, "--workers", 1)
    ended = run("--out", folder, *flags)
    assert ended.returncode == 0, ended.stderr
    assert f"{COUNT} images" in ended.stdout
    with open(folder / "labels.csv", newline="") as file:
        return folder, list(csv.DictReader(file))


def digests(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_same_seed_same_bytes_whatever_the_workers_and_count(made, tmp_path):
    flags = ("--size", SIZE, "--seed", SEED, "--workers", 2, "--count", COUNT - 5)
    assert run("--out", tmp_path / "again", *flags).returncode == 0
    whole, part = digests(made[0]), digests(tmp_path / "again")
    labels = [
        (folder / "labels.csv").read_text().splitlines()
        for folder in (made[0], tmp_path / "again")
    ]
    assert labels[0][: COUNT - 4] == labels[1]
    del whole["labels.csv"], part["labels.csv"]
    assert len(part) == COUNT - 5 and part.items() <= whole.items()


def test_a_share_of_prostheses_changes_them_alone(made, tmp_path):
    flags = ("--size", SIZE, "--seed", SEED, "--workers", 1, "--count", COUNT)
    assert run("--out", tmp_path / "none", *flags, "--prosthesis", 0).returncode == 0
    with open(tmp_path / "none" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    before = {row[name] for row in made[1] for name in PROSTHESES}
    assert "yes" in before and "yes" not in {r[n] for r in rows for n in PROSTHESES}
    for one, other in zip(made[1], rows, strict=True):
        assert {n: v for n, v in one.items() if n not in PROSTHESES} == {
            n: v for n, v in other.items() if n not in PROSTHESES
        }


def test_every_file_shows_the_picture_it_was_made_from(made):
    folder, rows = made
    for shot, row in zip(archive.plan(SEED, COUNT), rows, strict=True):
        patient = draw_patient(archive.stream(SEED, shot.patient, 1))
        rng = archive.stream(SEED, shot.patient, 2, shot.number).spawn(2)[0]
        pixels = archive.radiograph(patient, shot, SIZE, rng).pixels
        shown = read(folder / row["file"])
        np.testing.assert_allclose(shown.image, pixels, atol=1e-3)
        assert not shown.flags and shown.voi_source in ("window", "lut")


def test_labels_agree_with_headers(made):
    folder, rows = made
    assert list(rows[0]) == list(archive.COLUMNS)
    letters = {"right": "R", "left": "L", "both": "B"}
    for row in rows:
        dataset = pydicom.dcmread(folder / row["file"])
        assert row["sop_instance_uid"] == dataset.SOPInstanceUID
        assert row["patient_id"] == dataset.PatientID
        assert letters[row["side"]] == dataset.ImageLaterality
        assert (row["view"] == "AP") == (dataset.ViewPosition == "AP")
        assert row["sex"] == dataset.PatientSex
        assert row["age"] == str(dataset.get("PatientAge", "")).strip("Y").lstrip("0")
        if row["bmi"]:
            bmi = float(dataset.PatientWeight) / float(dataset.PatientSize) ** 2
            assert float(row["bmi"]) == pytest.approx(bmi, abs=0.1)
        for side in ("right", "left"):
            hidden = row[f"prosthesis_{side}"] == "not in view"
            assert hidden == (row["side"] not in (side, "both"))


def test_pictures_of_one_patient_agree(made):
    by_patient = itertools.groupby(made[1], lambda row: row["patient_id"])
    for _, group in by_patient:
        group = list(group)
        for name in ("age", "sex", "bmi", "prosthesis_right", "prosthesis_left"):
            said = {row[name] for row in group} - {"", "not in view"}
            assert len(said) <= 1
        assert len({(row["view"], row["side"]) for row in group}) == len(group)


def test_plans_are_prefixes_and_hold_every_combination():
    plan = archive.plan(1, 1500)
    assert archive.plan(1, 400) == plan[:400]
    counts = {}
    for shot in plan:
        patient = draw_patient(archive.stream(1, shot.patient, 1))
        metal = [
            patient.prosthesis[side]
            for side in ("right", "left")
            if shot.side in (side, "both")
        ]
        key = (shot.view, shot.side, any(metal))
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 3 * 3 * 2 and min(counts.values()) > 25


@pytest.mark.parametrize("syntax", instance.SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_every_transfer_syntax_is_lossless(syntax, tmp_path):
    stored = np.random.default_rng(0).integers(0, 4096, (19, 23)).astype(np.uint16)
    stored[:8] = 4095
    dataset = pydicom.Dataset()
    dataset.Modality = "CR"
    instance.fill(dataset, stored / 4095, np.random.default_rng(1))
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2", "1.3"
    instance.encode(dataset, stored, syntax)
    instance.save(dataset, tmp_path / "one.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["one.dcm"]
    read = pydicom.dcmread(tmp_path / "one.dcm")
    if syntax.keyword in DECODERS:
        frame = get_frame(read.PixelData, 0, number_of_frames=1)
        pixels = DECODERS[syntax.keyword](frame)
    else:
        pixels = read.pixel_array
    np.testing.assert_array_equal(pixels, stored)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--size", 8), "16 to 4096"),
        (("--count", 0), "--count 0"),
        (("--sise", 8), "sise"),
        ((), "not empty"),
    ],
)
def test_a_mistake_is_one_line_and_no_success(made, tmp_path, flags, said):
    ended = run("--out", tmp_path if flags else made[0], *flags)
    assert ended.returncode != 0
    assert said in ended.stderr and ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
