"""field=value, CSV and Parquet ask for the same; what is wrong is one line."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.outputs import requests
from ddpm_jax.outputs.requests import Asked, Model

VALUES = {
    field.name: st.none() | st.sampled_from(field.values)
    if field.kind == "categorical"
    else st.none() | st.integers(int(field.low), int(field.high)).map(float)
    for field in PELVIS
}


@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=5), st.data())
def test_three_ways_to_ask_are_one(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("tables")
    seeds = data.draw(st.lists(st.none() | st.integers(0, 2**32 - 1), min_size=1))
    seeds = (seeds * len(rows))[: len(rows)]
    table = pd.DataFrame([{**row, "seed": s} for row, s in zip(rows, seeds)])  # noqa: B905
    table.to_csv(folder / "a.csv", index=False)
    table.to_parquet(folder / "a.parquet")
    expected = [(row, s, "") for row, s in zip(rows, seeds, strict=True)]
    assert requests.read_conditions(str(folder / "a.parquet"), PELVIS) == expected
    for row, (index, _) in zip(rows, table.iterrows(), strict=True):
        pairs = [f"{name}={value}" for name, value in row.items() if value is not None]
        stated = PELVIS.parse(requests.read_pairs(pairs, PELVIS))
        assert stated == rows[index]
    seeds = table["seed"].astype("Int64")  # a CSV of pandas has 7.0 beside a gap
    table.assign(seed=seeds).to_csv(folder / "a.csv", index=False)
    assert requests.read_conditions(str(folder / "a.csv"), PELVIS) == expected


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["view"], "--condition 'view': expected field=value"),
        (["view=AP", "view=AP"], "each field once"),
        (["weight=80"], "--condition 'weight=80': field 'weight' is not in the schema"),
        (
            ["view=PA"],
            "--condition 'view=PA': view = 'PA': expected one of AP",
        ),
        (["age=200"], "expected a number from 0 to 120 years"),
    ],
)
def test_pairs_that_cannot_be_read(pairs, message):
    with pytest.raises(ValueError) as raised:
        requests.read_pairs(pairs, PELVIS)
    assert message in str(raised.value)


def test_a_value_may_hold_what_separates():
    assert requests.read_pairs([" bmi = 31.5 "], PELVIS) == {"bmi": 31.5}


def parquet(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return str(path)


def test_a_parquet_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(ValueError, match="no such file"):
        requests.read_table(str(path))
    path.write_text("view,age\nAP,60\n")
    with pytest.raises(ValueError, match="no readable Parquet"):
        requests.read_table(str(path))
    with pytest.raises(ValueError, match="a.parquet: no rows; expected one an image"):
        requests.read_table(parquet(path, view=[]))
    with pytest.raises(ValueError, match="row 2: view = 'PA': expected one of AP"):
        requests.read_conditions(parquet(path, view=["AP", "PA"]), PELVIS)
    with pytest.raises(ValueError, match="row 1: seed = '1.5': expected a whole"):
        requests.read_conditions(parquet(path, seed=[1.5]), PELVIS)
    with pytest.raises(ValueError, match="columns weight: expected some of view"):
        requests.read_conditions(parquet(path, weight=[80.0]), PELVIS)


def test_a_table_of_other_things_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("file,model_sha256\n000000.png,ab\n")
    with pytest.raises(ValueError, match="columns file, model_sha256: expected some"):
        requests.read_conditions(str(path), PELVIS)
    with pytest.raises(ValueError, match="field=value is for --condition"):
        requests.read_table("view=AP")


def test_guidance_and_steps_of_a_manifest(tmp_path):
    path = tmp_path / "a.csv"

    def table(*cells):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("view", "guidance"), *cells])
        return requests.read_table(str(path))

    assert requests.made_with(table(("AP", "2.5"), ("AP", "2.5")), "guidance") == 2.5
    assert requests.made_with(table(("AP", ""), ("AP", "")), "guidance") is None
    assert requests.made_with(table(("AP", "1")), "steps") is None
    with pytest.raises(ValueError, match="column guidance holds 1, 2.*--guidance to"):
        requests.made_with(table(("AP", "2"), ("AP", "1")), "guidance")
    with pytest.raises(ValueError, match="column guidance: expected a number"):
        requests.made_with(table(("AP", "much")), "guidance")


def test_seeds_go_on_or_begin_with_the_row():
    rows = [({}, None, ""), ({}, 7, ""), ({}, None, "")]
    seeds = [one.seed for one in requests.numbered(rows, 100, 2)]
    assert seeds == [100, 101, 7, 8, 104, 105]


MODEL = Model("ab", 2.0, 16)


@given(st.fixed_dictionaries(VALUES), st.integers(0, 2**32 - 1))
def test_identity_is_of_row_seed_and_model_alone(row, seed):
    one = Asked(PELVIS.parse(row), seed, "a prompt")
    key = requests.identity(one, MODEL)
    turned = dict(reversed(one.row.items()))
    assert requests.identity(Asked(turned, seed, ""), MODEL) == key
    assert requests.identity(one._replace(seed=seed ^ 1), MODEL) != key
    other = dict(one.row, age=None if one.row["age"] is not None else 1.0)
    assert requests.identity(one._replace(row=other), MODEL) != key
    for change in ({"sha256": "ac"}, {"guidance": 2.1}, {"steps": 15}):
        assert requests.identity(one, MODEL._replace(**change)) != key
