"""A table is read whatever wrote it, or refused in one line that says where and why."""

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.outputs import requests
from ddpm_jax.outputs.requests import read_table

numbers = st.integers(0, 120).map(float) | st.sampled_from([31.5, 0.25, 67.125])


@given(
    st.lists(st.tuples(st.sampled_from(["AP", ""]), numbers), min_size=1, max_size=4),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_separates_cells_changes_nothing(tmp_path_factory, cells, separator):
    """Nor does a decimal comma, where commas do not separate."""
    path = tmp_path_factory.mktemp("tables") / "a.csv"
    decimal = "." if separator == "," else ","
    frame = pd.DataFrame(cells, columns=["view", "age"])
    frame.assign(prompt="oblique, woman" if separator == "," else "woman")
    frame.to_csv(path, index=False, sep=separator, decimal=decimal)
    found = requests.read_conditions(str(path), PELVIS)
    expected = [PELVIS.parse({"view": v, "age": a}) for v, a in cells]
    assert [row for row, _, _ in found] == expected


def test_one_column_and_prompts_that_hold_what_separates(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt\n"AP pelvis; woman"\n')
    assert read_table(str(path)).lines == [("line 2", {"prompt": "AP pelvis; woman"})]
    path.write_text("prompt;age\nAP pelvis, woman;67,5\n")
    [(row, _, _)] = requests.read_conditions(str(path), PELVIS)
    assert (row["view"], row["sex"], row["age"]) == ("AP", "F", 67.5)


FILES = {
    "missing": (None, "no such file; expected a CSV or Parquet"),
    "folder": (..., "a folder; expected a CSV or Parquet"),
    "empty": (b"", "empty; expected a CSV or Parquet"),
    "blank": (b"\n\n", "no rows; expected one an image"),
    "binary": (bytes(range(256)), "no text in UTF-8; expected a CSV, or a Parquet"),
    "zeros": (b"view\n\0\0\0\n", "no text in UTF-8; expected a CSV, or a Parquet"),
    "utf16": ("view\nAP\n".encode("utf-16"), "no text in UTF-8; expected a CSV"),
    "misnamed": (b"PAR1\0\1", "a Parquet; expected a name that ends in .parquet"),
}


@pytest.mark.parametrize(
    "name, suffix", list(itertools.product(FILES, [".csv", ".parquet", ""]))
)
def test_what_is_no_table_is_one_line(command, tiny_export, tmp_path, name, suffix):
    path, (content, message) = tmp_path / f"a{suffix}", FILES[name]
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    if suffix == ".parquet" and name not in ("missing", "folder", "empty"):
        message = "no readable Parquet"
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}"),
        f"--conditions={path}",
    )
    assert result.status == 1 and len(result.err.splitlines()) == 1, result.err
    assert f"{path}: {message}" in result.err and "Errno" not in result.err
    assert len(result.err) < len(str(path)) + 200


def test_a_parquet_by_any_spelling_of_its_suffix(tmp_path):
    pd.DataFrame({"view": ["AP"]}).to_parquet(tmp_path / "a.PARQUET")
    [(row, _, _)] = requests.read_conditions(str(tmp_path / "a.PARQUET"), PELVIS)
    assert row["view"] == "AP"


@pytest.mark.parametrize(
    "text, message",
    [
        ("view,seed\nAP,7\nAP,4294967296\n", "line 3: seed = '4294967296': expected"),
        ("view,seed\nAP,1.5\n", "line 2: seed = '1.5': expected a whole number from 0"),
        ("view,seed\nAP,nan\n", "line 2: seed = 'nan': expected a whole number"),
        (f"view,seed\nAP,{'9' * 5000}\n", "line 2: seed = '99999"),
        ("view,seed\nAP,1\nAP,4294967295\n", "line 3: seed = 4294967296: expected"),
    ],
)
def test_a_seed_out_of_range_is_told_by_its_line(
    command, tiny_export, tmp_path, text, message
):
    """The last: with --count 2, the row's second image has no seed left."""
    (tmp_path / "a.csv").write_text(text)
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--out={tmp_path / 'out'}", "--count=2"),
        f"--conditions={tmp_path / 'a.csv'}",
    )
    assert result.status == 1 and message in result.err, result.err
    assert "0 to 4294967295" in result.err and len(result.err) < 300


def test_a_whole_seed_may_have_a_point(tmp_path):
    """As pandas writes a column of whole numbers with a gap."""
    (tmp_path / "a.csv").write_text("view,seed\nAP,7.0\nAP,\n")
    found = requests.read_conditions(str(tmp_path / "a.csv"), PELVIS)
    assert [seed for _, seed, _ in found] == [7, None]


def test_a_prompt_is_read_once_however_many_rows_have_it(tmp_path, monkeypatch):
    read, parse = [], requests.parse_prompt

    def counted(text, schema):
        read.append(text)
        return parse(text, schema)

    monkeypatch.setattr(requests, "parse_prompt", counted)
    prompts = ["AP pelvis", "lateral right hip", "AP pelvis"] * 5
    pd.DataFrame({"prompt": prompts, "age": range(15)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    found = requests.read_conditions(str(tmp_path / "a.csv"), PELVIS)
    assert sorted(read) == ["AP pelvis", "lateral right hip"]
    assert [row["age"] for row, _, _ in found] == list(range(15))
    assert [row["view"] for row, _, _ in found] == ["AP", "lateral", "AP"] * 5
