"""Which counts of one field may be shown: none of 1 to 10.

A value of a field with 1 to 10 images, or "not known" with as few, is counted together
with other values (`Axis`); the bins of a number are joined. For one of k values counted
together as S, every count from 1 to S - k + 1 >= 11 is possible. Images, not patients,
are counted: 11 images may be those of one patient.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from ddpm_jax.conditions.schema import Continuous, Field

LEAST = 11
"""The smallest count of conditions that is shown, except 0."""
NOT_KNOWN = "not known"

Key = tuple[Hashable, ...]
"""What is counted together: one value, or several."""


def group(counts: Mapping[Hashable, int]) -> dict[Hashable, Key]:
    """Value to the key that it is counted under.

    The values of 1 to 10 and the next larger ones go together until there are two and
    their sum exceeds their number by 10; all values do, where that is never reached.
    """
    rising = sorted((v for v in counts if counts[v]), key=counts.__getitem__)
    hidden = sum(counts[value] < LEAST for value in rising)
    if not hidden:
        return {value: (value,) for value in counts}
    for k in range(max(hidden, 2), len(rising) + 1):
        if sum(counts[value] for value in rising[:k]) - k >= LEAST - 1:
            together = tuple(value for value in counts if value in rising[:k])
            break
    else:
        together = tuple(counts)
    return {value: together if value in together else (value,) for value in counts}


@dataclasses.dataclass(frozen=True)
class Axis:
    """One field of all records: `keys[i]` of record i, and how many have each key.

    `bins` are the joined bins (low, high, count) of a number that are shown.
    """

    field: Field
    keys: tuple[Key, ...]
    counts: Mapping[Key, int]
    bins: tuple[tuple[float, float, int], ...] = ()


def make_axis(field: Field, values: Sequence) -> Axis:
    known = [None if v is None or v != v else v for v in values]
    if isinstance(field, Continuous):
        ends = join_bins(field, [v for v in known if v is not None])
        names = [bin_name(*end) for end in ends]
        known = [v if v is None else names[bin_of(v, ends)] for v in known]
    else:
        ends, names = [], list(field.values)
    found = Counter(NOT_KNOWN if v is None else v for v in known)
    keys = group({name: found[name] for name in (*names, NOT_KNOWN)})
    counts = dict.fromkeys(keys.values(), 0)
    for name, key in keys.items():
        counts[key] += found[name]
    named = dict(zip(names, ends, strict=False))  # categorical fields have no ends
    bins = tuple(
        (*end, found[name]) for name, end in named.items() if keys[name] == (name,)
    )
    labels = [keys[NOT_KNOWN if v is None else v] for v in known]
    return Axis(field, tuple(labels), counts, bins)


def bin_step(field: Continuous) -> float:
    """1, 2 or 5 times a power of 10, for 24 bins at most: 5 years of 120."""
    least = (field.high - field.low) / 24
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def join_bins(field: Continuous, values: Iterable[float]) -> list[tuple[float, float]]:
    """Half-open bins that hold `values`, 11 in each; one bin if there are fewer."""
    step = bin_step(field)
    last = math.ceil(field.high / step) - 1
    found = Counter(min(math.floor(v / step), last) for v in values)
    joined: list[list] = []
    for i in sorted(found):
        if joined and joined[-1][2] < LEAST:
            joined[-1][1:] = i + 1, joined[-1][2] + found[i]
        else:
            joined.append([i, i + 1, found[i]])
    if len(joined) > 1 and joined[-1][2] < LEAST:
        _, high, _ = joined.pop()
        joined[-1][1] = high
    return [(low * step, high * step) for low, high, _ in joined]


def bin_of(value: float, ends: Sequence[tuple[float, float]]) -> int:
    return next((i for i, (_, high) in enumerate(ends) if value < high), len(ends) - 1)


def bin_name(low: float, high: float) -> str:
    return f"{low:.12g}–{high:.12g}"
