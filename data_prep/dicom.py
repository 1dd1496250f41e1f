"""A DICOM file to the radiograph that a viewer would show, float in [0, 1].

The order is that of PS3.4 N.2: stored values, modality, VOI, polarity; then padding
and shutter. Everything is read without trust; what cannot be shown is Rejected with
a code, and neither a message nor a warning carries anything of the file.
"""

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from data_prep import decode, geometry, luts
from data_prep.codes import Rejected
from data_prep.values import numbers, quiet, text, texts, values, whole

CR = "1.2.840.10008.5.1.4.1.1.1"
DX_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MODALITIES = ("CR", "DX", "RG")
MOST_BYTES = 256 << 20
MOST_PIXELS = 64_000_000
MOST_SIDE = 16384
FEWEST_LEVELS = 16
GREY_TOLERANCE = 8


class Header(NamedTuple):
    """What planning needs of a file. It is never written down."""

    uid: str
    patient: str
    sex: str
    age: str
    view: str
    laterality: str


class Accept(NamedTuple):
    """What is let in beside grey CR and DX images: further SOP classes by UID, and
    grey stored as colour, which is no longer held back for review."""

    sop_classes: tuple[str, ...] = ()
    grey_rgb: bool = False


GREY_CR_DX = Accept()


@dataclass(frozen=True)
class Radiograph:
    """The displayed image [rows, columns], bone bright, and facts that name nobody.

    `digest` is the SHA-256 of shape and stored values, `aspect` a pixel's height over
    its width, `spacing_mm` (row, column) of these pixels, NaN where not known.
    """

    image: np.ndarray
    digest: bytes
    spacing_mm: tuple[float, float]
    aspect: float
    voi_source: str
    inverted: bool
    flags: frozenset[str]


def scan(file: BinaryIO, accept: Accept = GREY_CR_DX) -> Header:
    """The header of a file that may be convertible. Raises Rejected."""
    with quiet():
        syntax = transfer_syntax(file)
        dataset = _parse(file, stop_before_pixels=True)
        check_header(dataset, syntax, accept)
        return Header(
            uid=text(dataset, "SOPInstanceUID"),
            patient=_patient(dataset),
            sex=text(dataset, "PatientSex"),
            age=text(dataset, "PatientAge"),
            view=text(dataset, "ViewPosition"),
            laterality=text(dataset, "ImageLaterality") or text(dataset, "Laterality"),
        )


def read(file: BinaryIO, accept: Accept = GREY_CR_DX) -> Radiograph:
    """The displayed radiograph of a file. Raises Rejected."""
    with quiet():
        syntax = transfer_syntax(file)
        check_header(_parse(file, stop_before_pixels=True), syntax, accept)
        return display(_parse(file, otherwise="TRUNCATED"), syntax, accept)


def open_regular(path: Path, root: Path) -> BinaryIO:
    """A regular file under `root`, opened without following links or waiting."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise Rejected("OUTSIDE_ROOT")
    try:  # O_NONBLOCK: a FIFO would hang here for ever
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise Rejected("NOT_REGULAR") from None
    file = os.fdopen(number, "rb")
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES:
        return file
    file.close()
    raise Rejected("TOO_BIG" if stat.S_ISREG(found.st_mode) else "NOT_REGULAR")


@contextlib.contextmanager
def _parsing(otherwise: str) -> Iterator[None]:
    try:
        yield
    except Rejected:
        raise
    except (EOFError, struct.error):
        raise Rejected("TRUNCATED") from None
    except (RecursionError, MemoryError, OverflowError):
        raise Rejected("PARSE_LIMIT") from None
    except Exception:  # a broken file raises all kinds
        raise Rejected(otherwise) from None


def transfer_syntax(file: BinaryIO) -> str:
    """The transfer syntax, of those that are read, from the meta group alone.

    Before anything else is parsed: a deflated data set (PS3.5 A.5) is refused here,
    since parsing would inflate all of it.
    """
    file.seek(0)
    if file.read(132)[128:] != b"DICM":
        raise Rejected("NOT_DICOM")
    with _parsing("NOT_DICOM"):
        meta = read_dataset(
            file,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, vr, length: tag >> 16 != 2,
        )
        syntax = str(meta.get("TransferSyntaxUID") or "").strip()
    if syntax not in decode.SYNTAXES:
        raise Rejected("BAD_SYNTAX")
    return syntax


def _parse(file, otherwise="NOT_DICOM", **options) -> Dataset:
    file.seek(0)
    with _parsing(otherwise):
        return dcmread(file, **options)


def check_header(dataset: Dataset, syntax: str, accept: Accept = GREY_CR_DX) -> None:
    """Rejects what is no single grey CR or DX image for presentation, or too large."""
    sop_class = text(dataset, "SOPClassUID")
    if "FOR PROCESSING" in texts(dataset, "PresentationIntentType"):
        raise Rejected("FOR_PROCESSING")
    if sop_class == DX_PROCESSING:
        raise Rejected("FOR_PROCESSING")
    if sop_class not in accept.sop_classes:
        if sop_class == SECONDARY_CAPTURE and _radiographic(dataset):
            raise Rejected("PHI_SUSPECT")
        if sop_class not in (CR, DX_PRESENTATION) or not _radiographic(dataset):
            raise Rejected("SOP_CLASS")
    if _may_name_somebody(dataset):
        raise Rejected("PHI_SUSPECT")
    _check_shape(dataset)
    samples = whole(dataset, "SamplesPerPixel", 1)
    photometric = text(dataset, "PhotometricInterpretation")
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2")
    if not grey and (samples != 3 or syntax in decode.NATIVE and photometric != "RGB"):
        raise Rejected("COLOR")
    allocated, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise Rejected("DECODE_ERROR")


def _radiographic(dataset):
    return text(dataset, "Modality") in MODALITIES


def _check_shape(dataset):
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    if rows <= 0 or columns <= 0:
        raise Rejected("NO_PIXELS")
    if max(rows, columns) > MOST_SIDE or rows * columns > MOST_PIXELS:
        raise Rejected("BOMB")
    if whole(dataset, "NumberOfFrames", 1) > 1:
        raise Rejected("MULTIFRAME")


def _may_name_somebody(dataset):
    """A screen that was saved, or text that the header says is burned in."""
    words = (*texts(dataset, "ImageType"), *texts(dataset, "SeriesDescription"))
    burned_in = text(dataset, "BurnedInAnnotation") == "YES"
    return burned_in or any("SAVE" in word for word in words)


def _patient(dataset) -> str:
    """issuer|PatientID, '' without a PatientID: two hospitals may share a number."""
    patient, issuer = (
        "\\".join(map(str, values(dataset, keyword))).strip()
        for keyword in ("PatientID", "IssuerOfPatientID")
    )
    return f"{issuer}|{patient}" if patient else ""


def display(dataset: Dataset, syntax: str, accept: Accept = GREY_CR_DX) -> Radiograph:
    """The displayed radiograph of a data set that passed `check_header`."""
    stored, shifted = decode.stored_values(dataset, syntax)
    if stored.ndim == 3:
        stored = grey(stored, accept.grey_rgb)
    low, high = luts.stored_range(dataset)
    index = stored if low == 0 else stored - low
    hidden = _hidden(dataset, stored)
    table, source, flags = _table(dataset, index, hidden, low, high)
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if inverted:  # PS3.3 C.7.6.3.1.2, after VOI
        table = 1 - table
    image = luts.apply(table.astype(np.float32), index)
    if hidden is not None:
        image[hidden] = 0
    return Radiograph(
        image=image,
        digest=_digest(stored),
        spacing_mm=geometry.spacing(dataset),
        aspect=geometry.aspect(dataset),
        voi_source=source,
        inverted=inverted,
        flags=flags | _header_flags(dataset) | ({"HIGHBIT"} if shifted else set()),
    )


def grey(stored: np.ndarray, accepted: bool) -> np.ndarray:
    """The mean [h, w] of three channels that are alike. Raises Rejected."""
    wide = stored.astype(np.int32)
    if np.ptp(wide, axis=-1).max() > GREY_TOLERANCE:
        raise Rejected("COLOR")
    if not accepted:
        raise Rejected("GREY_RGB")
    return np.rint(wide.mean(axis=-1)).astype(stored.dtype)


def _table(dataset, index, hidden, low, high):
    """(displayed value of each possible stored value, VOI source, flags)."""
    inputs, modality_flags = luts.modality(dataset, np.arange(low, high + 1))
    voi = luts.voi(dataset, inputs, signed=bool(inputs.min() < 0))
    shown = voi.shown
    if shown is None:
        counted = index if hidden is None else index[~hidden]
        counts = np.bincount(counted.ravel(), minlength=len(inputs))
        shown = luts.percentiles(inputs, counts)
    return shown, voi.source, modality_flags | voi.flags


def _hidden(dataset, stored):
    """True where a pixel is padding or behind the shutter; None where none is.

    PS3.3 C.7.5.1.1.2: PixelPaddingValue and RangeLimit are stored values.
    """
    padding = numbers(dataset, "PixelPaddingValue")
    hidden = None
    if padding:
        limit = numbers(dataset, "PixelPaddingRangeLimit") or padding
        ends = sorted((padding[0], limit[0]))
        hidden = (stored >= ends[0]) & (stored <= ends[1])
    opened = geometry.shutter(dataset, stored.shape)
    if opened is None:
        return hidden
    return ~opened if hidden is None else hidden | ~opened


def _header_flags(dataset):
    """Conflicts that are counted and not acted upon.

    Polarity: PS3.3 C.8.11.3.1.2 pairs MONOCHROME1 with INVERSE, so that a
    contradicting PresentationLUTShape says nothing reliable. Orientation
    (C.7.6.1.1.1): columns towards the patient's right with rows towards the foot, or
    left with head, is a mirrored frontal image.
    """
    flags = set()
    expected = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
    shape = text(dataset, "PresentationLUTShape")
    if shape and shape != expected.get(text(dataset, "PhotometricInterpretation")):
        flags.add("POLARITY_CONFLICT")
    orientation = tuple(name[:1] for name in texts(dataset, "PatientOrientation"))
    if orientation in (("R", "F"), ("L", "H")):
        flags.add("MIRRORED")
    return flags


def _digest(stored):
    """SHA-256 of shape and stored values: one picture, however it was encoded."""
    digest = hashlib.sha256(np.array(stored.shape, "<u4").tobytes())
    negative = stored.dtype.kind == "i" and stored.min() < 0
    digest.update(np.ascontiguousarray(stored, "<i4" if negative else "<u2"))
    return digest.digest()
