"""Which record comes when, where rare groups are drawn as often as frequent ones.

A cell holds the records that agree in some categorical fields, "not known" being a
value like any other. A cell of n records is drawn in proportion to n^(1 - power): as
in the data at 0, all cells alike at 1.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from grain.experimental import index_shuffle

from ddpm_jax.conditions.small_cells import LEAST

BLOCK, MODULUS = 64, 2**32
SMALL = 4096
"""Below, grain's shuffle, which walks through 2^16 places to meet few, is slow."""
GOLDEN = 0x9E3779B9
"""Keeps the seeds of the cells apart: 2^32 over the golden ratio."""


def cells(codes: Mapping[str, np.ndarray]) -> np.ndarray:
    """int [n]: the cell of each record, 0 .. occupied cells - 1, of int codes [n]."""
    joint = np.stack(list(codes.values()), axis=1)
    return np.unique(joint, axis=0, return_inverse=True)[1].reshape(-1)


def rates(sizes: np.ndarray, power: float) -> np.ndarray:
    """The share of draws of each cell, of the number of records in each."""
    weights = np.asarray(sizes, np.float64) ** (1 - power)
    return weights / weights.sum()


def shuffled(place: int, count: int, seed: int) -> int:
    """Element `place` of a permutation of range(count); `seed` below 2^32 fixes it."""
    if count < SMALL:
        return int(_permutation(count, seed)[place])
    return index_shuffle(place, max_index=count - 1, seed=seed, rounds=4)


@functools.lru_cache(maxsize=256)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """Position in training -> record: a function of the seed alone, 4 bytes a record.

    A pass is n positions, n the number of records. In each a cell comes as often as
    its rate asks, rounded up or down (systematic resampling: Madow, 1949), over 64
    passes exactly but for 1/64 draw a pass. Within a cell all records come once, in a
    fresh order, before one comes again, across the ends of passes: after any number
    of passes their counts differ by 1 at most.

    `members[starts[c] : starts[c] + sizes[c]]` are the records of cell c. In pass p,
    with r = p % 64, it has the slots from `ends[r, c - 1]` to `ends[r, c]`;
    `before[r, c]` were drawn from it in the passes of this block of 64 before, and
    `before[64, c]` are in a whole block.
    """

    sizes: np.ndarray
    starts: np.ndarray
    rates: np.ndarray
    seed: int
    members: np.ndarray
    ends: np.ndarray
    before: np.ndarray

    @classmethod
    def make(cls, cell: np.ndarray, power: float, seed: int) -> "Draws":
        """`cell` int [n] as of `cells`; `power` in [0, 1]."""
        sizes = np.bincount(cell)
        assert sizes.all(), "a cell without records"
        share = rates(sizes, power)
        rng = np.random.default_rng(seed)
        offsets = (rng.permutation(BLOCK) + 0.5) / BLOCK
        edges = np.append(np.cumsum(share[:-1]), 1.0) * len(cell)
        ends = np.floor(edges + offsets[:, None]).astype(np.int64)
        counts = np.diff(ends, axis=1, prepend=0)
        return cls(
            sizes=sizes,
            starts=np.cumsum(sizes) - sizes,
            rates=share,
            seed=int(rng.integers(MODULUS)),
            members=np.argsort(cell, kind="stable").astype(np.uint32),
            ends=ends,
            before=np.cumsum(np.vstack([0 * counts[:1], counts]), axis=0),
        )

    def __len__(self) -> int:
        return len(self.members)

    def __call__(self, position: int) -> int:
        """The record at a position in training, 0 being the first."""
        epoch, place = divmod(int(position), len(self))
        slot = self._shuffle(place, len(self), epoch)
        blocks, row = divmod(epoch, BLOCK)
        cell = int(np.searchsorted(self.ends[row], slot, side="right"))
        first = int(self.ends[row, cell - 1]) if cell else 0
        drawn = blocks * int(self.before[-1, cell]) + int(self.before[row, cell])
        size = int(self.sizes[cell])
        turn, place = divmod(drawn + slot - first, size)
        place = self._shuffle(place, size, turn + (cell + 1) * GOLDEN)
        return int(self.members[int(self.starts[cell]) + place])

    def _shuffle(self, place: int, count: int, salt: int) -> int:
        return shuffled(place, count, (self.seed + salt) % MODULUS)

    def __str__(self) -> str:
        """What is drawn how often, for a log: no cell is named, none under 11 records
        is told from another."""
        large = self.sizes >= LEAST
        times = self.rates * len(self) / self.sizes
        text = f"{len(self.sizes)} cells"
        if large.any():
            most = times[large].max()
            text += (
                f"; in those of {LEAST} or more records, one comes up to {most:.2g} "
                "times a pass"
            )
        if not large.all():
            text += f"; {np.sum(~large)} have fewer records, which come more often"
        return text
