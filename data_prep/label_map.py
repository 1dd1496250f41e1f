"""A lab's own column names and values, in the words of the schema.

YAML, in which every scalar is a string (1, yes and no too):

    columns: {Projection: view, Implant R: prosthesis_right, Img: file}
    values:
      view: {1: AP, Lat: lateral}
      prosthesis_right: {Y: yes, 0: no}

or Python with COLUMNS and VALUES of the same form, all strings, and/or
`def row(row: dict[str, str]) -> dict[str, str]` for what follows from several columns.
The order: columns are renamed, `row` is called on each raw row (its keys are column
names in lower case), values are mapped. A .py map is code and runs as such.
"""

import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from ddpm_jax.conditions.schema import Schema

FORM = "a .yaml, .yml or .py file that gives columns, values or (.py) row"
WHOLE = re.compile(r"([+-]?\d+)\.0+")


class LabelMap(NamedTuple):
    """Their lower-case column to ours; per column of ours, their value to ours."""

    source: Path
    columns: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    row: Callable[[dict[str, str]], dict[str, str]] | None = None


def plain(text: str) -> str:
    """What is compared: no space around, lower case, 1 for 1.0."""
    text = text.strip().lower()
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def load_map(path: Path) -> LabelMap:
    """The map of a file. ValueError says file, key and what is allowed."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {FORM}.")
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".py": _read_python}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: not a label map; expected {FORM}.")
    columns, values, row = readers[path.suffix.lower()](path)
    if columns is None and values is None and row is None:
        raise ValueError(f"{path}: nothing is mapped; expected {FORM}.")
    if row is not None and not callable(row):
        raise ValueError(f"{path}: row is no function; expected def row(row).")
    columns = _strings({} if columns is None else columns, path, "columns")
    values = _dict({} if values is None else values, path, "values")
    _check_spelling(columns, path, "columns")
    _check_spelling(values, path, "values")
    return LabelMap(
        path,
        columns=_columns(columns, path),
        values={
            name.strip().lower(): _one_each(pairs, path, name)
            for name, pairs in values.items()
        },
        row=row,
    )


class _Strings(yaml.BaseLoader):
    """Every scalar is a string; a key that is repeated is refused, not overwritten."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                mark = node.value[i][0].start_mark
                raise yaml.MarkedYAMLError(problem_mark=mark)
        return super().construct_mapping(node, deep=True)


def strings_of_yaml(path: Path, expected: str):
    """What a YAML file holds, every scalar a string."""
    try:
        return yaml.load(path.read_text("utf-8-sig"), _Strings)
    except Exception as error:  # their messages quote the file over several lines
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{path}{where}: not readable as YAML ({type(error).__name__}); expected "
            f"{expected}, each key once, in UTF-8."
        ) from None


def _read_yaml(path):
    found = strings_of_yaml(path, "columns: and values:")
    found = _dict(found if found else {}, path, "the file")
    for key in found:
        if key not in ("columns", "values"):
            raise ValueError(f"{path}: key {key!r}: expected columns or values.")
    return found.get("columns"), found.get("values"), None


def names_of_python(path: Path, expected: str) -> dict:
    """The names that a Python file leaves behind; the file runs."""
    names = {"__name__": "label_map", "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f", line {line}" if line else ""
        raise ValueError(
            f"{path}{where}: not runnable as Python ({type(error).__name__}); expected "
            f"{expected}."
        ) from None
    return names


def _read_python(path):
    names = names_of_python(path, "COLUMNS, VALUES or def row(row)")
    return names.get("COLUMNS"), names.get("VALUES"), names.get("row")


def _dict(found, path, where):
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"{path}: {where}: expected a mapping whose keys are strings.")
    return found


def _strings(found, path, where):
    for key, value in _dict(found, path, where).items():
        if not isinstance(value, str):
            raise ValueError(
                f"{path}: {where}, {key!r}: a {type(value).__name__}; expected a "
                "string."
            )
    return found


def _check_spelling(found, path, where):
    if len({key.strip().lower() for key in found}) < len(found):
        raise ValueError(
            f"{path}: {where}: two keys differ only in case or space; expected one."
        )


def _columns(columns, path):
    """Lower-case names, as headers are read; each of ours has one source."""
    ours = {key.strip().lower(): name.strip().lower() for key, name in columns.items()}
    for name in ours.values():
        theirs = [repr(key) for key in columns if ours[key.strip().lower()] == name]
        if len(theirs) > 1:
            raise ValueError(
                f"{path}: columns {', '.join(theirs)} all map to {name}: expected one."
            )
    return ours


def _one_each(pairs, path, name):
    targets = {}
    for key, target in _strings(pairs, path, f"values, {name}").items():
        if targets.setdefault(plain(key), target) != target:
            raise ValueError(
                f"{path}: values, {name}, {key!r}: maps to {target!r} here and to "
                "another value in another spelling; expected one."
            )
    return targets


def check(mapping: LabelMap, schema: Schema, own: Iterable[str]) -> None:
    """ValueError where a target is no column of ours or no value of its field."""
    allowed = (*schema.names, *own)
    for key, name in mapping.columns.items():
        if name not in allowed:
            raise ValueError(
                f"{mapping.source}: columns, {key!r}: {name!r}: expected one of "
                f"{', '.join(allowed)}."
            )
    for name, pairs in mapping.values.items():
        if name not in schema.names:
            raise ValueError(
                f"{mapping.source}: values, {name!r}: expected one of "
                f"{', '.join(schema.names)}."
            )
        for key, target in pairs.items():
            try:
                schema[name].parse(target)
            except ValueError as error:
                raise ValueError(
                    f"{mapping.source}: values, {name}, {key!r}: {error}"
                ) from None


def apply(mapping: LabelMap, table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table in our words; it has string cells and lower-case columns."""
    for key in mapping.columns:
        if key not in table:
            raise ValueError(
                f"{mapping.source}: columns, {key!r}: {path} has no such column; "
                "expected a name of its header."
            )
    names = [mapping.columns.get(name, name) for name in table.columns]
    for key, name in mapping.columns.items():
        if names.count(name) > 1:
            raise ValueError(
                f"{mapping.source}: columns, {key!r}: {path} has a column {name} "
                "already; expected one source for each."
            )
    table = table.set_axis(names, axis=1)
    if mapping.row is not None:
        table = _by_row(mapping, table, path)
    for name, pairs in mapping.values.items():
        if name not in table:
            raise ValueError(
                f"{mapping.source}: values, {name!r}: {path} has no such column; "
                "expected one that the header or columns: gives."
            )
        table[name] = _mapped(table[name], pairs)
    return table


def _mapped(cells, pairs):
    codes, found = pd.factorize(cells)
    targets = [pairs.get(plain(cell), cell) for cell in found]
    return pd.Series(targets, dtype=object).take(codes).set_axis(cells.index)


def _by_row(mapping, table, path):
    """The table that row() makes; what it leaves out of a row is not known there."""
    columns = {}
    for i, (line, *cells) in enumerate(table.itertuples(name=None)):
        try:
            made = mapping.row(dict(zip(table.columns, cells, strict=True)))
            fault = _collect(made, columns, i)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the message may quote a cell
            fault = f"raised {type(error).__name__}"
        if fault:
            raise ValueError(
                f"{mapping.source}: row() {fault} for row {line} of {path}; expected a "
                "dict of strings to strings (keys are columns in lower case)."
            )
    for column in columns.values():
        column += [""] * (len(table) - len(column))
    return pd.DataFrame(columns, index=table.index, dtype=object)


def _collect(made, columns, i) -> str:
    """Appends row i to the columns; the fault where it is no dict of strings."""
    if not isinstance(made, dict):
        return f"returned a {type(made).__name__}"
    for name, cell in made.items():
        if not isinstance(name, str) or not isinstance(cell, str):
            return f"returned a {type(name).__name__} with a {type(cell).__name__}"
        column = columns.setdefault(name.strip().lower(), [])
        if len(column) > i:
            return "returned one column in two spellings"
        if len(column) < i:
            column += [""] * (i - len(column))
        column.append(cell)
    return ""
