"""Shutter, pixel aspect, resizing and padding: where the displayed pixels lie."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from data_prep.values import number, numbers, texts

ASPECTS = (0.1, 10)
"""Pixel aspect ratios (height / width) outside of this are taken for defects."""


def shutter(dataset: Dataset, shape: tuple[int, int]) -> np.ndarray | None:
    """True [rows, columns] where the display shutter is open; None without one.

    PS3.3 C.7.6.11: coordinates count from 1; several shapes are intersected.
    """
    shapes = texts(dataset, "ShutterShape")
    masks = [
        mask
        for name, draw in SHUTTERS.items()
        if name in shapes and (mask := draw(dataset, shape)) is not None
    ]
    return np.logical_and.reduce(masks) if masks else None


def _rectangle(dataset, shape):
    left, right, upper, lower = (
        number(dataset, f"Shutter{name}Edge")
        for name in (
            "LeftVertical",
            "RightVertical",
            "UpperHorizontal",
            "LowerHorizontal",
        )
    )
    if any(map(math.isnan, (left, right, upper, lower))):
        return None
    row, column = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    return (row >= upper) & (row <= lower) & (column >= left) & (column <= right)


def _circle(dataset, shape):
    center = numbers(dataset, "CenterOfCircularShutter")
    radius = number(dataset, "RadiusOfCircularShutter")
    if len(center) != 2 or any(map(math.isnan, (*center, radius))):
        return None
    row, column = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    return (row - center[0]) ** 2 + (column - center[1]) ** 2 <= radius**2


def _polygon(dataset, shape):
    corners = numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(corners) < 6 or len(corners) % 2 or any(map(math.isnan, corners)):
        return None
    mask = Image.new("1", shape[::-1])
    points = [(x - 1, y - 1) for y, x in zip(*2 * [iter(corners)], strict=True)]
    ImageDraw.Draw(mask).polygon(points, fill=1, outline=1)
    return np.asarray(mask)


SHUTTERS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def spacing(dataset: Dataset) -> tuple[float, float]:
    """(row, column) spacing in mm, NaN where not known.

    The calibrated one first (PS3.3 10.7.1.1), then the detector's; NEMA's RG1 says
    0 by 0, which is not known.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(dataset, keyword)
        if len(found) == 2 and all(value > 0 for value in found):
            return found
    return math.nan, math.nan


def aspect(dataset: Dataset) -> float:
    """Pixel height over width (C.7.6.3.1.7); 1 where not stated."""
    stated = numbers(dataset, "PixelAspectRatio")
    if not (len(stated) == 2 and all(value > 0 for value in stated)):
        stated = spacing(dataset)
    ratio = stated[0] / stated[1]
    if not ASPECTS[0] <= ratio <= ASPECTS[1] or abs(ratio - 1) < 1e-3:
        return 1.0
    return ratio


class Fitted(NamedTuple):
    """A square image, the box of its content, and source pixels per pixel."""

    image: np.ndarray
    box: tuple[int, int, int, int]
    step: tuple[float, float]


def fit(image: np.ndarray, size: int, aspect: float = 1.0) -> Fitted:
    """`image` [h, w] in [0, 1] with square pixels, its long side `size`, centred on a
    `size` by `size` ground of 0.

    Bicubic with antialiasing, in float; `box` = (top, left, bottom, right), half-open.
    """
    rows, columns = image.shape
    tall, wide = rows * aspect, float(columns)
    scale = size / max(tall, wide)
    height = min(size, max(1, round(tall * scale)))
    width = min(size, max(1, round(wide * scale)))
    source = Image.fromarray(np.ascontiguousarray(image, np.float32))
    resized = source.resize((width, height), Image.Resampling.BICUBIC)
    top, left = (size - height) // 2, (size - width) // 2
    ground = np.zeros((size, size), np.float32)
    ground[top : top + height, left : left + width] = np.clip(resized, 0, 1)
    box = (top, left, top + height, left + width)
    return Fitted(ground, box, (rows / height, columns / width))
