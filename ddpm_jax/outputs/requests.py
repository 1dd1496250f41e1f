"""What is asked for: a prompt, field=value, or a table of one row an image.

Everything ends as a list of `Asked`; the order is that of the table.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from ddpm_jax.conditions.numeric import MOST_SEED, shown
from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.outputs.table import Table, read_table

ASKED = ("seed", "prompt")
"""Columns of a table beside the conditions, in words of their own."""

MADE = ("guidance", "steps", "model_sha256")
"""Columns of manifest.csv that say how its images were made."""

WRITTEN = ("file", "sop_instance_uid", "record_id")
"""Columns of manifest.csv that say where they are; asked again, they say nothing."""


class Asked(NamedTuple):
    """One image: full row of conditions, seed, and the prompt if there was one."""

    row: dict
    seed: int
    prompt: str


class Model(NamedTuple):
    """What makes the images, and how."""

    sha256: str
    guidance: float
    steps: int


def identity(asked: Asked, model: Model) -> bytes:
    """32 bytes: the same row, seed, model, guidance and steps, and only they, have the
    same. All ids and UIDs are made of it."""
    parts = [sorted(asked.row.items()), asked.seed, *model]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def made_with(table: Table, name: str) -> float | None:
    """The guidance or steps that a manifest.csv states: None where it states none.

    ValueError where rows differ: one command makes all its images alike.
    """
    found = {cells.get(name, "").strip() for _, cells in table.lines} - {""}
    if len(found) > 1:
        raise ValueError(
            f"{table.path}: column {name} holds {', '.join(sorted(found))}; expected "
            f"one value, or --{name} to overrule it."
        )
    if not found:
        return None
    try:
        return float(found.pop())
    except ValueError:
        raise ValueError(f"{table.path}: column {name}: expected a number.") from None


def models_of(table: Table) -> set[str]:
    """The hashes of the models that made the images of a manifest.csv."""
    return {cells.get("model_sha256", "").strip() for _, cells in table.lines} - {""}


def read_rows(
    table: Table, schema: Schema, count: int = 1, bar: bool = False
) -> list[tuple[dict, int | None, str]]:
    """(full row, seed or None, prompt) of each line; `count` images with seeds from a
    row's own on must have one. `bar` shows how far it is where that takes a while."""
    allowed = (*schema.names, *ASKED)
    extra = [n for n in table.columns if n not in (*allowed, *MADE, *WRITTEN)]
    if extra or not set(table.columns) & set(allowed):
        raise ValueError(
            f"{table.path}: columns {', '.join(extra or table.columns)}: expected some "
            f"of {', '.join(allowed)}."
        )
    rows = []
    read = functools.cache(lambda prompt: parse_prompt(prompt, schema).row)
    shown_after = {"delay": 2, "leave": False, "disable": not bar}
    for where, cells in tqdm(table.lines, "reading", unit="row", **shown_after):
        try:
            rows.append(_read_line(cells, schema, read, MOST_SEED - count + 1))
        except ValueError as error:
            raise ValueError(f"{table.path}, {where}: {error}") from None
    return rows


def read_conditions(path: str, schema: Schema) -> list[tuple[dict, int | None, str]]:
    """(full row, seed or None, prompt) of each line of a CSV or Parquet file."""
    return read_rows(read_table(path), schema)


def _read_line(cells: Mapping[str, str], schema: Schema, read: Callable, most: int):
    prompt = cells.get("prompt", "").strip()
    row = read(prompt) if prompt else {}
    row = combine(row, {n: cells.get(n) for n in schema.names}, "a column", schema)
    return row, _seed(cells.get("seed", "").strip(), most), prompt


def _seed(text: str, most: int) -> int | None:
    """A whole number to `most`, 7.0 too; None for nothing."""
    if not text:
        return None
    found = re.fullmatch(r"0*([0-9]{1,10})(\.0*)?", text)
    seed = int(found[1]) if found else MOST_SEED + 1
    if seed > MOST_SEED:
        raise ValueError(
            f"seed = {shown(text)}: expected a whole number from 0 to {MOST_SEED}."
        )
    if seed > most:
        raise ValueError(
            f"seed = {MOST_SEED + 1}: expected 0 to {MOST_SEED}, of the last image of "
            "this row too."
        )
    return seed


def combine(prompted: Mapping, stated: Mapping, what: str, schema: Schema) -> dict:
    """A prompt's row and what `what` states; ValueError where they contradict."""
    known = {n: v for n, v in schema.parse(stated).items() if v is not None}
    for name, value in known.items():
        if prompted.get(name) not in (None, value):
            raise ValueError(
                f"the prompt says {name} = {prompted[name]}, {what} {value}."
            )
    return schema.parse({**prompted, **known})


def read_pairs(pairs: Sequence[str], schema: Schema) -> dict:
    """The row of `field=value`, each field once."""
    row = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name in row:
            raise ValueError(
                f"--condition {pair!r}: expected field=value, each field once, e.g. "
                "--condition view=AP."
            )
        try:
            row[name] = schema[name].parse(value)
        except ValueError as error:
            raise ValueError(f"--condition {pair!r}: {error}") from None
    return row


def numbered(
    rows: Sequence[tuple[dict, int | None, str]], first: int, count: int
) -> Iterator[Asked]:
    """`count` images a row, with seeds from the row's own on, or from the number of
    images before it after `first`."""
    before = 0
    for row, seed, prompt in rows:
        start = first + before if seed is None else seed
        for i in range(count):
            yield Asked(row, start + i, prompt)
        before += count
