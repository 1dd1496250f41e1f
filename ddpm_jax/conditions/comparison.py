"""A cohort beside the data that it was drawn like: shares, means, no small counts.

Standard library and numpy only.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ddpm_jax.conditions import small_cells
from ddpm_jax.conditions.schema import Continuous, Field, Schema
from ddpm_jax.conditions.small_cells import LEAST


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One field: (name, real share, cohort share) of each value among those known.

    Values of fewer than 11 real images share a line with others (`small_cells`). For a
    number the lines are bins, `edges` their ends (low, high), and `moments` are (mean,
    sd) of each. `unknown` holds the shares of "not known"; None is not told.
    """

    field: Field
    lines: tuple[tuple[str, float, float], ...]
    unknown: tuple[float | None, float]
    edges: tuple[tuple[float, float], ...] = ()
    moments: tuple[tuple[float, float], ...] = ()


def compare(
    schema: Schema, real: Mapping[str, Sequence], drawn: Mapping[str, Sequence]
) -> list[Comparison]:
    """Field by field, from columns of plain values with None for not known."""
    return [_compare(field, real[field.name], drawn[field.name]) for field in schema]


def _compare(field: Field, real: Sequence, drawn: Sequence) -> Comparison:
    known = [[v for v in values if v is not None] for values in (real, drawn)]
    missing = len(real) - len(known[0])
    told = missing == 0 or min(missing, len(known[0])) >= LEAST
    unknown = missing / len(real) if told else None, 1 - len(known[1]) / len(drawn)
    if len(known[0]) < LEAST:
        return Comparison(field, (), unknown)
    if not isinstance(field, Continuous):
        found = [Counter(values) for values in known]
        keys = small_cells.group({value: found[0][value] for value in field.values})
        lines = tuple(
            (" or ".join(key), *(_share(count, key) for count in found))
            for key in dict.fromkeys(keys.values())
            if any(count[value] for count in found for value in key)
        )
        return Comparison(field, lines, unknown)
    edges = small_cells.join_bins(field, known[0])
    found = [Counter(small_cells.bin_of(v, edges) for v in values) for values in known]
    lines = tuple(
        (small_cells.bin_name(*ends), *(_share(count, (i,)) for count in found))
        for i, ends in enumerate(edges)
    )
    moments = tuple(_moments(values) for values in known)
    return Comparison(field, lines, unknown, tuple(edges), moments)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values))


def _share(found: Counter, key: Sequence) -> float:
    return sum(found[value] for value in key) / max(found.total(), 1)


def table(comparisons: Sequence[Comparison], names: tuple[str, str]) -> str:
    """As aligned text: shares of the values, mean ± sd of the numbers."""
    rows = [("field", "", *names)]
    for one in comparisons:
        name = one.field.name
        if one.moments:
            cells = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in one.moments]
            rows.append((name, f"mean ± sd ({one.field.unit})", *cells))
        elif not one.lines:
            rows.append((name, f"known in under {LEAST}", "–", "–"))
        else:
            lines = [(v, f"{a:.1%}", f"{b:.1%}") for v, a, b in one.lines]
            rows += [("" if i else name, *line) for i, line in enumerate(lines)]
        real, cohort = one.unknown
        if real != 0 or cohort:
            told = f"under {LEAST} images" if real is None else f"{real:.1%}"
            rows.append(("", small_cells.NOT_KNOWN, told, f"{cohort:.1%}"))
    return aligned(rows, "<<>>")


def aligned(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Columns, each to the left (<) or the right (>) as `sides` says."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    )
