"""Whole parts of an evaluation, of folders in which one thing was changed: the figure
that is about it moves, where it should and by what was changed."""

import json

import numpy as np
import pytest
from scipy import ndimage

from ddpm_jax.assessment import material
from ddpm_jax.assessment.asked import Asked
from ddpm_jax.assessment.assess import assess
from tests.datasets import write_dataset
from tests.evaluation import made

VIEWS = ("AP", "lateral", "oblique")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return write_dataset(folder, size=16, counts=(("train", 192), ("test", 120)))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Images and rows like the real ones, and none of them."""
    folder = tmp_path_factory.mktemp("others")
    write_dataset(folder, size=16, counts=(("train", 120),), seed=7)
    return made.of_split(folder, "train")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One for all, so that the labeller learns once."""
    return tmp_path_factory.mktemp("out") / "report"


def measured(real, folder, out, part):
    assess(
        Asked(
            str(real),
            out,
            synthetic=str(folder),
            parts=(part,),
            epochs=24,
            overwrite=True,
        )
    )
    return json.loads((out / "metrics.json").read_text())["parts"][part]


def test_blur_is_an_error_in_the_finest_bands(tmp_path_factory, others, tmp_path):
    """And needs no labeller: the data set has nothing to train one on."""
    data = tmp_path_factory.mktemp("test_alone")
    write_dataset(data, size=16, counts=(("test", 120),), seed=3)
    pixels, rows = others
    sharp = made.write(tmp_path / "sharp", pixels, rows)
    blurred = ndimage.gaussian_filter(pixels.astype(float), (0, 1, 1), mode="nearest")
    soft = made.write(tmp_path / "soft", np.uint16(np.rint(blurred)), rows)
    found = measured(data, sharp, tmp_path / "out", "spectrum")
    assert np.abs(found["error"]["error"]).max() < 1.5
    found = measured(data, soft, tmp_path / "out", "spectrum")
    assert found["error"]["error"][-1] < -10 and found["error"]["high"][-1] < -8
    assert abs(found["error"]["error"][0]) < 2
    assert found["groups"] and all(g["rms"] > 3 for g in found["groups"])


def test_agreement_falls_by_the_labels_that_were_swapped(real, others, out, tmp_path):
    pixels, rows = others
    swapped = [dict(row) for row in rows]
    known = [i for i, row in enumerate(rows) if row["view"]]
    changed = known[: len(known) // 4]
    for i in changed:
        swapped[i]["view"] = VIEWS[(VIEWS.index(rows[i]["view"]) + 1) % 3]
    before = measured(real, made.write(tmp_path / "as", pixels, rows), out, "agreement")
    after = measured(
        real, made.write(tmp_path / "swapped", pixels, swapped), out, "agreement"
    )
    right = [part["synthetic"]["view"] for part in (before, after)]
    assert right[0]["total"] == right[1]["total"] == len(known)
    assert right[0]["share"] > 0.9
    lost = (right[0]["count"] - right[1]["count"]) / len(changed)
    assert 0.9 < lost <= 1
    assert before["real"] == after["real"]
    assert {e["image"] for e in after["worst"]} <= {*changed} | {
        e["image"] for e in before["worst"]
    }
    first = next(e for e in after["worst"] if e["field"] == "view")
    assert first["image"] in changed and first["asked"] != first["read"]


def test_a_subgroup_that_is_left_out_loses_recall_there(real, others, out, tmp_path):
    pixels, rows = others
    kept = [i for i, row in enumerate(rows) if row["view"] in ("AP", "lateral")]
    folder = made.write(tmp_path / "some", pixels[kept], [rows[i] for i in kept])
    whole = measured(
        real, made.write(tmp_path / "whole", pixels, rows), out, "manifold"
    )
    some = measured(real, folder, out, "manifold")
    recall = [
        {g["name"]: g["recall"] for g in part["groups"] if g["field"] == "view"}
        for part in (whole, some)
    ]
    assert all(recall[0][view] > 0.8 for view in VIEWS)
    assert recall[1]["oblique"] < 0.3
    assert recall[1]["AP"] > 0.8 and recall[1]["lateral"] > 0.8
    for part in (whole, some):
        view = [g for g in part["groups"] if g["field"] == "view"]
        assert sum(g["real"] for g in view) <= 109  # 120, 11 or more not known
        for g in view:
            ends = g["intervals"]["recall"]
            assert ends["low"] <= g["recall"] <= ends["high"]


def test_rows_of_patients_are_not_told(real, tiny_run, tmp_path, monkeypatch):
    """Where no others can be drawn, images are made with rows of held-out patients."""

    def fail(*_):
        raise ValueError("too few")

    monkeypatch.setattr(material.Joint, "make", fail)
    place = tmp_path / "out"
    assess(
        Asked(
            str(real),
            place,
            workdir=str(tiny_run),
            count=20,
            parts=("agreement",),
            epochs=1,
        )
    )
    found = json.loads((place / "metrics.json").read_text())
    assert all(
        list(entry) == ["image"] for entry in found["parts"]["agreement"]["worst"]
    )
    assert found["data"]["synthetic images made with"] == material.REAL_ROWS
    page = (place / "report.html").read_text()
    assert "<b>asked" not in page and "years, BMI" not in page
    assert "What was asked is not shown" in page
    assert {p.name for p in place.iterdir()} == {
        "metrics.json",
        "report.html",
        "request.json",
    }
