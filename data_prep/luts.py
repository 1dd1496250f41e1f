"""Modality and VOI transformations (PS3.3 C.11.1, C.11.2), on a ramp.

Each runs once over all possible stored values; the image is then one indexing away.
Written out here and not taken from pydicom 3.0.2, whose functions give silently wrong
values for a VOI LUT of 4096 entries with 8-bit output, and fail on packed 8-bit
LUTData, on a Modality LUT of 12 bits, on a slope without an intercept and on
`SIGMOID ` with its trailing space; the tests use them as an oracle everywhere else.
"""

import math
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from data_prep.codes import Rejected
from data_prep.values import items, number, numbers, text, texts, values, whole

ROWS_AT_A_TIME = 16


class Lut(NamedTuple):
    """Entries of a lookup table; the first is for input `first`."""

    first: int
    entries: np.ndarray
    bits: int
    repaired: bool

    def look_up(self, inputs: np.ndarray) -> np.ndarray:
        """C.11.1.1: below the first input the first entry, past the last the last."""
        index = np.rint(inputs).astype(np.int64) - self.first
        return self.entries[np.clip(index, 0, len(self.entries) - 1)]


class Voi(NamedTuple):
    """Displayed values in [0, 1] of each input; None: percentiles are needed."""

    shown: np.ndarray | None
    source: str
    flags: frozenset[str]


def stored_range(dataset: Dataset) -> tuple[int, int]:
    """The least and greatest stored value (PS3.5 8.1.1)."""
    bits = whole(dataset, "BitsStored")
    if whole(dataset, "PixelRepresentation") == 1:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def modality(dataset: Dataset, ramp: np.ndarray) -> tuple[np.ndarray, frozenset[str]]:
    """Modality values of the stored values `ramp` (C.11.1), and flags."""
    sequence = items(dataset, "ModalityLUTSequence")
    if sequence:
        lut = read_lut(sequence[0], signed_input=ramp[0] < 0, endian=_endian(dataset))
        return lut.look_up(ramp).astype(np.float64), _flag(lut.repaired)
    slope = number(dataset, "RescaleSlope", 1.0)
    intercept = number(dataset, "RescaleIntercept", 0.0)
    if slope == 0:  # no image has this; what is meant cannot be known
        return ramp.astype(np.float64), _flag(True)
    return ramp * slope + intercept, frozenset()


def voi(dataset: Dataset, inputs: np.ndarray, *, signed: bool = False) -> Voi:
    """Displayed values of modality values `inputs` (C.11.2).

    A LUT goes before a window (PS3.4 N.2.1.2); among several the one explained as
    NORMAL, else the first.
    """
    sequence = items(dataset, "VOILUTSequence")
    if sequence:
        names = [text(item, "LUTExplanation") for item in sequence]
        item = sequence[_normal(names, len(sequence))]
        lut = read_lut(item, signed_input=signed, endian=_endian(dataset))
        shown = lut.look_up(inputs) / ((1 << lut.bits) - 1)
        return Voi(shown, "lut", _flag(lut.repaired))
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    count = min(len(centers), len(widths))
    if not count:
        return Voi(None, "percentile", frozenset({"VOI_MISSING"}))
    index = _normal(texts(dataset, "WindowCenterWidthExplanation"), count)
    function = text(dataset, "VOILUTFunction") or "LINEAR"
    shown = window(inputs, centers[index], widths[index], function)
    if shown is None:
        return Voi(None, "percentile", frozenset({"VOI_INVALID"}))
    return Voi(shown, "window", frozenset())


def window(inputs, center: float, width: float, function: str) -> np.ndarray | None:
    """Displayed values in [0, 1] (C.11.2.1.2, C.11.2.1.3); None where undefined."""
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if math.isnan(center) or math.isnan(width) or width < least:
        return None
    if function == "LINEAR":  # C.11.2.1.2.1
        center, width = center - 0.5, width - 1
    if function in ("LINEAR", "LINEAR_EXACT"):
        if width == 0:
            return (inputs > center).astype(np.float64)
        return np.clip((inputs - center) / width + 0.5, 0, 1)
    if function == "SIGMOID":  # C.11.2.1.3.1
        return 1 / (1 + np.exp(np.clip(-4 * (inputs - center) / width, -700, 700)))
    return None


def apply(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """table[index], a few rows at a time: five times as fast, since NumPy's copy of
    the index as int64 then stays in the cache."""
    found = np.empty(index.shape, table.dtype)
    for at in range(0, len(index), ROWS_AT_A_TIME):
        rows = slice(at, at + ROWS_AT_A_TIME)
        np.take(table, index[rows], out=found[rows], mode="clip")
    return found


def percentiles(inputs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Displayed values where there is no VOI: 0.5 to 99.5 % of the pixels.

    `counts` is how many pixels hold each of `inputs`.
    """
    order = np.argsort(inputs, kind="stable")
    share = np.cumsum(counts[order]) / max(counts.sum(), 1)
    low, high = np.searchsorted(share, (0.005, 0.995))
    low, high = inputs[order[[low, min(high, len(order) - 1)]]]
    return np.clip((inputs - low) / max(high - low, np.finfo(float).tiny), 0, 1)


def read_lut(item: Dataset, *, signed_input: bool, endian: str = "<") -> Lut:
    """The LUT of an item (C.11.1.1.1, C.11.2.1.1). Raises Rejected.

    Agfa and others write tables narrower or wider than the descriptor says: the
    entries' real bit length counts, and the table is called repaired.
    """
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3 or any(map(math.isnan, descriptor)):
        raise Rejected("BAD_LUT")
    count, first, bits = map(int, descriptor)
    count = (count & 0xFFFF) or 1 << 16  # 0 means 65536; US may be read as SS
    if signed_input and first >= 1 << 15:
        first -= 1 << 16
    entries = _entries(item, count, bits, endian)
    real = max(int(entries.max()).bit_length(), 1)
    return Lut(first, entries, real, real != bits)


def _entries(item, count, bits, endian):
    """LUTData is OW or US, and 8-bit entries may be packed two in a word (C.11.1.1)."""
    data = values(item, "LUTData")
    if len(data) == 1 and isinstance(data[0], bytes):
        words = np.frombuffer(data[0][: len(data[0]) // 2 * 2], f"{endian}u2")
    else:
        try:
            words = np.array([int(value) & 0xFFFF for value in data], np.uint16)
        except (TypeError, ValueError):
            raise Rejected("BAD_LUT") from None
    if len(words) >= count:
        return words[:count].astype(np.int64)
    if bits <= 8 and len(words) == (count + 1) // 2:
        return words.astype("<u2").view(np.uint8)[:count].astype(np.int64)
    raise Rejected("BAD_LUT")


def _normal(names, count):
    normal = [i for i, name in enumerate(names[:count]) if name == "NORMAL"]
    return normal[0] if len(normal) == 1 else 0


def _endian(dataset):
    return "<" if dataset.original_encoding[1] in (None, True) else ">"


def _flag(repaired):
    return frozenset({"BAD_LUT"} if repaired else ())
