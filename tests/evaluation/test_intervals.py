"""Intervals against published examples, scikit-learn, statsmodels and simulation."""

import numpy as np
import pytest

from ddpm_jax.evaluation import statistics


@pytest.mark.parametrize(
    "count, total, low, high",
    [
        # The readers of the published study: design note DIFFUSION.md, section 8.
        (124, 200, 0.551, 0.684),
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3 (Wilson).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_of_published_examples(count, total, low, high):
    found = statistics.proportion(count, total)
    digits = 3 if total == 200 else 4
    assert (round(found["low"], digits), round(found["high"], digits)) == (low, high)
    assert found["share"] == count / total


@pytest.mark.parametrize(
    "count, total, low, high",
    [
        # Newcombe (1998), table I, method 5 (Clopper-Pearson).
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_exact_interval_of_published_examples(count, total, low, high):
    found = statistics.exact(count, total)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize("method, name", [("wilson", "wilson"), ("beta", "exact")])
def test_proportions_are_those_of_statsmodels(method, name):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for count, total in ((0, 7), (3, 11), (40, 41), (500, 1000)):
        expected = proportion.proportion_confint(count, total, method=method)
        found = getattr(statistics, name)(count, total)
        np.testing.assert_allclose(found, expected, 1e-9, 1e-12)


def test_nothing_has_no_proportion():
    assert statistics.proportion(0, 0)["share"] is None
    assert np.isnan(statistics.wilson(0, 0)).all()


def test_interval_is_symmetric():
    one, other = statistics.proportion(3, 40), statistics.proportion(37, 40)
    np.testing.assert_allclose(one["low"], 1 - other["high"], 1e-12)


def test_auc_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=200), 1)  # with ties
    positive = rng.random(200) < 0.3
    expected = metrics.roc_auc_score(positive, scores)
    np.testing.assert_allclose(statistics.auc(scores, positive), expected, 1e-12)
    flipped = statistics.auc(-scores, positive)
    np.testing.assert_allclose(flipped, 1 - expected, 1e-12)


def test_bootstrap_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    low, high = statistics.bootstrap(lambda i: float(values[i].mean()), 400, rng)
    expected = 2 * 1.96 * values.std() / 20
    np.testing.assert_allclose(high - low, expected, 0.1)


def test_lower_limit_bounds_the_share_as_often_as_it_says():
    """Of uniform values the share below v is v: in 95 % of draws, at most 1 %."""
    rng = np.random.default_rng(0)
    limits = [statistics.lower_limit(rng.random(600), 0.01) for _ in range(800)]
    assert all(limit.share == 0.01 for limit in limits)
    kept = np.mean([limit.value <= 0.01 for limit in limits])
    assert 0.93 < kept < 1


def test_lower_limit_of_few_says_what_it_bounds():
    """0.95 = 1 - (1 - p)^n for the smallest of n (Wilks, 1941): 299 bound 1 %."""
    values = np.arange(1.0, 60.0)
    limit = statistics.lower_limit(values, 0.01)
    assert limit.value == 1.0
    np.testing.assert_allclose(limit.share, 1 - 0.05 ** (1 / 59), 1e-9)
    assert statistics.lower_limit(np.arange(299.0), 0.01).share == 0.01
    assert statistics.lower_limit(np.arange(298.0), 0.01).share > 0.01
