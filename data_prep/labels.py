"""The label table: read strictly, joined one to one, never by truthiness."""

import csv
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.codes import Rejected
from ddpm_jax.conditions.schema import UNKNOWN, Schema

UID_COLUMN = "sop_instance_uid"
PATH_COLUMN = "file"
PATIENT_COLUMN = "patient_id"
OWN_COLUMNS = (UID_COLUMN, PATH_COLUMN, PATIENT_COLUMN)
NOT_KNOWN = (*UNKNOWN, "nan")


class Label(NamedTuple):
    """One row: conditions by name, and whether a number was out of its range."""

    index: int
    row: Mapping[str, str | float | None]
    out_of_range: bool
    patient: str


class Columns(NamedTuple):
    """What a table's header gives and lacks, by name."""

    used: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"Label columns used: {', '.join(self.used)}"]
        if self.missing:
            parts.append(f"not in the table: {', '.join(self.missing)}")
        if self.ignored:
            parts.append(f"ignored: {', '.join(self.ignored)}")
        return "; ".join(parts) + "."


class Labels:
    """The rows of a table by SOPInstanceUID and by path."""

    def __init__(
        self, rows: list[Label], by_uid: dict, by_path: dict, columns: Columns
    ):
        self.rows, self._by_uid, self._by_path = rows, by_uid, by_path
        self.columns = columns

    def matching(self, uid: str, path: str) -> list[int]:
        """All rows of a file: by SOPInstanceUID and by its path below --dicom."""
        by_uid = self._by_uid.get(uid, []) if uid else []
        return sorted({*by_uid, *self._by_path.get(path, [])})

    def find(self, uid: str, path: str) -> Label:
        """The one row of a file. Raises Rejected where there is none or another."""
        found = self.matching(uid, path)
        if not found:
            raise Rejected("LABEL_MISSING")
        if len(found) > 1:
            raise Rejected("LABEL_DUP")
        return self.rows[found[0]]


def read_labels(path: Path, schema: Schema) -> Labels:
    """The table of a CSV or Parquet file. ValueError says row, column, allowed."""
    table = _read_table(path)
    columns = _check_columns(table, path, schema)
    table = table.apply(lambda column: column.str.strip())
    _check_values(table[columns].apply(lambda c: c.str.lower()), path, schema)
    converted = [_convert(table[name], schema[name]) for name in columns]
    values = zip(*(column for column, _ in converted), strict=True)
    outside = np.logical_or.reduce([bad for _, bad in converted]).tolist()
    patients = table.get(PATIENT_COLUMN, pd.Series("", table.index)).tolist()
    rows = [
        Label(index, dict(zip(columns, row, strict=True)), bad, patient)
        for index, (row, bad, patient) in enumerate(
            zip(values, outside, patients, strict=True)
        )
    ]
    by_uid = _index(table.get(UID_COLUMN), str)
    by_path = _index(table.get(PATH_COLUMN), posixpath.normpath)
    return Labels(rows, by_uid, by_path, _columns(table, columns, schema))


def _columns(table, columns, schema):
    own = [name for name in OWN_COLUMNS if name in table]
    return Columns(
        used=(*own, *columns),
        missing=tuple(name for name in schema.names if name not in columns),
        ignored=tuple(
            name or "one without a name"
            for name in table.columns
            if name not in (*OWN_COLUMNS, *schema.names)
        ),
    )


def _read_table(path):
    """The cells as strings; the index is the line, in Parquet the row from 1."""
    if not path.is_file():
        raise ValueError(f"--labels = {path}: no such file; expected a CSV or Parquet.")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            table = table.astype(object).where(table.notna(), "").astype(str)
            table.index = range(1, len(table) + 1)
        else:
            header, lines, rows = _read_csv(path)
    except Exception as error:  # their messages quote the table
        raise ValueError(
            f"--labels = {path}: not a readable table ({type(error).__name__}); "
            "expected a comma-separated CSV in UTF-8, or a .parquet file."
        ) from None
    if path.suffix != ".parquet":
        for line, row in zip(lines, rows, strict=True):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: line {line} has {len(row)} cells: expected "
                    f"{len(header)}, as in the header."
                )
        table = pd.DataFrame(rows, index=lines, columns=header, dtype=object)
    table.columns = [str(name).strip().lower() for name in table.columns]
    return table.fillna("")


def _read_csv(path):
    """(header, line numbers, rows); pandas' own reader guesses at an index and
    renames a repeated column."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        found = [(reader.line_num, row) for row in reader if "".join(row).strip()]
    return header, [line for line, _ in found], [row for _, row in found]


def _check_columns(table, path, schema):
    names = list(table.columns)
    for i, name in enumerate(names):
        if name and name in names[:i]:  # not told: without a header it is a cell
            raise ValueError(
                f"{path}: columns {names.index(name) + 1} and {i + 1} have one name, "
                "which may not occur more than once."
            )
    if UID_COLUMN not in table and PATH_COLUMN not in table:
        raise ValueError(
            f"{path}: no column to join by; expected {UID_COLUMN} or {PATH_COLUMN}."
        )
    columns = [name for name in schema.names if name in table]
    if not columns:
        raise ValueError(
            f"{path}: no column with a condition; expected some of "
            f"{', '.join(schema.names)}."
        )
    return columns


def _check_values(table, path, schema):
    """Every cell is allowed or not known. The message holds no cell: a table of
    patients must not end up in a log."""
    import pandera.pandas as pa
    from pandera.errors import SchemaErrors

    def column(field):
        if field.kind == "continuous":
            return pa.Column(checks=pa.Check(_are_numbers, name="number"))
        allowed = [*map(str.lower, field.values), *UNKNOWN]
        return pa.Column(checks=pa.Check.isin(allowed))

    rules = pa.DataFrameSchema({name: column(schema[name]) for name in table})
    try:
        rules.validate(table, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases.groupby("column", sort=False)["index"]
        counted = cases.agg(["min", "count"])
        parts = [
            f"column {name}, row {int(first)}"
            f"{f' and {count - 1} more' if count > 1 else ''}: expected "
            f"{_allowed(schema[name])}"
            for name, first, count in counted.itertuples()
        ]
        raise ValueError(f"{path}: {'; '.join(parts)}.") from None


def _allowed(field):
    if field.kind == "continuous":
        return "a number, or nothing for not known"
    return f"one of {', '.join(field.values)}, or nothing for not known"


def _are_numbers(cells):
    return cells.isin(NOT_KNOWN) | pd.to_numeric(cells, errors="coerce").notna()


def _convert(cells, field) -> tuple[list, np.ndarray]:
    """(canonical values, whether out of range) of cells that passed the check."""
    cells = cells.str.lower()
    if field.kind == "categorical":
        spelling = {value.lower(): value for value in field.values}
        spelling |= dict.fromkeys(UNKNOWN)
        return [spelling[cell] for cell in cells.tolist()], np.zeros(len(cells), bool)
    numbers = pd.to_numeric(cells, errors="coerce")
    numbers = numbers.to_numpy(np.float64)
    inside = (field.low <= numbers) & (numbers <= field.high)
    values = np.where(inside, numbers.astype(object), None).tolist()
    return values, ~inside & ~np.isnan(numbers)


def _index(keys, normalise):
    index = {}
    for row, key in enumerate([] if keys is None else keys.tolist()):
        if key:
            index.setdefault(normalise(key), []).append(row)
    return index
