"""The command: each part alone and together, gone on with, and what it leaves."""

import json
import re
import stat

import numpy as np
import pytest

from ddpm_jax.assessment import parts
from ddpm_jax.assessment.asked import PARTS
from tests.datasets import write_dataset

CHEAP = "--parts=fidelity,manifold,spectrum,agreement"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return write_dataset(folder, size=16, counts=(("train", 96), ("test", 48)))


@pytest.fixture(scope="module")
def evaluated(real, tiny_run, tmp_path_factory):
    """OUT of all parts, from a run."""
    from ddpm_jax.assessment.asked import Asked
    from ddpm_jax.assessment.assess import assess

    out = tmp_path_factory.mktemp("evaluated") / "report"
    assess(Asked(str(real), out, workdir=str(tiny_run), count=40, epochs=2))
    return out


def metrics(out):
    return json.loads((out / "metrics.json").read_text())


def test_all_parts_are_measured(evaluated):
    found = metrics(evaluated)
    assert list(found["parts"]) == list(PARTS)
    assert found["count"] == 40 and len(found["model_sha256"]) == 64
    assert found["versions"]["ddpm_jax"]
    assert found["parts"]["memorization"]["membership"]["others"] == 48
    arms = found["parts"]["usefulness"]["arms"]
    assert [arm["images"] for arm in arms.values()] == [96, 40, 136, 136]
    groups = [found["parts"][name]["groups"] for name in ("fidelity", "manifold")]
    names = [[(g["field"], g["name"], g["real"]) for g in part] for part in groups]
    assert names[0] and names[0] == names[1]


def test_exporter_reads_the_agreement(evaluated):
    from ddpm_jax import card

    found = metrics(evaluated)
    assert "| view |" in card.evaluation(found)
    assert found["real"]["all"]["total"] == 48
    assert found["synthetic"]["all"]["total"] == 40


def test_report_asks_for_nothing_and_shows_no_real_image(evaluated):
    page = (evaluated / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings[0] == "Fidelity" and headings[-1] == "Protocol"
    assert len(headings) == 7
    assert page.index("<img") < page.index("<h2")  # pictures first
    assert page.count("<img") == 24 + 24


def test_pairs_are_their_owners_alone(evaluated):
    private = evaluated.with_name("report.private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "pairs.png").stat().st_mode) == 0o600


def test_what_is_finished_is_kept_and_parts_add_up(
    command, real, evaluated, tmp_path, monkeypatch
):
    """From a folder of images: one part, then another, then again."""
    out, made = tmp_path / "out", evaluated / "synthetic"
    flags = [f"--real={real}", f"--synthetic={made}", f"--out={out}", "--epochs=1"]
    assert command("evaluate", *flags, "--parts=spectrum").status == 0
    assert list(metrics(out)["parts"]) == ["spectrum"]
    result = command("evaluate", *flags, "--parts=agreement")
    assert result.status == 0, result.err
    assert set(metrics(out)["parts"]) == {"spectrum", "agreement"}
    before = metrics(out)
    monkeypatch.setattr(parts, "MEASURES", {})  # nothing is measured again
    result = command("evaluate", *flags, "--parts=spectrum,agreement")
    assert result.status == 0 and metrics(out) == before
    assert metrics(out)["model_sha256"] == metrics(evaluated)["model_sha256"]


def test_interrupted_and_gone_on_with(command, real, evaluated, tmp_path, monkeypatch):
    out, made = tmp_path / "out", evaluated / "synthetic"
    flags = [f"--real={real}", f"--synthetic={made}", f"--out={out}", "--epochs=1"]

    def interrupt(material):
        raise KeyboardInterrupt

    measures = dict(parts.MEASURES)
    monkeypatch.setattr(parts, "MEASURES", measures | {"spectrum": interrupt})
    assert command("evaluate", *flags, CHEAP).status == 130
    assert set(metrics(out)["parts"]) == {"fidelity", "manifold"}
    monkeypatch.setattr(parts, "MEASURES", {n: measures[n] for n in PARTS[2:4]})
    result = command("evaluate", *flags, CHEAP)
    assert result.status == 0, result.err
    assert set(metrics(out)["parts"]) == set(PARTS[:4])


def test_another_evaluation_is_not_overwritten(command, real, evaluated, tiny_export):
    flags = [f"--real={real}", f"--out={evaluated}", "--count=40"]
    other = command("evaluate", *flags, f"--sampler={tiny_export}", "--seed=7", CHEAP)
    assert other.status == 1
    assert "an evaluation of something else (synthetic images)" in other.err
    assert len(metrics(evaluated)["parts"]) == 6


def test_a_folder_of_something_is_left_alone(command, real, evaluated, tmp_path):
    (tmp_path / "mine").write_text("mine")
    made = evaluated / "synthetic"
    flags = [f"--real={real}", f"--synthetic={made}", f"--out={tmp_path}"]
    result = command("evaluate", *flags, CHEAP)
    assert result.status == 1 and "not empty" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_planted_copies_are_flagged_by_the_command(
    command, real, evaluated, tmp_path, monkeypatch
):
    """Training images among the synthetic ones, as PNG of the folder."""
    import shutil

    from ddpm_jax.conditions.presets import PELVIS
    from ddpm_jax.evaluation import images
    from ddpm_jax.outputs import png

    made = tmp_path / "made"
    shutil.copytree(evaluated / "synthetic", made)
    training = images.of_records(str(real), "train", PELVIS, 1000)
    for i in range(3):
        (made / f"00000{i}.png").write_bytes(png.encode(training.read(i)))
    out = tmp_path / "out"
    result = command(
        "evaluate",
        *(f"--real={real}", f"--synthetic={made}", f"--out={out}"),
        *("--epochs=1", "--parts=memorization"),
    )
    assert result.status == 0, result.err
    told = metrics(out)["parts"]["memorization"]
    assert set(told["flagged_images"]) >= {0, 1, 2}
    assert np.isclose(told["flagged"]["total"], 40)
