"""sampler.json and its tables, weights and programs: whether each is what it can be.

docs/exported_sampler.md says what the files hold. Every fault is a ValueError, in one
line that names file, key and what is expected.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.export import Exported as Program

from ddpm_jax.conditions.numeric import finite, shown, whole
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reverse import Parts

STATED = (
    *("schema", "height", "width", "guidance", "steps", "guided", "shares"),
    "model_sha256",
)
LARGEST = 2**16
"""Pixels of a side, and steps."""


def check(where: Path | str, description: Mapping) -> Schema:
    """The schema of a description whose values are what they can be."""
    missing = sorted(set(STATED) - description.keys())
    if missing:
        raise ValueError(f"{where}: states no {', '.join(missing)}.")
    try:
        schema = Schema.from_json(description["schema"])
        height = whole("height", description["height"], 1, LARGEST)
        if whole("width", description["width"], 1, LARGEST) != height:
            raise ValueError(
                f"width = {description['width']}: expected {height}, as height."
            )
        finite("guidance", description["guidance"])
        _check_steps(description)
        _check_shares(description["shares"], schema)
        model = description["model_sha256"]
        if not isinstance(model, str) or not re.fullmatch("[0-9a-f]{64}", model):
            raise ValueError(f"model_sha256 = {shown(model)}: expected 64 hex digits.")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return schema


def _check_steps(description: Mapping) -> None:
    guided = description["guided"]
    if not isinstance(guided, Mapping) or not guided:
        raise ValueError(
            f"guided = {shown(guided)}: expected {{steps: [first, stop)}}."
        )
    for count, bounds in guided.items():
        if not re.fullmatch("[1-9][0-9]{0,4}", count) or int(count) > LARGEST:
            raise ValueError(
                f"guided of {shown(count)}: expected a number of steps, 1 to {LARGEST}."
            )
        try:
            first, stop = [
                whole("row", bound, most=int(count)) for bound in list(bounds)
            ]
            fits = first <= stop and isinstance(bounds, list | tuple)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f"guided of {count} = {shown(bounds)}: expected [first, stop) among "
                f"{count} rows."
            )
    steps = whole("steps", description["steps"], 1, LARGEST)
    if str(steps) not in guided:
        raise ValueError(f"steps = {steps}: expected one of {', '.join(guided)}.")


def _check_shares(shares: object, schema: Schema) -> None:
    if not isinstance(shares, Mapping):
        raise ValueError(f"shares = {shown(shares)}: expected {{field: number}}.")
    for name, share in shares.items():
        if name not in schema.names:
            raise ValueError(
                f"shares of {shown(name)}: expected some of {', '.join(schema.names)}."
            )
        finite(f"shares of {name}", share)


def check_tables(
    where: Path, described: Path, tables: Mapping[str, np.ndarray], guided: Mapping
) -> None:
    """float32 [steps, 5] for each number of steps that `guided` names."""
    if set(tables) != set(guided):
        raise ValueError(
            f"{described}: guided of {', '.join(guided)}: expected "
            f"{', '.join(sorted(tables, key=lambda name: (len(name), name)))}, as in "
            f"{where.name}."
        )
    for name, rows in tables.items():
        fits = rows.shape == (int(name), 5) and rows.dtype == np.float32
        if not (fits and np.isfinite(rows).all()):
            raise ValueError(
                f"{where}: table {name}: expected finite float32 [{name}, 5]."
            )


def check_programs(
    described: Path,
    weights: Path,
    description: Mapping,
    schema: Schema,
    params: Mapping[str, np.ndarray],
    programs: Parts,
) -> None:
    """Whether the programs take these weights, conditions, fields and sizes."""
    taken, (image, _), *_, cond, weighed = _inputs(programs.composed)
    side = image.shape[1]
    if description["height"] != side:
        raise ValueError(
            f"{described}: height = {description['height']}: expected {side}, as the "
            "programs make."
        )
    kinds = {field.name: np.dtype(field.dtype) for field in schema}
    if kinds != {name: value.dtype for name, value in cond.items()}:
        raise ValueError(
            f"{described}: schema of {', '.join(schema.names) or 'no field'}: expected "
            f"what the programs take, {', '.join(sorted(cond))}, of the same kinds."
        )
    fields = description["shares"] or schema.names
    if set(fields) != set(weighed):
        raise ValueError(
            f"{described}: shares of {', '.join(fields)}: expected "
            f"{', '.join(sorted(weighed))}, as the programs weigh."
        )
    for name in sorted(taken.keys() | params.keys()):
        if name not in taken:
            raise ValueError(
                f"{weights}: {shown(name)[1:-1]}: expected no such parameter."
            )
        expected, found = taken[name], params.get(name)
        if found is None or (found.shape, found.dtype) != (
            expected.shape,
            expected.dtype,
        ):
            raise ValueError(
                f"{weights}: {name}: expected {expected.dtype} {list(expected.shape)}."
            )


def _inputs(program: Program) -> tuple:
    positional, _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    return positional
