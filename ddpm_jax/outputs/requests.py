"""What is asked for: a prompt, field=value, or a table of one row an image.

Everything ends as a list of `Asked`; the order is that of the table.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Schema

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


class Table(NamedTuple):
    """Cells as text; `lines` are (where a row stands, its cells by column)."""

    path: str
    columns: tuple[str, ...]
    lines: list[tuple[str, dict[str, str]]]


def read_table(path: str) -> Table:
    """A CSV, or a Parquet where the name ends so. ValueError where it has no rows."""
    if "=" in path and not Path(path).exists():
        raise ValueError(
            f"--conditions {path}: no such file; field=value is for --condition."
        )
    read = _parquet if Path(path).suffix == ".parquet" else _csv
    columns, lines = read(path)
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: columns {', '.join(columns)}: expected each once.")
    if not lines:
        raise ValueError(f"{path}: no rows; expected one an image.")
    return Table(path, columns, lines)


def _csv(path):
    lines = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = tuple(name.strip() for name in next(reader, ()))
            for cells in filter(None, reader):
                where = f"line {reader.line_num}"
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{path}, {where}: {len(cells)} cells for {len(columns)} "
                        "columns; a prompt with commas needs quotation marks."
                    )
                lines.append((where, dict(zip(columns, cells, strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no readable CSV in UTF-8 ({error}).") from None
    return columns, lines


def _parquet(path):
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; expected a CSV or Parquet.")
    try:
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except Exception as error:  # pyarrow's own, many types
        raise ValueError(
            f"{path}: no readable Parquet ({type(error).__name__})."
        ) from None
    columns = tuple(map(str, table.columns))
    cells = ([_text(x) for x in table[name]] for name in table.columns)
    rows = zip(*cells, strict=True)
    return columns, [
        (f"row {i}", dict(zip(columns, row, strict=True)))
        for i, row in enumerate(rows, start=1)
    ]


def _text(value) -> str:
    """As a CSV would have it: '' for a missing value, 7 for 7.0."""
    if pd.isna(value):
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


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


def read_rows(table: Table, schema: Schema) -> list[tuple[dict, int | None, str]]:
    """(full row, seed or None, prompt) of each line."""
    allowed = (*schema.names, *ASKED)
    extra = [n for n in table.columns if n not in (*allowed, *MADE, *WRITTEN)]
    if extra or not set(table.columns) & set(allowed):
        raise ValueError(
            f"{table.path}: columns {', '.join(extra or table.columns)}: expected some "
            f"of {', '.join(allowed)}."
        )
    rows = []
    for where, cells in table.lines:
        try:
            rows.append(_read_line(cells, schema))
        except ValueError as error:
            raise ValueError(f"{table.path}, {where}: {error}") from None
    return rows


def read_conditions(path: str, schema: Schema) -> list[tuple[dict, int | None, str]]:
    """(full row, seed or None, prompt) of each line of a CSV or Parquet file."""
    return read_rows(read_table(path), schema)


def _read_line(cells: Mapping[str, str], schema: Schema):
    prompt = cells.get("prompt", "").strip()
    row = parse_prompt(prompt, schema).row if prompt else {}
    row = combine(row, {n: cells.get(n) for n in schema.names}, "a column", schema)
    text = cells.get("seed", "").strip()
    if text and not re.fullmatch("[0-9]+", text):
        raise ValueError(f"seed = {text!r}: expected a whole number from 0.")
    return row, int(text) if text else None, prompt


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
