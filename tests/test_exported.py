"""An exported folder with checksums as they should be, and content as it should not:
one line that names file, key and what is expected."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from ddpm_jax import description
from ddpm_jax.sampler import load_sampler

LEFT_OUT = object()
NUMBER = {"kind": "continuous", "name": "age", "unit": "years", "title": "age"}
NUMBER |= {"low": 0, "high": 120, "mean": 60, "std": 20}
WORD = {"kind": "categorical", "name": "sex", "values": ["F", "M"], "title": "sex"}


@pytest.fixture(scope="module")
def folder(tiny_export, tmp_path_factory):
    return shutil.copytree(tiny_export, tmp_path_factory.mktemp("changed") / "sampler")


@pytest.fixture
def sign(folder, tiny_export):
    """sign(name, content) replaces a file and its checksum, for one test."""

    def sign(name: str, content: bytes):
        (folder / name).write_bytes(content)
        sums = json.loads((folder / "checksums.json").read_text())
        sums[name] = hashlib.sha256(content).hexdigest()
        (folder / "checksums.json").write_text(json.dumps(sums))

    yield sign
    shutil.copytree(tiny_export, folder, dirs_exist_ok=True)


def refusal(folder) -> str:
    with pytest.raises(ValueError) as raised:
        load_sampler(folder)
    said = str(raised.value)
    assert "\n" not in said and len(said) < 600 + len(str(folder))
    return said


VALUES = {
    "height": ["16", 16.0, -16, 0, True, None, 32, 10**9, math.nan, [16], LEFT_OUT],
    "width": ["16", 32, -1, None, LEFT_OUT],
    "guidance": ["2", True, None, [2.0], {}, math.nan, math.inf, 1e300, LEFT_OUT],
    "steps": ["4", 4.0, -4, 0, 5, True, None, 10**9, math.nan, LEFT_OUT],
    "guided": [None, 5, [], {}, {"x": [0, 1]}, {"4": [0, 1]}, LEFT_OUT],
    "shares": [None, 5, ["view"], {"hip": 1.0}, {"view": "1"}, {"view": math.nan}]
    + [{"view": True}, {"view": 1.0}, LEFT_OUT],
    "model_sha256": [None, 5, "", "xyz", "0" * 63, LEFT_OUT],
    "schema": [None, 5, "view", {}, [], [5], [None], [{}], [WORD], [NUMBER], LEFT_OUT]
    + [[WORD | {"kind": kind}] for kind in ("set", 5, None, ["categorical"])]
    + [[WORD | {"name": name}] for name in (5, None, "", ["sex"])]
    + [[WORD | {"values": v}] for v in ("FM", 5, None, [], [1, 2], {"F": 1}, [None])]
    + [[WORD | {"title": title}] for title in (5, None, ["sex"])]
    + [[NUMBER | {key: v}] for key in ("low", "std") for v in ("1", None, True, [0])]
    + [[NUMBER | {key: math.nan}] for key in ("low", "high", "mean", "std")]
    + [[NUMBER | {"std": 1e300}], [NUMBER | {"std": -1}], [NUMBER | {"unit": 5}]]
    + [[{k: v for k, v in NUMBER.items() if k != "std"}], [NUMBER, NUMBER]],
}


@pytest.mark.parametrize(
    "key, value", [(key, value) for key in VALUES for value in VALUES[key]]
)
def test_a_value_that_cannot_be(folder, sign, key, value):
    content = json.loads((folder / "sampler.json").read_text())
    if value is LEFT_OUT:
        del content[key]
    else:
        content[key] = value
    sign("sampler.json", json.dumps(content).encode())
    said = refusal(folder)
    assert f"{folder / 'sampler.json'}: " in said and key in said
    assert "expected" in said or "states no" in said


@pytest.mark.parametrize(
    "bounds",
    [None, 5, [], [0], [0, 1, 2], ["0", "1"], [0, 5], [3, 2], [-1, 2], [0, 1.5]],
)
def test_guided_rows_that_cannot_be(folder, sign, bounds):
    content = json.loads((folder / "sampler.json").read_text())
    content["guided"]["4"] = bounds
    sign("sampler.json", json.dumps(content).encode())
    said = refusal(folder)
    assert "sampler.json: guided of 4 = " in said and "expected [first, stop)" in said


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_written_is_read_or_refused_in_one_line(tiny_export, data):
    """Any value anywhere: what is read is then what the description says."""
    content = json.loads((tiny_export / "sampler.json").read_text())
    place = content
    key = data.draw(st.sampled_from(sorted(description.STATED)))
    while isinstance(place[key], dict | list) and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            return
        key = data.draw(st.sampled_from(list(keys)))
    place[key] = data.draw(junk)
    try:
        stated = json.loads(json.dumps(content))
        schema = description.check("sampler.json", stated)
    except ValueError as error:
        assert str(error).startswith("sampler.json: ") and "\n" not in str(error)
    else:
        assert schema.names == tuple(each["name"] for each in content["schema"])


def test_json_too_deep_to_be_read(folder, sign):
    sign("sampler.json", b"[" * 10**6)
    assert "sampler.json: not readable JSON; export it again" in refusal(folder)


@pytest.mark.parametrize("versions", [5, None, [], {"jax": 5}])
def test_programs_that_are_none_of_whatever_version(folder, sign, versions):
    content = json.loads((folder / "sampler.json").read_text())
    sign("sampler.json", json.dumps(content | {"versions": versions}).encode())
    sign("finish.jax", b"nothing of use")
    assert "cannot be read under jax" in refusal(folder)


TABLES = {
    "nan": lambda rows: rows * np.float32(math.nan),
    "short": lambda rows: rows[:-1],
    "narrow": lambda rows: rows[:, :4].copy(),
    "double": lambda rows: rows.astype(np.float64),
    "flat": lambda rows: rows.ravel(),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be(folder, sign, name):
    tables = load((folder / "tables.safetensors").read_bytes())
    sign("tables.safetensors", save(tables | {"8": TABLES[name](tables["8"])}))
    said = refusal(folder)
    assert "tables.safetensors: table 8: expected finite float32 [8, 5]" in said


def test_tables_and_weights_of_other_names(folder, sign):
    tables = load((folder / "tables.safetensors").read_bytes())
    sign("tables.safetensors", save({n: t for n, t in tables.items() if n != "8"}))
    assert "guided of 4, 8, 16, 32, 64: expected 4, 16, 32, 64, as" in refusal(folder)
    sign("tables.safetensors", save(tables))
    weights = load((folder / "weights.safetensors").read_bytes())
    first, *_ = sorted(weights)
    sign("weights.safetensors", save({n: w for n, w in weights.items() if n != first}))
    assert f"weights.safetensors: {first}: expected float32" in refusal(folder)
    sign("weights.safetensors", save(weights | {first: weights[first][..., :1].copy()}))
    assert f"weights.safetensors: {first}: expected float32" in refusal(folder)
    sign("weights.safetensors", save(weights | {"more": weights[first]}))
    assert "weights.safetensors: more: expected no such" in refusal(folder)
