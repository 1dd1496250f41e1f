"""Label discrepancy: from verdicts on fields to figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from ddpm_jax.reader_study import statistics as st
from ddpm_jax.reader_study.analysis import (
    AT_MOST,
    Figure,
    Table,
    agreement,
    proportion,
    tables,
    times,
    within,
)
from ddpm_jax.reader_study.store import Answer
from ddpm_jax.reader_study.study import (
    AGREES,
    COUNTED,
    DIFFERS,
    UNSURE,
    Study,
    Truth,
)


def label_discrepancy(
    study: Study,
    answers: Sequence[Answer],
    truth: Mapping[str, Truth],
    rng: np.random.Generator,
) -> list[Figure]:
    """Discrepancies by field and by image, and how many planted ones were found."""
    honest = [a for a in answers if not truth[a.image].planted]
    traps = [a for a in answers if truth[a.image].planted and a.kind == COUNTED]
    figures: list[Figure] = []
    readers = list(dict.fromkeys(a.reader for a in answers))
    for reader in readers:
        own = [a for a in honest if a.reader == reader and a.kind == COUNTED]
        worst = [_worst(a) for a in own]
        figures += rates(reader, "any field", worst, "every field")
        for name, title in study.fields:
            said = [a.answer[name] for a in own if name in a.answer]
            figures += rates(reader, title, said)
        found = [
            a.answer[truth[a.image].planted] == DIFFERS
            for a in traps
            if a.reader == reader
        ]
        if found:
            what = "planted errors found"
            figures += proportion(reader, what, sum(found), len(found))
    for name, title in study.fields:
        figures += [
            f._replace(what=f"{f.what}: {title}")
            for f in agreement(_fields(honest, COUNTED, name), rng)
        ]
    figures += within(honest, _worst, rng)
    for one in tables([a for a in answers if a.kind == COUNTED], COUNTED, _worst):
        figures += times(one)
    return figures


def _worst(answer: Answer) -> str:
    """Of the fields that could be told: differs where one does, else agrees."""
    said = set(answer.answer.values())
    return DIFFERS if DIFFERS in said else AGREES if AGREES in said else UNSURE


def _fields(answers: Sequence[Answer], kind: str, name: str) -> list[Table]:
    known = [a for a in answers if name in a.answer]
    return tables(known, kind, lambda a: a.answer[name])


def rates(who: str, title: str, said: Sequence[str], nothing: str = "") -> list[Figure]:
    """How often the label differs, of what could be told; bounds for no event too.
    `nothing` names what could not be told, if not `title`."""
    unsure = sum(one == UNSURE for one in said)
    wrong, total = sum(one == DIFFERS for one in said), len(said) - unsure
    what = f"discrepancy: {title}"
    return [
        *proportion(who, what, wrong, total),
        Figure(
            who,
            what + AT_MOST,
            st.upper_bound(wrong, total),
            method="exact, one-sided",
            count=wrong,
            total=total,
        ),
        Figure(
            who,
            f"cannot tell: {nothing or title}",
            unsure / len(said) if said else np.nan,
            count=unsure,
            total=len(said),
        ),
    ]
