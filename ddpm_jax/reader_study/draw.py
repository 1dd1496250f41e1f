"""Which images are shown, to whom, in which order: all by one seed, none by truth."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import combinations

import numpy as np

from ddpm_jax.conditions.schema import Categorical, Schema
from ddpm_jax.reader_study.material import Candidate
from ddpm_jax.reader_study.study import COUNTED, REPEAT, TRAINING, Showing

Clean = Callable[[Candidate], bool]
Together = Set[frozenset[tuple[str, object]]]
"""Pairs of (field, value)."""


def pairs(
    rng: np.random.Generator,
    real: Sequence[Candidate],
    synthetic: Sequence[Candidate],
    fields: Sequence[str],
    clean: tuple[Clean, Clean],
) -> Iterator[tuple[Candidate, Candidate]]:
    """Real and synthetic images with equal values of `fields`, at random, so that what
    is shown does not tell. Each image once, one image a patient; what is not `clean` is
    passed over, by the same rule on both sides."""
    strata = [_by_values(side, fields, rng) for side in (real, synthetic)]
    slots = [
        values
        for values, members in strata[0].items()
        for _ in range(min(len(members), len(strata[1].get(values, ()))))
    ]
    seen: set[int] = set()
    waiting: dict[tuple, Candidate] = {}
    for slot in rng.permutation(len(slots)):
        values = slots[slot]
        one = waiting.pop(values, None) or _next(strata[0][values], clean[0], seen)
        other = _next(strata[1][values], clean[1], seen)
        if one is not None and other is not None:
            yield one, other
        elif one is not None:
            waiting[values] = one


def _by_values(candidates, fields, rng) -> dict[tuple, list[Candidate]]:
    found = defaultdict(list)
    for i in rng.permutation(len(candidates)):
        row = candidates[i].row
        found[tuple(row.get(name) for name in fields)].append(candidates[i])
    return found


def _next(queue: list[Candidate], clean: Clean, seen: set[int]) -> Candidate | None:
    while queue:
        one = queue.pop()
        if one.patient not in seen and clean(one):
            if one.patient is not None:
                seen.add(one.patient)
            return one
    return None


def new_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Different names of 16 hex digits, to be given in an order that tells nothing."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[rng.bytes(8).hex()] = None
    return list(ids)


def sequence(
    rng: np.random.Generator,
    training: Sequence[str],
    counted: Sequence[str],
    repeats: Sequence[str],
) -> tuple[Showing, ...]:
    """Practice first; then all counted images in random order, and the repeated ones
    again among the later ones, a third of the study after their first time where the
    number of images allows it."""
    practice = [Showing(training[i], TRAINING) for i in rng.permutation(len(training))]
    first = [counted[i] for i in rng.permutation(len(counted))]
    # A repeat must have been shown: its first time lies in the first half.
    half, again = len(first) // 2, set(repeats)
    early = [i for i in range(half) if first[i] not in again]
    late = [i for i in range(half, len(first)) if first[i] in again]
    for place, other in zip(rng.permutation(early), late, strict=False):
        first[place], first[other] = first[other], first[place]
    rest = [Showing(image, COUNTED) for image in first]
    shown_at = {image: i for i, image in enumerate(first)}
    for image in sorted(repeats, key=lambda image: -shown_at[image]):
        least = min(len(rest), shown_at[image] + 1 + (len(first) - 1) // 3)
        place = int(rng.integers(least, len(rest) + 1))
        rest.insert(place, Showing(image, REPEAT))
    return (*practice, *rest)


def seen_together(*sides: Sequence[Candidate]) -> Together:
    """Which values of two fields some image has both of."""
    return {
        frozenset(pair)
        for side in sides
        for one in side
        for pair in combinations(_known(one.row), 2)
    }


def _known(row: Mapping) -> list[tuple[str, object]]:
    return [(name, value) for name, value in row.items() if isinstance(value, str)]


def planted(
    rng: np.random.Generator,
    row: Mapping,
    schema: Schema,
    names: Sequence[str],
    seen: Together,
) -> tuple[str, str] | None:
    """A field of `names` that `row` knows, and another value of it; None without one.

    Categorical fields only: nobody can see that an age is off by ten years. The value
    goes with the row's others, as `seen` knows: a left prosthesis claimed of a right
    hip would be found without a look at the image."""
    told = [pair for pair in _known(row) if pair[0] in names]
    options = {
        field.name: [
            value
            for value in field.values
            if value != row[field.name]
            and all(
                frozenset([(field.name, value), other]) in seen
                for other in told
                if other[0] != field.name
            )
        ]
        for field in schema
        if field.name in dict(told) and isinstance(field, Categorical)
    }
    fields = [name for name, values in options.items() if values]
    if not fields:
        return None
    name = fields[rng.integers(len(fields))]
    return name, options[name][rng.integers(len(options[name]))]
