"""Subgroups of images, none of 1 to 10: by sex, age band, BMI band, prosthesis and
every other field."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ddpm_jax.conditions import small_cells
from ddpm_jax.conditions.schema import Categorical, Conditions, Continuous, Schema
from ddpm_jax.conditions.small_cells import LEAST, NOT_KNOWN

BANDS = {"age": (45, 65, 80), "bmi": (18.5, 25, 30, 35)}
"""Where bands of known fields begin: of age those of the pelvis model's studies, of BMI
the WHO's; other numbers have bins of the data."""


class Group(NamedTuple):
    """Images that share something of one field; `mask` bool [n]."""

    field: str
    name: str
    mask: np.ndarray

    @property
    def count(self) -> int:
        return int(self.mask.sum())


def counted(schema: Schema, real: Conditions) -> Conditions:
    """Of real images, what may be counted: of each field 11 or more images are known or
    none, and 11 or more are not or none; of as many as that takes, always the same
    ones, what is known is left out. So no count beside the number of all images tells
    what 1 to 10 of them have."""
    result = {}
    for field in schema:
        values = np.array(real[field.name])
        known = np.flatnonzero(~is_unknown(values))
        lacking, most = len(values) - len(known), len(known)
        if 0 < lacking < LEAST:
            most -= LEAST - lacking
        kept = np.random.default_rng(0).permutation(known)[: most * (most >= LEAST)]
        values[np.setdiff1d(known, kept)] = field.unknown
        result[field.name] = values
    return result


def is_unknown(values: np.ndarray) -> np.ndarray:
    """bool [n] of codes or numbers."""
    return np.isnan(values) if values.dtype.kind == "f" else values == 0


def merged(field: Categorical, codes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names of what the values of a field are counted as where those of 1 to 10 real
    images with `codes` are put together with others, and int [k] the place among them
    of each value."""
    found = Counter(codes[codes > 0].tolist())
    counts = {value: found[i + 1] for i, value in enumerate(field.values)}
    keys = small_cells.group(counts)
    different = list(dict.fromkeys(keys.values()))
    places = np.array([different.index(keys[value]) for value in field.values])
    return [" or ".join(key) for key in different], places


def _ends(field: Continuous, values: np.ndarray) -> list[tuple[float, float]]:
    edges = BANDS.get(field.name)
    if edges is None:
        known = [float(v) for v in values if not np.isnan(v)]
        return small_cells.join_bins(field, known)
    ends = (field.low, *edges, field.high)
    return list(zip(ends, ends[1:], strict=False))


def _band(ends, value: float) -> str:
    return small_cells.bin_name(*ends[small_cells.bin_of(value, ends)])


def groups(
    schema: Schema, real: Conditions, other: Conditions
) -> list[tuple[Group, Group]]:
    """The subgroups of real images, and of another set the images that are of each.

    Of real images, those that are `counted`. Values of 1 to 10 of them are put together
    with others (`small_cells.group`); a field that has one group left says nothing and
    is left out.
    """
    real, result = counted(schema, real), []
    for field in schema:
        parts = ({field.name: c[field.name]} for c in (real, other))
        ours, theirs = (_named(field, part, real) for part in parts)
        keys = small_cells.group(_ordered(field, ours))
        found = []
        for key in dict.fromkeys(keys.values()):
            masks = [np.isin(names, key) for names in (ours, theirs)]
            if LEAST <= masks[0].sum():
                name = " or ".join(map(str, key))
                found.append(tuple(Group(field.name, name, m) for m in masks))
        result += found if len(found) > 1 else []
    return result


def _named(field, cond: Mapping, real: Conditions) -> np.ndarray:
    if not isinstance(field, Continuous):
        return np.array([field.decode(code) or NOT_KNOWN for code in cond[field.name]])
    ends = _ends(field, real[field.name])
    names = [
        NOT_KNOWN if np.isnan(v) or not ends else _band(ends, float(v))
        for v in cond[field.name]
    ]
    return np.array(names)


def _ordered(field, names: np.ndarray) -> dict[str, int]:
    """Counts of what is known, in the order of the field's values, or of its bands."""
    found = Counter(names.tolist())
    if isinstance(field, Continuous):
        order = sorted((n for n in found if n != NOT_KNOWN), key=_start)
    else:
        order = list(field.values)
    return {name: found[name] for name in order}


def _start(name: str) -> float:
    return float(name.split("–")[0])
