"""The pixel pipeline: from stored values to what a viewer shows."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from data_prep import decode, dicom
from data_prep.codes import Rejected
from tests.dicoms import LOSSLESS, lut_item, noise, ramp, read, save, scan, shown


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "image.dcm"


def code_of(path: Path, root: Path | None = None) -> str:
    with pytest.raises(Rejected) as caught:
        with dicom.open_regular(path, root or path.parent) as opened:
            dicom.read(opened)
    return caught.value.code


def test_identity_window_keeps_every_stored_value(file):
    np.testing.assert_array_equal(np.rint(shown(file, ramp()) * 4095), ramp())


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
def test_lossless_encodings_are_one_picture(tmp_path, syntax):
    plain = read(save(tmp_path / "plain.dcm", noise(1)))
    encoded = read(save(tmp_path / "encoded.dcm", noise(1), syntax))
    assert encoded.digest == plain.digest
    np.testing.assert_array_equal(encoded.image, plain.image)


def test_digest_is_of_shape_and_values(tmp_path):
    digests = {
        read(save(tmp_path / f"{i}.dcm", pixels)).digest
        for i, pixels in enumerate((noise(1), noise(2), noise(1).reshape(20, 24)))
    }
    assert len(digests) == 3


def test_of_two_windows_the_normal_one(file):
    tags = {
        "WindowCenter": [100, 2048],
        "WindowWidth": [50, 4096],
        "WindowCenterWidthExplanation": ["LUNG", "NORMAL"],
    }
    np.testing.assert_allclose(shown(file, ramp(), **tags), ramp() / 4095, atol=1e-6)


def test_of_two_windows_the_first_if_none_is_normal(file):
    tags = {"WindowCenter": [2048, 100], "WindowWidth": [4096, 50]}
    np.testing.assert_allclose(shown(file, ramp(), **tags), ramp() / 4095, atol=1e-6)


def test_lut_goes_before_window(file):
    item = lut_item(0, 8, [255 - i // 16 for i in range(4096)])
    found = read(save(file, ramp(), VOILUTSequence=[item]))
    assert found.voi_source == "lut"
    assert found.image[0, 0] == 1 and found.image[-1, -1] == 0


@pytest.mark.parametrize("width", [0, -10, "nan"])
def test_invalid_window_falls_to_percentiles(file, width):
    tags = {"WindowWidth": width}
    if width == "nan":
        tags = {"WindowWidth": [], "WindowCenter": 2048}
    found = read(save(file, ramp(), **tags))
    expected = {"VOI_MISSING"} if width == "nan" else {"VOI_INVALID"}
    assert (found.voi_source, found.flags) == ("percentile", expected)
    low, high = np.percentile(ramp(), (0.5, 99.5))
    expected = np.clip((ramp() - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found.image, expected, atol=1e-3)


def test_signed_pixels(file):
    signed = ramp().astype(np.int16) - 2048
    image = shown(file, signed, WindowCenter=0, WindowWidth=4096)
    np.testing.assert_allclose(image, ramp() / 4095, atol=1e-6)


def test_signed_pixels_lossless(tmp_path):
    """JPEG 2000 stores the sign, most encoders leave it to the header (PS3.5 8.2)."""
    signed = noise(3).astype(np.int16) - 2048
    plain = read(save(tmp_path / "plain.dcm", signed))
    encoded = read(save(tmp_path / "j2k.dcm", signed, JPEG2000Lossless))
    assert plain.digest == encoded.digest


def test_monochrome1_is_one_inversion(tmp_path):
    twin = shown(tmp_path / "2.dcm", 4095 - ramp())
    tags = {"PhotometricInterpretation": "MONOCHROME1"}
    for i, more in enumerate(({}, {"PresentationLUTShape": "INVERSE"})):
        found = read(save(tmp_path / f"1{i}.dcm", ramp(), **tags, **more))
        np.testing.assert_allclose(found.image, twin, atol=1e-6)
        assert found.inverted and not found.flags


def test_monochrome2_with_inverse_is_flagged_and_not_inverted(file):
    found = read(save(file, ramp(), PresentationLUTShape="INVERSE"))
    np.testing.assert_allclose(found.image, ramp() / 4095, atol=1e-6)
    assert not found.inverted and found.flags == {"POLARITY_CONFLICT"}


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_after_polarity(file, photometric):
    pixels = noise(4)
    pixels[:5] = 4095
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 4095}
    assert not shown(file, pixels, **tags)[:5].any()


def test_padding_is_no_part_of_percentiles(tmp_path):
    pixels = noise(5, (60, 40)) % 1000 + 1000
    padded = np.vstack([pixels, np.full((60, 40), 4000, np.uint16)])
    tags = {"WindowWidth": None, "PixelPaddingValue": 3999}
    bare = shown(tmp_path / "bare.dcm", pixels, **tags)
    image = shown(tmp_path / "pad.dcm", padded, PixelPaddingRangeLimit=4001, **tags)
    np.testing.assert_array_equal(image[:60], bare)


def test_shutters_are_intersected(file):
    tags = {
        "ShutterShape": ["RECTANGULAR", "CIRCULAR"],
        "ShutterLeftVerticalEdge": 11,
        "ShutterRightVerticalEdge": 40,
        "ShutterUpperHorizontalEdge": 1,
        "ShutterLowerHorizontalEdge": 64,
        "CenterOfCircularShutter": [32, 32],
        "RadiusOfCircularShutter": 15,
    }
    image = shown(file, np.full((64, 64), 4095, np.uint16), **tags)
    row, column = np.mgrid[1:65, 1:65]
    expected = (abs(column - 25.5) < 15) & ((row - 32) ** 2 + (column - 32) ** 2 <= 225)
    np.testing.assert_array_equal(image > 0, expected)


def test_high_bit_above_the_stored_bits_is_shifted(tmp_path):
    plain = read(save(tmp_path / "plain.dcm", ramp()))
    tags = {"HighBit": 15, "BitsStored": 12}
    found = read(save(tmp_path / "high.dcm", ramp() << 4, **tags))
    np.testing.assert_array_equal(found.image, plain.image)
    assert found.flags == {"HIGHBIT"}


def test_high_bit_of_a_codestream_cannot_be_known(file):
    assert code_of(save(file, noise(6), JPEG2000Lossless, HighBit=15)) == "HIGHBIT"


def test_bits_beside_the_stored_ones_are_ignored(file):
    """Retired overlays live there (PS3.5 8.1.2)."""
    image = shown(file, ramp() | 0xF000)
    np.testing.assert_allclose(image, ramp() / 4095, atol=1e-6)


def test_field_of_view_flip_was_applied_by_the_detector(tmp_path):
    plain = shown(tmp_path / "plain.dcm", noise(7))
    tags = {"FieldOfViewHorizontalFlip": "YES", "FieldOfViewRotation": 180}
    flipped = shown(tmp_path / "flip.dcm", noise(7), **tags)
    np.testing.assert_array_equal(plain, flipped)


@pytest.mark.parametrize(
    "orientation, mirrored",
    [(["L", "F"], False), (["R", "F"], True), (["R", "H"], False), (["A", "F"], False)],
)
def test_mirrored_is_flagged_and_never_flipped(tmp_path, orientation, mirrored):
    plain = shown(tmp_path / "plain.dcm", noise(8))
    tags = {"PatientOrientation": orientation}
    found = read(save(tmp_path / "oriented.dcm", noise(8), **tags))
    assert found.flags == ({"MIRRORED"} if mirrored else set())
    np.testing.assert_array_equal(found.image, plain)


def test_colour_and_grey_stored_as_colour(tmp_path):
    grey = np.repeat(noise(9)[..., None] >> 4, 3, -1).astype(np.uint8)
    colour = grey.copy()
    colour[0, 0, 0] ^= 128
    assert code_of(save(tmp_path / "grey.dcm", grey)) == "GREY_RGB"
    assert code_of(save(tmp_path / "colour.dcm", colour)) == "COLOR"


@pytest.mark.parametrize(
    "tags, code",
    [
        ({"NumberOfFrames": 3}, "MULTIFRAME"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR_PROCESSING"),
        ({"SOPClassUID": dicom.DX_PROCESSING, "Modality": "DX"}, "FOR_PROCESSING"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, "SOP_CLASS"),
        ({"SOPClassUID": dicom.SECONDARY_CAPTURE}, "PHI_SUSPECT"),
        ({"BurnedInAnnotation": "YES"}, "PHI_SUSPECT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "SAVED IMAGE"]}, "PHI_SUSPECT"),
        ({"SeriesDescription": "Screen save"}, "PHI_SUSPECT"),
        ({"Rows": 0}, "NO_PIXELS"),
        ({"PixelData": None}, "NO_PIXELS"),
        ({"Rows": 16000, "Columns": 16000}, "BOMB"),
        ({"Rows": 25}, "TRUNCATED"),
        ({"BitsStored": 0}, "DECODE_ERROR"),
        ({"BitsAllocated": 32}, "DECODE_ERROR"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "COLOR"),
    ],
)
def test_header_that_is_not_converted(file, tags, code):
    assert code_of(save(file, noise(10), **tags)) == code


def test_codestream_of_another_size_is_never_decoded(file, monkeypatch):
    monkeypatch.setattr(decode, "get_decoder", lambda uid: pytest.fail("decoded"))
    path = save(file, noise(11), JPEG2000Lossless, Rows=20, Columns=24)
    assert code_of(path) == "DIM_MISMATCH"


def test_codestream_with_more_bits_than_declared(file):
    path = save(file, noise(12), JPEG2000Lossless, BitsStored=10, HighBit=9)
    assert code_of(path) == "DECODE_ERROR"


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
def test_broken_codestream(file, syntax):
    save(file, noise(13), syntax)
    data = bytearray(file.read_bytes())
    at = data.index(b"\xe0\x7f\x10\x00")
    for i in range(at + 90, len(data) - 10, 7):
        data[i] ^= 0x5A
    del data[-30:]
    file.write_bytes(data)
    assert code_of(file) in ("TRUNCATED", "DECODE_ERROR", "DIM_MISMATCH")


def test_file_that_is_no_dicom(file):
    for content in (b"", b"no DICOM", b"\0" * 128 + b"DICM", b"\0" * 400):
        file.write_bytes(content)
        assert code_of(file) in ("NOT_DICOM", "BAD_SYNTAX")


def test_raw_jpeg_is_no_dicom(file):
    file.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 500)
    assert code_of(file) == "NOT_DICOM"


def test_deflated_is_refused_before_it_is_inflated(file):
    save(file, noise(14), DeflatedExplicitVRLittleEndian)
    started = time.perf_counter()
    assert code_of(file) == "BAD_SYNTAX"
    assert time.perf_counter() - started < 1


def test_header_cut_anywhere_ends_in_a_code(file):
    save(file, noise(15))
    whole = file.read_bytes()
    for length in range(0, len(whole), 23):
        file.write_bytes(whole[:length])
        assert code_of(file) in (
            "NOT_DICOM",
            "BAD_SYNTAX",
            "TRUNCATED",
            "SOP_CLASS",
            "NO_PIXELS",
            "COLOR",
            "DECODE_ERROR",
        )


def test_deeply_nested_sequences(file):
    save(file, noise(16))
    data = file.read_bytes()
    at = data.index(b"\x08\x00\x16\x00UI")
    sequence = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4
    item = b"\xfe\xff\x00\xe0" + b"\xff" * 4
    file.write_bytes(data[:at] + 2000 * (sequence + item) + data[at:])
    assert code_of(file) == "PARSE_LIMIT"


def test_what_is_no_regular_file_inside_the_archive(tmp_path):
    root = tmp_path / "root"
    outside = save(tmp_path / "outside.dcm", noise(17))
    inside = save(root / "inside.dcm", noise(17))
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to(inside)
    (root / "leak").symlink_to(outside)
    started = time.perf_counter()
    assert code_of(root / "fifo", root) == "NOT_REGULAR"
    assert code_of(root / "link", root) == "NOT_REGULAR"
    assert code_of(root / "leak", root) == "OUTSIDE_ROOT"
    assert code_of(root / ".." / "outside.dcm", root) == "OUTSIDE_ROOT"
    assert code_of(root / "gone", root) == "NOT_REGULAR"
    assert time.perf_counter() - started < 1


def test_too_big(file, monkeypatch):
    save(file, noise(18))
    monkeypatch.setattr(dicom, "MOST_BYTES", file.stat().st_size - 1)
    assert code_of(file) == "TOO_BIG"


def test_scan_tells_who_and_what(file):
    tags = {
        "IssuerOfPatientID": "HOSPITAL",
        "PatientID": " 12 ",
        "PatientSex": "F",
        "PatientAge": "067Y",
        "ViewPosition": "AP",
        "ImageLaterality": "R",
    }
    save(file, noise(19), SOPInstanceUID="1.2.3", **tags)
    assert scan(file) == dicom.Header("1.2.3", "HOSPITAL|12", "F", "067Y", "AP", "R")


def test_nothing_of_the_file_is_logged_or_warned(file, caplog, recwarn, capfd):
    save(file, noise(20), JPEG2000Lossless, PatientID="CANARY")
    data = file.read_bytes()
    file.write_bytes(data[:-200])
    code_of(file)
    assert not recwarn.list and "CANARY" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_real_hip_is_one_picture_in_five_encodings(shared_data):
    folder = shared_data / "dicom" / "radiographs"
    files = [f"RG2_HIP_{name}.dcm" for name in ("unc", "rle", "j2kr", "jpll", "jlsl")]
    found = [read(folder / file) for file in files]
    assert len({radiograph.digest for radiograph in found}) == 1
    for radiograph in found[1:]:
        np.testing.assert_array_equal(radiograph.image, found[0].image)
        assert radiograph.spacing_mm == (0.2, 0.2)


def test_real_lossy_encodings_look_the_same(shared_data):
    folder = shared_data / "dicom" / "radiographs"
    plain = read(folder / "RG2_HIP_unc.dcm").image
    for name in ("j2ki", "jply_fixed", "jlsn"):
        image = read(folder / f"RG2_HIP_{name}.dcm").image
        assert np.sqrt(np.mean((image - plain) ** 2)) < 0.01


def test_codestream_shape_needs_a_codestream():
    with pytest.raises(Rejected):
        decode.codestream_shape(io.BytesIO(b"GIF89a" + bytes(60)).getvalue())
