"""Rows to controls and back; the typical patient."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gradio")

import gradio as gr  # noqa: E402

from ddpm_jax.conditions.presets import PELVIS  # noqa: E402
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema  # noqa: E402
from ddpm_jax.demo import controls  # noqa: E402

OWN = Schema(
    (
        Categorical("device", tuple(f"type {i}" for i in range(12)), "device"),
        Continuous("pitch", "", -0.5, 0.5, 0.0, 0.1, "pitch"),
    )
)


def rows(schema):
    return st.fixed_dictionaries(
        {
            f.name: st.none() | st.sampled_from(f.values)
            if f.kind == "categorical"
            else st.none() | st.floats(f.low, f.high)
            for f in schema
        }
    )


@pytest.mark.parametrize("schema", [PELVIS, OWN], ids=["pelvis", "own"])
def test_controls_say_the_row_that_they_show(schema):
    @given(rows(schema))
    def law(row):
        assert controls.read(controls.show(row, schema), schema) == row

    law()


@given(st.integers())
def test_a_typical_patient_is_consistent(seed):
    row = controls.typical(PELVIS, random.Random(seed))
    assert None not in row.values() and row["sex"] != "other"
    for side, other in (("right", "left"), ("left", "right")):
        assert (row["side"] == side) == (row[f"prosthesis_{other}"] == "not in view")
    assert row == controls.typical(PELVIS, random.Random(seed))


@pytest.mark.parametrize("schema", [PELVIS, OWN], ids=["pelvis", "own"])
def test_every_field_has_its_control_with_not_known(schema):
    row = schema.parse({})
    with gr.Blocks(analytics_enabled=False):
        made = controls.make(schema, row)
    assert [c.value for c in made] == controls.show(row, schema)
    assert controls.read([c.value for c in made], schema) == row
    for field in schema:
        found = made.pop(0)
        if field.kind == "continuous":
            slider = made.pop(0)
            assert isinstance(found, gr.Checkbox)
            assert (slider.minimum, slider.maximum) == (field.low, field.high)
        else:
            listed = [value for _, value in found.choices]
            assert listed == [controls.NOT_KNOWN, *field.values]
            few = len(listed) <= controls.FEW
            assert isinstance(found, gr.Radio if few else gr.Dropdown)


def test_an_emptied_number_is_refused():
    values = controls.show({"age": 60}, PELVIS)
    values[values.index(60)] = None
    with pytest.raises(ValueError, match="age: expected a number, or no tick"):
        controls.read(values, PELVIS)


@pytest.mark.parametrize("low, high", [(0, 120), (10, 80), (0, 1), (-5, 1e6), (0, 50)])
def test_steps_of_a_slider(low, high):
    step = controls.step(Continuous("x", "", low, high, 0, 1, "x"))
    assert 50 <= (high - low) / step * (1 + 1e-9) and (high - low) / step <= 501
