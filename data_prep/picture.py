"""A radiograph at its stored size: all that leaves the child that decoded it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_prep import geometry
from data_prep.codes import Rejected
from data_prep.dicom import FEWEST_LEVELS, Radiograph
from ddpm_jax.data import records


class Picture(NamedTuple):
    """uint16 [size, size] in [0, 2**bits - 1] and facts that name nobody.

    `box` = (top, left, bottom, right) of the content, half-open; `original` = (rows,
    columns) as read; `spacing_mm` (row, column) of these pixels, NaN where not known;
    `digest` the SHA-256 of the stored values.
    """

    pixels: np.ndarray
    box: tuple[int, int, int, int]
    original: tuple[int, int]
    spacing_mm: tuple[float, float]
    digest: bytes
    voi_source: str
    inverted: bool
    flags: frozenset[str]


def fit(radiograph: Radiograph, size: int, bits: int) -> Picture:
    """`radiograph` with its long side `size`. Raises Rejected BLANK."""
    fitted = geometry.fit(radiograph.image, size, radiograph.aspect)
    pixels = np.rint(fitted.image * ((1 << bits) - 1)).astype(np.uint16)
    top, left, bottom, right = fitted.box
    content = pixels[top:bottom, left:right]
    if np.count_nonzero(np.bincount(content.ravel())) < FEWEST_LEVELS:
        raise Rejected("BLANK")
    spacing = zip(radiograph.spacing_mm, fitted.step, strict=True)
    return Picture(
        pixels=pixels,
        box=fitted.box,
        original=radiograph.image.shape,
        spacing_mm=tuple(float(each * step) for each, step in spacing),
        digest=radiograph.digest,
        voi_source=radiograph.voi_source,
        inverted=radiograph.inverted,
        flags=radiograph.flags,
    )


def to_wire(picture: Picture) -> tuple[dict, bytes]:
    """(what JSON can say, the pixels)."""
    facts = picture._asdict()
    del facts["pixels"]
    facts |= {"digest": picture.digest.hex(), "flags": sorted(picture.flags)}
    return facts, np.ascontiguousarray(picture.pixels, "<u2").tobytes()


def from_wire(facts: Mapping, data: bytes, size: int, bits: int) -> Picture:
    """The inverse of `to_wire`; ValueError for whatever is no such picture.

    The child has read a file that nobody trusts, so its word is checked: nothing but
    numbers of the declared range and names out of closed lists passes.
    """
    pixels = np.frombuffer(data, "<u2")
    if pixels.size != size * size or int(pixels.max()) >= 1 << bits:
        raise ValueError("pixels")
    top, left, bottom, right = map(int, facts["box"])
    if not (0 <= top < bottom <= size and 0 <= left < right <= size):
        raise ValueError("box")
    flags = frozenset(facts["flags"])
    if facts["voi_source"] not in records.VOI_SOURCES or flags - set(records.FLAGS):
        raise ValueError("names")
    rows, columns = map(int, facts["original"])
    down, across = map(float, facts["spacing_mm"])
    digest = bytes.fromhex(facts["digest"])
    if len(digest) != 32 or min(rows, columns) < 1:
        raise ValueError("digest or size")
    return Picture(
        pixels=pixels.reshape(size, size),
        box=(top, left, bottom, right),
        original=(rows, columns),
        spacing_mm=(down, across),
        digest=digest,
        voi_source=str(facts["voi_source"]),
        inverted=facts["inverted"] is True,
        flags=flags,
    )
