"""The Fréchet distance of two sets of features, taken as Gaussian.

FID (Heusel et al., 2017) is this on Inception features. Float64 on the host.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum [d] and sum of outer products [d, d] of some features; two of them
    add, in any order."""

    count: int
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Of [n, d]."""
        x = np.asarray(features, np.float64)
        return cls(len(x), x.sum(0), x.T @ x)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.outer + other.outer,
        )

    @functools.cached_property
    def mean(self) -> np.ndarray:
        return self.total / self.count

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """Unbiased, as FID has it."""
        centred = self.outer - self.count * np.outer(self.mean, self.mean)
        return centred / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson & Landau, 1982).

    The trace of the root is that of (A C_b A)^(1/2), A = C_a^(1/2), which is symmetric:
    its eigenvalues are real, with no offset for singular covariances.
    """
    for moments in (a, b):
        if moments.count < 2:
            raise ValueError(f"{moments.count} images: expected 2 or more.")
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    between = np.linalg.eigvalsh(root @ b.covariance @ root)
    overlap = np.sqrt(np.maximum(between, 0)).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return float(max(((a.mean - b.mean) ** 2).sum() + spread, 0.0))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of features [n, d] and [m, d]."""
    return frechet_distance(Moments.of(a), Moments.of(b))


class Curve(NamedTuple):
    """Mean `distances` [len(sizes)] of `sizes` images and their standard deviations
    over draws, and the one that infinitely many of them would have."""

    sizes: tuple[int, ...]
    distances: tuple[float, ...]
    limit: float
    std: tuple[float, ...]


def against_size(
    features: np.ndarray,
    reference: np.ndarray,
    rng: np.random.Generator,
    sizes: Sequence[int] = (),
    draws: int = 3,
) -> Curve:
    """The distance of `reference` to random subsets of `features`, `draws` of each
    size, by default 8 sizes from a quarter to all; a line over 1/N gives the limit
    (Chong & Forsyth, 2020).

    The bias of the reference's own size remains; that of `features` does not.
    """
    n = len(features)
    whole = Moments.of(reference)
    sizes = tuple(sizes) or tuple(np.linspace(max(n // 4, 2), n, 8).astype(int))
    found, std = [], []
    for size in sizes:
        parts = (rng.choice(n, size, replace=False) for _ in range(draws))
        values = [frechet_distance(Moments.of(features[p]), whole) for p in parts]
        found.append(float(np.mean(values)))
        std.append(float(np.std(values)))
    limit = found[-1]
    if len(set(sizes)) > 1:
        limit = float(np.polyfit(1 / np.asarray(sizes, float), found, 1)[1])
    return Curve(tuple(map(int, sizes)), tuple(found), limit, tuple(std))


def floor(features: np.ndarray, rng: np.random.Generator, draws: int = 3) -> float:
    """The mean distance of random halves of the same real images: what no model can be
    held to be below at half of their number."""
    found = []
    for _ in range(draws):
        order = rng.permutation(len(features))
        half = len(order) // 2
        found.append(distance(features[order[:half]], features[order[half:]]))
    return float(np.mean(found))
