"""Encapsulated and native pixel data to stored values, by one set of codecs.

pydicom's own choice of decoder depends on what happens to be installed; here every
encapsulated syntax goes through imagecodecs, named as the plugin on each call.
"""

import struct

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from data_prep.codes import Rejected
from data_prep.values import values, whole

PLUGIN = "imagecodecs"
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
J2K = (uid.JPEG2000Lossless, uid.JPEG2000)
HTJ2K = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
ENCAPSULATED = (uid.RLELossless, *JPEG, *JPEG_LS, *J2K, *HTJ2K)
SYNTAXES = (*NATIVE, *ENCAPSULATED)

CODECS = (
    dict.fromkeys(JPEG, imagecodecs.jpeg8_decode)
    | dict.fromkeys(JPEG_LS, imagecodecs.jpegls_decode)
    | dict.fromkeys(J2K, imagecodecs.jpeg2k_decode)
    | dict.fromkeys(HTJ2K, imagecodecs.htj2k_decode)
)
DECODER_DEPENDENCIES = dict.fromkeys(ENCAPSULATED, ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Part of pydicom's protocol for decoding plugins."""
    return syntax in ENCAPSULATED


def decode_frame(source: bytes, runner) -> bytes | memoryview:
    """One frame for pydicom's DecodeRunner, in the samples' own width."""
    syntax = runner.transfer_syntax
    if syntax == uid.RLELossless:  # PS3.5 G: by planes, most significant byte first
        runner.set_option("planar_configuration", 1)
        return imagecodecs.dicomrle_decode(source, dtype=runner.pixel_dtype)
    pixels = CODECS[syntax](source)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(pixels).data.cast("B")


def _register():
    for syntax in ENCAPSULATED:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


_register()


def stored_values(dataset: Dataset, syntax: str) -> tuple[np.ndarray, bool]:
    """(stored values [rows, columns] or [rows, columns, 3], whether repaired).

    Values lie in [0, 2**BitsStored) or, signed, [-2**(BitsStored-1),
    2**(BitsStored-1)). Raises Rejected.
    """
    _check_source(dataset, syntax)
    try:
        pixels, _ = get_decoder(syntax).as_array(
            dataset,
            index=0,
            raw=True,
            decoding_plugin=PLUGIN,
            correct_unused_bits=False,
            allow_excess_frames=False,
            view_only=True,
        )
    except Exception:  # codecs and pydicom raise all kinds
        raise Rejected("DECODE_ERROR") from None
    if pixels.shape[:2] != (whole(dataset, "Rows"), whole(dataset, "Columns")):
        raise Rejected("DIM_MISMATCH")
    return _significant_bits(pixels, dataset, syntax in ENCAPSULATED)


def _check_source(dataset, syntax):
    data = values(dataset, "PixelData")
    if not data or not data[0]:
        raise Rejected("NO_PIXELS")
    expected = whole(dataset, "Rows"), whole(dataset, "Columns")
    samples = whole(dataset, "SamplesPerPixel", 1)
    if syntax in NATIVE:
        bytes_each = whole(dataset, "BitsAllocated") // 8
        if len(data[0]) < expected[0] * expected[1] * samples * bytes_each:
            raise Rejected("TRUNCATED")
        return
    try:
        frame = get_frame(data[0], 0, number_of_frames=1)
    except Exception:
        raise Rejected("TRUNCATED") from None
    if syntax == uid.RLELossless:  # carries no size of its own
        _check_segments(frame)
        return
    if codestream_shape(frame) != (*expected, samples):
        raise Rejected("DIM_MISMATCH")


def _check_segments(frame):
    """PS3.5 G.5: a count and 15 offsets; the decoder follows them anywhere."""
    if len(frame) < 64:
        raise Rejected("TRUNCATED")
    count, *offsets = struct.unpack_from("<16I", frame)
    ends = [*offsets[:count], len(frame)]
    if not 1 <= count <= 15 or offsets[0] != 64 or ends != sorted(set(ends)):
        raise Rejected("DECODE_ERROR")


def codestream_shape(frame: bytes) -> tuple[int, int, int]:
    """(rows, columns, samples) that a JPEG, JPEG-LS or JPEG 2000 codestream declares.

    ISO/IEC 10918-1 B.2.2 (frame header), 14495-1 C.2.2, 15444-1 A.5.1 (SIZ).
    Raises Rejected where the stream is none of these.
    """
    try:
        if frame[:4] == b"\xff\x4f\xff\x51":
            x1, y1, x0, y0 = struct.unpack_from(">4I", frame, 8)
            if 0 in struct.unpack_from(">2I", frame, 24):  # a decoder divides by it
                raise Rejected("DECODE_ERROR")
            return y1 - y0, x1 - x0, struct.unpack_from(">H", frame, 40)[0]
        if frame[:2] == b"\xff\xd8":
            return _jpeg_shape(frame)
    except (struct.error, IndexError):
        raise Rejected("TRUNCATED") from None
    raise Rejected("DECODE_ERROR")


def _jpeg_shape(frame):
    starts = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xF7)
    at = 2
    while True:
        if frame[at] != 0xFF:
            raise Rejected("DECODE_ERROR")
        marker = frame[at + 1]
        if marker == 0xFF:  # B.1.1.2: fill bytes
            at += 1
            continue
        if marker in starts:
            rows, columns, samples = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, samples
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]


def _significant_bits(pixels, dataset, encapsulated):
    """PS3.5 8.1.1: the value sits in BitsStored bits that end at HighBit; what is
    around them (retired overlays, garbage) is no part of it."""
    stored = whole(dataset, "BitsStored")
    shift = whole(dataset, "HighBit", stored - 1) + 1 - stored
    signed = whole(dataset, "PixelRepresentation") == 1
    if shift and (encapsulated or not 0 <= shift <= 8 * pixels.itemsize - stored):
        raise Rejected("HIGHBIT")
    if encapsulated and not _in_range(pixels, stored, signed):
        raise Rejected("DECODE_ERROR")
    native = pixels.dtype.newbyteorder("=")
    pixels = pixels.astype(native, copy=False)
    unsigned = pixels.view(f"u{pixels.itemsize}")
    if shift or signed or not (encapsulated or _in_range(unsigned, stored, False)):
        unsigned = (unsigned >> shift) & ((1 << stored) - 1)
    if not signed:
        return unsigned, bool(shift)
    sign = 1 << (stored - 1)
    return (unsigned.astype(np.int32) ^ sign) - sign, bool(shift)


def _in_range(pixels, stored, signed):
    """A pass over unsigned pixels is spared: none is below 0."""
    if pixels.max() >= 1 << stored:
        return False
    lowest = -(1 << (stored - 1)) if signed else 0
    return pixels.dtype.kind == "u" or bool(pixels.min() >= lowest)
