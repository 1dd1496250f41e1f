"""Real or synthetic: from answers to figures; nothing here is printed or drawn."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ddpm_jax.evaluation import statistics as shared
from ddpm_jax.reader_study import power
from ddpm_jax.reader_study import statistics as st
from ddpm_jax.reader_study.store import Answer
from ddpm_jax.reader_study.study import (
    COUNTED,
    REAL,
    REPEAT,
    SYNTHETIC,
    Truth,
)

ALL = "all readers"
AT_MOST = ", at most"
GUESSING = "p against guessing"
OVER_IMAGES = "bootstrap over images"
PARTS = 4
"""Of the time that a reader took, for learning."""


class Figure(NamedTuple):
    """One figure: `who` a reader, a pair or all; `count` of `total` where it is a
    proportion. `low` and `high` by `method`."""

    who: str
    what: str
    value: float
    low: float = np.nan
    high: float = np.nan
    method: str = ""
    count: int | None = None
    total: int | None = None


class Table(NamedTuple):
    """The counted answers of one reader in the order of time: arrays [n]."""

    reader: str
    images: list[str]
    said: np.ndarray
    confidence: np.ndarray
    seconds: np.ndarray
    position: np.ndarray


def proportion(who: str, what: str, count: int, total: int) -> list[Figure]:
    """The proportion twice: with the Wilson and with the exact interval."""
    value = count / total if total else np.nan
    return [
        Figure(who, what, value, *interval(count, total), name, count, total)
        for name, interval in (("Wilson", shared.wilson), ("exact", shared.exact))
    ]


def tables(answers: Sequence[Answer], kind: str, said: Callable) -> list[Table]:
    """By reader; `said(answer)` is what is compared."""
    found = []
    for reader in dict.fromkeys(a.reader for a in answers):
        own = [a for a in answers if a.reader == reader and a.kind == kind]
        found.append(
            Table(
                reader,
                [a.image for a in own],
                np.array([said(a) for a in own]),
                np.array([a.confidence for a in own], int),
                np.array([a.seconds for a in own], float),
                np.arange(len(own)),
            )
        )
    return found


# ---- real or synthetic ----


def real_or_synthetic(
    answers: Sequence[Answer], truth: Mapping[str, Truth], rng: np.random.Generator
) -> list[Figure]:
    """All figures of the protocol; synthetic is what is to be detected."""
    begun = {a.reader for a in answers if a.kind == COUNTED}
    answers = [a for a in answers if a.reader in begun]
    read = tables(answers, COUNTED, lambda a: a.answer == SYNTHETIC)
    is_synthetic = [
        np.array([truth[i].truth == SYNTHETIC for i in one.images], bool)
        for one in read
    ]
    figures: list[Figure] = []
    for one, positive in zip(read, is_synthetic, strict=True):
        figures += detected(one.reader, one.said, positive)
        figures += ranked(one, positive, rng)
    if len(read) > 1:
        figures += pooled(read, truth, rng)
    figures += agreement(read, rng)
    figures += within(answers, lambda a: a.answer, rng)
    for one, positive in zip(read, is_synthetic, strict=True):
        figures += over_time(one, one.said == positive)
    return figures


def detected(who: str, said: np.ndarray, positive: np.ndarray) -> list[Figure]:
    right = said == positive
    count, total = int(right.sum()), len(right)
    n, m = int(positive.sum()), int((~positive).sum())
    hits, alarms = int(said[positive].sum()), int(said[~positive].sum())
    d, c = st.detection(hits, n, alarms, m)
    paper = power.PAPER_ACCURACY
    apart = (count / total if total else np.nan) - paper[0] / paper[1]
    return [
        *proportion(who, "accuracy", count, total),
        Figure(who, GUESSING, st.against_chance(count, total), method="exact"),
        *proportion(who, "sensitivity", hits, n),
        *proportion(who, "specificity", m - alarms, m),
        Figure(who, "d'", d, method="Hautus"),
        Figure(who, "criterion c", c, method="Hautus"),
        Figure(
            who,
            "accuracy minus the paper's",
            apart,
            *st.difference(count, total, *paper),
            "Newcombe",
        ),
    ]


def score(one: Table) -> np.ndarray:
    """-5 (certainly real) to 5 (certainly synthetic), without 0."""
    return np.where(one.said, one.confidence, -one.confidence)


def ranked(one: Table, positive: np.ndarray, rng: np.random.Generator) -> list[Figure]:
    scores = score(one)
    interval = shared.bootstrap(
        lambda index: shared.auc(scores[index], positive[index]), len(scores), rng
    )
    value = shared.auc(scores, positive)
    return [Figure(one.reader, "AUC of confidence", value, *interval, "bootstrap")]


def pooled(read: Sequence[Table], truth, rng: np.random.Generator) -> list[Figure]:
    """All readers together over the images that all have read. Their answers to one
    image are not independent, so images are drawn anew, and no exact test is made."""
    images, said = together(read)
    if not images:
        return []
    positive = np.array([truth[i].truth == SYNTHETIC for i in images])
    right = said == positive[:, None]
    figures = [_mean("accuracy", right, rng)]
    for what, part in (("sensitivity", positive), ("specificity", ~positive)):
        if part.any():
            figures.append(_mean(what, right[part], rng))
    width = said.shape[1]
    d, c = st.detection(
        *(int(said[positive].sum()), int(positive.sum()) * width),
        *(int(said[~positive].sum()), int((~positive).sum()) * width),
    )
    figures.append(Figure(ALL, "d'", d, method="Hautus"))
    figures.append(Figure(ALL, "criterion c", c, method="Hautus"))
    return figures


def _mean(what: str, right: np.ndarray, rng) -> Figure:
    """Of [cases, readers], with cases drawn anew."""
    interval = shared.bootstrap(lambda index: right[index].mean(), len(right), rng)
    count, value = int(right.sum()), float(right.mean())
    return Figure(ALL, what, value, *interval, OVER_IMAGES, count, right.size)


def together(read: Sequence[Table]) -> tuple[list[str], np.ndarray]:
    """The images that all have read, and what was said of them [cases, readers]."""
    by_image = [dict(zip(one.images, one.said, strict=True)) for one in read]
    images = [i for i in by_image[0] if all(i in one for one in by_image)]
    return images, np.array([[one[i] for one in by_image] for i in images])


def agreement(read: Sequence[Table], rng: np.random.Generator) -> list[Figure]:
    """Cohen's kappa of each pair of readers, and Fleiss' of all."""
    figures = []
    for pair in combinations(read, 2):
        _, said = together(pair)
        names = " and ".join(one.reader for one in pair)
        figures.append(kappa(names, "Cohen's kappa", said, rng))
    if len(read) > 2:
        _, said = together(read)
        figures.append(kappa(ALL, "Fleiss' kappa", said, rng))
    return figures


def kappa(who: str, what: str, said: np.ndarray, rng: np.random.Generator) -> Figure:
    """Of answers [cases, 2 or more], with a bootstrap over cases."""
    if not len(said):
        return Figure(who, what, np.nan, total=0)
    if what.startswith("Fleiss"):
        counts = st.tally(said.tolist())

        def statistic(index):
            return st.fleiss_kappa(counts[index])
    else:

        def statistic(index):
            return st.cohen_kappa(said[index, 0], said[index, 1])

    interval = shared.bootstrap(statistic, len(said), rng)
    value = statistic(np.arange(len(said)))
    return Figure(who, what, value, *interval, OVER_IMAGES, None, len(said))


def within(answers: Sequence[Answer], said: Callable, rng) -> list[Figure]:
    """Kappa of each reader with himself, over the repeated images."""
    figures = []
    first, again = (tables(answers, kind, said) for kind in (COUNTED, REPEAT))
    for one, other in zip(first, again, strict=True):
        if other.images:
            _, both = together([one, other])
            name = "kappa, first and second time"
            figures.append(kappa(one.reader, name, both, rng))
            same = int((both[:, 0] == both[:, 1]).sum())
            figures += proportion(one.reader, "same answer again", same, len(both))
    return figures


def over_time(one: Table, right: np.ndarray) -> list[Figure]:
    """Accuracy and median seconds by quarter, and the trend over the whole."""
    figures = []
    z, p = st.trend(right, one.position)
    figures.append(Figure(one.reader, "trend of accuracy, z", z, method="Armitage"))
    figures.append(Figure(one.reader, "trend of accuracy, p", p, method="Armitage"))
    for i, part in enumerate(np.array_split(np.arange(len(right)), PARTS), start=1):
        count = int(right[part].sum())
        named = f"accuracy, quarter {i}"
        figures += proportion(one.reader, named, count, len(part))[:1]
    return figures + times(one)


def times(one: Table) -> list[Figure]:
    """Median seconds an image, with the quartiles, of all and by quarter."""
    if not len(one.seconds):
        return []
    parts = np.array_split(one.seconds, PARTS)
    named = [("seconds an image", one.seconds)]
    named += [
        (f"seconds, quarter {i}", part)
        for i, part in enumerate(parts, start=1)
        if len(part)
    ]
    return [
        Figure(
            one.reader,
            name,
            float(np.median(values)),
            *map(float, np.percentile(values, [25, 75])),
            "median, quartiles",
            total=len(values),
        )
        for name, values in named
    ]


def curves(answers: Sequence[Answer], truth: Mapping[str, Truth]):
    """Reader -> corners of the ROC curve [k, 2]."""
    return {
        one.reader: st.roc(score(one), positive)
        for one in tables(answers, COUNTED, lambda a: a.answer == SYNTHETIC)
        for positive in [np.array([truth[i].truth != REAL for i in one.images], bool)]
        if positive.any() and not positive.all()
    }
