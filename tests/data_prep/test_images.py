"""Pixels of PNG, TIFF and JPEG files: the same picture however it is stored."""

import io
import math
import struct
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep import images
from data_prep.codes import Rejected
from tests.dicoms import noise, read, save

GREY = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
BYTES = (GREY >> 8).astype(np.uint8)


def tiff(pixels, **options) -> bytes:
    return imagecodecs.tiff_encode(pixels.copy(), **options)  # it swaps bytes in place


LZW = {"compression": 5}
TIFFS = {
    "raw": {},
    "LZW": LZW,
    "LZW, predictor": LZW | {"predictor": 2},
    "deflate": {"compression": 8},
    "PackBits": {"compression": 32773},
    "big-endian": {"byteorder": ">"},
    "big-endian LZW": LZW | {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "tiles": {"tile": (32, 16)},
    "strips": {"rowsperstrip": 7},
}


def lossless(pixels) -> dict[str, bytes]:
    return {"PNG": imagecodecs.png_encode(pixels)} | {
        name: tiff(pixels, **options) for name, options in TIFFS.items()
    }


def shown(data: bytes, **options):
    return images.read(io.BytesIO(data), **options)


def code_of(data: bytes, **options) -> str:
    with pytest.raises(Rejected) as caught:
        shown(data, **options)
    return caught.value.code


def saved(pixels, format: str, mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture = picture.convert(mode) if mode else picture
    picture.save(file, format, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(rows, columns, *chunks: bytes, depth=8, colour=0) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name", ["PNG", *TIFFS])
def test_a_picture_is_that_of_dicom_with_the_identity_window(tmp_path, name):
    pixels = noise(3, (33, 20))
    expected = read(save(tmp_path / "a.dcm", pixels))
    found = shown(lossless(pixels)[name], bits=12)
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.digest == expected.digest
    assert (found.voi_source, found.inverted, found.aspect) == ("none", False, 1)
    assert all(map(math.isnan, found.spacing_mm)) and not found.flags


@pytest.mark.parametrize("name", ["PNG", *TIFFS])
@pytest.mark.parametrize("pixels", [BYTES, GREY], ids=["8 bits", "16 bits"])
def test_range_is_that_of_the_type(pixels, name):
    full = np.iinfo(pixels.dtype).max
    found = shown(lossless(pixels)[name])
    np.testing.assert_array_equal(found.image, (pixels / full).astype(np.float32))
    assert found.image.dtype == np.float32


@pytest.mark.parametrize("bits", [4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", "<>")
def test_tiff_of_packed_bits(bits, order):
    pixels = (GREY >> (16 - bits)).astype(np.uint8 if bits <= 8 else np.uint16)
    found = shown(tiff(pixels, bitspersample=bits, byteorder=order))
    expected = pixels / (2**bits - 1)
    np.testing.assert_array_equal(found.image, expected.astype(np.float32))


def test_png_of_four_bits():
    values = np.arange(16, dtype=np.uint8).reshape(2, 8)
    packed = values[:, ::2] << 4 | values[:, 1::2]
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    data = png(2, 8, chunk(b"IDAT", zlib.compress(lines)), depth=4)
    found = shown(data).image
    np.testing.assert_array_equal(found, (values / 15).astype(np.float32))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_significant_bits(bits):
    pixels = np.array([[0, 1], [2 ** (bits - 1), 2**bits - 1]], np.uint16)
    found = shown(imagecodecs.png_encode(pixels), bits=bits)
    expected = pixels / (2**bits - 1)
    np.testing.assert_array_equal(found.image, expected.astype(np.float32))
    assert code_of(imagecodecs.png_encode(pixels + 1), bits=bits) == "DECODE_ERROR"


def test_significant_bits_are_about_images_of_16_bits():
    found = shown(imagecodecs.png_encode(BYTES), bits=12)
    assert found.image.max() == BYTES.max() / np.float32(255)


@pytest.mark.parametrize("bits", [7, 17, 12.5, "12"])
def test_significant_bits_that_no_file_has(bits):
    with pytest.raises(ValueError, match="bits = .*expected a whole number from 8 to"):
        shown(imagecodecs.png_encode(BYTES), bits=bits)


@pytest.mark.parametrize("pixels", [BYTES, GREY], ids=["8 bits", "16 bits"])
def test_white_zero_and_the_option_invert_once_each(pixels):
    plain, white = tiff(pixels), tiff(pixels, photometric="miniswhite")
    upright = shown(plain)
    for data, option in ((white, False), (plain, True)):
        found = shown(data, inverted=option)
        np.testing.assert_allclose(found.image, 1 - upright.image, atol=1e-7)
        assert found.inverted and found.digest == upright.digest
    twice = shown(white, inverted=True)
    np.testing.assert_array_equal(twice.image, upright.image)
    assert not twice.inverted


def channels(pixels, *changes):
    return np.stack([pixels + np.asarray(c, pixels.dtype) for c in changes], -1)


@pytest.mark.parametrize(
    "encode",
    [
        imagecodecs.png_encode,
        lambda x: tiff(x, photometric="rgb"),
        lambda x: tiff(
            np.moveaxis(x, -1, 0), photometric="rgb", planarconfig="separate"
        ),
    ],
    ids=["PNG", "TIFF", "TIFF by planes"],
)
def test_grey_stored_as_colour(encode):
    pixels = BYTES % 200
    same, near, far = (
        encode(channels(pixels, *changes))
        for changes in ((0, 0, 0), (0, 4, 8), (0, 0, 9))
    )
    assert code_of(same) == code_of(near) == "GREY_RGB"
    assert code_of(far) == code_of(far, accept_grey_rgb=True) == "COLOR"
    found = shown(same, accept_grey_rgb=True)
    assert found.digest == shown(imagecodecs.png_encode(pixels)).digest
    mean = shown(near, accept_grey_rgb=True).image
    np.testing.assert_array_equal(np.rint(mean * 255), pixels + 4)


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_alpha_and_palettes_are_colour(format, mode):
    data = saved(BYTES, format, mode)
    assert code_of(data, accept_grey_rgb=True) == "COLOR"


def test_a_transparent_grey_is_colour():
    assert code_of(saved(BYTES, "PNG", transparency=3)) == "COLOR"


def test_cmyk_is_colour():
    assert code_of(saved(BYTES, "JPEG", "CMYK")) == "COLOR"
    assert code_of(saved(BYTES, "TIFF", "CMYK")) == "COLOR"


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_one_bit_has_too_few_levels(format):
    assert code_of(saved(BYTES, format, "1")) == "BLANK"


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["base", "prog"])
def test_jpeg_is_near_the_picture(options):
    found = shown(saved(BYTES, "JPEG", quality=95, **options)).image
    assert np.abs(found - BYTES / 255).max() < 0.02
    assert code_of(saved(BYTES, "JPEG", "RGB", quality=95)) == "GREY_RGB"


def test_jpeg_has_the_range_of_its_precision():
    data = imagecodecs.jpeg8_encode(GREY >> 4, bitspersample=12, level=95)
    assert np.abs(shown(data).image - GREY / 65520).max() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_orientation_is_that_of_a_viewer(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(BYTES[:20, :30] + noise(1, (20, 30)).astype("u1"), format, exif=exif)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(np.rint(shown(data).image * 255), expected)


def test_several_pages():
    pages = tiff(np.stack([GREY, GREY]), photometric="minisblack")
    assert code_of(pages) == "MULTIFRAME"
    animated = png(4, 4, chunk(b"acTL", struct.pack(">II", 2, 0)))
    assert code_of(animated) == "MULTIFRAME"


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint32])
def test_tiff_of_other_numbers(dtype):
    assert code_of(tiff(GREY.astype(dtype))) == "DECODE_ERROR"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", b"GIF89a" + bytes(90), bytes(128) + b"DICM", b"a,b\n1,2\n"],
)
def test_other_files(data):
    assert code_of(data) == "NOT_IMAGE"


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF in which the value of a tag is another."""
    at = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, at)[0]):
        entry = at + 2 + 12 * i
        if struct.unpack_from("<H", data, entry)[0] == tag:
            changed = struct.pack("<HHII", tag, 4, 1, value)
            return data[:entry] + changed + data[entry + 12 :]
    raise AssertionError(tag)


def jpeg(rows, columns) -> bytes:
    data = saved(BYTES, "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", rows, columns) + data[at + 4 :]


def huge():
    small = imagecodecs.zlib_encode(b"\0" * 1000)
    return {
        "PNG": png(60000, 60000, chunk(b"IDAT", small)),
        "PNG, no data": png(60000, 60000),
        "PNG, one side": png(1, 16385),
        "TIFF": with_tag(with_tag(tiff(GREY), 256, 60000), 257, 60000),
        "TIFF, pixels": with_tag(with_tag(tiff(GREY), 256, 16000), 257, 16000),
        "TIFF, tile": with_tag(tiff(GREY, tile=(32, 32)), 322, 1 << 20),
        "JPEG": jpeg(60000, 60000),
    }


@pytest.mark.parametrize("name", list(huge()))
def test_size_is_checked_before_decoding(name, monkeypatch):
    def decode(data):
        raise AssertionError("decoded")

    for codec in ("png_decode", "tiff_decode", "jpeg8_decode"):
        monkeypatch.setattr(imagecodecs, codec, decode)
    assert code_of(huge()[name]) == "BOMB"


@pytest.mark.parametrize("rows, columns", [(0, 5), (5, 0)])
def test_no_pixels(rows, columns):
    assert code_of(png(rows, columns)) == "NO_PIXELS"


def test_decoded_size_is_that_of_the_header():
    data = with_tag(tiff(GREY, compression=5, rowsperstrip=64), 257, 65)
    assert code_of(data) in ("DECODE_ERROR", "DIM_MISMATCH")


def samples() -> dict[str, bytes]:
    return lossless(noise(1, (40, 50))) | {
        "JPEG": saved(BYTES, "JPEG"),
        "progressive": saved(BYTES, "JPEG", progressive=True),
        "JPEG in TIFF": saved(BYTES, "TIFF", compression="jpeg"),
    }


@pytest.mark.parametrize("name", list(samples()))
def test_what_is_cut_off_is_rejected_or_whole(name):
    data = samples()[name]
    whole = shown(data).digest
    ends = {*range(0, len(data), 100), *range(20), *range(len(data) - 20, len(data))}
    for end in sorted(ends):
        try:
            assert shown(data[:end]).digest == whole and end > len(data) - 20
        except Rejected as rejected:
            assert rejected.code in ("NOT_IMAGE", "TRUNCATED", "DECODE_ERROR"), end


@given(data=st.data(), name=st.sampled_from(sorted(samples())))
@settings(max_examples=300, deadline=None)
def test_what_is_damaged_is_shown_or_rejected(data, name):
    damaged = bytearray(samples()[name])
    places = st.integers(0, len(damaged) - 1)
    if data.draw(st.booleans()):  # where headers and directories are
        places = st.integers(0, 60) | st.integers(len(damaged) - 200, len(damaged) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=6)):
        damaged[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    try:
        image = shown(bytes(damaged)).image
    except Rejected:
        return
    assert 0 <= image.min() <= image.max() <= 1


def test_damage_anywhere_in_a_png_is_rejected():
    data = imagecodecs.png_encode(noise(1, (40, 50)))
    for place in range(8, len(data), 7):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        code_of(damaged)


def test_too_many_bytes(monkeypatch):
    data = imagecodecs.png_encode(BYTES)
    monkeypatch.setattr(images, "MOST_BYTES", len(data) - 1)
    assert code_of(data) == "TOO_BIG"


def test_endless_headers(monkeypatch):
    monkeypatch.setattr(images, "MOST_CHUNKS", 50)
    monkeypatch.setattr(images, "MOST_VALUES", 5)
    segments = b"\xff\xe0\x00\x02" * 60
    for data in (
        png(4, 4, *[chunk(b"tEXt", b"")] * 60),
        b"\xff\xd8" + segments + b"\xff\xd9",
        tiff(GREY),
    ):
        assert code_of(data) == "PARSE_LIMIT"


def test_nothing_is_said(capfd, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in samples().values():
            for end in (len(data) // 2, len(data) - 30):
                code_of(data[:end])
    assert capfd.readouterr() == ("", "") and not caplog.records
