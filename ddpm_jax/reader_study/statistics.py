"""What is said of readers: bounds, signal detection, agreement, learning.

Intervals, the area under a ROC curve and the bootstrap are `evaluation.statistics`'.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ddpm_jax.evaluation.statistics import LEVEL, NOTHING, Interval, wilson


def upper_bound(count: int, total: int) -> float:
    """One-sided exact 95 % bound of a rate; 1 - 0.05**(1/n) for no event, for which
    the rule of three says 3/n (Hanley & Lippman-Hand, 1983)."""
    if not total:
        return math.nan
    if count == total:
        return 1.0
    return float(stats.beta.ppf(LEVEL, count + 1, total - count))


def against_chance(count: int, total: int) -> float:
    """Two-sided exact p of 1/2."""
    return float(stats.binomtest(count, total, 0.5).pvalue) if total else math.nan


def difference(count: int, total: int, other: int, others: int) -> Interval:
    """Of count/total - other/others for independent answers (Newcombe, 1998,
    method 10)."""
    if not total or not others:
        return NOTHING
    p, q = count / total, other / others
    (a, b), (c, d) = wilson(count, total), wilson(other, others)
    return Interval(
        p - q - math.hypot(p - a, d - q),
        p - q + math.hypot(b - p, q - c),
    )


# ---- signal detection ----


class Detection(NamedTuple):
    """d' and the criterion c: above 0 where a reader rather says real."""

    d_prime: float
    criterion: float


def detection(hits: int, positives: int, alarms: int, negatives: int) -> Detection:
    """d' = z(hit rate) - z(false-alarm rate); 0.5 is added to counts and 1 to totals,
    so that rates of 0 and 1 have one too (Hautus, 1995)."""
    if not positives or not negatives:
        return Detection(math.nan, math.nan)
    hit = stats.norm.ppf((hits + 0.5) / (positives + 1))
    alarm = stats.norm.ppf((alarms + 0.5) / (negatives + 1))
    return Detection(float(hit - alarm), float(-(hit + alarm) / 2))


def roc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """[k, 2] corners (false-alarm rate, hit rate) from (0, 0) to (1, 1)."""
    cuts = [np.inf, *np.unique(scores)[::-1]]
    sides = scores[~positive], scores[positive]
    return np.array([[(side >= cut).mean() for side in sides] for cut in cuts])


# ---- agreement ----


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Agreement of two [n] beyond chance (Cohen, 1960); NaN where chance agrees
    always."""
    if not len(first):
        return math.nan
    values = np.union1d(first, second)
    chance = sum((first == v).mean() * (second == v).mean() for v in values)
    agreed = (first == second).mean()
    return float((agreed - chance) / (1 - chance)) if chance < 1 else math.nan


def fleiss_kappa(counts: np.ndarray) -> float:
    """Agreement of several beyond chance (Fleiss, 1971): `counts` [cases, categories],
    each row of the same sum; NaN where chance agrees always."""
    counts = np.asarray(counts, float)
    if not counts.size or counts[0].sum() < 2:
        return math.nan
    raters = counts[0].sum()
    agreed = ((counts**2).sum(1) - raters) / (raters * (raters - 1))
    chance = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return float((agreed.mean() - chance) / (1 - chance)) if chance < 1 else math.nan


def tally(answers: Sequence[Sequence]) -> np.ndarray:
    """[cases, categories] counts of answers [cases][raters]."""
    values = sorted({answer for case in answers for answer in case})
    return np.array([[list(case).count(v) for v in values] for case in answers])


# ---- over time ----


class Trend(NamedTuple):
    """Of a share over time: z above 0 where it rises, and its two-sided p."""

    z: float
    p: float


def trend(right: np.ndarray, order: np.ndarray) -> Trend:
    """Cochran-Armitage test of a trend of bool `right` [n] with `order` [n]."""
    right, order = np.asarray(right, float), np.asarray(order, float)
    if len(right) < 2 or right.std() == 0 or order.std() == 0:
        return Trend(math.nan, math.nan)
    z = float(np.corrcoef(right, order)[0, 1] * math.sqrt(len(right)))
    return Trend(z, float(2 * stats.norm.sf(abs(z))))
