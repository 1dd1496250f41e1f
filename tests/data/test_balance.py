"""Cells come as often as asked, their records evenly, in an order fixed by the seed."""

import numpy as np
import pytest

from ddpm_jax.data import balance

CELL = np.repeat([0, 1, 2, 3], [1, 5, 13, 81])[
    np.random.default_rng(0).permutation(100)
]


def passes(draws, count):
    """int [count, n]: the records of each pass."""
    order = [draws(i) for i in range(count * len(draws))]
    return np.reshape(order, (count, -1))


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_cells_come_as_often_as_asked(power):
    draws = balance.Draws.make(CELL, power, seed=3)
    sizes = np.bincount(CELL)
    asked = 100 * sizes ** (1 - power) / np.sum(sizes ** (1 - power))
    counts = np.array([np.bincount(CELL[p], minlength=4) for p in passes(draws, 64)])
    assert (np.abs(counts - asked) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), asked, atol=1 / 32)


def test_power_0_is_every_record_once_a_pass_and_1_all_cells_alike():
    for order in passes(balance.Draws.make(CELL, 0.0, 5), 3):
        assert sorted(order) == list(range(100))
    for order in passes(balance.Draws.make(CELL, 1.0, 5), 3):
        assert np.bincount(CELL[order]).tolist() == [25] * 4


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_records_of_a_cell_come_evenly(power):
    """After each number of passes, so also over the ends of the blocks of 64."""
    seen = np.zeros(100, int)
    for order in passes(balance.Draws.make(CELL, power, 1), 70):
        seen += np.bincount(order, minlength=100)
        for cell in range(4):
            assert np.ptp(seen[CELL == cell]) <= 1


def test_orders_depend_on_seed_and_pass_alone():
    orders = [passes(balance.Draws.make(CELL, 1.0, seed), 2) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any() and (orders[0][0] != orders[0][1]).any()
    mixed = CELL[orders[0][0]]
    assert len(set(mixed[:20])) == 4 and (np.diff(mixed) != 0).sum() > 50


def test_cells_are_what_occurs_not_known_with_the_rest():
    codes = {"a": np.array([0, 1, 0, 2, 1]), "b": np.array([3, 0, 3, 0, 1])}
    cell = balance.cells(codes)
    joint = list(zip(codes["a"], codes["b"], strict=True))
    assert len(set(cell)) == len(set(joint)) == 4
    assert cell.max() == 3 and len(set(zip(cell, joint, strict=True))) == 4


def test_words_tell_no_small_count():
    """They are the same whether the two small cells hold 1 and 9 or 5 and 5."""
    words = {
        str(balance.Draws.make(np.repeat([0, 1, 2], sizes), 1.0, 0))
        for sizes in ([1, 9, 90], [5, 5, 90])
    }
    assert words == {
        "3 cells; in those of 11 or more records, one comes up to 0.37 times a pass; 2 "
        "have fewer records, which come more often"
    }
