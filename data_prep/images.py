"""A PNG, TIFF or JPEG file to the radiograph that it shows, float in [0, 1].

Sizes come from the header and are checked before anything is decoded. Stored values
are taken as linear in what is shown: gamma, ICC profiles and PNG sBIT are not applied.
Everything is read without trust; what cannot be shown is Rejected with a code.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

import imagecodecs
import numpy as np

from data_prep import luts
from data_prep.codes import Rejected
from data_prep.dicom import (
    MOST_BYTES,
    MOST_PIXELS,
    MOST_SIDE,
    Radiograph,
    _digest,
    grey,
)

MOST_CHUNKS = 1 << 17
FEWEST_BITS = 4
GREY, RGB = 0, 2
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, PLANAR, SAMPLE_FORMAT = 274, 277, 284, 339
STRIPS, TILES = (273, 279), (324, 325)
TILE_SIDES = (322, 323)
WANTED = {
    *(WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC),
    *(ORIENTATION, SAMPLES, PLANAR, SAMPLE_FORMAT),
    *(*STRIPS, *TILES, *TILE_SIDES),
}
COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate"} | {
    32773: "PackBits",
    32946: "deflate",
}
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
MOST_VALUES = 1 << 20


class Form(NamedTuple):
    """What a header declares, to be compared with what is decoded.

    `bits` is the depth of decoded samples, `planar` one plane after another,
    `inverted` 0 as white, `orientation` as in TIFF 6.0, tag 274.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    planar: bool = False
    inverted: bool = False
    orientation: int = 1


class Directory(NamedTuple):
    """Tag to its whole numbers, and whether another directory follows."""

    tags: Mapping[int, tuple[int, ...]]
    more: bool

    def get(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        return self.tags.get(tag, default)

    def one(self, tag: int, default: int) -> int:
        return self.get(tag, (default,))[0]


def read(
    file: BinaryIO,
    *,
    bits: int | None = None,
    inverted: bool = False,
    accept_grey_rgb: bool = False,
) -> Radiograph:
    """The radiograph v / (2**b - 1) of stored values v. Raises Rejected.

    b is the image's own depth; for one of 16 bits, `bits` where given, and then a value
    of more bits is a DECODE_ERROR. `inverted` says that bone is dark in what a viewer
    shows; a TIFF whose 0 is white is inverted for the viewer already. `accept_grey_rgb`
    takes the mean of three channels that are alike.
    """
    if bits is not None and bits not in range(8, 17):
        raise ValueError(f"bits = {bits!r}: expected a whole number from 8 to 16.")
    form, stored = _stored_values(file)
    if stored.ndim == 3:
        stored = grey(stored, accept_grey_rgb)
    full = bits if bits is not None and form.bits == 16 else form.bits
    if stored.max() >= 1 << full:
        raise Rejected("DECODE_ERROR")
    stored = _upright(stored, form.orientation)
    table = np.arange(1 << full) / ((1 << full) - 1)
    inverted = inverted != form.inverted
    table = 1 - table if inverted else table
    return Radiograph(
        image=luts.apply(table.astype(np.float32), stored),
        digest=_digest(stored),
        spacing_mm=(math.nan, math.nan),
        aspect=1.0,
        voi_source="none",
        inverted=inverted,
        flags=frozenset(),
    )


def _stored_values(file):
    """(what the header declares, stored values as `_decode` gives them)."""
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Rejected("TOO_BIG")
    describe, codec = _format(data)
    try:
        form = describe(data)
    except (struct.error, IndexError):
        raise Rejected("TRUNCATED") from None
    return form, _decode(data, form, codec)


def _format(data) -> tuple[Callable[[bytes], Form], Callable]:
    """(header reader, codec) by the first bytes: an extension proves nothing."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png, imagecodecs.png_decode
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg, imagecodecs.jpeg8_decode
    if data[:4] in TIFF_MAGIC:
        return _tiff, imagecodecs.tiff_decode
    raise Rejected("NOT_IMAGE")


def _check(form):
    if min(form.rows, form.columns) <= 0:
        raise Rejected("NO_PIXELS")
    if max(form[:2]) > MOST_SIDE or form.rows * form.columns > MOST_PIXELS:
        raise Rejected("BOMB")
    if form.samples not in (1, 3):
        raise Rejected("COLOR")
    if form.bits < FEWEST_BITS:  # 8 levels at most
        raise Rejected("BLANK")
    if form.bits > 16:
        raise Rejected("DECODE_ERROR")


def _decode(data, form, codec):
    """Stored values [rows, columns] or [rows, columns, 3], uint8 or uint16."""
    try:
        pixels = codec(data)
    except MemoryError:
        raise Rejected("PARSE_LIMIT") from None
    except Exception:  # every codec has errors of its own
        raise Rejected("DECODE_ERROR") from None
    if form.planar and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    expected = (form.rows, form.columns) + (() if form.samples == 1 else (3,))
    if pixels.shape != expected:
        raise Rejected("DIM_MISMATCH")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Rejected("DECODE_ERROR")
    return pixels


def _upright(stored, orientation):
    """TIFF 6.0, tag 274, which Exif has too: where row 0 and column 0 belong."""
    if orientation in (5, 6, 7, 8):
        stored = stored.T
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


def _png(data) -> Form:
    """PNG, third edition: 11.2.1 (IHDR), 5.3 (chunks)."""
    length, name, columns, rows, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if (length, name) != (13, b"IHDR"):
        raise Rejected("DECODE_ERROR")
    form = Form(
        rows,
        columns,
        samples={GREY: 1, RGB: 3}.get(colour, 0),
        bits=8 if depth == FEWEST_BITS else depth,  # libpng widens, v to 17 v
    )
    _check(form)
    for name, at, length in _chunks(data):
        if name == b"acTL" and struct.unpack_from(">I", data, at)[0] > 1:
            raise Rejected("MULTIFRAME")
        if name == b"tRNS":
            raise Rejected("COLOR")
        if name == b"eXIf":
            form = form._replace(orientation=_orientation(data[at : at + length]))
    return form


def _chunks(data) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, length) of each chunk. The checksums are compared here, since
    libpng's stops at the last row and would show some damaged images."""
    whole, at = memoryview(data), 8
    for _ in range(MOST_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise Rejected("TRUNCATED")
        end = at + 8 + length
        if zlib.crc32(whole[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise Rejected("DECODE_ERROR")
        if name == b"IEND":
            return
        yield name, at + 8, length
        at = end + 4
    raise Rejected("PARSE_LIMIT")


def _jpeg(data) -> Form:
    """ISO/IEC 10918-1 B.2.2 (frame header); Exif 4.7.2 (APP1)."""
    form, orientation = None, 1
    for marker, at in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            depth, rows, columns, samples = struct.unpack_from(">BHHB", data, at)
            form = Form(rows, columns, samples, depth)
            _check(form)
        if marker == 0xE1 and data[at : at + 6] == b"Exif\0\0":
            orientation = _orientation(data[at + 6 : at + 0xFFFF])
    if form is None:
        raise Rejected("DECODE_ERROR")
    return form._replace(orientation=orientation)


def _segments(data) -> Iterator[tuple[int, int]]:
    """(marker, first byte of its parameters) up to the scan, which must end: libjpeg
    fills what is cut off with grey."""
    at = 2
    for _ in range(MOST_CHUNKS):
        if data[at] != 0xFF:
            raise Rejected("DECODE_ERROR")
        marker = data[at + 1]
        if marker == 0xFF:  # B.1.1.2: fill bytes
            at += 1
        elif marker == 0xDA:
            if data.find(b"\xff\xd9", at) < 0:
                raise Rejected("TRUNCATED")
            return
        else:
            yield marker, at + 4
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise Rejected("PARSE_LIMIT")


def _tiff(data) -> Form:
    """TIFF 6.0, sections 3 to 8."""
    tags = _directory(data)
    if tags.more:
        raise Rejected("MULTIFRAME")
    photometric = tags.one(PHOTOMETRIC, -1)
    samples = tags.one(SAMPLES, 1)
    grey_or_rgb = {(0, 1), (1, 1), (2, 3), (6, 3)}
    depths = set(tags.get(BITS, (1,)))
    if len(depths) > 1 or set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        raise Rejected("DECODE_ERROR")
    form = Form(
        rows=tags.one(LENGTH, 0),
        columns=tags.one(WIDTH, 0),
        samples=samples if (photometric, samples) in grey_or_rgb else 0,
        bits=depths.pop(),
        planar=tags.one(PLANAR, 1) == 2 and samples > 1,
        inverted=photometric == 0,
        orientation=tags.one(ORIENTATION, 1),
    )
    _check(form)
    _check_storage(tags, len(data))
    return form


def _directory(data: bytes) -> Directory:
    """TIFF 6.0, section 2. struct.error where it is cut off, else Rejected."""
    if data[:4] not in TIFF_MAGIC:
        raise Rejected("DECODE_ERROR")
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    offset, counter, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    at = struct.unpack_from(order + offset, data, 8 if big else 4)[0]
    at = _inside(at, data)
    count = struct.unpack_from(order + counter, data, at)[0]
    at += struct.calcsize(order + counter)
    step, tags = struct.calcsize(order + entry), {}
    if count > MOST_VALUES:
        raise Rejected("PARSE_LIMIT")
    for _ in range(count):
        tag, kind, number, field = struct.unpack_from(order + entry, data, at)
        at += step
        if tag not in WANTED or kind not in INTEGERS or not number:
            continue
        if number > MOST_VALUES:
            raise Rejected("PARSE_LIMIT")
        form = f"{order}{number}{INTEGERS[kind]}"
        source, start = field, 0
        if struct.calcsize(form) > len(field):
            start = _inside(struct.unpack(order + offset, field)[0], data)
            source = data
        tags[tag] = struct.unpack_from(form, source, start)
    return Directory(tags, struct.unpack_from(order + offset, data, at)[0] != 0)


def _inside(at, data):
    """An offset that struct takes: it counts a large one as an overflow."""
    if at > len(data):
        raise Rejected("TRUNCATED")
    return at


def _check_storage(found: Directory, size: int) -> None:
    """Rejects data outside a file of `size` bytes, tiles beyond the caps and
    compressions that no lab uses, whose decoders are the least tested."""
    if found.one(COMPRESSION, 1) not in COMPRESSIONS:
        raise Rejected("DECODE_ERROR")
    sides = [found.one(tag, 1) for tag in TILE_SIDES]
    if max(sides) > MOST_SIDE or sides[0] * sides[1] > MOST_PIXELS:
        raise Rejected("BOMB")
    for offsets, counts in (STRIPS, TILES):
        places = found.get(offsets), found.get(counts)
        if len(places[0]) != len(places[1]):
            raise Rejected("DECODE_ERROR")
        ends = [at + count for at, count in zip(*places, strict=True)]
        if ends and (max(ends) > size or not min(places[1])):
            raise Rejected("TRUNCATED")


def _orientation(exif):
    """Exif is a TIFF directory; a broken one says nothing."""
    try:
        return _directory(exif).one(ORIENTATION, 1)
    except (struct.error, Rejected):
        return 1
