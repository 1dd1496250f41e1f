"""How many real images there are of what is asked for, and how many are missing.

A cell holds the records that agree in some categorical fields, all known. What is said
of its size is a band, "50 to 99": a size of 1 to 10 is called "under 11", and with the
number of all records known, at least `SPREAD` sizes of it remain possible. Standard
library and numpy only.
"""

import csv
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.conditions.small_cells import LEAST

SPREAD = 5
MOST_EMPTY = 500
"""More combinations of values than this are listed only where they occur."""
ENOUGH, FEW, RARE, NONE = "enough", "few", f"under {LEAST} patients", "none"

Band = tuple[float, float]


class Line(NamedTuple):
    """A cell in words: what it is, how many real images it has, what is to be made of
    that, and how many rows of a cohort are in it."""

    values: dict[str, str]
    real: str
    verdict: str
    drawn: int


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """g cells of some fields: `codes` int [g, len(names)], `images` and `patients` [g].

    Records in which one of the fields is not known are in none.
    """

    schema: Schema
    names: tuple[str, ...]
    codes: np.ndarray
    images: np.ndarray
    patients: np.ndarray

    @classmethod
    def count(
        cls,
        schema: Schema,
        conditions: Conditions,
        patients: np.ndarray,
        names: Sequence[str],
    ) -> "Cells":
        """In the order of the schema's values; those that never occur come too, as long
        as each of their values does and there are no more than `MOST_EMPTY`."""
        names = schema.select(names).names
        joint = np.stack([conditions[name] for name in names], axis=1)
        known = joint.all(axis=1)
        joint, patients = joint[known], np.asarray(patients)[known]
        held = [np.unique(column).tolist() for column in joint.T]
        if math.prod(map(len, held)) <= MOST_EMPTY:
            codes = np.array(list(itertools.product(*held)), int)
        else:
            codes = np.unique(joint, axis=0)
        codes = codes.reshape(-1, len(names))
        place = {tuple(row): i for i, row in enumerate(codes.tolist())}
        at = np.array([place[tuple(row)] for row in joint.tolist()], int)
        pairs = np.unique(np.stack([at, patients], axis=1), axis=0)
        return cls(
            schema=schema,
            names=names,
            codes=codes,
            images=np.bincount(at, minlength=len(codes)),
            patients=np.bincount(pairs[:, 0], minlength=len(codes)),
        )

    def __len__(self) -> int:
        return len(self.codes)

    def values(self, i: int) -> dict[str, str]:
        """Field to value."""
        codes = zip(self.names, self.codes[i], strict=True)
        return {name: self.schema[name].decode(code) for name, code in codes}

    def verdicts(self, enough: int) -> list[str]:
        """One of ENOUGH, FEW, RARE, NONE each; `enough` images are enough."""
        pairs = zip(self.images.tolist(), self.patients.tolist(), strict=True)
        return [_verdict(images, patients, enough) for images, patients in pairs]

    def bands(self, enough: int) -> list[Band] | None:
        """What may be said of each size, low and high included; None if nothing may."""
        round_ones = [m * 10**k for k in range(1, 12) for m in (1, 2, 5)]
        edges = sorted({LEAST, enough, *(n for n in round_ones if n > enough)})
        for ends in (edges, [LEAST]):
            bands = [_band(int(size), ends) for size in self.images]
            if not gives_away(bands, int(self.images.sum())):
                return bands
        return None

    def lines(self, enough: int, drawn: Conditions) -> list[Line] | None:
        """The cells beside those of a cohort; None if nothing may be told."""
        bands = self.bands(enough)
        if bands is None:
            return None
        joint = np.stack([drawn[name] for name in self.names], axis=1)
        found = Counter(map(tuple, joint.tolist()))
        counts = [found[tuple(row)] for row in self.codes.tolist()]
        parts = zip(map(name_band, bands), self.verdicts(enough), counts, strict=True)
        return [Line(self.values(i), *part) for i, part in enumerate(parts)]

    def quotas(
        self, possible: np.ndarray, count: int | None, top_up: bool
    ) -> np.ndarray:
        """int [g] rows of each cell: `count` spread evenly over those that are
        `possible` and of 11 patients; with `top_up` so that real images and rows
        together are even, by default all as many as the largest cell has.

        With `top_up` real images are counted to the nearest 10 where a cell holds 1 to
        10, whose number would follow from the others. ValueError where it still would,
        and where no row can be asked for.
        """
        where = f"--balance {','.join(self.names)}"
        can, sizes = possible & (self.patients >= LEAST), self.images
        if not can.any():
            raise ValueError(
                f"{where}: no combination of values has {LEAST} patients; expected "
                "fewer fields, or fewer in --known."
            )
        if not top_up:
            sizes = 0 * sizes
        elif self.some_small:
            sizes, bands = rounded(sizes)
            if gives_away(bands, int(self.images.sum())):
                raise ValueError(
                    f"{where} --fill: the numbers would give away a combination of "
                    f"fewer than {LEAST} images; expected fewer fields."
                )
        counts = np.zeros(len(self), int)
        counts[can] = fill(sizes[can], count)
        if not counts.any():
            raise ValueError(f"{where} --fill: balanced already; nothing to add.")
        return counts

    @property
    def some_small(self) -> bool:
        return bool(((self.images > 0) & (self.images < LEAST)).any())


def pairs(
    schema: Schema,
    conditions: Conditions,
    patients: np.ndarray,
    drawn: Conditions,
    enough: int,
) -> list[Line]:
    """The cells of each pair of categorical fields, or of the only one there is; pairs
    of which nothing may be told are left out."""
    names = [field.name for field in schema if field.kind == "categorical"]
    lines = []
    for two in itertools.combinations(names, min(2, len(names))) if names else ():
        cells = Cells.count(schema, conditions, patients, two)
        lines += cells.lines(enough, drawn) or []
    return lines


def write(path: Path, lines: Sequence[Line], schema: Schema) -> None:
    """A CSV: a column a categorical field, empty where a cell does not speak of it."""
    names = [field.name for field in schema if field.kind == "categorical"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "real_images", "drawn", "verdict"])
        for one in lines:
            values = [one.values.get(name, "") for name in names]
            writer.writerow([*values, one.real, one.drawn, one.verdict])


def _verdict(images: int, patients: int, enough: int) -> str:
    if not images:
        return NONE
    if patients < LEAST:
        return RARE
    return ENOUGH if images >= enough else FEW


def _band(size: int, edges: Sequence[int]) -> Band:
    if size < LEAST:
        return (1, LEAST - 1) if size else (0, 0)
    i = int(np.searchsorted(edges, size, side="right"))
    return (edges[i - 1], edges[i] - 1 if i < len(edges) else math.inf)


def name_band(band: Band) -> str:
    low, high = band
    if high == 0:
        return "0"
    if high < LEAST:
        return f"under {LEAST}"
    return f"{low:,} or more" if math.isinf(high) else f"{low:,} to {high:,}"


def gives_away(bands: Sequence[Band], total: int) -> bool:
    """Whether a band of 1 to 10 leaves fewer than `SPREAD` sizes, if all add up."""
    lowest, highest = (sum(band[i] for band in bands) for i in (0, 1))
    for low, high in bands:
        if low == 1 and high == LEAST - 1:
            least = max(low, total - (highest - high))
            most = min(high, total - (lowest - low))
            if most - least + 1 < SPREAD:
                return True
    return False


def fill(sizes: Sequence[int] | np.ndarray, count: int | None = None) -> np.ndarray:
    """int [g] to add to each size: `count` in all, so that the smallest sums are as
    large as can be; by default what makes all as large as the largest.

    Sums that are added to differ by 1 at most, and none below them is left as it was.
    """
    sizes = np.asarray(sizes, np.int64)
    if count is None:
        return sizes.max() - sizes
    ranked = np.sort(sizes)
    room = np.arange(1, len(ranked) + 1) * ranked - np.cumsum(ranked)
    k = int(np.searchsorted(room, count, side="right"))
    level, rest = divmod(count + int(ranked[:k].sum()), k)
    added = np.maximum(level - sizes, 0)
    added[np.flatnonzero(sizes <= level)[:rest]] += 1
    return added


def rounded(sizes: np.ndarray) -> tuple[np.ndarray, list[Band]]:
    """Sizes of 11 and more to the nearest 10, and the sizes that each may then be."""
    near = (sizes + 5) // 10 * 10
    bands = [
        (int(max(n - 5, LEAST)), int(n + 4)) if size >= LEAST else _band(int(size), [])
        for size, n in zip(sizes, near, strict=True)
    ]
    return near, bands
