"""The kernel distance of two sets of features: squared maximum mean discrepancy with
the cubic kernel (x·y/d + 1)³, unbiased (KID; Bińkowski et al., 2018)."""

from typing import NamedTuple

import numpy as np


def cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a·b/d + 1)³ of [n, d] and [m, d]: [n, m]."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """The U-statistic of [n, d] and [m, d] (Gretton et al., 2012, eq. 3): its mean is 0
    where both come from one distribution, so that it can be below 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for features in (a, b):
        if len(features) < 2:
            raise ValueError(f"{len(features)} images: expected 2 or more.")
    return _within(a) + _within(b) - 2 * float(cubic(a, b).mean())


def _within(x: np.ndarray) -> float:
    kernel = cubic(x, x)
    n = len(x)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


class Kid(NamedTuple):
    """Mean and standard deviation over subsets."""

    mean: float
    std: float


def kid(
    a: np.ndarray,
    b: np.ndarray,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> Kid:
    """KID of [n, d] against [m, d], with the subsets that torch-fidelity draws."""
    size = min(size, len(a), len(b))
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    rng = np.random.RandomState(seed)
    found = []
    for _ in range(subsets):
        x = a[rng.choice(len(a), size, replace=False)]
        y = b[rng.choice(len(b), size, replace=False)]
        found.append(squared_mmd(x, y))
    return Kid(float(np.mean(found)), float(np.std(found)))
