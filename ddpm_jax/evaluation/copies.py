"""Is an image a copy of another, if mirrored, shifted, brighter or noisier?

Radiographs of one view are alike, so brightness says little. Images are shrunk and
band-passed, and the middle of a training image is looked for in the other, also
mirrored: the largest normalised cross-correlation c over shifts (Lewis, 1995), to a
quarter of a pixel, gives the distance sqrt(2 - 2c), that of two vectors of length 1.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from ddpm_jax.evaluation.images import Images

SIDE = 32
"""Pixels to which images are shrunk: noise averages out, anatomy does not."""
REACH = 8
"""The largest shift looked at, as a part of the side: 1 / 8."""
BAND = 1.2, 3.0
"""Widths in pixels of the Gaussians whose difference is looked at."""
CANDIDATES = 24
"""Training images that are compared in full: nearest at half the side, and as many
nearest in features."""
REFINED = 16
"""Of them, those whose shift is then looked for between pixels."""
PHASES = (0, 0), (0, 1), (1, 0), (1, 1)
"""Shifts before halving: a pixel is half of one there, which would hide an image."""
PARTS = np.arange(-2, 3) / 4
AROUND = 50
"""Neighbours of a neighbour, whose mean distance is what is near there (Carlini et al.,
2023)."""

Advance = Callable[[int], object]


class Nearest(NamedTuple):
    """Of n images: `index` of the nearest training image, whether it is `mirrored`, its
    `distance`, and the `ratio` of that to the mean distance from that training image to
    its own nearest."""

    index: np.ndarray
    mirrored: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


def small(images: Images) -> np.ndarray:
    """float32 [n, s, s]: band-passed means over whole pixels, s about `SIDE`."""
    return np.concatenate([band(part) for part in images.batches()])


def band(batch: np.ndarray) -> np.ndarray:
    """Of uint16 [b, h, h]."""
    x = _means(batch, max(batch.shape[1] // SIDE, 1))
    fine, coarse = (ndimage.gaussian_filter(x, (0, s, s), mode="nearest") for s in BAND)
    return fine - coarse


def _means(batch: np.ndarray, side: int) -> np.ndarray:
    count = batch.shape[1] // side
    cut = batch[:, : count * side, : count * side]
    parts = cut.reshape(len(batch), count, side, count, side)
    return parts.mean((2, 4), dtype=np.float32)


def mirror(x: np.ndarray) -> np.ndarray:
    return x[:, :, ::-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Library:
    """Training images that others are looked up in: `images` as `small` makes them, and
    their `features` [n, d] of any extractor."""

    images: np.ndarray
    features: np.ndarray

    def nearest(
        self,
        images: np.ndarray,
        features: np.ndarray,
        mirrored: np.ndarray,
        advance: Advance = lambda n: None,
    ) -> Nearest:
        """Of `small` images [m, s, s] with `features` [m, d] of them and `mirrored`
        [m, d] of their mirror images."""
        both = np.stack([images, mirror(images)], axis=1)
        lists = [lowest(f, self.features, CANDIDATES) for f in (features, mirrored)]
        candidates = np.concatenate([*lists, self._alike(both, CANDIDATES)], axis=1)
        index, turned = np.empty(len(images), int), np.empty(len(images), bool)
        distance = np.empty(len(images))
        for i, row in enumerate(candidates):
            members = np.unique(row)
            found = self._distances(both[i], members)
            place, turn = np.unravel_index(found.argmin(), found.shape)
            index[i], turned[i] = members[place], bool(turn)
            distance[i] = found[place, turn]
            advance(1)
        return Nearest(index, turned, distance, distance / self._around(index))

    @functools.cached_property
    def _middles(self) -> np.ndarray:
        return _middles(self.images)

    @functools.cached_property
    def _halved(self) -> np.ndarray:
        return _middles(_means(self.images, 2))

    def _alike(self, images: np.ndarray, count: int) -> np.ndarray:
        """int [m, <= count]: nearest at half the side, of all training images, to
        images [m, ways, s, s], the nearer of the ways."""
        count, found = min(count, len(self._halved)), []
        for part in images:
            halves = [_means(np.roll(part, by, (1, 2)), 2) for by in PHASES]
            windows = _windows(np.concatenate(halves))
            windows = windows.reshape(-1, windows.shape[-1])
            best = (windows @ self._halved.T).max(0)
            found.append(np.argpartition(-best, count - 1)[:count])
        return np.stack(found)

    def _distances(self, ways: np.ndarray, members: np.ndarray) -> np.ndarray:
        """[len(members), ways] of images [ways, s, s]."""
        middles = self._middles[members]
        correlation = _windows(ways) @ middles.T
        best = correlation.max(1).T
        for flat in np.argsort(-best, axis=None)[:REFINED]:
            member, way = np.unravel_index(flat, best.shape)
            at = int(correlation[way, :, member].argmax())
            between = _between(ways[way], at) @ middles[member]
            best[member, way] = max(best[member, way], between.max())
        return np.sqrt(np.maximum(2 - 2 * best, 0))

    def _around(self, index: np.ndarray) -> np.ndarray:
        """Of each training image the mean distance to its `AROUND` nearest others."""
        different, place = np.unique(index, return_inverse=True)
        alike = self._alike(self.images[different, None], AROUND + 1)
        means = np.empty(len(different))
        for i, (one, row) in enumerate(zip(different, alike, strict=True)):
            members = row[row != one][:AROUND]
            found = self._distances(self.images[one][None], members)
            means[i] = found.mean() if len(members) else np.sqrt(2)
        return np.maximum(means, 1e-6)[place]


def lowest(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """int [n, <= count]: which of [m, d] are nearest to each of [n, d], in no order."""
    count = min(count, len(b))
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    squares, found = (b**2).sum(1), []
    for start in range(0, len(a), 256):
        distances = squares - 2 * a[start : start + 256] @ b.T
        found.append(np.argpartition(distances, count - 1, axis=1)[:, :count])
    return np.concatenate(found)


def _middles(images: np.ndarray) -> np.ndarray:
    """[n, pixels] of length 1."""
    reach = images.shape[1] // REACH
    inner = images[:, reach : -reach or None, reach : -reach or None]
    return _unit(inner.reshape(len(images), -1))


def _windows(images: np.ndarray) -> np.ndarray:
    """[n, shifts, pixels] of length 1: where a middle may be found."""
    side = images.shape[1]
    inner = side - 2 * (side // REACH)
    views = sliding_window_view(images, (inner, inner), axis=(1, 2))
    return _unit(views.reshape(len(images), -1, inner * inner))


def _between(image: np.ndarray, at: int) -> np.ndarray:
    """[parts, pixels] of length 1: the window `at` of [s, s] moved by parts of a
    pixel."""
    side = len(image)
    reach = side // REACH
    top, left = divmod(at, 2 * reach + 1)
    rows, columns = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    y = np.exp(2j * np.pi * PARTS[:, None] * rows)[:, None, :, None]
    x = np.exp(2j * np.pi * PARTS[:, None] * columns)[None, :, None, :]
    moved = np.fft.irfft2(np.fft.rfft2(image) * y * x, image.shape)
    inner = side - 2 * reach
    windows = moved[..., top : top + inner, left : left + inner]
    return _unit(windows.reshape(-1, inner * inner))


def _unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
