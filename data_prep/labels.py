"""The label table: read strictly, joined one to one, never by truthiness."""

import csv
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep import label_map
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


class Rows(Sequence[Label]):
    """The rows of a table, kept by column: half a million dicts would not be small."""

    def __init__(self, columns: Mapping[str, list], outside: list, patients: list):
        self._columns, self._outside, self._patients = columns, outside, patients

    def __len__(self) -> int:
        return len(self._outside)

    def __getitem__(self, index: int) -> Label:
        row = {name: column[index] for name, column in self._columns.items()}
        return Label(index, row, self._outside[index], self._patients[index])


class Index:
    """Row numbers by a key that may be repeated and, where '', is none."""

    def __init__(self, keys: Sequence[str]):
        self._first, self._again = {}, {}
        for row, key in enumerate(keys):
            if key and self._first.setdefault(key, row) != row:
                self._again.setdefault(key, []).append(row)

    def __getitem__(self, key: str) -> tuple[int, ...]:
        if key not in self._first:
            return ()
        return (self._first[key], *self._again.get(key, ()))


class Labels:
    """The rows of a table by SOPInstanceUID and by path."""

    def __init__(
        self, rows: Sequence[Label], by_uid: Index, by_path: Index, columns: Columns
    ):
        self.rows, self._by_uid, self._by_path = rows, by_uid, by_path
        self.columns = columns

    def matching(self, uid: str, path: str) -> list[int]:
        """All rows of a file: by SOPInstanceUID and by its path below --dicom."""
        return sorted({*self._by_uid[uid], *self._by_path[path]})

    def find(self, uid: str, path: str) -> Label:
        """The one row of a file. Raises Rejected where there is none or another."""
        found = self.matching(uid, path)
        if not found:
            raise Rejected("LABEL_MISSING")
        if len(found) > 1:
            raise Rejected("LABEL_DUP")
        return self.rows[found[0]]


def read_labels(
    path: Path, schema: Schema, mapping: label_map.LabelMap | None = None
) -> Labels:
    """The table of a CSV or Parquet file, read through `mapping` where there is one.

    ValueError says row, column and what is allowed.
    """
    if mapping is not None:
        label_map.check(mapping, schema, OWN_COLUMNS)
    table = _read_table(path)
    _check_names(table, path)
    if mapping is not None:
        table = label_map.apply(mapping, table, path)
    columns = _check_columns(table, path, schema)
    cells = pd.DataFrame({name: _lower(table[name]) for name in columns})
    _check_values(cells, path, schema)
    converted = {name: _convert(cells[name], schema[name]) for name in columns}
    outside = np.logical_or.reduce([bad for _, bad in converted.values()]).tolist()
    rows = Rows(
        {name: column for name, (column, _) in converted.items()},
        outside,
        _stripped(table, PATIENT_COLUMN) or [""] * len(table),
    )
    paths = [
        name and posixpath.normpath(name) for name in _stripped(table, PATH_COLUMN)
    ]
    uids = _stripped(table, UID_COLUMN)
    used = _columns(table, columns, schema)
    return Labels(rows, Index(uids), Index(paths), used)


def _stripped(table, name):
    """The cells of a column of our own, [] where the table lacks it."""
    return [cell.strip() for cell in table[name]] if name in table else []


def _lower(cells):
    """Cells without space around them in lower case; each spelling is done once."""
    codes, found = pd.factorize(cells)
    lower = np.array([cell.strip().lower() for cell in found], object)
    return pd.Series(lower[codes], cells.index, dtype=object)


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
            table, crooked = _read_parquet(path), None
        else:
            table, crooked = _read_csv(path)
    except Exception as error:  # their messages quote the table
        raise ValueError(
            f"--labels = {path}: not a readable table ({type(error).__name__}); "
            "expected a comma-separated CSV in UTF-8, or a .parquet file."
        ) from None
    if crooked:
        line, count, expected = crooked
        raise ValueError(
            f"{path}: line {line} has {count} cells: expected {expected}, as in the "
            "header."
        )
    table.columns = [str(name).strip().lower() for name in table.columns]
    return table


def _read_parquet(path):
    """Whole numbers stay whole beside a missing one: 7, not 7.0."""
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    table = table.astype(object).where(table.notna(), "").astype(str).astype(object)
    return table.set_axis(range(1, len(table) + 1))


def _read_csv(path):
    """(table, the first row of another length than the header or None); pandas' own
    reader guesses at an index and renames a repeated column."""
    lines, cells = [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        for row in reader:
            if not any(row) or not "".join(row).strip():
                continue
            if len(row) != len(header):
                return None, (reader.line_num, len(row), len(header))
            lines.append(reader.line_num)
            cells += row
    columns = [cells[i :: len(header)] for i in range(len(header))]
    table = pd.DataFrame(dict(enumerate(columns)), index=lines, dtype=object)
    return table.set_axis(header, axis=1), None


def _check_names(table, path):
    names = list(table.columns)
    for i, name in enumerate(names):
        if name and name in names[:i]:  # not told: without a header it is a cell
            raise ValueError(
                f"{path}: columns {names.index(name) + 1} and {i + 1} have one name, "
                "which may not occur more than once."
            )


def _check_columns(table, path, schema):
    if UID_COLUMN not in table and PATH_COLUMN not in table:
        single = " (a single column: are its cells separated by commas?)"
        raise ValueError(
            f"{path}: no column to join by{single if len(table.columns) == 1 else ''}; "
            f"expected {UID_COLUMN} or {PATH_COLUMN}."
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
    if field.kind == "categorical":
        spelling = {value.lower(): value for value in field.values}
        spelling |= dict.fromkeys(UNKNOWN)
        return [spelling[cell] for cell in cells.tolist()], np.zeros(len(cells), bool)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    inside = (field.low <= numbers) & (numbers <= field.high)
    values = np.where(inside, numbers.astype(object), None).tolist()
    return values, ~inside & ~np.isnan(numbers)
