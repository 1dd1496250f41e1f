"""A mirrored radiograph is asked for by mirrored words."""

import itertools

import numpy as np
import pytest

from ddpm_jax.conditions import own
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema
from ddpm_jax.data import augment

DECLARED = (
    {"kind": "binary_per_side", "name": "osteophytes"},
    {"kind": "categorical", "name": "grade_right_hip", "values": (0, 1, 2)},
    {"kind": "categorical", "name": "grade_left_hip", "values": (0, 1, 2)},
    {"kind": "categorical", "name": "marker", "values": ("Left lead", "Right lead")},
    {"kind": "categorical", "name": "bright", "values": ("upright", "cleft")},
    {"kind": "continuous", "name": "gap_left", "unit": "mm"}
    | dict(low=0, high=9, mean=4, std=1),
    {"kind": "continuous", "name": "gap_right", "unit": "mm"}
    | dict(low=0, high=9, mean=4, std=1),
)
SCHEMA = own.extend(PELVIS, DECLARED, "test")
IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)


def rows():
    """Each value of each field beside random values of the others."""
    rng = np.random.default_rng(0)
    choices = {
        field.name: [None, *getattr(field, "values", (3.5, 8.0))] for field in SCHEMA
    }
    choices["age"], choices["bmi"] = [None, 60.0, 31.5], [None, 30.9, 22.0]
    for name, values in choices.items():
        for value in values:
            drawn = {n: v[rng.integers(len(v))] for n, v in choices.items()}
            yield drawn | {name: value}


def by_hand(row):
    """The mirrored row, as one would say it."""
    words = {"right": "left", "left": "right"}
    words |= {"Left lead": "Right lead", "Right lead": "Left lead"}
    pairs = [
        ("prosthesis_right", "prosthesis_left"),
        ("osteophytes_right", "osteophytes_left"),
        ("grade_right_hip", "grade_left_hip"),
        ("gap_right", "gap_left"),
    ]
    swapped = {a: b for pair in pairs for a, b in itertools.permutations(pair)}
    moved = {name: row[swapped.get(name, name)] for name in row}
    return {n: words.get(v, v) if n != "bright" else v for n, v in moved.items()}


def test_mirrored_rows_are_those_said_by_hand():
    said = list(rows())
    image, cond = augment.mirror(SCHEMA, IMAGE, SCHEMA.encode(said))
    assert SCHEMA.decode(cond) == [by_hand(row) for row in said]
    assert {n: v.dtype for n, v in cond.items()} == {f.name: f.dtype for f in SCHEMA}
    np.testing.assert_array_equal(image[:, 0], IMAGE[:, -1])


def test_mirrored_twice_is_as_before():
    cond = SCHEMA.encode(list(rows()))
    image, again = augment.mirror(SCHEMA, *augment.mirror(SCHEMA, IMAGE, cond))
    np.testing.assert_array_equal(image, IMAGE)
    for name in SCHEMA.names:
        np.testing.assert_array_equal(again[name], cond[name])


def test_not_known_stays_not_known():
    _, cond = augment.mirror(SCHEMA, IMAGE, SCHEMA.unknown(1))
    assert set(SCHEMA.decode(cond)[0].values()) == {None}


def test_mirror_says_what_it_exchanges():
    words = str(augment.Mirror.of(PELVIS))
    assert words == "prosthesis_right and prosthesis_left, the sides of side"
    assert str(augment.Mirror.of(PELVIS.select(["age"]))) == "no condition"


GAP = Continuous("gap_left", "mm", 0, 9, 4, 1, "gap")


@pytest.mark.parametrize(
    "schema, said",
    [
        (
            PELVIS.select(["prosthesis_right"]),
            "prosthesis_right without prosthesis_left",
        ),
        (
            Schema((Categorical("side", ("right", "both"), "side"),)),
            "'right' without 'left'",
        ),
        (Schema((GAP, Categorical("gap_right", ("no",), "gap"))), "different values"),
        (
            Schema(tuple(Categorical(f"a_{s}", (s[0],), s) for s in ("right", "left"))),
            "different values",
        ),
    ],
)
def test_what_cannot_be_mirrored_is_refused(schema, said):
    with pytest.raises(ValueError, match=said):
        augment.Mirror.of(schema)
