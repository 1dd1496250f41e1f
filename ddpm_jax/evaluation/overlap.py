"""How far are two images apart where they overlap, one moved against the other?

What a moved image shows beyond the other's border, black, repeated or anything else,
says nothing of what it is a copy of, and must not be looked at, not even by a filter
that reaches from there into the rest. So images are cropped to what they share before
they are filtered: for a given shift, crop, shift and Gaussian are one matrix a side.
"""

import functools

import numpy as np

WIDTHS = 1 / 32, 1 / 16
"""Standard deviations, as parts of the side, of the Gaussians whose difference is
looked at: noise averages out, and what all radiographs share at large falls away."""
REACH = 8
"""The largest shift looked at, as a part of the side: 1 / 8."""
SAMPLES = 32
"""Rows and columns at which filtered images are compared: as fine as they are."""
PER_PIXEL = 2
"""Shifts are whole numbers of half pixels."""
AT_ONCE = 512


def reach(side: int) -> int:
    """In half pixels."""
    return PER_PIXEL * (side // REACH)


def distances(images: np.ndarray, others: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """float32 [n]: sqrt(2 - 2c), that of two vectors of length 1, of the correlation c
    of `images` [n, s, s], at (i, j) + shift / 2, with `others` [n, s, s], at (i, j).

    `shifts` int [n, 2] in half pixels, down and right, at most `reach` each."""
    found = [
        _distances(images[i], others[i], shifts[i])
        for i in np.array_split(np.arange(len(images)), -(-len(images) // AT_ONCE) or 1)
    ]
    return np.concatenate(found)


def _distances(images: np.ndarray, others: np.ndarray, shifts: np.ndarray):
    moved, still, counts = _matrices(images.shape[1])
    down, right = (shifts + reach(images.shape[1])).T
    x, y = _band(images, moved, down, right), _band(others, still, down, right)
    n = (counts[down] * counts[right]).astype(np.float32)

    def covariance(a, b):
        return np.einsum("nij,nij->n", a, b) / n - a.sum((1, 2)) * b.sum((1, 2)) / n**2

    most = np.sqrt(np.maximum(covariance(x, x) * covariance(y, y), 1e-20))
    return np.sqrt(np.maximum(2 - 2 * covariance(x, y) / most, 0))


def _band(x: np.ndarray, matrices: np.ndarray, down, right) -> np.ndarray:
    fine, coarse = (m[down] @ x @ m[right].swapaxes(1, 2) for m in matrices)
    return fine - coarse


@functools.cache
def _matrices(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of images that move and of those that stay, [fine and coarse, shifts, samples,
    side]; and the samples that both have, [shifts]. Rows of what they do not share are
    zero."""
    top = reach(side)
    samples = np.arange(0, side, max(side // SAMPLES, 1))
    moved, still, counts = [], [], []
    for shift in np.arange(-top, top + 1) / PER_PIXEL:
        low, high = max(0, np.ceil(-shift)), side - 1 - max(0, np.ceil(shift))
        inside = (samples >= low) & (samples <= high)
        ends = max(0, np.ceil(shift)), side - 1 - max(0, np.ceil(-shift))
        moved.append([_gauss(samples + shift, inside, *ends, side, w) for w in WIDTHS])
        still.append([_gauss(samples, inside, low, high, side, w) for w in WIDTHS])
        counts.append(inside.sum())
    moved, still = (np.stack(m).swapaxes(0, 1).copy() for m in (moved, still))
    return moved, still, np.array(counts)


def _gauss(at, inside, low, high, side: int, width: float) -> np.ndarray:
    """float32 [samples, side]: means weighted by a Gaussian about `at`, over pixels
    from `low` to `high`."""
    pixels = np.arange(side)
    weights = np.exp(-(((at[:, None] - pixels) / (width * side)) ** 2) / 2)
    weights *= (pixels >= low) & (pixels <= high)
    weights /= weights.sum(1, keepdims=True) + 1e-30
    return np.float32(weights * inside[:, None])
