"""Fine detail, which feature extractors shrink away: the power of native-resolution
crops by spatial frequency, of synthetic images against real ones, in dB."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ddpm_jax.evaluation import statistics

CROP = 256


class Bands(NamedTuple):
    """Octaves of cycles per pixel: `edges` [b + 1]; `error` [b] in dB, above 0 where
    synthetic images have more power; `low` and `high` [b] its interval over images."""

    edges: tuple[float, ...]
    error: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def rms(self) -> float:
        """The root of the mean squared error over bands, in dB."""
        return float(np.sqrt(np.mean(np.square(self.error))))


@functools.cache
def _window(height: int, width: int) -> np.ndarray:
    """Hann's, without which the jump from edge to edge covers what is fine; of mean
    square 1, so that white noise keeps its power."""
    rows, columns = np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]
    window = np.outer(rows, columns)
    return window / np.sqrt(np.mean(window**2))


@functools.cache
def _rings(height: int, width: int) -> np.ndarray:
    """The ring of each coefficient, by its frequency in units of 1 / min(h, w)."""
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    radius = np.hypot(rows[:, None], columns) * min(height, width)
    return np.rint(radius).astype(int)


def ring_power(image: np.ndarray) -> np.ndarray:
    """[min(h, w) // 2]: the mean of |DFT|² over each ring from 1 to Nyquist's of an
    image [h, w], its mean taken off and Hann's window on; the DFT is orthonormal."""
    height, width = image.shape
    x = np.asarray(image, np.float64)
    x = (x - x.mean()) * _window(height, width)
    power = np.abs(np.fft.fft2(x, norm="ortho")) ** 2
    rings = _rings(height, width)
    last = min(height, width) // 2
    sums = np.bincount(rings.ravel(), power.ravel())[1 : last + 1]
    return sums / np.bincount(rings.ravel())[1 : last + 1]


def crop_power(images: Iterable[np.ndarray], seed: int = 0) -> np.ndarray:
    """[n, rings] of one crop of `CROP` px or less of each image, at a random place; no
    pixel is resized."""
    rng = np.random.default_rng(seed)
    found = []
    for image in images:
        height, width = image.shape
        side = min(CROP, height, width)
        top = rng.integers(height - side + 1)
        left = rng.integers(width - side + 1)
        found.append(ring_power(image[top : top + side, left : left + side]))
    return np.stack(found)


def band_error(
    real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator
) -> Bands:
    """10 log10 of the ratio of mean powers in each octave, of rings [n, r] and [m, r];
    the interval draws images of both again."""
    edges = [1]
    while edges[-1] * 2 <= real.shape[1]:
        edges.append(edges[-1] * 2)
    edges[-1] = real.shape[1] + 1
    parts = [slice(a - 1, b - 1) for a, b in zip(edges, edges[1:], strict=False)]
    a, b = (np.stack([x[:, p].mean(1) for p in parts], 1) for x in (real, synthetic))
    tiny = np.finfo(float).tiny

    def decibels(i, j):
        return 10 * np.log10((b[j].mean(0) + tiny) / (a[i].mean(0) + tiny))

    drawn = [
        decibels(rng.integers(len(a), size=len(a)), rng.integers(len(b), size=len(b)))
        for _ in range(500)
    ]
    tail = 50 * (1 - statistics.LEVEL)
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    error = decibels(slice(None), slice(None))
    cycles = [edge / (2 * real.shape[1]) for edge in edges]
    cycles[-1] = 0.5
    return Bands(*(tuple(map(float, part)) for part in (cycles, error, low, high)))
