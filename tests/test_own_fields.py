"""A lab's own field goes the whole way at 16 px, and no code is written for it."""

import csv

import pytest

from configs import tiny
from ddpm_jax.data import pipeline, records
from ddpm_jax.sampler import load_sampler
from tests.dicoms import archive, write_labels

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
"""ml_collections loads a config file that way."""

OWN = (
    {"kind": "binary_per_side", "name": "osteophytes"},
    {
        "kind": "categorical",
        "name": "kellgren_lawrence_right",
        "values": (0, 1, 2, 3, 4),
        "title": "right Kellgren-Lawrence grade",
    },
)
AS_YAML = """
fields:
  - {kind: binary_per_side, name: osteophytes}
  - kind: categorical
    name: kellgren_lawrence_right
    values: [0, 1, 2, 3, 4]
    title: right Kellgren-Lawrence grade
"""
PROMPT = "AP pelvis, osteophytes right: yes, kellgren_lawrence_right=3"
SPOKEN = "AP, right osteophytes, right Kellgren-Lawrence grade 3"


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    """(folder, arguments): an archive whose table has the lab's columns."""
    folder = tmp_path_factory.mktemp("own")
    dicom, labels = archive(folder, 24, 24)
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row["osteophytes_right"] = ("no", "yes", "")[i % 3]
        row["osteophytes_left"] = ("yes", "", "no")[i % 3]
        row["kellgren_lawrence_right"] = ("", *"01234")[i % 6]
    write_labels(labels, rows)
    (folder / "own.yaml").write_text(AS_YAML)
    (folder / "key").write_text("0123456789abcdef0123456789abcdef")
    (folder / "key").chmod(0o600)
    arguments = (
        *(f"--dicom={dicom}", f"--labels={labels}", f"--out={folder / 'shards'}"),
        *(f"--key_file={folder / 'key'}", f"--conditions={folder / 'own.yaml'}"),
        *("--size=16", "--codec=png", "--splits=train=0.7,test=0.3", "--workers=1"),
    )
    return folder, arguments


@pytest.mark.slow
def test_an_own_field_from_table_to_exported_sampler(convert, command):
    from ddpm_jax.train import train

    folder, arguments = convert
    result = command("data_prep.convert", *arguments)
    assert result.status == 0, result.err
    manifest = records.load_manifest(folder / "shards")
    assert manifest.schema.names[-3:] == (
        *("osteophytes_right", "osteophytes_left", "kellgren_lawrence_right"),
    )

    config = tiny.get_config()
    config.data.folder = str(folder / "shards")
    config.conditioning.own_fields = OWN
    config.train.steps = 2
    config.train.sample_every = 2
    train(config, folder / "run")
    drawn = pipeline.read_all(config.data.folder, "train", manifest.schema)["cond"]
    for name in manifest.schema.names[-3:]:
        assert len(set(drawn[name].tolist())) > 1  # values and "not known"

    arguments = (f"--workdir={folder / 'run'}", f"--out={folder / 'images'}")
    result = command("sample", *arguments, f"--prompt={PROMPT}")
    assert result.status == 0, result.err
    assert "osteophytes_right = yes ('osteophytes right: yes')" in result.out
    with open(folder / "images" / "manifest.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["osteophytes_right"], row["osteophytes_left"]) == ("yes", "")
    assert row["kellgren_lawrence_right"] == "3"

    arguments = (f"--workdir={folder / 'run'}", f"--out={folder / 'sampler'}")
    result = command("export", *arguments)
    assert result.status == 0, result.err
    card = (folder / "sampler" / "card.md").read_text()
    assert "(`kellgren_lawrence_right`) | 0, 1, 2, 3, 4 |" in card
    sampler = load_sampler(folder / "sampler")
    asked = {"view": "AP", "osteophytes_right": "yes", "kellgren_lawrence_right": "3"}
    assert (sampler.sample(SPOKEN) == sampler.sample(asked)).all()
    with pytest.raises(ValueError, match="kellgren_lawrence_right = '5': expected"):
        sampler.sample({"kellgren_lawrence_right": "5"})


def test_a_field_that_the_data_set_lacks(command, tiny_data, tmp_path):
    """A config that declares more than was converted stops before it trains."""
    result = command(
        "train",
        *("--config=configs/tiny.py", f"--workdir={tmp_path / 'run'}"),
        f"--config.data.folder={tiny_data}",
        f"--config.conditioning.own_fields=({OWN[0]},)",
    )
    assert result.status == 1
    assert "'osteophytes_right' is no field of the data set" in result.err
    assert len(result.err.splitlines()) == 1
