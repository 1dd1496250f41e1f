"""16-bit PNG, and the mark that may be burned into what is shown."""

import functools

import imagecodecs
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

MARK = "SYNTHETIC"
LEAST_FOR_MARK = 48
"""Pixels of an image's side below which the mark has no room."""


def encode(image: np.ndarray) -> bytes:
    """A uint16 [h, w] image as a greyscale PNG of 16 bits."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(image), level=6))


def decode(data: bytes) -> np.ndarray:
    """The uint16 [h, w] image of `encode`."""
    return np.asarray(imagecodecs.png_decode(data), np.uint16)


def marked(image: np.ndarray) -> np.ndarray:
    """A copy with "SYNTHETIC" in its upper left corner, white on black."""
    mark = _mark(*image.shape)
    copy = image.copy()
    copy[: mark.shape[0], : mark.shape[1]] = mark
    return copy


@functools.cache
def _mark(height: int, width: int) -> np.ndarray:
    """uint16 [h, w], at most 70 % of the image's width."""
    if min(height, width) < LEAST_FOR_MARK:
        raise ValueError(
            f"--burn_in: no room for a mark in images of {width} x {height} px; "
            f"expected {LEAST_FOR_MARK} or more."
        )
    path = font_manager.findfont("DejaVu Sans")
    size = max(6, width // 24)
    font = ImageFont.truetype(path, size)
    while font.getlength(MARK) > 0.7 * width and size > 5:
        size -= 1
        font = ImageFont.truetype(path, size)
    gap = max(1, size // 4)
    _, _, right, bottom = font.getbbox(MARK)
    tile = Image.new("L", (int(right) + 2 * gap, int(bottom) + 2 * gap))
    ImageDraw.Draw(tile).text((gap, gap), MARK, fill=255, font=font)
    return np.asarray(tile, np.uint16)[:height, :width] * 257
