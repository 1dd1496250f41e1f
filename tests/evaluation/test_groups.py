"""Subgroups: none of 1 to 10 real images, no image in two of one field."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.evaluation import groups


def conditions(rng, count, rare=0.5):
    rows = [
        {
            "view": "AP" if rng.random() > rare else "lateral",
            "sex": "F" if rng.random() > 0.4 else "M",
            "age": float(rng.integers(20, 95)) if rng.random() > 0.2 else None,
            "bmi": float(rng.integers(16, 45)),
        }
        for _ in range(count)
    ]
    return PELVIS.encode(rows)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(12, 200), st.floats(0, 1))
def test_no_group_of_1_to_10_is_named(seed, count, rare):
    rng = np.random.default_rng(seed)
    real, made = conditions(rng, count, rare), conditions(rng, 50)
    found = groups.groups(PELVIS, real, made)
    for one, other in found:
        assert one.count >= 11 and len(other.mask) == 50
        assert (one.field, one.name) == (other.field, other.name)
    for field in PELVIS:
        masks = [one.mask for one, _ in found if one.field == field.name]
        if masks:
            assert len(masks) > 1 and np.sum(masks, axis=0).max() <= 1


def test_bands_of_age_and_bmi_hold_what_they_say():
    rng = np.random.default_rng(0)
    real = conditions(rng, 400)
    found = {(g.field, g.name): g for g, _ in groups.groups(PELVIS, real, real)}
    old = found["age", "80–120"]
    assert (old.mask == (real["age"] >= 80)).all()
    obese = found["bmi", "30–35"]
    assert (obese.mask == ((real["bmi"] >= 30) & (real["bmi"] < 35))).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(20, 120), st.floats(0, 1), st.floats(0, 1))
def test_no_count_of_1_to_10_is_told(seed, count, rare, lacking):
    """Nor by subtraction from all: known and not known, and the values of a field."""
    rng = np.random.default_rng(seed)
    real = conditions(rng, count, rare)
    for values in real.values():
        values[rng.random(count) < lacking] = 0 if values.dtype.kind == "i" else np.nan
    found = groups.counted(PELVIS, real)
    pairs = groups.groups(PELVIS, real, real)
    for field in PELVIS:
        hidden = groups.is_unknown(found[field.name])
        assert hidden.sum() == 0 or hidden.sum() >= 11
        assert (~hidden).sum() == 0 or (~hidden).sum() >= 11
        kept = found[field.name][~hidden]
        assert (kept == real[field.name][~hidden]).all()
        named = [one.count for one, _ in pairs if one.field == field.name]
        assert not named or sum(named) == (~hidden).sum()
        if field.kind == "categorical":
            names, places = groups.merged(field, found[field.name])
            sums = np.bincount(places[kept - 1], minlength=len(names))
            assert ((sums == 0) | (sums >= 11)).all()


def test_nothing_is_left_out_where_all_is_known_or_none():
    rng = np.random.default_rng(0)
    real = conditions(rng, 60)
    real["sex"][:] = 0
    found = groups.counted(PELVIS, real)
    for name in ("view", "bmi", "sex"):
        np.testing.assert_array_equal(found[name], real[name])
