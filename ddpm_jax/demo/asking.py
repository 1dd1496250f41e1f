"""What one request may ask for, and how it is refused."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ddpm_jax.conditions.numeric import MOST_SEED
from ddpm_jax.conditions.prompt import Prompt, parse_prompt
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.sampler import Sampler

LONGEST_PROMPT = 300
MOST_GUIDANCE = 20.0


class Limits(NamedTuple):
    """Of one request: images per setting, allowed step counts, guidance from 0."""

    count: int
    steps: tuple[int, ...]
    guidance: float = MOST_GUIDANCE


class Setting(NamedTuple):
    """A full row of conditions and how it is sampled."""

    row: dict
    guidance: float
    steps: int
    prompt: str = ""


def limits(sampler: Sampler, count: int) -> Limits:
    return Limits(count, sampler.step_counts or (sampler.steps,))


def read_prompt(text: str, schema: Schema) -> Prompt:
    """`parse_prompt` of a text that is not too long to be read quickly."""
    if len(text) > LONGEST_PROMPT:
        raise ValueError(
            f"prompt of {len(text)} characters: expected {LONGEST_PROMPT} at most."
        )
    return parse_prompt(text, schema)


def read_setting(
    conditions: Mapping, guidance, steps, *, schema: Schema, limit: Limits, prompt=""
) -> Setting:
    """ValueError, in one line, where a value is not one that may be asked for."""
    if not isinstance(conditions, Mapping):
        raise ValueError("conditions: expected a mapping from field to value.")
    row = schema.parse(conditions)
    weight = _number("guidance", guidance)
    if not 0 <= weight <= limit.guidance:
        raise ValueError(
            f"guidance = {guidance}: expected a number from 0 to {limit.guidance:g}."
        )
    number = _number("steps", steps)
    if number not in limit.steps:
        allowed = ", ".join(map(str, limit.steps))
        raise ValueError(f"steps = {_shown(steps)}: expected one of {allowed}.")
    return Setting(row, weight, int(number), prompt)


def read_seeds(seed, count, limit: Limits) -> list[int]:
    """`count` of them: `seed` and those after it, 0 again after 2^32 - 1."""
    first, number = _number("seed", seed), _number("count", count)
    if not (first.is_integer() and 0 <= first <= MOST_SEED):
        raise ValueError(
            f"seed = {_shown(seed)}: expected a whole number from 0 to {MOST_SEED}."
        )
    if not (number.is_integer() and 1 <= number <= limit.count):
        raise ValueError(
            f"count = {_shown(count)}: expected a whole number from 1 to {limit.count}."
        )
    return [(int(first) + i) % (MOST_SEED + 1) for i in range(int(number))]


def caption(row: Mapping, other: Mapping | None, schema: Schema) -> list[dict]:
    """What is known of `row`, part by part, and whether it differs from `other`."""
    parts = []
    for field in schema:
        value = row[field.name]
        differs = other is not None and other[field.name] != value
        if value is not None or differs:
            parts.append({"text": field.caption(value), "differs": differs})
    return parts or [{"text": "nothing stated", "differs": False}]


def _number(name: str, value) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} = {_shown(value)}: expected a number.")
    return number


def _shown(value: object) -> str:
    text = "nothing" if value is None or value == "" else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
