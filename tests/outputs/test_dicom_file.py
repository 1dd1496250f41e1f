"""Synthetic DICOM: the pixels, what it says of itself, and the standard's tables."""

import functools
import importlib.util
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.codes import Rejected
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema
from ddpm_jax.outputs import dicom, png
from ddpm_jax.outputs.requests import Asked, Model
from tests import dicoms

MODEL = Model("0f" * 32, 2.5, 16)
ROW = {
    **{"view": "AP", "side": "both", "sex": "F", "age": 67.4, "bmi": 31.5},
    **{"prosthesis_right": "yes", "prosthesis_left": "no"},
}
EXTENSION = {"ViewPosition", "ViewCodeSequence", "ImageLaterality"}
"""Attributes of the Standard Extended SOP Class: of no module of the SC Image IOD."""
NEWER_THAN_DCIODVFY = ("(0008,001c)",)  # Synthetic Data came with the edition of 2023


def image(size=64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**16, (size, size + 3)).astype(np.uint16)


def header(schema=PELVIS, model=MODEL, **options):
    return dicom.Header(schema, model, **options)


def read(row, seed=7, schema=PELVIS, pixels=None, **options):
    asked = Asked(schema.parse(row), seed, "")
    shown = image() if pixels is None else pixels
    data = dicom.encode(shown, asked, header(schema, **options))
    return pydicom.dcmread(io.BytesIO(data))


@functools.cache
def standard():
    """PS3.3 as tables, of highdicom: modules of an IOD, attributes of a module."""
    folder = Path(importlib.util.find_spec("highdicom").origin).parent / "_standard"
    iods, attributes = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("iod_module_map", "module_attribute_map")
    )
    return iods["secondary-capture-image"], attributes


ROWS = st.fixed_dictionaries(
    {},
    optional={
        field.name: st.sampled_from(field.values)
        if field.kind == "categorical"
        else st.floats(field.low, field.high)
        for field in PELVIS
    },
)


@settings(deadline=None)  # the first loads the tables
@given(ROWS)
def test_it_is_a_secondary_capture_image_by_the_standard(row):
    """Types 1 and 2 of every module that is mandatory are there, 1 with a value, and
    nothing is there that the IOD does not know, beside what is declared."""
    found, (modules, attributes) = read(row), standard()
    known = {(*a["path"], a["keyword"]) for m in modules for a in attributes[m["key"]]}
    for element in found:
        if not element.tag.is_private and element.keyword not in EXTENSION:
            assert (element.keyword,) in known, element
    for module in modules:
        if module["usage"] != "M":
            continue
        for each in attributes[module["key"]]:
            places = [found]
            for parent in each["path"]:
                places = [item for p in places for item in p.get(parent, ())]
            for place in places:
                if each["type"] in ("1", "2"):
                    assert each["keyword"] in place, each
                if each["type"] == "1":
                    assert not place[each["keyword"]].is_empty, each


def faults(path):
    said = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True
    ).stderr
    assert "SCImage" in said
    lines = [line for line in said.splitlines() if line.startswith("Error")]
    return [x for x in lines if not any(tag in x for tag in NEWER_THAN_DCIODVFY)]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs Debian's dicom3tools")
@pytest.mark.parametrize(
    "row",
    [
        *({}, ROW, {"view": "lateral", "side": "left", "sex": "other", "age": 0.5}),
        {"view": "oblique", "side": "right", "age": 120, "bmi": 80},
    ],
)
def test_dciodvfy_finds_no_error(tmp_path, row):
    asked = Asked(PELVIS.parse(row), 2**32 - 1, "")
    for options in ({}, {"uid_root": "1.2.826.0.1.3680043.8.498", "burned_in": True}):
        path = tmp_path / "image.dcm"
        path.write_bytes(dicom.encode(image(), asked, header(**options)))
        assert faults(path) == []
    # and it would find one
    broken = pydicom.dcmread(path)
    del broken.ConversionType
    broken.save_as(path)
    assert any("ConversionType" in line for line in faults(path))


def test_the_pixels_are_those_of_the_png():
    asked, shown = image(seed=1), read(ROW, pixels=image(seed=1))
    np.testing.assert_array_equal(shown.pixel_array, asked)
    np.testing.assert_array_equal(png.decode(png.encode(asked)), asked)
    assert shown.PhotometricInterpretation == "MONOCHROME2"


def test_the_window_shows_every_level():
    found = read(ROW)
    levels = np.arange(2**16).astype(np.uint16)
    shown = pydicom.pixels.apply_windowing(levels, found)
    np.testing.assert_allclose(shown, levels, atol=0.51)


def test_it_says_that_it_is_synthetic_wherever_a_viewer_looks():
    found = read(ROW)
    assert found.ImageType == ["DERIVED", "SECONDARY"]
    assert (found.SyntheticData, found.ConversionType) == ("YES", "SYN")
    for name in (
        *("PatientName", "PatientID", "StudyDescription", "SeriesDescription"),
        *("StudyID", "ImageComments", "DerivationDescription", "PatientComments"),
    ):
        assert "synthetic" in str(found[name].value).lower(), name
    assert (found.BurnedInAnnotation, found.Modality) == ("NO", "OT")
    assert read(ROW, burned_in=True).BurnedInAnnotation == "YES"
    assert found.StudyDate == found.PatientBirthDate == found.AccessionNumber == ""


def test_conditions_and_model_are_in_the_header():
    found = read(ROW)
    assert (found.PatientSex, found.PatientAge) == ("F", "067Y")
    assert found.PatientBodyMassIndex == 31.5
    assert (found.ViewPosition, found.ImageLaterality) == ("AP", "B")
    assert found.BodyPartExamined == "PELVIS"
    block = found.private_block(dicom.GROUP, dicom.CREATOR)
    assert json.loads(block[dicom.CONDITIONS].value) == ROW
    assert block[dicom.MODEL].value == MODEL.sha256 and block[dicom.SEED].value == 7
    assert (block[dicom.GUIDANCE].value, block[dicom.STEPS].value) == (2.5, 16)
    for words in (MODEL.sha256, "seed 7", "guidance 2.5", "16 steps", "right prosth"):
        assert words in found.DerivationDescription
    (equipment,) = found.ContributingEquipmentSequence
    assert MODEL.sha256 in equipment.ContributionDescription


def test_what_is_not_known_is_not_said():
    found = read({})
    assert found.PatientSex == found.Laterality == found.PatientOrientation == ""
    for name in ("PatientAge", "PatientBodyMassIndex", *EXTENSION, "BodyPartExamined"):
        assert name not in found
    lateral = read({"view": "lateral", "side": "right", "sex": "other", "age": 1.2})
    assert lateral.ViewCodeSequence[0].CodeValue == "399067008"
    assert "ViewPosition" not in lateral and lateral.ImageLaterality == "R"
    assert (lateral.BodyPartExamined, lateral.PatientSex) == ("HIP", "O")
    assert lateral.PatientAge == "014M"


def test_fields_of_a_lab_that_are_no_text_of_dicom_do_no_harm():
    own = Schema(
        (
            Categorical("implant", ("a\\b", "zementiert, früh"), "Prothese \\ Typ" * 9),
            Continuous("age", "weeks", 0, 9999, 0, 1, "age"),
            Categorical("sex", ("male", "female"), "sex"),
        )
    )
    found = read({"implant": "a\\b", "age": 9000, "sex": "male"}, schema=own)
    assert isinstance(found.SeriesDescription, str) and found.PatientSex == ""
    assert "PatientAge" not in found
    block = found.private_block(dicom.GROUP, dicom.CREATOR)
    assert json.loads(block[dicom.CONDITIONS].value)["implant"] == "a\\b"


@given(st.sampled_from(["", "1.2.826.0.1.3680043.8.498", "0.1", "2.999." + "1" * 33]))
def test_uids_follow_from_the_request_and_from_nothing_else(root):
    def uids(row=ROW, seed=7, model=MODEL, **options):
        found = read(row, seed, pixels=image(8), uid_root=root, **options)
        names = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID")
        return [found[name].value for name in names]

    first = uids()
    assert first == uids() and len(set(first)) == 4
    assert all(uid.is_valid and len(uid) <= 64 for uid in first[:3])
    assert all(uid.startswith(f"{root or '2.25'}.") for uid in first[:3])
    for other in (uids(seed=8), uids({**ROW, "age": 68})):
        assert not set(first) & set(other)
    marked = uids(burned_in=True)
    assert marked[0] != first[0] and marked[1:] == first[1:]


@pytest.mark.parametrize(
    "change", [{"sha256": "0e" * 32}, {"guidance": 2.6}, {"steps": 17}]
)
def test_another_model_guidance_or_number_of_steps_is_another_image(change):
    asked = Asked(PELVIS.parse(ROW), 7, "")
    other = header(model=MODEL._replace(**change))
    assert dicom.instance_uid(asked, header()) != dicom.instance_uid(asked, other)


@pytest.mark.parametrize("root", ["1.2.", "1..2", "1.02", "abc", "1" + ".11" * 13])
def test_a_root_that_is_none_is_refused(root):
    with pytest.raises(ValueError, match="--uid_root"):
        dicom.check_root(root)


@pytest.mark.parametrize("size", [48, 64, 256, 1024])
def test_the_mark_is_in_the_corner_and_nowhere_else(size):
    before = np.full((size, size), 30000, np.uint16)
    after = png.marked(before)
    assert (before == 30000).all() and after.max() == 65535
    rows, columns = np.nonzero(after != 30000)
    assert rows.max() < size // 4 and columns.max() < 0.9 * size


def test_a_mark_without_room_is_refused():
    with pytest.raises(ValueError, match="--burn_in: no room .* 16 x 16 px"):
        png.marked(np.zeros((16, 16), np.uint16))


def test_our_own_converter_takes_it_for_no_radiograph(tmp_path):
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom.encode(image(), Asked(PELVIS.parse(ROW), 7, ""), header()))
    with pytest.raises(Rejected, match="SOP_CLASS"):
        dicoms.read(path)
