"""Conditions for synthetic images, drawn as those of real images are distributed.

A *cell* is what some records share: the value of each categorical field, and which
numbers are known. The laws that hold for any data:

- Cells come as often as in the data, and one that does not occur never comes.
- The numbers of a cell come jointly, by a smoothed bootstrap of its records, and of
  those of the cells most like it where fewer than `LEAST` patients are in it; in the
  range of the schema, and not beyond the 11th smallest and 11th largest of the data.
- No row equals, in all fields, what fewer than `LEAST` patients of the data have. A row
  that would is moved by half a step of its finest number, drawn again, or, where it has
  no number, not drawn at all.

The last is k-anonymity of whole rows (Sweeney, 2002) and no differential privacy: that
a combination occurs can be seen. Standard library and numpy only.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ddpm_jax.conditions import bootstrap
from ddpm_jax.conditions.schema import KINDS, Conditions, Continuous, Schema
from ddpm_jax.conditions.small_cells import LEAST

DONORS = 2 * LEAST
"""Records that numbers are drawn from, if there are as many, for a cell of fewer than
`LEAST` patients: twice that number, since a patient often has several images."""
ROUNDS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """The joint distribution of n records over m cells, c categories and k numbers.

    `cells` int [m, c + k] holds codes, then 1 where a number is known; `cell_of` [n] is
    each record's; `people` [m] says of how many patients a cell is; `weights` [m] sum
    to 1; `numbers` is float64 [n, k]; `strength` [c] says how much a field tells about
    them, `steps` [k] how fine they are, `ends` [k, 2] how far they go; `lost` is the
    share of records whose like is never drawn; `rare` are rows that no cohort may hold.
    """

    schema: Schema
    cells: np.ndarray
    cell_of: np.ndarray
    people: np.ndarray
    numbers: np.ndarray
    weights: np.ndarray
    lost: float
    strength: np.ndarray
    steps: np.ndarray
    ends: np.ndarray
    rare: frozenset[bytes]

    @classmethod
    def make(
        cls,
        schema: Schema,
        conditions: Conditions,
        patients: np.ndarray,
        known: Sequence[str] = (),
    ) -> "Joint":
        """`patients` int [n] says whose each record is; `known` are the fields that are
        known in every row drawn. A record in which one of them is not known counts for
        the cells that agree with all that is known of it, as often as these occur.

        ValueError where no cell can be drawn.
        """
        schema = _categories_first(schema)
        labels, numbers = _split(schema, conditions)
        joint = np.concatenate([labels, ~np.isnan(numbers)], axis=1).astype(np.int64)
        cells, cell_of = np.unique(joint, axis=0, return_inverse=True)
        cell_of = cell_of.reshape(-1)
        sizes = np.bincount(cell_of, minlength=len(cells))
        people = _people(cell_of, patients)
        needed = [schema.names.index(name) for name in known]
        good = _drawable(cells, sizes, labels.shape[1], people)
        good &= cells[:, needed].all(axis=1)
        weights, lost = _shares(cells, sizes, good)
        fields = [f for f in schema if isinstance(f, Continuous)]
        columns = [column[~np.isnan(column)] for column in numbers.T]
        return cls(
            schema=schema,
            cells=cells,
            cell_of=cell_of,
            people=people,
            numbers=numbers,
            weights=weights,
            lost=lost,
            strength=bootstrap.strength(labels, numbers),
            steps=np.array(
                [
                    bootstrap.resolution(f, x)
                    for f, x in zip(fields, columns, strict=True)
                ]
            ),
            ends=np.array([bootstrap.inner(x) for x in columns]).reshape(-1, 2),
            rare=_rare(labels, numbers, patients),
        )

    def group(self, names: Sequence[str], values: np.ndarray) -> np.ndarray:
        """int [m]: the row of `values` int [g, len(names)] that a cell agrees with in
        these categorical fields, -1 for none."""
        columns = [self.schema.names.index(name) for name in names]
        place = {tuple(row): i for i, row in enumerate(values.tolist())}
        return np.array(
            [place.get(tuple(row), -1) for row in self.cells[:, columns].tolist()]
        )

    def draw(
        self,
        rng: np.random.Generator,
        counts: Sequence[int] | np.ndarray,
        group: np.ndarray | None = None,
    ) -> Conditions:
        """Conditions of sum(counts) rows in random order: counts[g] of the cells whose
        `group` is g, by default all in group 0, as often within it as in the data.

        ValueError where only rows of fewer than `LEAST` patients can be found.
        """
        group = np.zeros(len(self.cells), int) if group is None else group
        wanted = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        chosen = self._choose(rng, wanted, group)
        table = self._rows(rng, chosen)
        for turn in range(ROUNDS):
            again = np.flatnonzero(self._copies(table))
            if not again.size:
                return self._conditions(table)
            if turn >= ROUNDS // 2:
                chosen[again] = self._choose(rng, wanted[again], group)
            table[again] = self._rows(rng, chosen[again])
        raise ValueError(
            f"no row can be drawn that fewer than {LEAST} patients do not have; "
            "expected more records, or fewer fields (--fields)."
        )

    def _choose(self, rng, wanted: np.ndarray, group: np.ndarray) -> np.ndarray:
        """int [len(wanted)]: a cell for each row, of the group that is wanted."""
        chosen = np.empty(len(wanted), int)
        for one in np.unique(wanted):
            share = np.where(group == one, self.weights, 0.0)
            assert share.sum() > 0, "a group that cannot be drawn"
            places = np.flatnonzero(wanted == one)
            chosen[places] = rng.choice(len(share), len(places), p=share / share.sum())
        return chosen

    def _rows(self, rng, chosen: np.ndarray) -> np.ndarray:
        """float64 [len(chosen), c + k]: codes, then numbers; copies moved where a half
        step is enough."""
        labels = len(self.strength)
        table = self.cells[chosen].astype(np.float64)
        table[:, labels:] = np.nan
        for cell in np.unique(chosen).tolist():
            known = self.cells[cell, labels:] == 1
            if known.any():
                places = np.flatnonzero(chosen == cell)
                columns = labels + np.flatnonzero(known)
                table[np.ix_(places, columns)] = self._numbers(
                    rng, cell, known, len(places)
                )
        copies = np.flatnonzero(self._copies(table))
        table[copies] = self._moved(rng, table[copies])
        return table

    def _numbers(self, rng, cell: int, known: np.ndarray, count: int) -> np.ndarray:
        """float64 [count, sum(known)], smooth, clipped and rounded."""
        donors = self.numbers[self._donors(cell, known)][:, known]
        low, high = self.ends[known].T
        drawn = np.clip(bootstrap.smoothed(rng, donors, count), low, high)
        drawn = np.round(drawn / self.steps[known]) * self.steps[known]
        return self._in_range(drawn, np.flatnonzero(known))

    def _in_range(self, drawn: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        fields = [self.schema.fields[len(self.strength) + j] for j in numbers]
        low, high = [f.low for f in fields], [f.high for f in fields]
        return bootstrap.six_digits(np.clip(drawn, low, high))

    def _donors(self, cell: int, known: np.ndarray) -> np.ndarray:
        """int: the records of a cell, or `DONORS` and more of it and of the cells that
        differ least from it, where a field counts as it tells about the numbers."""
        labels = len(self.strength)
        if self.people[cell] >= LEAST:
            return np.flatnonzero(self.cell_of == cell)
        usable = (self.cells[:, labels:] >= known).all(axis=1)
        differ = self.cells[:, :labels] != self.cells[cell, :labels]
        distance = np.where(usable, differ @ self.strength, np.inf)[self.cell_of]
        ranked = np.sort(distance[np.isfinite(distance)])
        return np.flatnonzero(distance <= ranked[min(DONORS, len(ranked)) - 1])

    def _copies(self, table: np.ndarray) -> np.ndarray:
        """bool [b]: which rows fewer than `LEAST` patients have."""
        return np.array([row in self.rare for row in _as_bytes(table)], bool)

    def _moved(self, rng, table: np.ndarray) -> np.ndarray:
        """Half a step of the number that is known most finely, to either side."""
        labels = len(self.strength)
        width = self.steps / np.maximum(self.numbers_spread, self.steps)
        for row in table:
            known = np.flatnonzero(~np.isnan(row[labels:]))
            if not known.size:
                continue
            j = known[np.argmin(width[known])]
            field = self.schema.fields[labels + j]
            step = self.steps[j] / 2 * (1 if rng.random() < 0.5 else -1)
            if not field.low <= row[labels + j] + step <= field.high:
                step = -step
            moved = self._in_range(row[None, [labels + j]] + step, np.array([j]))
            row[labels + j] = moved[0, 0]
        return table

    @property
    def numbers_spread(self) -> np.ndarray:
        """[k]: between the ends that numbers are drawn from."""
        return self.ends[:, 1] - self.ends[:, 0]

    def _conditions(self, table: np.ndarray) -> Conditions:
        return {
            field.name: table[:, i].astype(field.dtype)
            for i, field in enumerate(self.schema)
        }


def _categories_first(schema: Schema) -> Schema:
    return Schema(tuple(sorted(schema, key=lambda f: isinstance(f, Continuous))))


def _split(schema: Schema, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """int [n, c] codes and float64 [n, k] numbers, to six digits as rows have them."""
    kinds = {kind: [f.name for f in schema if f.kind == kind] for kind in KINDS}
    n = len(next(iter(conditions.values())))
    labels = [np.asarray(conditions[name]) for name in kinds["categorical"]]
    numbers = [np.asarray(conditions[name]) for name in kinds["continuous"]]
    return (
        np.stack(labels, axis=1) if labels else np.empty((n, 0), np.int32),
        bootstrap.six_digits(np.stack(numbers, axis=1))
        if numbers
        else np.empty((n, 0)),
    )


def _as_bytes(table: np.ndarray) -> list[bytes]:
    """Each row as something that can be compared: NaN is like NaN, -0 like 0."""
    plain = np.where(np.isnan(table), -np.inf, table) + 0.0
    return [row.tobytes() for row in plain]


def _people(group: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """int [groups]: of how many patients the records of each group are."""
    pairs = np.unique(np.stack([group, patients], axis=1), axis=0)
    return np.bincount(pairs[:, 0])


def _rare(labels, numbers, patients: np.ndarray) -> frozenset[bytes]:
    rows = _as_bytes(np.concatenate([labels, numbers], axis=1))
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    people = _people(np.array([place[row] for row in rows]), patients)
    return frozenset(row for row, i in place.items() if people[i] < LEAST)


def _drawable(cells, sizes, labels: int, people: np.ndarray) -> np.ndarray:
    """bool [m]: cells whose numbers have donors, and without numbers those of enough
    patients, since nothing but the cell itself can then be drawn."""
    known = cells[:, labels:]
    donors = np.array([sizes[(known >= one).all(axis=1)].sum() for one in known])
    return np.where(known.any(axis=1), donors, people) >= LEAST


def _shares(cells, sizes, good: np.ndarray) -> tuple[np.ndarray, float]:
    """How often each cell is drawn, and the share of records that count for none."""
    weights, lost = np.where(good, sizes, 0).astype(np.float64), 0
    for cell in np.flatnonzero(~good):
        unknown = cells[cell] == 0
        alike = good & ((cells == cells[cell]) | unknown).all(axis=1)
        if alike.any():
            share = np.where(alike, sizes, 0)
            weights += sizes[cell] * share / share.sum()
        else:
            lost += sizes[cell]
    if not good.any():
        raise ValueError(
            f"no combination of values can be drawn: none is known in full and shared "
            f"by {LEAST} patients or more; expected more records, fewer fields "
            "(--fields), or fewer that must be known (--known)."
        )
    return weights / weights.sum(), lost / sizes.sum()
