"""Distances by subgroup: the one that the model misses stands out, if it is small."""

import numpy as np
import pytest

from ddpm_jax.evaluation import fidelity
from ddpm_jax.evaluation.groups import Group

NAMES = "alike", "moved", "few"


@pytest.fixture(scope="module")
def told():
    """Features [300, 8] of the same distribution, but for one subgroup."""
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    masks = [np.arange(300) % 3 == i for i in range(3)]
    synthetic[masks[1]] += 1
    rare = np.arange(300) == 2
    pairs = [
        (Group("sex", name, mask), Group("sex", name, rare if name == "few" else mask))
        for name, mask in zip(NAMES, masks, strict=True)
    ]
    found = fidelity.distances(fidelity.Pair(real, synthetic), pairs)
    return {group["name"]: group for group in found["groups"]}


def test_every_subgroup_has_its_counts(told):
    counts = [(g["real"], g["synthetic"], g["kid_images"]) for g in told.values()]
    assert counts == [(100, 100, 50), (100, 100, 50), (100, 1, 1)]


def test_a_subgroup_alike_is_as_near_as_real_images_and_a_moved_one_is_not(told):
    """The mean of an unbiased distance is 0: within its deviations of it."""
    alike, moved = told["alike"], told["moved"]
    assert abs(alike["kid"].mean) < 2 * alike["kid_real"].std
    assert abs(alike["kid_real"].mean) < alike["kid_real"].std
    assert moved["kid"].mean > 5 * moved["kid_real"].std


def test_too_few_images_say_nothing(told):
    assert told["few"]["kid"] is None and told["few"]["kid_real"] is None
