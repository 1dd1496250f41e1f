"""`python -m ddpm_jax.cohort`: what it writes, and what it says of a bad request."""

import csv
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Schema
from ddpm_jax.data import records
from ddpm_jax.outputs.requests import read_conditions
from tests import datasets
from tests.datasets import write_dataset

KINDS = ("csv", "parquet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """600 records of 16 px, each of another patient."""
    counts = (("train", 600), ("test", 8))
    return write_dataset(tmp_path_factory.mktemp("cohort"), size=16, counts=counts)


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(command, data, out, *arguments):
    result = command("cohort", f"--like={data}", f"--out={out}", *arguments)
    assert result.status == 0, result.err
    return result


def test_conditions_are_read_as_examples_hold_them(data):
    conditions, patients = records.read_conditions(data, "train", PELVIS)
    source = records.open_split(data, "train")
    assert len(patients) == len(set(patients.tolist())) == len(source) == 600
    for i in (0, 7, 599):
        for name in PELVIS.names:
            np.testing.assert_array_equal(conditions[name][i], source[i][name])
            assert conditions[name].dtype == PELVIS[name].dtype


def test_a_cohort_is_fields_and_seed_and_can_be_asked_for(command, data, tmp_path):
    result = run(command, data, tmp_path / "new" / "cohort.csv", "--count=200")
    out = tmp_path / "new"
    assert sorted(p.name for p in out.iterdir()) == [
        *("cohort.cells.csv", "cohort.csv", "cohort.png"),
    ]
    rows = read(out / "cohort.csv")
    assert len(rows) == 200 and list(rows[0]) == [*PELVIS.names, "seed"]
    assert all(value for row in rows for value in row.values())  # all known
    assert len({row["seed"] for row in rows}) == 200
    asked = read_conditions(str(out / "cohort.csv"), PELVIS)
    assert [str(seed) for _, seed, _ in asked] == [row["seed"] for row in rows]
    assert asked[0][0]["age"] == float(rows[0]["age"])
    assert f"200 rows in {out / 'cohort.csv'}" in result.out
    with Image.open(out / "cohort.png") as image:
        assert image.width > 1000 and len(image.convert("L").getcolors()) > 20


def test_the_seed_decides_everything(command, data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(command, data, tmp_path / f"{name}.csv", "--count=50", f"--seed={seed}")
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c
    assert not {r["seed"] for r in read(tmp_path / "a.csv")} & {
        r["seed"] for r in read(tmp_path / "c.csv")
    }


def test_parquet_holds_what_csv_holds(command, data, tmp_path):
    for name in ("a.csv", "a.parquet"):
        run(command, data, tmp_path / name, "--count=80", "--known=none")
    for beside in ("cells.csv", "png"):
        pair = [(tmp_path / f"a.{kind}{beside}") for kind in ("", "parquet.")]
        assert all(path.is_file() for path in pair)
    pictures = [(tmp_path / f"a.{kind}png").read_bytes() for kind in ("", "parquet.")]
    assert pictures[0] != pictures[1]  # each names its file
    frame = pd.read_parquet(tmp_path / "a.parquet")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    for row, line in zip(rows, read(tmp_path / "a.csv"), strict=True):
        assert row.pop("seed") == int(line.pop("seed"))
        assert PELVIS.parse(row) == PELVIS.parse(line)
    assert frame["sex"].isna().any()


def test_numbers_of_many_digits_are_the_same_in_csv_and_parquet(
    command, tmp_path, monkeypatch
):
    """Whichever is read: the same rows and seeds, and so the same images."""
    schema = Schema(
        (
            Continuous("dose", "mGy", 0, 1e7, 5e5, 1e5, "dose"),
            Continuous("gap", "mm", 0, 1, 0.5, 0.1, "gap"),
            Categorical("grade", ("0", "1", "NA"), "grade"),
        )
    )

    def row(rng):
        dose, gap = float(1e6 * rng.random()), float(rng.random() / 3)
        return {"dose": dose, "gap": gap, "grade": ("0", "1", "NA")[rng.integers(3)]}

    monkeypatch.setattr(datasets, "PELVIS", schema)
    monkeypatch.setattr(datasets, "random_row", row)
    (tmp_path / "data").mkdir()
    data = write_dataset(tmp_path / "data", size=16, counts=(("train", 200),))
    for name in ("a.csv", "a.parquet"):
        run(command, data, tmp_path / name, "--count=100", "--known=none")
    one, other = (read_conditions(str(tmp_path / f"a.{s}"), schema) for s in KINDS)
    assert one == other
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["gap"].tolist() == [row["gap"] for row, _, _ in one]
    assert frame["gap"].nunique() > 50


def test_known_fields_alone_are_known(command, data, tmp_path):
    run(command, data, tmp_path / "a.csv", "--count=300", "--known=sex,age")
    rows = read(tmp_path / "a.csv")
    assert all(row["sex"] and row["age"] for row in rows)
    assert not all(row["view"] for row in rows) and not all(row["bmi"] for row in rows)


def test_balanced_cells_differ_by_one(command, data, tmp_path):
    out = tmp_path / "a.csv"
    result = run(command, data, out, "--count=100", "--balance=sex,view")
    found = Counter((row["view"], row["sex"]) for row in read(out))
    assert len(found) == 6 and set(found.values()) == {16, 17}
    cells = read(tmp_path / "a.cells.csv")
    assert {(c["view"], c["sex"]): int(c["drawn"]) for c in cells} == found
    assert {c["verdict"] for c in cells} == {"enough"}
    assert not any(c["real_images"].isdecimal() for c in cells)
    assert "view=AP, sex=F" in result.out
    result = run(
        command, data, out, "--count=9", "--balance=view", "--enough=500", "--overwrite"
    )
    assert {c["verdict"] for c in read(tmp_path / "a.cells.csv")} == {"few"}
    assert "3 of 3 combinations have fewer than 500" in result.out


def test_real_and_filled_up_are_balanced(command, data, tmp_path):
    out = tmp_path / "a.csv"
    run(command, data, out, "--balance=view,side", "--fill")
    conditions, _ = records.read_conditions(data, "train", PELVIS)
    real = [
        (row["view"], row["side"])
        for row in PELVIS.decode(conditions)
        if row["view"] and row["side"]
    ]
    sums = Counter(real) + Counter((r["view"], r["side"]) for r in read(out))
    assert set(sums.values()) == {max(Counter(real).values())}
    run(command, data, out, "--balance=view", "--fill", "--count=7", "--overwrite")
    assert len(read(out)) == 7


def test_where_and_fields(command, data, tmp_path):
    out = tmp_path / "a.csv"
    arguments = ("--where=view=lateral,sex=f", "--fields=view,sex,age")
    run(command, data, out, "--count=40", *arguments)
    rows = read(out)
    assert list(rows[0]) == ["view", "sex", "age", "seed"]
    assert {(row["view"], row["sex"]) for row in rows} == {("lateral", "F")}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("--count=5", "--balance=age"),
            "--balance age: a number; expected some of view",
        ),
        (
            ("--count=5", "--balance=wiev"),
            "--balance wiev: no field of the data; expect",
        ),
        (("--count=5", "--fields=wiev"), "field 'wiev' is not in the schema"),
        (("--count=5", "--known=wiev"), "field 'wiev' is not in the schema"),
        (
            ("--count=5", "--where=age=5"),
            "--where age: a number; expected some of view",
        ),
        (("--count=5", "--where=view=PA"), "view = 'PA': expected one of AP, lateral"),
        (("--count=5", "--where=view"), "--where view: expected view= and one of AP"),
        (("--count=5", "--split=dev"), "no split 'dev'; expected one of train, test"),
        (("--count=5", "--split=test"), "split test: fewer than 11 records."),
        (("--count=5", "--where=sex=other"), "fewer than 11 records where sex=other"),
        (("--count=5", "--fill"), "--fill: expected --balance"),
        ((), "--count: needed, or --balance with --fill"),
        (
            ("--count=5", "--fields=view,age", "--balance=sex"),
            "--balance sex: no field of the data; expected some of view",
        ),
        (
            ("--fill", "--balance=view", "--where=view=AP"),
            "--balance view --fill: balanced already; nothing to add",
        ),
        (
            ("--count=5", "--fields=view,age", "--where=view=AP", "--known=age,sex"),
            "field 'sex' is not in the schema",
        ),
    ],
)
def test_what_cannot_be_drawn(command, data, tmp_path, arguments, message):
    out = tmp_path / "a.csv"
    result = command("cohort", f"--like={data}", f"--out={out}", *arguments)
    assert result.status == 1 and message in result.err, result.err
    assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_numbers_of_rows_and_limits_are_checked(command, data, tmp_path):
    for flag in ("--count=0", "--enough=10", "--seed=-1"):
        out = f"--out={tmp_path / 'a.csv'}"
        result = command("cohort", f"--like={data}", out, "--count=1", flag)
        assert result.status == 2 and len(result.err.splitlines()) == 1


def test_places_that_cannot_be_written(command, data, tmp_path):
    def refusal(out):
        result = command("cohort", f"--like={data}", f"--out={out}", "--count=5")
        assert result.status == 1 and len(result.err.splitlines()) == 1
        return result.err

    assert "expected a file, .csv or .parquet" in refusal(tmp_path / "a.txt")
    (tmp_path / "b.png").write_text("mine")
    assert "b.png: there already; expected another --out" in refusal(tmp_path / "b.csv")
    assert (tmp_path / "b.png").read_text() == "mine"
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refusal(tmp_path / "file" / "a.csv")
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0o500)
        assert "cannot write to" in refusal(tmp_path / "shut" / "a.csv")
    assert "no manifest.json here" in refusal_of_data(command, tmp_path)


def refusal_of_data(command, folder):
    out = f"--out={folder / 'c.csv'}"
    result = command("cohort", f"--like={folder}", out, "--count=5")
    assert result.status == 1
    return result.err


def test_small_counts_are_nowhere_in_the_files(command, tmp_path):
    """Of 60 records, hardly a pair of values has 11 images."""
    (tmp_path / "data").mkdir()
    data = write_dataset(tmp_path / "data", size=16, counts=(("train", 60),))
    out = tmp_path / "a.csv"
    result = run(command, data, out, "--count=30")
    cells = read(tmp_path / "a.cells.csv")
    assert {c["real_images"] for c in cells} <= {"0", "under 11", "11 to 49"} | {
        "50 to 99",
        "11 or more",
    }
    assert "under 11" in {c["real_images"] for c in cells}
    assert "under 11" in result.out


def test_no_jax_is_loaded():
    code = (
        "import sys, ddpm_jax.cohort\n"
        "print({'jax', 'flax', 'tensorflow', 'optax', 'grain'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr


def test_a_data_set_of_other_fields(command, tmp_path, monkeypatch):
    """Nothing is the pelvis's own; a field that no record knows is left not known."""
    schema = Schema(
        (
            Categorical("grade", ("0", "1", "2"), "grade"),
            Continuous("space", "mm", 0, 10, 4, 1, "joint space"),
            Categorical("spur", ("no", "yes"), "spur"),
        )
    )

    def row(rng):
        grade = int(rng.integers(3))
        return {"grade": str(grade), "space": round(8 - 3 * grade + rng.random(), 1)}

    monkeypatch.setattr(datasets, "PELVIS", schema)
    monkeypatch.setattr(datasets, "random_row", row)
    (tmp_path / "data").mkdir()
    data = write_dataset(tmp_path / "data", size=16, counts=(("train", 90),))
    out = tmp_path / "a.csv"
    result = run(command, data, out, "--count=30", "--balance=grade")
    assert "spur: known in fewer than 11 records; not asked for." in result.out
    rows = read(out)
    assert Counter(row["grade"] for row in rows) == {"0": 10, "1": 10, "2": 10}
    assert {row["spur"] for row in rows} == {""}
    for row in rows:
        assert abs(float(row["space"]) - (8.5 - 3 * int(row["grade"]))) < 1.5
