"""What a request may ask for, and the line that refuses the rest."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.demo import asking
from ddpm_jax.demo.asking import Limits

LIMIT = Limits(count=4, steps=(8, 16), guidance=20.0)


def setting(guidance=2.5, steps=16, **row):
    return asking.read_setting(row, guidance, steps, schema=PELVIS, limit=LIMIT)


def test_a_setting_is_a_full_row():
    made = setting(view="ap", age="67")
    assert made.row == PELVIS.parse({"view": "AP", "age": 67})
    assert (made.guidance, made.steps) == (2.5, 16)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_seeds_follow_each_other(seed, count):
    seeds = asking.read_seeds(seed, count, LIMIT)
    assert seeds == [(seed + i) % 2**32 for i in range(count)]


junk = st.one_of(st.none(), st.text(), st.booleans(), st.floats(), st.lists(st.none()))


@given(junk, junk)
def test_whatever_comes_is_read_or_refused_in_one_line(one, other):
    for read in (
        lambda: asking.read_seeds(one, other, LIMIT),
        lambda: setting(one, other),
        lambda: setting(view=one, age=other),
    ):
        try:
            read()
        except ValueError as error:
            assert "expected" in str(error)


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", -1, 20.5, None, "", True])
def test_guidance_out_of_range(value):
    with pytest.raises(ValueError, match="guidance = .*: expected a number"):
        setting(guidance=value)


@pytest.mark.parametrize("value", [0, 17, 8.5, 10**9, "many", None])
def test_steps_that_the_sampler_lacks(value):
    with pytest.raises(ValueError, match="steps = .*: expected"):
        setting(steps=value)


@pytest.mark.parametrize("value", [0, 5, 1.5, 10**9, "all", None])
def test_count_out_of_range(value):
    with pytest.raises(ValueError, match="count = .*: expected"):
        asking.read_seeds(0, value, LIMIT)


@pytest.mark.parametrize("value", [-1, 2**32, 0.5, "abc", None, math.nan])
def test_seed_that_is_none(value):
    with pytest.raises(ValueError, match="seed = .*: expected"):
        asking.read_seeds(value, 1, LIMIT)


def test_long_prompt_is_refused_before_it_is_read():
    with pytest.raises(ValueError, match="prompt of 301 characters: expected 300"):
        asking.read_prompt("x" * 301, PELVIS)


def test_caption_marks_what_differs():
    one, other = PELVIS.parse({"view": "AP", "sex": "F"}), PELVIS.parse({"view": "AP"})
    said = {p["text"]: p["differs"] for p in asking.caption(one, other, PELVIS)}
    assert said == {"AP": False, "sex: F": True} or said == {"AP": False, "F": True}
    back = asking.caption(other, one, PELVIS)
    assert [p["text"] for p in back if p["differs"]] == ["sex not known"]
