"""How much of one set of features lies where the other is: fidelity and diversity
apart.

A set's manifold is the union of balls around its members, each reaching to its k-th
nearest other member. Precision and recall: Kynkäänniemi et al. (2019). Density and
coverage, which outliers move less: Naeem et al. (2020).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

K = 5
AT_ONCE = 1024


class Manifold(NamedTuple):
    """Per image, whose means are the four figures: `precision` and `density` of each
    synthetic, `recall` and `coverage` of each real one."""

    precision: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    coverage: np.ndarray

    def means(self) -> dict[str, float]:
        parts = self._asdict().items()
        return {name: float(np.mean(values)) for name, values in parts}


def radii(features: np.ndarray, k: int = K) -> np.ndarray:
    """[n]: the distance of each of [n, d] to its k-th nearest other."""
    if len(features) <= k:
        raise ValueError(f"{len(features)} images: expected more than k = {k}.")
    found = np.empty(len(features))
    for part, distances in _blocks(features, features):
        found[part] = np.partition(distances, k, axis=1)[:, k]  # itself at 0 is one
    return found


def compare(real: np.ndarray, synthetic: np.ndarray, k: int = K) -> Manifold:
    """Of features [n, d] and [m, d]."""
    real_radii, synthetic_radii = radii(real, k), radii(synthetic, k)
    inside = np.zeros(len(synthetic), np.int64)
    recall, nearest = np.empty(len(real), bool), np.empty(len(real))
    for part, distances in _blocks(real, synthetic):
        inside += (distances <= real_radii[part, None]).sum(0)
        recall[part] = (distances <= synthetic_radii).any(1)
        nearest[part] = distances.min(1)
    return Manifold(inside > 0, recall, inside / k, nearest <= real_radii)


def _blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Distances of [n, d] to [m, d], some rows of them at a time."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for start in range(0, len(a), AT_ONCE):
        part = slice(start, min(start + AT_ONCE, len(a)))
        yield part, cdist(a[part], b)
