"""A table of what to ask for, as text: CSV or Parquet, whatever wrote it."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

SEPARATORS = ",;\t"
DECIMAL_COMMA = re.compile(r"\A\s*([0-9]+),([0-9]+)\s*\Z")
MAGIC = b"PAR1"
"""With which a Parquet file begins."""


class Table(NamedTuple):
    """Cells as text; `lines` are (where a row stands, its cells by column)."""

    path: str
    columns: tuple[str, ...]
    lines: list[tuple[str, dict[str, str]]]


def read_table(path: str) -> Table:
    """A Parquet where the name ends so, else a CSV in UTF-8.

    What separates the cells of a CSV is the first of comma, semicolon and tab that its
    header holds; where it is no comma, 67,5 is a number. ValueError, in one line, for
    what is no table or has no rows.
    """
    file = Path(path)
    if not file.exists() and "=" in path:
        raise ValueError(
            f"--conditions {path}: no such file; field=value is for --condition."
        )
    parquet = file.suffix.lower() == ".parquet"
    try:
        fault = _fault(file)
        columns, lines = ((), []) if fault else (_parquet if parquet else _csv)(path)
    except OSError as error:
        fault = f"cannot be read ({error.strerror or type(error).__name__})"
    if fault:
        raise ValueError(f"{path}: {fault}; expected a CSV or Parquet.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: columns {', '.join(columns)}: expected each once.")
    if not lines:
        raise ValueError(f"{path}: no rows; expected one an image.")
    return Table(path, columns, lines)


def _fault(file: Path) -> str:
    if not file.exists():
        return "no such file"
    if file.is_dir():
        return "a folder"
    return "" if file.stat().st_size or not file.is_file() else "empty"


def _csv(path: str):
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _cells(path, file)
    except UnicodeDecodeError:
        raise ValueError(_no_text(path)) from None
    except csv.Error as error:
        raise ValueError(f"{path}: no readable CSV ({error}).") from None


def _cells(path: str, file: Iterable[str]):
    file = _text(path, file)
    header = next(file, "")
    separator = next((mark for mark in SEPARATORS if mark in header), ",")
    reader = csv.reader(itertools.chain([header], file), delimiter=separator)
    columns = tuple(name.strip() for name in next(reader, ()))
    lines = []
    for cells in filter(None, reader):
        where = f"line {reader.line_num}"
        if len(cells) != len(columns):
            mark = {",": "commas", ";": "semicolons", "\t": "tabs"}[separator]
            raise ValueError(
                f"{path}, {where}: {len(cells)} cells for {len(columns)} columns; a "
                f"prompt with {mark} needs quotation marks."
            )
        if separator != ",":
            cells = [DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]
        lines.append((where, dict(zip(columns, cells, strict=True))))
    return columns, lines


def _text(path: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise ValueError(_no_text(path))
        yield line


def _no_text(path: str) -> str:
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            return f"{path}: a Parquet; expected a name that ends in .parquet."
    return (
        f"{path}: no text in UTF-8; expected a CSV, or a Parquet whose name ends in "
        ".parquet."
    )


def _parquet(path: str):
    try:
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except OSError:
        raise
    except Exception as error:  # pyarrow's own, many types
        raise ValueError(
            f"{path}: no readable Parquet ({type(error).__name__})."
        ) from None
    columns = tuple(map(str, table.columns))
    cells = ([_spelt(x) for x in table[name]] for name in table.columns)
    rows = zip(*cells, strict=True)
    return columns, [
        (f"row {i}", dict(zip(columns, row, strict=True)))
        for i, row in enumerate(rows, start=1)
    ]


def _spelt(value) -> str:
    """As a CSV would have it: '' for a missing value, 7 for 7.0."""
    if pd.isna(value):
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)
