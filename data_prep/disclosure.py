"""Which counts of conditions a report may show.

What is hidden, and what that is worth. Codes and technical flags count files and are
exact. Counts of conditions are published so that a count of 1 to 10 images is never
shown and cannot be worked out from the other figures of the report:

- A value of a field with 1 to 10 images, or "not known" with as few, is counted
  together with other values, and the bins of a number are joined, as in
  `ddpm_jax.conditions.small_cells`. For one of k values counted together as S, every
  count from 1 to S - k + 1 >= 11 is possible.
- In a table of several fields, a cell e of 1 to 10 is hidden together with others
  (`protect`). Let two records of the cells e and b exchange what they have in some of
  the fields, and they are in the cells a and c. All four are hidden, and the exchange,
  forth and back, keeps every sum over a field, hence every other figure. At least
  SPREAD + 1 values of e remain possible. A table without such cells is not shown.
- In a table of labels against headers, small cells of a row are hidden with others
  of that row as the values of a field are, and there are no sums of columns.
- Two tables share one field at most and no ring of tables is closed, so that tables
  which agree in their sums can be changed one by one.

Not covered: conclusions from running this program backwards, from how a hidden count
is distributed, from a second report of nearly the same images, or from knowing some
of the images oneself; the totals of conflicts, which are given to 20 and narrow the
tables of labels against headers, as do tables made of other images than the report's.
Images, not patients, are counted: 11 images may be those of one patient.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from data_prep.report_figures import number
from ddpm_jax.conditions.small_cells import (
    LEAST,
    NOT_KNOWN,
    Axis,
    Key,
    bin_name,
    bin_step,
    group,
)

SPREAD = 5
NOT_COMPARED = "not compared"


def protect(counts: Mapping[tuple, int]) -> set[tuple] | None:
    """The cells of a table to hide; None where it cannot be shown at all.

    For each cell e of 1 to 10, smallest first, the cells of one exchange
    e + b <-> a + c, which moves e by -min(e, b) .. min(a, c), or of several that have
    only e in common, until SPREAD is spanned: if one exchange is enough the one that
    hides the fewest further images, else the widest first.
    """
    filled = sorted((n, cell) for cell, n in counts.items() if n)
    small = [(n, cell) for n, cell in filled if n < LEAST]
    if len(small) * len(filled) ** 2 > 20_000_000:
        return None
    hidden: set[tuple] = set()
    for n, e in small:
        options = list(_exchanges(e, [cell for _, cell in filled]))
        spread, down, used = 0, 0, {e}
        while spread < SPREAD:
            ranked = []
            for a, b, c in options:
                if used & {a, b, c}:
                    continue
                falls = min(n - down, counts.get(b, 0))
                gain = min(SPREAD - spread, min(counts[a], counts[c]) + falls)
                cost = sum(counts.get(x, 0) or 3 for x in {a, b, c} - hidden)
                ranked.append((-gain, cost, falls, (a, b, c)))
            if not ranked:
                return None
            gain, _, falls, cells = min(ranked)
            spread, down, used = spread - gain, down + falls, used | set(cells)
        hidden |= used
    return hidden


def _exchanges(e: tuple, cells: Sequence[tuple]) -> Iterable[tuple[tuple, ...]]:
    """All (a, b, c) with records of e and b becoming records of a and c: a and c differ
    from e in different fields, and b in all of these."""
    differ = [(c, {i for i in range(len(e)) if c[i] != e[i]}) for c in cells if c != e]
    for (a, in_a), (c, in_c) in itertools.combinations(differ, 2):
        if not in_a & in_c:
            b = tuple(a[i] if i in in_a else c[i] for i in range(len(e)))
            yield a, b, c


def widen(axis: Axis) -> Axis:
    """The axis of a number with bins of the same two steps joined: ages by decade."""
    wide = 2 * bin_step(axis.field) if axis.bins else 1
    runs: list[list] = []
    for low, high, count in axis.bins:
        if runs and runs[-1][1] > math.floor(low / wide + 1e-9) * wide:
            runs[-1][1:] = high, runs[-1][2] + count
        else:
            runs.append([low, high, count])
    names = {}
    for low, high, _ in axis.bins:
        run = next(r for r in runs if r[0] <= low < r[1])
        names[(bin_name(low, high),)] = (bin_name(*run[:2]),)
    counts: Counter = Counter()
    for key, count in axis.counts.items():
        counts[names.get(key, key)] += count
    keys = tuple(names.get(key, key) for key in axis.keys)
    return Axis(axis.field, keys, dict(counts), tuple(map(tuple, runs)))


def confusion_table(
    counts: Mapping[tuple, int], axis: Axis | None
) -> dict[Key, dict[Key, int | None]]:
    """Label to header to count, in the keys of the field; None is hidden.

    Where all are images of the report, "not compared" makes each row sum to what the
    field's own counts say. In a row, small cells are hidden as in `group`; columns
    have no sums.
    """
    own = {value: key for key in axis.counts for value in key} if axis else {}
    cells: dict[Key, Counter] = {}
    for pair, count in counts.items():
        names = [NOT_KNOWN if v is None else str(v) for v in pair]
        label, header = (own.get(name, (name,)) for name in names)
        cells.setdefault(label, Counter())[header] += count
    sums = {label: row.total() for label, row in cells.items()}
    if axis and all(n <= axis.counts.get(label, 0) for label, n in sums.items()):
        for label, count in axis.counts.items():
            rest = count - sums.get(label, 0)
            cells.setdefault(label, Counter())[(NOT_COMPARED,)] += rest
    columns = sorted({h: None for row in cells.values() for h in row if row[h]})
    table = {}
    for label, row in cells.items():
        keys = group({header: row[header] for header in columns})
        table[label] = {h: row[h] if len(keys[h]) == 1 else None for h in columns}
    return table


def about(count: int) -> str:
    """A count to the nearest 20; 0 is 0."""
    if not count:
        return "0"
    return "under 30" if count < 30 else f"about {number(20 * round(count / 20))}"
