"""What a machine could tell of two sets of images without looking at anatomy.

*Tells* betray how an image was made or stored and must not differ; *looks* are what
the pictures themselves are like, which a reader may use, and are only told.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import ndimage, stats

from ddpm_jax.reader_study.pixels import Shown

SIGNIFICANT, APART = 0.01, 0.15
"""A tell: Holm-corrected p below the first and an AUC further from 0.5 than the
second."""


def zeros(image: np.ndarray, levels: int) -> float:
    return float(np.mean(image == 0))


def ceiling(image: np.ndarray, levels: int) -> float:
    return float(np.mean(image == levels - 1))


def comb(image: np.ndarray, levels: int) -> float:
    """Squared second difference of the grey histogram over what counting noise makes:
    near 1 for a smooth histogram, however wide, and large for one with gaps."""
    counts = np.bincount(image.ravel(), minlength=levels)[1 : levels - 1].astype(float)
    used = np.flatnonzero(counts)
    if len(used) < 5:
        return 1.0
    inner = counts[used[0] : used[-1] + 1]
    expected = inner[:-2] + 4 * inner[1:-1] + inner[2:]
    return float((np.diff(inner, 2) ** 2).sum() / expected.sum())


def low_bit(image: np.ndarray, levels: int) -> float:
    """How far the share of odd levels is from a half."""
    inside = image[(image > 0) & (image < levels - 1)]
    return float(abs(np.mean(inside & 1) - 0.5)) if inside.size else 0.0


def flat(image: np.ndarray, levels: int) -> float:
    """Share of 3 x 3 blocks of one level other than 0 and the top."""
    highest = ndimage.maximum_filter(image, 3)
    lowest = ndimage.minimum_filter(image, 3)
    inside = (image > 0) & (image < levels - 1)
    return float(np.mean((highest == lowest) & inside))


def edge(image: np.ndarray, levels: int) -> float:
    """Share of zeros on the outermost ring: where padding shows."""
    ring = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return float(np.mean(ring == 0))


def corners(image: np.ndarray, levels: int) -> float:
    """Share of the corners, squares of a quarter of the side, in the upper quarter of
    the range: what is left of markers that were covered on the other side."""
    side = max(1, min(image.shape) // 4)
    ends = slice(None, side), slice(-side, None)
    parts = [image[rows, columns] for rows in ends for columns in ends]
    return float(np.mean(np.array(parts) > 0.75 * levels))


def brightness(image: np.ndarray, levels: int) -> float:
    return float(image.mean() / (levels - 1))


def noise(image: np.ndarray, levels: int) -> float:
    """Median size of the Laplacian where there is something, in levels."""
    response = np.abs(ndimage.laplace(image.astype(np.float32)))
    return float(np.median(response[image > 0])) if (image > 0).any() else 0.0


def compressed(image: np.ndarray, levels: int) -> float:
    """Bytes that zlib makes of it: what a PNG's file size would say."""
    return float(len(zlib.compress(image.astype("<u2").tobytes(), 6)))


Feature = Callable[[np.ndarray, int], float]
TELLS: dict[str, Feature] = {
    f.__name__: f for f in (zeros, ceiling, comb, low_bit, flat, edge, corners)
}
LOOKS: dict[str, Feature] = {f.__name__: f for f in (brightness, noise, compressed)}
MARKERS = "markers"
STORAGE = ("comb", "low_bit", "flat")
"""The tells that fewer bits cure."""
CURES = {
    "zeros": "raise --floor",
    "ceiling": "raise --floor",
    "comb": "ask for fewer --bits",
    "low_bit": "ask for fewer --bits",
    "flat": "ask for fewer --bits",
    "edge": "raise --frame or --floor",
    "corners": "raise --frame or --corners, or --markers drop",
    MARKERS: "--markers drop, or raise --frame",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One feature: `auc` is the chance that it is larger in a synthetic image than in
    a real one, `p` that of the Mann-Whitney test, Holm-corrected over the tells."""

    name: str
    real: float
    synthetic: float
    auc: float
    p: float
    tell: bool

    @property
    def betrays(self) -> bool:
        return self.tell and self.p < SIGNIFICANT and abs(self.auc - 0.5) > APART


def audit(real: Iterable[Shown], synthetic: Iterable[Shown], levels: int) -> list[Line]:
    """A line a feature; looked at one by one. `markers`, found before they were
    covered, is a tell of its own: where one side has more of them, black boxes tell."""
    features = [*TELLS.values(), *LOOKS.values()]
    sides = [
        np.array([(*(f(i, levels) for f in features), count) for i, count in side])
        for side in (real, synthetic)
    ]
    found = {
        name: (*(float(side[:, i].mean()) for side in sides), *larger(*columns))
        for i, name in enumerate((*TELLS, *LOOKS, MARKERS))
        for columns in [[side[:, i] for side in sides]]
    }
    corrected = holm({name: found[name][3] for name in (*TELLS, MARKERS)})
    return [
        Line(name, *values[:3], corrected.get(name, values[3]), name in corrected)
        for name, values in found.items()
    ]


def larger(real: np.ndarray, synthetic: np.ndarray) -> tuple[float, float]:
    """AUC and two-sided p of the Mann-Whitney test, ties counted half."""
    if len(np.unique(np.concatenate([real, synthetic]))) == 1:
        return 0.5, 1.0
    result = stats.mannwhitneyu(synthetic, real, method="asymptotic")
    return float(result.statistic / len(real) / len(synthetic)), float(result.pvalue)


def holm(values: dict[str, float]) -> dict[str, float]:
    """p values of several tests, corrected step by step (Holm, 1979)."""
    rising, worst, result = sorted(values, key=values.__getitem__), 0.0, {}
    for i, name in enumerate(rising):
        worst = max(worst, min(1.0, (len(rising) - i) * values[name]))
        result[name] = worst
    return result


def table(lines: Sequence[Line]) -> str:
    """The audit as aligned text."""
    rows = [f"{'':<12}{'real':>10}{'synthetic':>11}{'AUC':>7}{'p':>9}"]
    for one in lines:
        kind = " <- betrays" if one.betrays else "" if one.tell else "  (look)"
        rows.append(
            f"{one.name:<12}{one.real:>10.4g}{one.synthetic:>11.4g}"
            f"{one.auc:>7.2f}{one.p:>9.2g}{kind}"
        )
    return "\n".join(rows)
