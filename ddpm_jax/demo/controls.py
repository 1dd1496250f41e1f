"""A schema as controls of the page, and rows as their values."""

import math
import random
from collections.abc import Mapping, Sequence

import gradio as gr

from ddpm_jax.conditions.schema import Categorical, Continuous, Field, Schema

NOT_KNOWN = "not known"
FEW = 6
"""Values that are shown side by side; more of them make a list."""

OPPOSITE = {"right": "_left", "left": "_right"}


def make(schema: Schema, row: Mapping) -> list[gr.components.Component]:
    """The controls of one setting, shown where this is called; `read` and `show` take
    their values in this order."""
    made = []
    for field in schema:
        make_one = _choice if isinstance(field, Categorical) else _number
        made += make_one(field, show_field(field, row[field.name]))
    return made


def _choice(field: Categorical, values: Sequence) -> list:
    choices = [NOT_KNOWN, *field.values]
    kind = gr.Radio if len(choices) <= FEW else gr.Dropdown
    name = f"field-{field.name}"
    return [
        kind(choices, value=values[0], label=field.title, elem_classes=["field", name])
    ]


def _number(field: Continuous, values: Sequence) -> list:
    unit = f" ({field.unit})" if field.unit else ""
    with gr.Group(elem_classes=["number", f"field-{field.name}"]):
        known = gr.Checkbox(
            values[0], label=f"{field.title}{unit}", elem_classes=["known"]
        )
        slider = gr.Slider(
            field.low,
            field.high,
            value=values[1],
            step=step(field),
            label=f"{field.title}{unit}",
            show_label=False,
            buttons=[],
            elem_classes=["amount"],
        )
    slider.input(fn=None, js="() => true", outputs=known, api_visibility="private")
    return [known, slider]


def step(field: Continuous) -> float:
    """A power of ten that cuts the range into 50 to 500 parts."""
    return 10.0 ** math.floor(math.log10((field.high - field.low) / 50))


def read(values: Sequence, schema: Schema) -> dict:
    """The row that the controls say; ValueError for values that they cannot have."""
    left, row = list(values), {}
    for field in schema:
        if isinstance(field, Categorical):
            row[field.name] = left.pop(0)
        else:
            known, number = left.pop(0), left.pop(0)
            row[field.name] = _stated(field, number) if known else None
    return schema.parse(row)


def _stated(field: Field, number):
    """A number box that was emptied is no statement of "not known"."""
    if number is None or number == "":
        raise ValueError(
            f"{field.name}: expected a number, or no tick at {field.title}."
        )
    return number


def show(row: Mapping, schema: Schema) -> list:
    """The values of the controls that say `row`; `read` undoes it."""
    full = schema.parse(row)
    return [value for f in schema for value in show_field(f, full[f.name])]


def show_field(field: Field, value) -> list:
    if isinstance(field, Categorical):
        return [NOT_KNOWN if value is None else value]
    return [value is not None, field.mean if value is None else value]


def typical(schema: Schema, rng: random.Random) -> dict:
    """A patient without rare findings: numbers as the schema's mean and std have them,
    a value for every choice, and nothing on a side that is not in view."""
    row = {}
    for field in schema:
        if isinstance(field, Continuous):
            drawn = rng.gauss(field.mean, field.std)
            drawn = step(field) * round(drawn / step(field))
            row[field.name] = min(max(drawn, field.low), field.high)
        else:
            row[field.name] = _usual(field, rng)
    hidden = OPPOSITE.get(row.get("side"), "")
    for field in schema:
        if hidden and field.name.endswith(hidden):
            if "not in view" in getattr(field, "values", ()):
                row[field.name] = "not in view"
    return schema.parse(row)


def _usual(field: Categorical, rng: random.Random) -> str:
    usual = [value for value in field.values if value not in ("other", "not in view")]
    if "no" in usual and rng.random() < 0.5:
        return "no"
    return rng.choice(usual or field.values)
