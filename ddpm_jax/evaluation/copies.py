"""Is an image a copy of another, if mirrored, shifted, brighter or noisier?

Radiographs of one view are alike, so brightness says little. All training images are
shrunk and band-passed, and the middle of each is looked for in an image and its mirror
image by normalised cross-correlation (Lewis, 1995). The most alike, and the nearest in
features, are then compared where they overlap at the shift found, to half a pixel, as
`overlap` says.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from ddpm_jax.evaluation import overlap
from ddpm_jax.evaluation.images import FULL, Images

SIDE = 64
"""Pixels to which images are shrunk."""
COARSE_SIDE = 16
"""Those to which they are shrunk once more, to look through all of them."""
BAND = 0.0375, 0.09375
"""Standard deviations, as parts of the side, of the Gaussians whose difference is
looked through."""
PHASES = 4
"""Shifts before shrinking, each way, within one pixel of the result: half of one is
enough to hide a copy among images that are alike."""
NEAREST = 24
"""Training images nearest in features that are compared in full, for each mirror."""
CANDIDATES = 160
"""Those that are compared because they look alike at `COARSE_SIDE`."""
REFINEMENTS = (2, 16), (2, 4), (1, 4)
"""Steps in half pixels, and for how many of the nearest the eight shifts around are
tried."""
NEXT = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
AROUND = 50
"""Neighbours of a neighbour, whose mean distance is what is near there (Carlini et al.,
2023)."""
AT_ONCE = 4096

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
    """float32 [n, s, s] in [0, 1]: means over whole pixels, s = `SIDE` or a little
    more; images that are smaller stay as they are."""
    return np.concatenate([shrink(part) for part in images.batches()])


def shrink(batch: np.ndarray) -> np.ndarray:
    """Of uint16 [b, h, h]."""
    return _means(batch, max(batch.shape[1] // SIDE, 1)) / np.float32(FULL)


def _means(batch: np.ndarray, side: int) -> np.ndarray:
    count = batch.shape[1] // side
    cut = batch[:, : count * side, : count * side]
    parts = cut.reshape(len(batch), count, side, count, side)
    return parts.mean((2, 4), dtype=np.float32)


def mirror(x: np.ndarray) -> np.ndarray:
    return x[..., ::-1]


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
        lists = [lowest(f, self.features, NEAREST) for f in (features, mirrored)]
        index, turned = np.empty(len(images), int), np.empty(len(images), bool)
        distance = np.empty(len(images))
        for i, near in enumerate(np.concatenate(lists, axis=1)):
            ways = np.stack([images[i], mirror(images[i])])
            members, way, found = self._compare(ways, near)
            best = found.argmin()
            index[i], turned[i], distance[i] = members[best], way[best], found[best]
            advance(1)
        return Nearest(index, turned, distance, distance / self._around(index))

    @functools.cached_property
    def _middles(self) -> np.ndarray:
        """[n, pixels] of length 1: what is looked for."""
        parts = [
            self.images[i : i + AT_ONCE] for i in range(0, len(self.images), AT_ONCE)
        ]
        return np.concatenate([_middles(_coarse(_band(part))) for part in parts])

    def _compare(self, ways: np.ndarray, also: np.ndarray):
        """The training images most like an image, [ways, s, s], and those of `also`:
        which, int [k], the way each is more like, and the distance to that."""
        windows, shifts = _windows(ways)
        windows = windows.reshape(-1, windows.shape[-1])
        best = np.concatenate(
            [
                (windows @ self._middles[i : i + AT_ONCE].T).max(0)
                for i in range(0, len(self._middles), AT_ONCE)
            ]
        )
        alike = np.argpartition(-best, min(CANDIDATES, len(best)) - 1)[:CANDIDATES]
        members = np.unique(np.concatenate([alike, also]))
        at = (windows @ self._middles[members].T).argmax(0)
        way, place = np.divmod(at, len(shifts))
        return members, way, self._distances(ways[way], members, shifts[place])

    def _distances(self, images: np.ndarray, members: np.ndarray, shifts: np.ndarray):
        """[k] of [k, s, s], at the best of `shifts` [k, 2] and those around."""
        others, top = self.images[members], overlap.reach(images.shape[1])
        found = overlap.distances(images, others, shifts)
        for step, count in REFINEMENTS:
            nearest = np.argsort(found)[:count]
            tried = np.clip(shifts[nearest][:, None] + step * NEXT, -top, top)
            pairs = np.repeat(nearest, len(NEXT))
            told = overlap.distances(images[pairs], others[pairs], tried.reshape(-1, 2))
            told = told.reshape(len(nearest), -1)
            better = told.min(1) < found[nearest]
            best = tried[np.arange(len(nearest)), told.argmin(1)]
            shifts[nearest[better]] = best[better]
            found[nearest] = np.minimum(found[nearest], told.min(1))
        return found

    def _around(self, index: np.ndarray) -> np.ndarray:
        """Of each training image the mean distance to its `AROUND` nearest others."""
        different, place = np.unique(index, return_inverse=True)
        means = np.empty(len(different))
        for i, one in enumerate(different):
            members, _, found = self._compare(self.images[[one]], np.array([], int))
            others = np.sort(found[members != one])[:AROUND]
            means[i] = others.mean() if len(others) else np.sqrt(2)
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


def _band(images: np.ndarray) -> np.ndarray:
    widths = (width * images.shape[1] for width in BAND)
    fine, coarse = (
        ndimage.gaussian_filter(images, (0, w, w), mode="nearest") for w in widths
    )
    return fine - coarse


def _pixel(side: int) -> int:
    """Pixels that are one of about `COARSE_SIDE`."""
    return max(side // COARSE_SIDE, 1)


def _coarse(images: np.ndarray) -> np.ndarray:
    return _means(images, _pixel(images.shape[1]))


def _middles(coarse: np.ndarray) -> np.ndarray:
    reach = coarse.shape[1] // overlap.REACH
    inner = coarse[:, reach : -reach or None, reach : -reach or None]
    return _unit(inner.reshape(len(coarse), -1))


def _windows(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a middle may be found in [n, s, s]: [n, shifts, pixels] of length 1; and
    int [shifts, 2], by how many half pixels it is moved there."""
    bands, side = _band(images), images.shape[1]
    pixel, top = _pixel(side), overlap.reach(side)
    phases = np.unique(np.arange(PHASES) * pixel // PHASES)
    found, shifts = [], []
    for down in phases:
        for right in phases:
            coarse = _coarse(np.roll(bands, (-down, -right), (1, 2)))
            reach = coarse.shape[1] // overlap.REACH
            inner = coarse.shape[1] - 2 * reach
            views = sliding_window_view(coarse, (inner, inner), axis=(1, 2))
            found.append(views.reshape(len(images), -1, inner * inner))
            at = np.indices(views.shape[1:3]).reshape(2, -1).T - reach
            shifts.append((pixel * at + (down, right)) * overlap.PER_PIXEL)
    return _unit(np.concatenate(found, 1)), np.clip(np.concatenate(shifts), -top, top)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
