"""One pixel path for real and synthetic radiographs, so that it cannot tell them apart.

Depth is reduced by dropping low bits: every grey level that is left stands for equally
many of the stored ones, so that an image of 16 bits and one of 12 have no comb that the
other lacks. A floor and a ceiling make alike the exact zeros of padding and a model's
near-zeros, saturated pixels and nearly saturated ones. A frame and rounded corners take
away what stands in the margin, and what looks like a lead marker elsewhere is covered:
models write letters badly.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class Path:
    """What happens to every image. `floor` is the share of the grey range cut off at
    either end, `frame` the share of the side cut off at each edge, `corners` the radius
    of the rounded corners as a share of what is left; `cover` says whether markers are
    covered."""

    bits: int
    floor: float
    frame: float
    corners: float
    cover: bool

    @property
    def levels(self) -> int:
        """Grey levels are 0 to levels - 1."""
        return 2**self.bits - 2 * self.cut

    @property
    def cut(self) -> int:
        return round(self.floor * 2**self.bits)

    def margins(self, height: int, width: int) -> tuple[int, int]:
        return round(self.frame * height), round(self.frame * width)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        top, left = self.margins(height, width)
        return height - 2 * top, width - 2 * left

    def __call__(self, image: np.ndarray, bits: int) -> "Shown":
        """uint16 [h, w] of `bits` bits as it is shown."""
        top, left = self.margins(*image.shape)
        inner = image[top : image.shape[0] - top, left : image.shape[1] - left]
        level = (inner >> (bits - self.bits)).astype(np.int32)
        level = np.clip(level - self.cut, 0, self.levels - 1).astype(np.uint16)
        level[~rounded(*level.shape, self.corners)] = 0
        boxes = find_markers(level, self.levels)
        return Shown(cover(level, boxes) if self.cover else level, len(boxes))


class Shown(NamedTuple):
    """`image` uint16 [h, w] of the path's levels; `markers` were found in it."""

    image: np.ndarray
    markers: int


def rounded(height: int, width: int, corners: float) -> np.ndarray:
    """bool [h, w]: a rectangle with corners of radius `corners` * its shorter side."""
    radius = corners * min(height, width)
    y = np.abs(np.arange(height) - (height - 1) / 2)[:, None] - (height / 2 - radius)
    x = np.abs(np.arange(width) - (width - 1) / 2)[None] - (width / 2 - radius)
    return np.hypot(np.maximum(y, 0), np.maximum(x, 0)) <= max(radius, 1)


def find_markers(image: np.ndarray, levels: int) -> list[tuple[slice, slice]]:
    """Boxes around what looks like a lead marker or a burned-in word, real or invented.

    A white top-hat of 1/12 of the side finds what is brighter than its surroundings by
    a quarter of the range. Of these spots a marker is one of 0.05 to 2 % of the area
    whose middle lies in the outer third, whose box is under a quarter of the side, and
    half of which is in the upper quarter of the range. Screws there are found as well.
    """
    height, width = image.shape
    side = max(3, min(height, width) // 12 | 1)
    bright = ndimage.white_tophat(image.astype(np.int32), side) > levels / 4
    spots, _ = ndimage.label(bright)
    found = []
    for number, box in enumerate(ndimage.find_objects(spots), start=1):
        inside = spots[box] == number
        area = inside.sum() / image.size
        ends = [
            (s.start / n, s.stop / n) for s, n in zip(box, image.shape, strict=True)
        ]
        if (
            5e-4 <= area <= 0.02
            and inside.sum() >= 4
            and max(abs(low + high - 1) for low, high in ends) > 0.6
            and max(high - low for low, high in ends) < 0.25
            and np.median(image[box][inside]) > 0.75 * levels
        ):
            found.append(box)
    return found


def cover(image: np.ndarray, boxes: list[tuple[slice, slice]]) -> np.ndarray:
    """`image` with black rectangles over the boxes, larger by 1/64 of the side."""
    more = max(1, max(image.shape) // 64)
    covered = image.copy()
    for rows, columns in boxes:
        top, left = max(0, rows.start - more), max(0, columns.start - more)
        covered[top : rows.stop + more, left : columns.stop + more] = 0
    return covered
