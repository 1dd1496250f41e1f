"""Numbers drawn like those of some records: smooth, and rounded as they are.

Standard library and numpy only.
"""

import numpy as np

from ddpm_jax.conditions.schema import Continuous
from ddpm_jax.conditions.small_cells import LEAST


def smoothed(rng: np.random.Generator, donors: np.ndarray, count: int) -> np.ndarray:
    """float64 [count, d] from [n, d]: the smoothed bootstrap with mean and covariance
    kept (Silverman & Young, 1987), normal kernel, bandwidth of Silverman (1986)."""
    n, d = donors.shape
    bandwidth = (4 / ((d + 2) * n)) ** (1 / (d + 4))
    mean = donors.mean(axis=0)
    centred = donors - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / n)
    root = vectors * np.sqrt(np.maximum(values, 0))
    noise = rng.normal(size=(count, d)) @ root.T
    picked = centred[rng.integers(n, size=count)]
    return mean + (picked + bandwidth * noise) / np.sqrt(1 + bandwidth**2)


def resolution(field: Continuous, values: np.ndarray) -> float:
    """The coarsest of 1, 2 and 5 times powers of 10 that 19 of 20 values are multiples
    of, between a half and a hundredth of their standard deviation."""
    spread = float(values.std()) if len(values) else 0.0
    spread = max(spread, (field.high - field.low) / 1000)
    top = np.ceil(np.log10(spread))
    steps = [part * 10.0 ** (top - i) for i in range(4) for part in (1.0, 0.5, 0.2)]
    steps = [
        float(f"{step:.6g}") for step in steps if spread / 100 <= step <= spread / 2
    ]
    for step in steps:
        away = np.abs(values / step - np.round(values / step))
        if len(values) and np.mean(away < 1e-5) >= 0.95:
            return step
    return steps[-1]


def inner(values: np.ndarray) -> tuple[float, float]:
    """The 11th smallest and the 11th largest, or what is left between fewer."""
    if not len(values):
        return (0.0, 0.0)
    ranked = np.sort(values)
    away = min(LEAST - 1, (len(ranked) - 1) // 2)
    return (ranked[away], ranked[-1 - away])


def strength(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[c]: the largest share of a number's variance that each field explains (eta
    squared), and a little more, so that every difference counts."""
    shares = np.full(labels.shape[1], 1e-3)
    for i, codes in enumerate(labels.T):
        for column in numbers.T:
            there = ~np.isnan(column)
            x, code = column[there], codes[there]
            whole = x.var() if len(x) else 0.0
            if whole > 0:
                counts = np.bincount(code)
                means = np.bincount(code, x) / np.maximum(counts, 1)
                between = np.mean((means[code] - x.mean()) ** 2)
                shares[i] = max(shares[i], 1e-3 + between / whole)
    return shares


def six_digits(numbers: np.ndarray) -> np.ndarray:
    """Each number as `Continuous.decode` gives it back."""
    flat = [float(f"{number:.6g}") for number in numbers.ravel()]
    return np.array(flat, np.float64).reshape(numbers.shape)
