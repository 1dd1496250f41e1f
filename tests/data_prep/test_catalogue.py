"""Every real file beside the checkout: which code it must end in, and why."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from data_prep import pipeline, planning
from data_prep.job import Job
from data_prep.worker import Reading
from ddpm_jax.conditions.presets import PELVIS
from tests.dicoms import write_labels

KEY = b"a key for tests, sixteen or more"
PELVES = [f"DX_PELVIS_DDH_{n}.dcm" for n in (1, 10, 107, 116, 12, 121)]
SAME_HIP = {f"radiographs/RG2_HIP_{n}.dcm" for n in "unc rle j2kr jpll jlsl".split()}
"""One hip in five lossless encodings: one is written, which of them the key says."""

CODES = {
    "catalogue.csv": "NOT_DICOM",
    # No CR or DX class: the other modalities, and SC of modality OT, NM or none.
    "edge/CT_small.dcm": "SOP_CLASS",
    "edge/MR_small_big_endian.dcm": "SOP_CLASS",
    "edge/MR_small_explicit_le.dcm": "SOP_CLASS",
    "edge/MR_small_implicit.dcm": "SOP_CLASS",
    "edge/MR_small_j2k.dcm": "SOP_CLASS",
    "edge/MR_small_jls.dcm": "SOP_CLASS",
    "edge/MR_small_padded.dcm": "SOP_CLASS",
    "edge/MR_small_rle.dcm": "SOP_CLASS",
    "edge/NM_jpeg_ext12.dcm": "SOP_CLASS",
    "edge/OT_modality_lut_signed.dcm": "SOP_CLASS",
    "edge/OT_rgb_jpegll.dcm": "SOP_CLASS",
    "edge/OT_voi_lut_8bit.dcm": "SOP_CLASS",
    "edge/OT_ybr422.dcm": "SOP_CLASS",
    "edge/RTDOSE_32bit.dcm": "SOP_CLASS",
    "edge/SEG_1bit.dcm": "SOP_CLASS",
    "edge/US_palette.dcm": "SOP_CLASS",
    "edge/US_rgb_big_endian.dcm": "SOP_CLASS",
    "edge/jls_near_16.dcm": "SOP_CLASS",
    "edge/OT_deflated.dcm": "BAD_SYNTAX",  # known before its class is
    # Broken where nobody looks, since their class ends them first: RTDOSE, MR, NM,
    # RTPLAN, MR, CT.
    "malformed/bad_vr.dcm": "SOP_CLASS",
    "malformed/emri_j2k_too_short.dcm": "SOP_CLASS",
    "malformed/j2k_embedded_delimiter.dcm": "SOP_CLASS",
    "malformed/truncated_header.dcm": "SOP_CLASS",
    "malformed/truncated_pixels.dcm": "SOP_CLASS",
    "malformed/vr_un.dcm": "SOP_CLASS",
    "malformed/meta_no_ts.dcm": "BAD_SYNTAX",  # a meta group that names none
    "malformed/no_meta.dcm": "NOT_DICOM",
    "nonimage/DICOMDIR": "SOP_CLASS",
    "nonimage/ecg.dcm": "SOP_CLASS",
    "nonimage/rtplan.dcm": "SOP_CLASS",
    "nonimage/sr.dcm": "SOP_CLASS",
    # Lossy encodings of the hip are other pixels each.
    "radiographs/RG2_HIP_j2ki.dcm": "WRITTEN",
    "radiographs/RG2_HIP_jlsn.dcm": "WRITTEN",
    "radiographs/RG2_HIP_jply_fixed.dcm": "WRITTEN",
    "radiographs/RG1_CHEST_j2kr.dcm": "WRITTEN",
    "radiographs/CR_CSPINE_AP_16x16.dcm": "WRITTEN",
    "radiographs/CR_CSPINE_LL_16x16.dcm": "WRITTEN",
    **dict.fromkeys(SAME_HIP, "DUP_SAME"),
    **{f"radiographs/{file}": "GREY_RGB" for file in PELVES},
}


def convert(folder: Path, out: Path, reading: Reading, **labels) -> dict[str, dict]:
    """{file: its line of the audit map} of a conversion with a label row per file."""
    empty = dict.fromkeys(("sop_instance_uid", "file", *PELVIS.names), "")
    rows = [
        empty | {"file": file, "view": "AP"} | labels
        for file in planning.list_files(folder)
    ]
    table = write_labels(out.with_suffix(".csv"), rows)
    shares = {"train": 0.7, "test": 0.3}
    options = {"reading": reading, "workers": 2, "max_conflict": 1}
    pipeline.run(Job(folder, table, out, KEY, PELVIS, shares, **options))
    with (out.with_name(f"{out.name}.private") / "audit.csv").open() as file:
        audit = list(csv.DictReader(file))
    assert len({row["file"] for row in audit}) == len(audit) == len(rows)
    return {row["file"]: row for row in audit}


def codes(audit: dict[str, dict]) -> dict[str, str]:
    return {file: row["code"] for file, row in audit.items()}


def test_every_file_of_the_catalogue_ends_in_its_code(tmp_path, shared_data):
    folder = shared_data / "dicom"
    lines = (folder / "catalogue.csv").read_text().splitlines()
    listed = list(csv.DictReader(lines))
    assert {row["file"] for row in listed} == set(CODES) - {"catalogue.csv"}
    audit = convert(folder, tmp_path / "out", Reading(32))
    found = codes(audit)
    hip = [file for file in SAME_HIP if found[file] == "WRITTEN"]
    assert len(hip) == 1
    assert found == CODES | {hip[0]: "WRITTEN"}
    for file, row in audit.items():
        decoded = row["code"] in ("WRITTEN", "DUP_SAME")
        assert bool(row["record_id"]) == decoded, file
    keys = {row["patient_key"] for file, row in audit.items() if "RG2_HIP" in file}
    assert len(keys) == 1


@pytest.fixture
def pelves(tmp_path, shared_data) -> Path:
    folder = tmp_path / "pelves"
    folder.mkdir()
    for file in PELVES:
        shutil.copy(shared_data / "dicom" / "radiographs" / file, folder)
    return folder


def test_pelves_stored_as_colour_are_written_when_let_in(tmp_path, pelves):
    """_1 and _12 are one picture under the PatientIDs 331_DDH_1 and 331_DDH_12; a
    patient of the table does not overrule a header's."""
    audit = convert(pelves, tmp_path / "out", Reading(32, grey_rgb=True), patient_id="")
    same = {"DX_PELVIS_DDH_1.dcm", "DX_PELVIS_DDH_12.dcm"}
    expected = {f: "DUP_CROSS" if f in same else "WRITTEN" for f in PELVES}
    assert codes(audit) == expected
    reading = Reading(32, grey_rgb=True)
    audit = convert(pelves, tmp_path / "two", reading, patient_id="one")
    assert codes(audit) == expected


@pytest.mark.parametrize("patient", ["one", ""])
def test_pelves_without_a_patient_take_that_of_the_table(tmp_path, pelves, patient):
    for file in PELVES:
        dataset = dcmread(pelves / file)
        dataset.PatientID = ""
        dataset.save_as(pelves / file)
    reading = Reading(32, grey_rgb=True)
    audit = convert(pelves, tmp_path / "out", reading, patient_id=patient)
    if not patient:
        assert set(codes(audit).values()) == {"NO_PATIENT"}
        return
    assert Counter(codes(audit).values()) == {"WRITTEN": 5, "DUP_SAME": 1}
    found = codes(audit)
    pair = {found["DX_PELVIS_DDH_1.dcm"], found["DX_PELVIS_DDH_12.dcm"]}
    assert pair == {"WRITTEN", "DUP_SAME"}
    assert len({row["patient_key"] for row in audit.values() if row["record_id"]}) == 1
