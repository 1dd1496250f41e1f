"""Sizes of cells: told in bands, filled up evenly, never given away when small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_jax.conditions import cells as counting
from ddpm_jax.conditions.cells import SPREAD, Cells, fill
from ddpm_jax.conditions.comparison import compare, table
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.conditions.small_cells import LEAST

SIZES = st.lists(
    st.sampled_from([0, 1, 2, 5, 10, 11, 12, 30, 49, 50, 51, 99, 100, 200, 1000]),
    min_size=1,
    max_size=9,
)


def make(sizes) -> Cells:
    """Cells of view and side of these sizes, each image of another patient."""
    view, side = (len(PELVIS[name].values) for name in ("view", "side"))
    pairs = [(v + 1, s + 1) for v in range(view) for s in range(side)]
    codes = np.repeat(pairs[: len(sizes)], sizes, axis=0)
    codes = np.concatenate([codes, [(1, 0)] * 3])  # not known in full: in no cell
    conditions = PELVIS.unknown(len(codes))
    conditions |= {"view": codes[:, 0], "side": codes[:, 1]}
    return Cells.count(PELVIS, conditions, np.arange(len(codes)), ["side", "view"])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 300))
def test_what_is_filled_up_differs_by_one_and_nothing_below_is_left(sizes, count):
    added = fill(sizes, count)
    sums = added + sizes
    assert added.sum() == count and (added >= 0).all()
    filled = sums[added > 0]
    assert filled.max() - filled.min() <= 1 and sums.min() >= filled.max() - 1
    even = fill([0] * len(sizes), count)
    assert even.sum() == count and even.max() - even.min() <= 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_without_a_number_all_become_as_large_as_the_largest(sizes):
    assert set(fill(sizes) + sizes) == {max(sizes)}


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(LEAST, 120))
def test_no_small_cell_can_be_worked_out_of_bands_and_their_sum(sizes, enough):
    """Every way to fill the bands is counted: a small cell can be SPREAD sizes."""
    cells = make(sizes)
    bands = cells.bands(enough)
    if bands is None:
        assert ((cells.images > 0) & (cells.images < LEAST)).any()
        return
    for band, size in zip(bands, cells.images, strict=True):
        assert band[0] <= size <= band[1]
        assert (band == (0, 0)) == (size == 0)
        assert (band == (1, LEAST - 1)) == (0 < size < LEAST)
    check_spread(bands, int(cells.images.sum()))


def check_spread(bands, total):
    for i, band in enumerate(bands):
        if band != (1, LEAST - 1):
            continue
        low = sum(b[0] for j, b in enumerate(bands) if j != i)
        high = sum(b[1] for j, b in enumerate(bands) if j != i)
        assert sum(low <= total - n <= high for n in range(1, LEAST)) >= SPREAD


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_rows_that_fill_up_give_no_small_cell_away(sizes):
    cells = make(sizes)
    try:
        rows = cells.quotas(np.ones(len(cells), bool), None, True)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    small = (cells.images > 0) & (cells.images < LEAST)
    assert not rows[cells.patients < LEAST].any()
    sums = (rows + cells.images)[cells.patients >= LEAST]
    if not small.any():
        assert sums.max() - sums.min() == 0
        return
    assert sums.max() - sums.min() <= 9  # real images count to the nearest 10
    bands = counting.rounded(cells.images)[1]
    check_spread(bands, int(cells.images.sum()))
    for (low, high), n in zip(bands, cells.images, strict=True):
        assert low <= n <= high


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 500))
def test_balanced_cells_are_equal_to_one(sizes, count):
    cells = make(sizes)
    can = cells.patients >= LEAST
    if not can.any():
        with pytest.raises(
            ValueError, match="no combination of values has 11 patients"
        ):
            cells.quotas(np.ones(len(cells), bool), count, False)
        return
    rows = cells.quotas(np.ones(len(cells), bool), count, False)
    assert rows.sum() == count and not rows[~can].any()
    assert rows[can].max() - rows[can].min() <= 1


def test_cells_that_do_not_occur_are_listed_as_none():
    cells = make([20, 0, 60])
    assert cells.names == ("view", "side")
    words = {
        tuple(cells.values(i).values()): v for i, v in enumerate(cells.verdicts(50))
    }
    assert words == {("AP", "right"): "few", ("AP", "both"): "enough"}
    cells = make([20, 0, 0, 0, 60])
    words = {
        tuple(cells.values(i).values()): v for i, v in enumerate(cells.verdicts(50))
    }
    assert words[("AP", "left")] == words[("lateral", "right")] == "none"


def test_a_comparison_tells_no_small_count():
    schema = Schema((PELVIS["view"], PELVIS["sex"], PELVIS["age"], PELVIS["bmi"]))
    view = ["AP"] * 60 + ["lateral"] * 30 + ["oblique"] * 4 + [None] * 6
    real = {
        "view": view,
        "sex": ["F"] * 50 + ["M"] * 50,
        "age": [float(20 + i % 60) for i in range(100)],
        "bmi": [30.0] * 5 + [None] * 95,
    }
    drawn = {name: column[:80] for name, column in real.items()}
    found = {one.field.name: one for one in compare(schema, real, drawn)}
    names = [line[0] for line in found["view"].lines]
    assert names == ["AP", "lateral or oblique"]
    assert found["view"].unknown[0] is None and found["bmi"].unknown[0] is None
    assert found["sex"].lines == (("F", 0.5, 50 / 80), ("M", 0.5, 30 / 80))
    assert found["bmi"].lines == ()
    for low, high in found["age"].edges:
        assert sum(low <= age < high for age in real["age"]) >= LEAST
    text = table(list(found.values()), ("real", "cohort"))
    assert "oblique " not in text.replace("or oblique", "")
    assert "known in under 11" in text and "under 11 images" in text
