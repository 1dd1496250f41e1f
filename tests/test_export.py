"""The exported sampler against the run it came from."""

import dataclasses
import json
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from jax import export as jax_export

from configs import tiny
from ddpm_jax import build, card, export, exported, runs, sources
from ddpm_jax.sampler import load_sampler

ROW = {"view": "AP", "side": "both", "age": 67}
SEEDS = np.arange(5, dtype=np.uint32)


def one_program(run):
    """The sampler of the config as `train.py` runs it: one program, static scans."""
    sample = jax.jit(build.sampler(run.config, run.network, run.schema))
    cond = run.schema.encode([ROW] * len(SEEDS))
    return np.asarray(sample(run.params, SEEDS, cond, run.config.sampler.guidance))


@pytest.fixture(scope="module")
def pair(tiny_run, tiny_export):
    """The sampler of a run, and the one exported from it."""
    return sources.from_run(str(tiny_run)).sampler, load_sampler(tiny_export)


def test_run_export_and_one_program_make_the_same_bits(tiny_run, pair):
    expected = one_program(runs.load(tiny_run))
    for sampler in pair:
        found = sampler.sample(ROW, SEEDS, batch=5)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("steps", [8, 64])
@pytest.mark.parametrize("guidance", [1.0, 3.0, {"view": 2.0, "age": 1.0}])
def test_run_and_export_make_the_same_bits(pair, steps, guidance):
    options = {"steps": steps, "guidance": guidance, "batch": 5}
    expected, found = (sampler.sample(ROW, SEEDS, **options) for sampler in pair)
    np.testing.assert_array_equal(found, expected)


EVERYWHERE = {"guidance_interval": (-100.0, 100.0)}
VARIANTS = {
    "ancestral": {"order": 1, "eta": 1.0, "large_variance": True, "clip": True}
    | {"steps": 70}
    | EVERYWHERE,
    "stochastic, field by field": {"eta": 0.5, "shares": {"view": 1.0, "age": 0.5}},
    "guided nowhere": {"guidance_interval": (-100.0, -90.0)},
    "guided to the end": {"guidance_interval": (2.0, 100.0)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_sampler_can_be_exported(tiny_run, tmp_path, name):
    run = varied(runs.load(tiny_run), VARIANTS[name])
    export.export(run, tmp_path / "exported", [run.config.sampler.steps, 3])
    sampler = load_sampler(tmp_path / "exported")
    assert sampler.steps == run.config.sampler.steps
    expected = one_program(run).astype(int)
    found = sampler.sample(ROW, SEEDS, batch=5).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert sampler.sample(ROW, SEEDS, steps=3).std() > 0


def varied(run, changes):
    config = ml_collections.ConfigDict(run.config.to_dict())
    config.sampler.update(changes)
    return dataclasses.replace(run, config=config)


@pytest.mark.parametrize(
    "asked, changes, expected",
    [
        ([], {}, (4, [4, 8, 16, 32, 64])),
        ([], {"steps": 16}, (16, [8, 16, 32, 64])),
        ([], {"steps": 1000, "eta": 1.0}, (1000, [1000])),
        ([8, 4, 8], {}, (4, [4, 8])),
        ([32, 16], {}, (32, [16, 32])),
    ],
)
def test_which_steps_are_offered(asked, changes, expected):
    config = tiny.get_config()
    config.sampler.update(changes)
    assert export.numbers_of_steps(config, asked) == expected


def test_programs_know_their_platforms(tiny_export):
    for name in exported.PROGRAMS:
        data = bytearray((tiny_export / name).read_bytes())
        program = jax_export.deserialize(data)
        assert program.platforms == ("cpu", "cuda", "tpu")


def test_nothing_says_where_it_was_made(tiny_export, tiny_run, tiny_config):
    """Paths of a machine name people and projects."""
    here = [Path(build.__file__).parents[1], jax.__path__[0], tiny_run, Path.home()]
    here += [tiny_config.data.folder]
    for path in tiny_export.iterdir():
        data = path.read_bytes()
        for folder in here:
            assert str(folder).encode() + b"/" not in data, path.name
        if path.suffix == ".json":
            assert tiny_config.data.folder.encode() not in data


REPORT = {
    "count": 200,
    "real": {"view": {"share": 0.997, "low": 0.98, "high": 0.999}},
    "synthetic": {"view": {"share": 0.97, "low": 0.936, "high": 0.986}},
}


def test_the_card_says_what_must_be_known(tiny_run, tmp_path):
    run = runs.load(tiny_run)
    report = REPORT | {"model_sha256": sources.model_hash(run.params)}
    export.export(run, tmp_path / "exported", [4, 8], report)
    text = (tmp_path / "exported" / "card.md").read_text()
    for part in (
        "not for\ndiagnosis",
        run.data["fingerprint"],
        report["model_sha256"],
        "4 steps, 32 images seen",
        "4 steps, 1 of them guided, weight 2.5; also 8 steps",
        "| age (`age`) | 0 to 120 years |",
        "| view | 99.7% (98.0%–99.9%) | 97.0% (93.6%–98.6%) |",
        f"under jax {jax.__version__}",
        "six months newer",
    ):
        assert part in text, part
    description = json.loads((tmp_path / "exported" / "sampler.json").read_text())
    assert description["evaluation"] == report
    assert "folder" not in description["config"]["data"]


def test_a_report_on_another_model_is_refused(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="the report is not on this model"):
        export.export(runs.load(tiny_run), tmp_path / "out", None, REPORT)
    assert not (tmp_path / "out").exists()


def test_nothing_asked_of_a_field_is_said(tiny_export):
    none = {"share": None, "low": None, "high": None}
    text = card.evaluation(REPORT | {"synthetic": {"view": none}})
    assert "| view | 99.7% (98.0%–99.9%) | none asked |" in text


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--steps=8,many"], ["--steps 8,many", "expected e.g. 8,16,32"]),
        (["--steps=0"], ["--steps 0"]),
        (["--evaluate=nowhere"], ["--evaluate nowhere", "no metrics.json there"]),
    ],
)
def test_flags_that_cannot_be(command, tiny_run, tmp_path, flags, parts):
    out = tmp_path / "out"
    result = command("export", f"--workdir={tiny_run}", f"--out={out}", *flags)
    assert result.status == 1 and len(result.err.splitlines()) == 1, result.err
    assert all(part in result.err for part in parts) and not out.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"real": {}}'])
def test_a_report_that_is_none(command, tiny_run, tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    result = command(
        "export",
        *(f"--workdir={tiny_run}", f"--out={tmp_path / 'out'}"),
        f"--evaluate={tmp_path}",
    )
    assert result.status == 1 and "evaluate again" in result.err


def test_a_folder_with_other_files_is_not_replaced(command, tiny_run, tmp_path):
    (tmp_path / "checksums.json").write_text('{"sampler.json": "0"}')
    (tmp_path / "notes.txt").write_text("mine")
    result = command(
        "export", f"--workdir={tiny_run}", f"--out={tmp_path}", "--overwrite"
    )
    assert result.status == 1 and "notes.txt is not of a sampler" in result.err
    assert (tmp_path / "notes.txt").read_text() == "mine"
