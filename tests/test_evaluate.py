"""Label agreement: what the classifier learns, and how agreement counts."""

import json

import numpy as np
import pytest

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import pipeline
from ddpm_jax.evaluation import agreement
from tests.datasets import write_dataset

SCHEMA = PELVIS.select(("view", "side"))


def test_agreement_counts_what_was_asked():
    asked = {"view": np.array([1, 2, 0, 3]), "side": np.array([1, 0, 0, 2])}
    found = {"view": np.array([1, 2, 3, 1]), "side": np.array([2, 1, 1, 2])}
    result = agreement.agreement(found, asked, ("view", "side"))
    counts = {name: (p["count"], p["total"]) for name, p in result.items()}
    # All: image 1 has a wrong side, image 3 a wrong view, image 2 was asked nothing.
    assert counts == {"view": (2, 3), "side": (1, 2), "all": (2, 4)}


def test_to_input_spans_the_range():
    images = np.array([[[0, 4095]]], np.uint16)
    found = agreement.to_input(images, 12)
    np.testing.assert_allclose(found.ravel(), [-1, 1], 0, 1e-6)
    assert found.shape == (1, 1, 2, 1) and found.dtype == np.float32


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """(classifier, images, codes) of a test split that it has not seen."""
    folder = write_dataset(
        tmp_path_factory.mktemp("views"), size=16, counts=(("train", 256), ("test", 96))
    )
    train, test = (pipeline.read_all(str(folder), s, SCHEMA) for s in ("train", "test"))
    reported = []
    predict = agreement.train_classifier(
        agreement.to_input(train["image"], 12),
        train["cond"],
        SCHEMA,
        epochs=20,
        batch=32,
        width=8,
        report=reported.append,
    )
    assert len(reported) == 20 and reported[-1] < reported[0]
    return predict, agreement.to_input(test["image"], 12), test["cond"]


def share(found, asked):
    return agreement.agreement(found, asked, SCHEMA.names)["view"]


def test_classifier_learns_the_view(learned):
    """Brightness says the view (tests/datasets.py); exposure is augmented, by less."""
    predict, images, cond = learned
    found = predict(images)
    assert share(found, cond)["share"] > 0.9
    assert set(np.unique(found["view"])) <= {1, 2, 3}  # never "not known"


def test_agreement_falls_by_what_was_swapped(learned):
    """Half of the agreeing images asked for as another view: half of them agree."""
    predict, images, cond = learned
    found = predict(images)
    before = share(found, cond)
    right = np.flatnonzero((cond["view"] > 0) & (found["view"] == cond["view"]))
    swapped = right[: len(right) // 2]
    asked = cond["view"].copy()
    asked[swapped] = asked[swapped] % 3 + 1
    after = share(found, cond | {"view": asked})
    assert after["count"] == before["count"] - len(swapped)
    assert after["total"] == before["total"]
    assert after["high"] < before["low"]


def test_evaluate_writes_its_report(command, tiny_data, tiny_export, tmp_path):
    out = tmp_path / "report"
    result = command(
        "evaluate",
        *(f"--real={tiny_data}", f"--sampler={tiny_export}", f"--out={out}"),
        *("--count=6", "--epochs=1", "--fields=view,side"),
    )
    assert result.status == 0, result.err
    report = json.loads((out / "metrics.json").read_text())
    assert report["count"] == 6
    for part, total in (("real", 16), ("synthetic", 6)):
        assert list(report[part]) == ["view", "side", "all"]
        assert report[part]["all"]["total"] == total
        assert all(0 <= p["low"] <= p["high"] <= 1 for p in report[part].values())
    assert (out / "disagreements.png").is_file()
    assert [line.split()[0] for line in result.out.splitlines()[:4]] == [
        *("field", "view", "side", "all")
    ]
