"""A lab's own columns and values: mapped by what is written, never by truthiness."""

import numpy as np
import pandas as pd
import pytest

from data_prep.label_map import load_map
from data_prep.labels import read_labels
from ddpm_jax.conditions.presets import PELVIS

YAML = """
columns: {Projection: view, Implant R: prosthesis_right, Img: file}
values:
  view: {1: AP, Lat: lateral}
  prosthesis_right: {Y: yes, 0: no, Rt: not in view, "true": yes}
"""
PYTHON = """
COLUMNS = {"Projection": "view", "Implant R": "prosthesis_right", "Img": "file"}
VALUES = {
    "view": {"1": "AP", "Lat": "lateral"},
    "prosthesis_right": {"Y": "yes", "0": "no", "Rt": "not in view", "true": "yes"},
}
"""
HEADER = "IMG,projection, Implant R ,age\n"


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def read(tmp_path):
    def read(table: str, mapping: str, suffix=".yaml"):
        rules = load_map(write(tmp_path / f"map{suffix}", mapping))
        found = read_labels(write(tmp_path / "labels.csv", table), PELVIS, rules)
        return [label.row for label in found.rows]

    return read


@pytest.fixture
def refused(tmp_path, read):
    def refused(mapping: str, suffix=".yaml", table=HEADER + "a,SECRET,Y,3\n"):
        with pytest.raises(ValueError) as caught:
            read(table, mapping, suffix)
        message = str(caught.value)
        assert str(tmp_path) in message and "expected" in message
        assert "\n" not in message and "SECRET" not in message
        return message

    return refused


@pytest.mark.parametrize("text, suffix", [(YAML, ".yaml"), (YAML, ".yml")])
@pytest.mark.parametrize(
    "view, implant, expected",
    [
        ("1", "Y", ("AP", "yes")),
        ("lat", "0", ("lateral", "no")),
        (" LAT ", " rT ", ("lateral", "not in view")),
        ("oblique", "NO", ("oblique", "no")),
        ("1.0", "0.0", ("AP", "no")),
        ("", "unknown", (None, None)),
        ("ap", "True", ("AP", "yes")),
    ],
)
def test_values_as_they_are_written(read, text, suffix, view, implant, expected):
    (row,) = read(f"{HEADER}a,{view},{implant},3\n", text, suffix)
    assert (row["view"], row["prosthesis_right"]) == expected and row["age"] == 3
    assert read(f"{HEADER}a,{view},{implant},3\n", PYTHON, ".py") == [row]


def test_yaml_gives_strings_where_yaml_has_booleans_and_numbers(tmp_path):
    """YAML 1.1 reads yes, no, on, y and 1, 0x10, 1.0, ~ as other things."""
    words = ["yes", "no", "On", "y", "1", "0x10", "1.50", "~", "null", "2020-01-01"]
    text = "values:\n  view:\n" + "".join(f"    {word}: AP\n" for word in words)
    mapping = load_map(write(tmp_path / "map.yaml", text))
    assert list(mapping.values["view"]) == [word.lower() for word in words]
    text = "values: {prosthesis_right: {a: yes, b: no, c: }}"
    mapping = load_map(write(tmp_path / "map.yaml", text))
    expected = {"a": "yes", "b": "no", "c": ""}
    assert mapping.values["prosthesis_right"] == expected


@pytest.mark.parametrize("value", ["2", "y", "", "on"])
def test_what_is_not_mapped_must_be_a_value_of_ours(tmp_path, refused, value):
    table = f"{HEADER}a,{value},Y,3\nb,SECRET,Y,3\n"
    message = refused(YAML, table=table)
    assert "labels.csv: column view, row" in message
    assert "expected one of AP, lateral, oblique" in message


def test_swapped_values_and_columns(read):
    text = (
        "columns: {side: view, view: side}\nvalues: {side: {right: left, left: right}}"
    )
    (row,) = read("file,view,side\na,right,AP\n", text)
    assert row == {"view": "AP", "side": "left"}


def test_not_known_by_a_lab_is_not_known(read):
    text = 'values: {age: {-1: "", 999: unknown}, view: {x: }}'
    rows = read("file,view,age\na,x,999\nb,AP,-1.0\nc,AP,67\n", text)
    assert [row["age"] for row in rows] == [None, None, 67]
    assert rows[0]["view"] is None


PARQUET = {
    "int": ([1, 0, 1], [1, 0, 1]),
    "int with a gap": (pd.array([1, None, 0], "Int64"), [1, None, 0]),
    "float": ([1.0, np.nan, 0.0], [1, None, 0]),
    "float32": (np.array([1, 0, np.nan], np.float32), [1, 0, None]),
    "bool": ([True, False, True], [1, 0, 1]),
    "bool with a gap": (pd.array([True, None, False], "boolean"), [1, None, 0]),
    "category": (pd.Categorical(["Y", "n", None]), [1, 0, None]),
    "string": (["Y", "N", ""], [1, 0, None]),
}


@pytest.mark.parametrize("name", list(PARQUET))
def test_parquet_of_any_type(tmp_path, name):
    cells, expected = PARQUET[name]
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"file": list("abc"), "implant": cells}).to_parquet(path)
    text = """
columns: {Implant: prosthesis_right}
values: {prosthesis_right: {1: yes, 0: no, true: yes, false: no, Y: yes, N: no}}
"""
    mapping = load_map(write(tmp_path / "map.yaml", text))
    found = [
        row.row["prosthesis_right"] for row in read_labels(path, PELVIS, mapping).rows
    ]
    assert found == [{1: "yes", 0: "no", None: None}[each] for each in expected]


def test_whole_numbers_of_our_columns_stay_whole(tmp_path):
    path = tmp_path / "labels.parquet"
    patients = pd.array([7, None], "Int64")
    table = {"file": ["a", "b"], "patient_id": patients, "view": ["AP", "AP"]}
    pd.DataFrame(table).to_parquet(path)
    assert [row.patient for row in read_labels(path, PELVIS).rows] == ["7", ""]


ROW = """
def row(row):
    made = {"file": row["img"], "view": row["view"]}
    if row["born"]:
        made["Age"] = str(2020 - int(row["born"]))
    row.clear()
    return made
"""


def test_row_derives_columns_after_renaming_and_before_values(read):
    text = 'COLUMNS = {"P": "view"}\nVALUES = {"view": {"1": "AP"}}\n' + ROW
    table = "Img,P,Born\na,1,\nb,lateral,1950\nc,1,1930\nd,1,\n"
    rows = read(table, text, ".py")
    assert [row["age"] for row in rows] == [None, 70, 90, None]
    assert [row["view"] for row in rows] == ["AP", "lateral", "AP", "AP"]


@pytest.mark.parametrize(
    "body, fault",
    [
        ("return {}[row['view']]", "raised KeyError for row 3"),
        ("raise ValueError(row['view'])", "raised ValueError for row 3"),
        ("raise SystemExit(row['view'])", "raised SystemExit for row 3"),
        ("return None", "returned a NoneType for row 3"),
        ("return {'age': 3}", "returned a str with a int for row 3"),
        ("return {1: 'AP'}", "returned a int with a str for row 3"),
        (
            "return row | {'View': 'AP'}",
            "returned one column in two spellings for row 3",
        ),
    ],
)
def test_fault_of_row_names_the_row_and_no_cell(refused, body, fault):
    text = (
        f"def row(row):\n    if row['view'] == 'AP':\n        return row\n    {body}\n"
    )
    message = refused(text, ".py", "file,view\na,AP\nb,SECRET\n")
    assert f"map.py: row() {fault} of " in message


def test_error_in_a_cell_names_its_line_after_mapping(refused):
    message = refused(YAML, table=f"{HEADER}a,1,Y,3\n\nb,1,SECRET,3\n")
    assert "column prosthesis_right, row 4: expected one of no, yes" in message


@pytest.mark.parametrize(
    "text, fault",
    [
        (
            "columns: {Img: files}",
            "columns, 'img': 'files': expected one of view, side",
        ),
        ("values: {views: {1: AP}}", "values, 'views': expected one of view, side"),
        ("values: {file: {a: b}}", "values, 'file': expected one of view, side"),
        (
            "values: {view: {1: PA}}",
            "values, view, '1': view = 'PA': expected one of AP",
        ),
        (
            "values: {age: {old: 900}}",
            "values, age, 'old': age = '900': expected a number",
        ),
        ("columns: {Img: file, Implant R: file}", "'Img', 'Implant R' all map to file"),
        (
            "columns: {Img: file, ' img ': view}",
            "two keys differ only in case or space",
        ),
        ("columns: {Nobody: view}", "columns, 'nobody': "),
        ("columns: {projection: age}", "has a column age already"),
        ("values: {view: {1: AP}}", "values, 'view': "),
        ("values: {age: {a: 1, A: 2}}", "values, age, 'A': maps to '2' here and"),
        ("columns: [view]", "columns: expected a mapping"),
        ("columns: view", "columns: expected a mapping"),
        ("columns: {Img: [file]}", "columns, 'Img': a list; expected a string"),
        ("values: {view: AP}", "values, view: expected a mapping"),
        (
            "values: {view: {1: {AP: AP}}}",
            "values, view, '1': a dict; expected a string",
        ),
        ("- view", "the file: expected a mapping"),
        ("column: {Img: file}", "key 'column': expected columns or values"),
        ("", "nothing is mapped"),
        ("columns: {Img: file", "map.yaml, line 1: not readable as YAML (ParserError)"),
        ("a: b: c", "map.yaml, line 1: not readable as YAML (ScannerError)"),
        ("values: {view: {Y: AP, Y: lateral}}", "line 1: not readable as YAML"),
        ("values: {view: {[1]: AP}}", "map.yaml, line 1: not readable as YAML"),
        ("columns: &a {b: *a}", "map.yaml, line 1: not readable as YAML"),
        ("values: {view: {1: AP}, View: {}}", "values: two keys differ only in case"),
        (
            "columns: {a: !!python/object/apply:os.abort []}",
            "'a': a list; expected a s",
        ),
    ],
)
def test_faults_of_yaml(refused, text, fault):
    assert fault in refused(text)


@pytest.mark.parametrize(
    "text, fault",
    [
        ("COLUMNS = {1: 'view'}", "columns: expected a mapping whose keys are strings"),
        ("VALUES = {'view': {1: 'AP'}}", "values, view: expected a mapping whose keys"),
        ("VALUES = {'view': {'1': True}}", "values, view, '1': a bool; expected a str"),
        ("COLUMNS = ['view']", "columns: expected a mapping"),
        ("row = 3", "row is no function"),
        ("columns = {}", "nothing is mapped"),
        ("x = 1\nCOLUMNS = {", "map.py, line 2: not runnable as Python (SyntaxError)"),
        ("x = 1\n\nx.y", "map.py, line 3: not runnable as Python (AttributeError)"),
        ("raise SystemExit", "map.py, line 1: not runnable as Python (SystemExit)"),
        ("\0", "map.py: not runnable as Python (SyntaxError)"),
    ],
)
def test_faults_of_python(refused, text, fault):
    assert fault in refused(text, ".py")


@pytest.mark.parametrize("name", ["none.yaml", "map.json", "."])
def test_files_that_are_no_map(tmp_path, name):
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a .yaml, .yml or .py file"):
        load_map(tmp_path / name)


def test_yaml_that_is_no_text(tmp_path):
    (tmp_path / "map.yaml").write_bytes(b"columns: {\xff: view}")
    with pytest.raises(ValueError, match="not readable as YAML .UnicodeDecodeError"):
        load_map(tmp_path / "map.yaml")


def test_the_map_with_a_byte_order_mark(tmp_path):
    (tmp_path / "map.yaml").write_bytes(b"\xef\xbb\xbfcolumns: {P: view}")
    assert load_map(tmp_path / "map.yaml").columns == {"p": "view"}
