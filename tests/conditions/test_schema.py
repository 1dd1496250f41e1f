"""Laws of the schema: what is encoded comes back, and "not known" stays so."""

import functools
import importlib.util
import json
import math
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddpm_jax.conditions
from ddpm_jax.conditions.presets import PELVIS, PRESETS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema

quick = settings(max_examples=40, deadline=None)


NUMBERS = functools.partial(st.floats, width=32, allow_subnormal=False)
"""What float32 holds to the six digits that `decode` gives back."""


def six_digits(number):
    return float(f"{number:.6g}")


def values(field):
    """Canonical values of `field`, "not known" among them."""
    if isinstance(field, Categorical):
        return st.sampled_from((None, *field.values))
    return st.none() | NUMBERS(field.low, field.high).map(six_digits)


def rows(schema):
    return st.fixed_dictionaries({field.name: values(field) for field in schema})


words = st.text("abcdefgh ", min_size=1, max_size=6).map(str.strip).filter(bool)
names = st.text("abcdefgh", min_size=1, max_size=6)


@st.composite
def entries(draw):
    """A field in JSON."""
    entry = {"name": draw(names), "title": draw(words)}
    if draw(st.booleans()):
        spelt = draw(st.lists(words, min_size=1, max_size=5, unique=True))
        return entry | {"kind": "categorical", "values": spelt}
    low, width = draw(st.integers(-999, 999)), draw(st.integers(1, 999))
    scale = {"low": low, "high": low + width, "mean": low, "std": width}
    return entry | {"kind": "continuous", "unit": draw(words)} | scale


schemas = st.lists(entries(), max_size=4, unique_by=lambda entry: entry["name"])


@quick
@given(st.lists(rows(PELVIS), max_size=5))
def test_decode_inverts_encode(some):
    assert PELVIS.decode(PELVIS.encode(some)) == some


@quick
@given(schemas, st.data())
def test_decode_inverts_encode_for_any_schema(entries, data):
    schema = Schema.from_json(entries)
    some = data.draw(st.lists(rows(schema), max_size=4))
    decoded = schema.decode(schema.encode(some))
    assert decoded == (some if schema.names else [])


@quick
@given(rows(PELVIS))
def test_parse_is_idempotent_and_forgives_case_and_space(row):
    shouted = {name: v and f"  {v} ".upper() for name, v in row.items()}
    assert PELVIS.parse(row) == row == PELVIS.parse(shouted)


@quick
@given(schemas)
def test_unknown_is_a_fixed_point(entries):
    schema = Schema.from_json(entries)
    conditions = schema.unknown(3)
    again = schema.encode(schema.decode(conditions) or [{}] * 3)
    assert set(again) == set(conditions)
    for name, known in conditions.items():
        np.testing.assert_array_equal(again[name], known, strict=True)


@pytest.mark.parametrize("spelling", (None, "", " ", "unknown", "Not known"))
def test_every_spelling_of_not_known_is_the_absent_field(spelling):
    row = dict.fromkeys(PELVIS.names, spelling)
    assert PELVIS.parse(row) == PELVIS.parse({}) == dict.fromkeys(PELVIS.names)
    assert PELVIS["age"].parse(math.nan) is None


def test_conditions_are_int32_codes_and_float32_numbers():
    conditions = PELVIS.encode([{"view": "ap", "age": "67"}, {"view": "oblique"}])
    assert conditions["view"].dtype == np.int32
    assert conditions["view"].tolist() == [1, 3]
    assert conditions["age"].dtype == np.float32
    assert conditions["age"][0] == 67 and np.isnan(conditions["age"][1])
    assert {array.shape for array in conditions.values()} == {(2,)}


@given(st.permutations(PELVIS.names), st.integers(0, 7))
@quick
def test_select_keeps_the_order_of_the_schema(names, count):
    chosen = PELVIS.select(names[:count])
    assert chosen.names == tuple(n for n in PELVIS.names if n in names[:count])
    assert all(chosen[name] is PELVIS[name] for name in chosen.names)


@quick
@given(schemas)
def test_json_round_trip(entries):
    schema = Schema.from_json(entries)
    assert schema.names == tuple(entry["name"] for entry in entries)
    assert Schema.from_json(schema.to_json()) == schema
    assert Schema.from_json(json.loads(str(schema))) == schema


def test_caption_says_what_is_known():
    row = {"view": "ap", "prosthesis_left": "yes", "sex": "other", "bmi": 31}
    caption = PELVIS.caption(row)
    assert caption == "AP, left prosthesis: yes, sex: other, BMI 31 kg/m²"
    assert PELVIS.caption({}) == "nothing stated"
    grade = Categorical("kl", ("0", "1", "2"), "KL grade")
    assert Schema((grade,)).caption({"kl": "2"}) == "KL grade: 2"


def refusals():
    entry = PELVIS["age"].__dict__ | {"kind": "continuous"}
    number = {"unit": "", "mean": 0, "std": 1, "title": "x"}
    return (
        (lambda: PELVIS.parse({"view": "axial"}), "view = 'axial': .* AP, lateral"),
        (lambda: PELVIS.parse({"age": 121}), "age = 121: .* from 0 to 120 years"),
        (lambda: PELVIS.parse({"age": "old"}), "age = 'old': expected a number"),
        (lambda: PELVIS.parse({"colour": "red"}), "'colour' is not in the schema: .*"),
        (lambda: PELVIS.select(["height"]), "'height' .* expected one of view, side"),
        (lambda: Schema.from_json([{"kind": "set"}]), "kind = 'set': .* categorical"),
        (lambda: Schema.from_json([entry | {"step": 1}]), "'age' has .*step: expected"),
        (lambda: Schema.from_json([{"kind": "categorical"}]), "expected kind, name"),
        (lambda: Schema((PELVIS["age"], PELVIS["age"])), "age, age: .* each name once"),
        (lambda: Categorical("x", (), "x"), r"x: values = \(\): expected one or more"),
        (lambda: Categorical("x", ("a", "A"), "x"), "x: values = .* different spell"),
        (lambda: Categorical("x", ("a", "unknown"), "x"), "x: .* none of .*'unknown'"),
        (lambda: Categorical("x", ("a ",), "x"), "x: values = .* expected strings"),
        (lambda: Continuous("x", low=1, high=1, **number), "x: .* low < high"),
        (lambda: Continuous("x", low=1, high=math.inf, **number), "x: .* finite"),
        (lambda: Continuous("x", low=0, high=1, **number | {"std": 0}), "x: std = 0"),
    )


@pytest.mark.parametrize("refused, message", refusals())
def test_refusals_say_where_what_and_what_is_allowed(refused, message):
    with pytest.raises(ValueError, match=message) as caught:
        refused()
    assert "\n" not in str(caught.value)


def test_presets_are_selfconsistent():
    for schema in PRESETS.values():
        assert Schema.from_json(schema.to_json()) == schema
        for field in schema:
            assert field.name.isidentifier() and field.title
            if isinstance(field, Continuous):
                assert field.low < field.mean < field.high
    assert PRESETS["pelvis"] is PELVIS and len(PELVIS.names) == 7


def test_conditions_import_neither_jax_nor_tensorflow():
    found = pkgutil.iter_modules(ddpm_jax.conditions.__path__, "ddpm_jax.conditions.")
    modules = [module.name for module in found]
    assert all(map(importlib.util.find_spec, modules)) and len(modules) >= 4
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print({'jax', 'flax', 'tensorflow', 'optax', 'grain'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr
