"""Label agreement: what the labeller learns, and how agreement counts."""

import numpy as np
import pytest

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.evaluation import agreement, images, labeller
from ddpm_jax.evaluation.labeller import Reading
from tests.datasets import write_dataset

SCHEMA = PELVIS.select(("view", "side", "age"))
CODES = PELVIS.select(("view", "side"))


def test_agreement_counts_what_was_asked():
    asked = {"view": np.array([1, 2, 0, 3]), "side": np.array([1, 0, 0, 2])}
    found = {"view": np.array([1, 2, 3, 1]), "side": np.array([2, 1, 1, 2])}
    result = agreement.agreement(found, asked, ("view", "side"))
    counts = {name: (p["count"], p["total"]) for name, p in result.items()}
    # All: image 1 has a wrong side, image 3 a wrong view, image 2 was asked nothing.
    assert counts == {"view": (2, 3), "side": (1, 2), "all": (2, 4)}


def test_confusion_leaves_out_what_was_not_asked():
    found, asked = np.array([1, 2, 2, 3]), np.array([1, 1, 2, 0])
    table = agreement.confusion(found, asked, 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_macro_auc_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    asked = rng.integers(1, 4, 200)
    p = rng.dirichlet(np.ones(3), 200)
    expected = metrics.roc_auc_score(asked, p, multi_class="ovr")
    np.testing.assert_allclose(agreement.macro_auc(p, asked), expected, 1e-9)


def test_regression_of_a_line_finds_it():
    """Read as half of what was asked and 3 more: slope 1/2, whatever is not known."""
    asked = np.r_[np.linspace(20, 90, 50), np.nan]
    found = agreement.regression(asked / 2 + 3, asked, np.random.default_rng(0))
    assert found["total"] == 50
    np.testing.assert_allclose(found["slope"]["value"], 0.5, 1e-9)
    np.testing.assert_allclose(found["correlation"]["value"], 1, 1e-9)
    np.testing.assert_allclose(found["mae"]["value"], 55 / 2 - 3, 1e-9)


def test_to_input_spans_the_range():
    pixels = np.array([[[0, 4095]]], np.uint16)
    found = labeller.to_input(pixels, 12)
    np.testing.assert_allclose(found.ravel(), [-1, 1], 0, 1e-6)
    assert found.shape == (1, 1, 2, 1) and found.dtype == np.float32


@pytest.mark.parametrize("bits", [8, 12, 15, 16])
def test_full_scale_keeps_both_ends_and_the_order(bits):
    levels = np.arange(2**bits, dtype=np.uint16)
    full = images.to_full(levels, bits)
    assert full[0] == 0 and full[-1] == 65535 and (np.diff(full.astype(int)) > 0).all()


def test_a_small_set_is_seen_more_often():
    assert labeller.steps_of(2, 640) == 20
    assert labeller.steps_of(None, 640_000) == 60_000
    assert labeller.steps_of(None, 640) == labeller.steps_of(None, 10) == 1000


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """(labeller, images of a test split that it has not seen)."""
    folder = write_dataset(
        tmp_path_factory.mktemp("views"), size=16, counts=(("train", 256), ("test", 96))
    )
    train = images.of_records(str(folder), "train", SCHEMA, 1000)
    test = images.of_records(str(folder), "test", SCHEMA, 1000)
    losses = []
    steps = labeller.steps_of(20, len(train), 32)
    made = labeller.train(
        train, SCHEMA, steps=steps, batch=32, width=8, report=losses.append
    )
    assert len(losses) == 160 and np.mean(losses[-8:]) < np.mean(losses[:8])
    return made, test


def share(found, asked):
    return agreement.agreement(found, asked, CODES.names)["view"]


def test_labeller_learns_the_view(learned):
    """Brightness says the view (tests/datasets.py); exposure is augmented, by less."""
    made, test = learned
    read = made.read(test)
    assert share(read.codes(), test.cond)["share"] > 0.9
    assert set(np.unique(read.codes()["view"])) <= {1, 2, 3}  # never "not known"
    np.testing.assert_allclose(read.probabilities["view"].sum(1), 1, 1e-5)
    assert read.features.shape == (96, 32)


def test_age_which_nothing_shows_is_read_as_the_mean(learned):
    made, test = learned
    read = made.read(test)
    found = agreement.fields(read, test.cond, SCHEMA, np.random.default_rng(0))["age"]
    assert abs(found["slope"]["value"]) < 0.2
    assert 0 < found["mae"]["low"] < found["mae"]["value"] < found["mae"]["high"] < 40


def test_agreement_falls_by_what_was_swapped(learned):
    """Half of the agreeing images asked for as another view: half of them agree."""
    made, test = learned
    found, cond = made.read(test).codes(), test.cond
    before = share(found, cond)
    right = np.flatnonzero((cond["view"] > 0) & (found["view"] == cond["view"]))
    swapped = right[: len(right) // 2]
    asked = cond["view"].copy()
    asked[swapped] = asked[swapped] % 3 + 1
    after = share(found, cond | {"view": asked})
    assert after["count"] == before["count"] - len(swapped)
    assert after["total"] == before["total"]
    assert after["high"] < before["low"]


def test_surprise_is_largest_where_a_sure_reading_is_another():
    view = np.array([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3], [0.98, 0.01, 0.01]])
    age = np.array([60.0, 60.0, 60.0])
    schema = PELVIS.select(("view", "age"))
    reading = Reading({"view": view}, {"age": age}, np.zeros((3, 1)))
    cond = {"view": np.array([2, 2, 1]), "age": np.array([60, np.nan, 100], np.float32)}
    found = agreement.surprise(reading, cond, schema)
    worst = found.max(1)
    assert worst[0] > worst[2] > worst[1] > 0
    np.testing.assert_allclose(found[:, 1], [0, 0, (40 / 20) ** 2 / 2])
    assert found.argmax(1).tolist() == [0, 0, 1]
