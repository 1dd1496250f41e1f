"""Against published worked examples, statsmodels, scikit-learn, and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn import metrics
from statsmodels.stats import contingency_tables, inter_rater
from statsmodels.stats import proportion as sm

from ddpm_jax.evaluation import statistics as shared
from ddpm_jax.reader_study import power
from ddpm_jax.reader_study import statistics as st

COUNTS = some.integers(1, 300).flatmap(
    lambda n: some.tuples(some.integers(0, n), some.just(n))
)


def test_figures_of_the_published_reader_study():
    """124 of 200 and 0 of 100, as the design notes of this project recompute them."""
    low, high = shared.wilson(124, 200)
    assert (round(low, 3), round(high, 3)) == (0.551, 0.684)
    assert st.against_chance(124, 200) == pytest.approx(8.5e-4, rel=0.02)
    assert st.upper_bound(0, 100) == pytest.approx(0.0295, abs=5e-5)


@given(some.integers(1, 2000))
def test_no_event_closed_form_and_rule_of_three(n):
    bound = st.upper_bound(0, n)
    assert bound == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)
    assert power.bound(n) == pytest.approx(bound, rel=1e-9)
    if n >= 30:  # the rule's own condition: Hanley & Lippman-Hand (1983)
        assert bound == pytest.approx(3 / n, rel=0.06)


def test_difference_of_published_example():
    """56/70 - 48/80, Newcombe (1998), Statistics in Medicine 17, 873, method 10."""
    low, high = st.difference(56, 70, 48, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@given(COUNTS, COUNTS)
def test_difference_is_that_of_statsmodels(one, other):
    expected = sm.confint_proportions_2indep(*one, *other, "newcomb", "diff")
    np.testing.assert_allclose(st.difference(*one, *other), expected, 0, 1e-9)


# ---- signal detection ----

# Hanley & McNeil (1982), Radiology 143, table I: ratings 1 to 5 of 58 normal and 51
# abnormal CT images; their area is 0.893.
NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)


def ratings():
    scores = np.repeat([1, 2, 3, 4, 5] * 2, NORMAL + ABNORMAL)
    return scores, np.arange(len(scores)) >= sum(NORMAL)


def test_roc_has_the_published_area():
    corners = st.roc(*ratings())
    assert corners[0].tolist() == [0, 0] and corners[-1].tolist() == [1, 1]
    area = np.trapezoid(corners[:, 1], corners[:, 0])
    assert area == pytest.approx(shared.auc(*ratings()))
    assert round(area, 3) == 0.893


def test_d_prime_recovers_a_gaussian_observer():
    rng = np.random.default_rng(0)
    n, d, c = 200_000, 1.2, 0.3
    hits = int((rng.normal(d / 2, size=n) > c).sum())
    alarms = int((rng.normal(-d / 2, size=n) > c).sum())
    found = st.detection(hits, n, alarms, n)
    assert found.d_prime == pytest.approx(d, abs=0.02)
    assert found.criterion == pytest.approx(c, abs=0.02)


def test_d_prime_of_guessing_and_of_the_extremes():
    assert st.detection(20, 40, 20, 40).d_prime == pytest.approx(0)
    perfect, opposite = st.detection(40, 40, 0, 40), st.detection(0, 40, 40, 40)
    assert math.isfinite(perfect.d_prime)
    assert opposite.d_prime == pytest.approx(-perfect.d_prime)


# ---- agreement ----


def test_fleiss_kappa_of_published_example():
    """Fleiss (1971), Psychological Bulletin 76, 378: 30 patients, 6 psychiatrists, 5
    diagnoses; kappa 0.430."""
    rows = """0 0 0 6 0|0 3 0 0 3|0 1 4 0 1|0 0 0 0 6|0 3 0 3 0|2 0 4 0 0|0 0 4 0 2
        2 0 3 1 0|2 0 0 4 0|0 0 0 0 6|1 0 0 5 0|1 1 0 4 0|0 3 3 0 0|1 0 0 5 0|0 2 0 3 1
        0 0 5 0 1|3 0 0 1 2|5 1 0 0 0|0 2 0 4 0|1 0 2 0 3|0 0 0 0 6|0 1 0 5 0|0 2 0 1 3
        2 0 0 4 0|1 0 0 4 1|0 5 0 1 0|4 0 0 0 2|0 2 0 4 0|1 0 5 0 0|0 0 0 0 6"""
    counts = np.array(
        [list(map(int, r.split())) for r in rows.replace("\n", "|").split("|")]
    )
    assert counts.shape == (30, 5) and (counts.sum(1) == 6).all()
    assert round(st.fleiss_kappa(counts), 2) == 0.43
    assert st.fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts))


@given(some.lists(some.tuples(*[some.integers(0, 2)] * 2), min_size=1))
def test_cohen_kappa_is_that_of_scikit_learn(pairs):
    a, b = np.array(pairs).T
    found = st.cohen_kappa(a, b)
    if len({*a, *b}) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(metrics.cohen_kappa_score(a, b))
        assert st.cohen_kappa(b, a) == pytest.approx(found)


@given(some.lists(some.tuples(*[some.integers(0, 3)] * 3), min_size=1))
def test_fleiss_kappa_is_that_of_statsmodels(cases):
    counts = st.tally(cases)
    assert (counts.sum(1) == 3).all()
    if counts.shape[1] > 1:
        expected = inter_rater.fleiss_kappa(counts)
        assert st.fleiss_kappa(counts) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(st.fleiss_kappa(counts))


# ---- over time ----


@given(some.lists(some.booleans(), min_size=3, max_size=60))
def test_trend_is_that_of_statsmodels(right):
    right = np.array(right)
    z, p = st.trend(right, np.arange(len(right)))
    if right.all() or not right.any():
        assert math.isnan(z) and math.isnan(p)
        return
    table = np.array([~right, right], int)
    test = contingency_tables.Table(table, shift_zeros=False)
    expected = test.test_ordinal_association(col_scores=np.arange(len(right)))
    # statsmodels divides by n - 1 where Armitage has n.
    factor = math.sqrt(len(right) / (len(right) - 1))
    assert z == pytest.approx(expected.zscore * factor, abs=1e-9)


# ---- power ----


def test_power_by_enumeration():
    """Simulated readers of 62 %, 200 images."""
    rng = np.random.default_rng(0)
    right = rng.binomial(200, 0.62, size=20_000)
    p = np.array([st.against_chance(k, 200) for k in range(201)])
    assert power.power(200, 0.62) == pytest.approx((p[right] <= 0.05).mean(), abs=0.01)


@given(some.integers(6, 400))
def test_the_test_holds_its_level(total):
    assert power.power(total, 0.5) <= 0.05
    least = power.critical(total)
    assert st.against_chance(least, total) <= 0.05 < st.against_chance(least - 1, total)


def test_chance_to_meet_an_event():
    assert power.found(100, 0.03) == pytest.approx(1 - 0.97**100)
    assert power.found(100, power.bound(100)) == pytest.approx(0.95)


def test_few_images_say_so():
    assert "too few" in power.describe_accuracy(4)
    assert "115 right" in power.describe_accuracy(200)
