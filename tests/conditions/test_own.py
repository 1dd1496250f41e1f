"""Fields that a lab declares: read as the preset's own, or refused in one line."""

import json

import ml_collections
import pytest

from configs import tiny
from data_prep.own_fields import load_schema
from ddpm_jax import build
from ddpm_jax.conditions import own
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Categorical, Continuous

KL = {"kind": "categorical", "name": "kl_right", "values": (0, 1, 2, 3, 4)}
SPURS = {"kind": "binary_per_side", "name": "osteophytes", "title": "spurs"}
SPACE = {"kind": "continuous", "name": "joint_space", "unit": "mm", "title": "space"}
SPACE |= {"low": 0, "high": 10, "mean": 4, "std": 1.5}
OWN = (KL, SPURS, SPACE)
FIELDS = (
    Categorical("kl_right", ("0", "1", "2", "3", "4"), "kl right"),
    Categorical("osteophytes_right", ("no", "yes"), "right spurs"),
    Categorical("osteophytes_left", ("no", "yes"), "left spurs"),
    Continuous("joint_space", "mm", 0.0, 10.0, 4.0, 1.5, "space"),
)

AS_YAML = """
fields:
  - {kind: categorical, name: kl_right, values: [0, 1, 2, 3, 4]}
  - {kind: binary_per_side, name: osteophytes, title: spurs}
  - kind: continuous
    name: joint_space
    title: space
    unit: mm
    low: 0
    high: 10
    mean: 4
    std: 1.5
"""


def config_with(fields):
    config = tiny.get_config()
    config.conditioning.own_fields = fields
    return config


def test_declarations_extend_the_preset():
    assert own.extend(PELVIS, OWN, "here").fields == PELVIS.fields + FIELDS
    assert own.extend(PELVIS, (), "here") == PELVIS


def test_config_yaml_and_python_declare_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text(AS_YAML)
    (tmp_path / "a.py").write_text(f"PRESET = 'pelvis'\nFIELDS = {OWN!r}\n")
    expected = build.condition_schema(config_with(OWN))
    assert load_schema(str(tmp_path / "a.yaml")) == expected
    assert load_schema(str(tmp_path / "a.py")) == expected
    assert load_schema("pelvis") == PELVIS


def test_a_saved_config_declares_the_same():
    config = config_with((KL, SPURS))
    saved = json.loads(json.dumps(config.to_dict()))
    again = build.condition_schema(ml_collections.ConfigDict(saved))
    assert again == build.condition_schema(config)


def test_own_fields_go_with_a_choice_of_the_preset():
    config = config_with((SPURS,))
    config.conditioning.fields = ("view", "osteophytes_left")
    assert build.condition_schema(config).names == (
        *("view", "osteophytes_right", "osteophytes_left"),
    )


@pytest.mark.parametrize(
    "text, row",
    [
        ("osteophytes right: yes", {"osteophytes_right": "yes"}),
        ("AP, left spurs", {"view": "AP", "osteophytes_left": "yes"}),
        ("no osteophytes", {"osteophytes_right": "no", "osteophytes_left": "no"}),
        ("kl right 3, space 2.5 mm", {"kl_right": "3", "joint_space": 2.5}),
        ("kl_right=3 joint_space=2.5", {"kl_right": "3", "joint_space": 2.5}),
    ],
)
def test_a_prompt_knows_their_words(text, row):
    schema = own.extend(PELVIS, OWN, "here")
    assert parse_prompt(text, schema).row == schema.parse(row)


REFUSED = {
    "no mapping": ("kl", "here, field 1: expected a plain dict with kind and name"),
    "no kind": ({"name": "a"}, "here, field 1 (a): kind = None: expected one of"),
    "a kind": (KL | {"kind": "text"}, "kind = 'text': expected one of categorical"),
    "no name": ({"kind": "binary_per_side"}, "field 1: no name: expected kind, name"),
    "no values": ({"kind": "categorical", "name": "a"}, "(a): no values: expected"),
    "no std": ({k: SPACE[k] for k in list(SPACE)[:-1]}, "no std: expected kind, name"),
    "a key": (KL | {"valeus": ()}, "key 'valeus': expected kind, name, values, and"),
    "a name": (KL | {"name": "KL right"}, "name = 'KL right': expected lower-case"),
    "a name in use": (KL | {"name": "age"}, "(age): this name is taken"),
    "a column": (KL | {"name": "patient_id"}, "(patient_id): this name is taken"),
    "a title": (KL | {"title": " "}, "title = ' ': expected words"),
    "one value": (KL | {"values": "0"}, "values = '0': expected a list"),
    "yes in Python": (KL | {"values": (True, False)}, "values = True: expected words"),
    "one value twice": (KL | {"values": ("a", "A")}, "of different spelling"),
    "a unit": (SPACE | {"unit": 1}, "unit = 1: expected a word"),
    "a number": (SPACE | {"low": "zero"}, "low = 'zero': expected a number"),
    "a range": (SPACE | {"high": -1}, "expected finite numbers with low < high"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_declarations_that_cannot_be_read(fault):
    entry, message = REFUSED[fault]
    with pytest.raises(ValueError) as raised:
        own.extend(PELVIS, [entry], "here")
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert str(raised.value).startswith("here, field 1")


@pytest.mark.parametrize("entries", [KL, "kl", 3, None])
def test_declarations_that_are_no_list(entries):
    with pytest.raises(ValueError, match="here: expected a list of fields"):
        own.extend(PELVIS, entries, "here")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.yaml", "fields: [", "line 1: not readable as YAML"),
        ("a.yaml", "preset: knee\nfields: [{}]", "preset = 'knee': expected one of"),
        ("a.yaml", "preset: pelvis", "no fields; expected a list"),
        ("a.yaml", "columns: {a: view}", "expected the keys fields, and preset"),
        ("a.yaml", "fields: [{kind: a}]", "a.yaml: fields, field 1: kind = 'a'"),
        ("a.py", "FIELDS = (", "line 1: not runnable as Python"),
        ("a.csv", "", "expected pelvis or a file (.yaml, .yml, .py)"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as raised:
        load_schema(str(tmp_path / name))
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_preset_that_does_not_exist():
    with pytest.raises(ValueError, match="--conditions = knee: expected pelvis or a"):
        load_schema("knee")
