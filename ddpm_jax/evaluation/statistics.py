"""What a figure of an evaluation is worth: intervals of proportions, of areas under
ROC curves, and of anything that is computed from cases.

Intervals are two-sided and of 95 % unless a name says otherwise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """NaN where there is nothing to say."""

    low: float
    high: float


NOTHING = Interval(math.nan, math.nan)


def wilson(count: int, total: int) -> Interval:
    """Of a proportion (Wilson, 1927)."""
    return _interval(count, total, "wilson")


def exact(count: int, total: int) -> Interval:
    """Of a proportion (Clopper & Pearson, 1934)."""
    return _interval(count, total, "exact")


def _interval(count: int, total: int, method: str) -> Interval:
    if not total:
        return NOTHING
    found = stats.binomtest(int(count), int(total)).proportion_ci(LEVEL, method)
    return Interval(float(found.low), float(found.high))


def proportion(count: int, total: int) -> dict:
    """count / total with its Wilson interval, as metrics.json has it."""
    if not total:
        return {"count": 0, "total": 0, "share": None, "low": None, "high": None}
    low, high = wilson(count, total)
    return {
        "count": int(count),
        "total": int(total),
        "share": count / total,
        "low": low,
        "high": high,
    }


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, ties half: the Mann-Whitney statistic over its most.

    `scores` [n], `positive` bool [n]; NaN where all or none are positive."""
    n = int(positive.sum())
    if n in (0, len(positive)):
        return math.nan
    ranks = stats.rankdata(scores)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / n / (len(positive) - n))


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    cases: int,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Interval:
    """Percentile interval of `statistic(index)` over cases drawn with replacement
    (Efron, 1979).

    Resamples in which it is NaN do not count; NaN where that is more than half."""
    if cases < 2:
        return NOTHING
    draws = (rng.integers(cases, size=cases) for _ in range(resamples))
    found = np.array([statistic(index) for index in draws])
    known = found[~np.isnan(found)]
    if len(known) < resamples / 2:
        return NOTHING
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(float(low), float(high))


class Limit(NamedTuple):
    """A `value` under which at most `share` of new cases lie, with confidence 95 %."""

    value: float
    share: float


def lower_limit(values: np.ndarray, share: float) -> Limit:
    """The largest of `values` under which, with confidence 95 %, at most `share` of the
    distribution they came from lies (Wilks, 1941; order statistics are Beta).

    Under 299 values none bounds 1 %: the smallest is taken, and the share it bounds.
    """
    ranked, n = np.sort(np.asarray(values, np.float64)), len(values)
    if not n:
        return Limit(math.nan, 1.0)
    bounds = stats.beta.ppf(LEVEL, np.arange(1, n + 1), n - np.arange(n))
    rank = max(int((bounds <= share).sum()), 1)
    return Limit(float(ranked[rank - 1]), float(max(share, bounds[rank - 1])))
