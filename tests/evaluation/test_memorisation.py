"""Planted copies are found, also mirrored, noisy and shifted; other images are not."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.evaluation import memorisation
from ddpm_jax.evaluation.copies import Library, Nearest, band
from ddpm_jax.evaluation.groups import Group

SIZE = 64


def radiographs(count, seed):
    """uint16 [count, 64, 64]: one anatomy, and what makes each its own: a smooth random
    field of the power that radiographs have, about 1/f²; and a detector's noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    anatomy = np.exp(-8 * ((np.abs(x) - 0.5) ** 2 + y**2)) + 0.5 * np.exp(-4 * y**2)
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    f[0, 0] = 1
    noise = np.fft.rfft2(rng.normal(size=(count, SIZE, SIZE))) / f
    own = np.fft.irfft2(noise, (SIZE, SIZE))
    own /= own.std((1, 2), keepdims=True)
    made = 0.3 + 0.3 * anatomy + 0.08 * own + 0.005 * rng.normal(size=own.shape)
    return np.uint16(np.clip(made, 0, 1) * 65535)


def look_up(library, images):
    x, flipped = band(images), band(images[:, :, ::-1])
    flat = [part.reshape(len(part), -1) for part in (x, flipped)]
    return library.nearest(x, *flat)


@pytest.fixture(scope="module")
def training():
    return radiographs(1000, 0)


@pytest.fixture(scope="module")
def library(training):
    x = band(training)
    return Library(x, x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def held_out(library):
    return look_up(library, radiographs(320, 1))


def changed(images, how, rng):
    x = images.astype(float)
    if "mirrored" in how:
        x = x[:, :, ::-1]
    if "shifted" in how:
        by = rng.integers(-3, 4, (len(x), 2))
        x = np.stack(
            [ndimage.shift(a, b, mode="nearest") for a, b in zip(x, by, strict=True)]
        )
    if "noised" in how:
        x = x + 0.03 * 65535 * rng.normal(size=x.shape)
    if "brighter" in how:
        x = 1.2 * x + 2000
    return np.uint16(np.clip(x, 0, 65535))


def test_a_copy_is_at_no_distance_and_is_named(library, training):
    found = look_up(library, training[5:9])
    assert found.index.tolist() == [5, 6, 7, 8] and not found.mirrored.any()
    assert found.distance.max() < 0.01 and found.ratio.max() < 0.01


def test_two_percent_of_copies_are_found_and_nothing_else(library, training, held_out):
    """Of 500 images 2 % are copies, in each of five ways: at least 95 % of them are
    flagged, and of the others at most 1 %."""
    rng = np.random.default_rng(2)
    fresh = look_up(library, radiographs(490, 3))
    false = memorisation.judge(fresh, held_out).flagged
    assert false.mean() <= 0.01
    ways = ((), ("mirrored",), ("noised",), ("shifted",), ("brighter",))
    flagged, sources = [], []
    for how in ways:
        chosen = rng.choice(len(training), 10, replace=False)
        found = look_up(library, changed(training[chosen], how, rng))
        flagged.append(memorisation.judge(found, held_out).flagged)
        sources.append(found.index == chosen)
    assert np.mean(flagged) >= 0.95, dict(zip(ways, map(np.mean, flagged), strict=True))
    assert np.mean(sources) >= 0.95


def test_all_changes_at_once(library, training, held_out):
    rng = np.random.default_rng(4)
    chosen = rng.choice(len(training), 20, replace=False)
    how = ("mirrored", "shifted", "noised", "brighter")
    found = look_up(library, changed(training[chosen], how, rng))
    assert memorisation.judge(found, held_out).flagged.mean() >= 0.9
    assert found.mirrored.mean() >= 0.9


def nearest(ratio):
    ratio = np.asarray(ratio, float)
    return Nearest(np.zeros(len(ratio), int), ratio > 9, ratio, ratio)


def test_summary_counts_groups_and_finds_no_copying_where_there_is_none():
    rng = np.random.default_rng(0)
    held_out, synthetic = (nearest(rng.normal(1, 0.1, 600)) for _ in range(2))
    verdict = memorisation.judge(synthetic, held_out)
    half = Group("sex", "F", np.arange(600) < 300)
    told = memorisation.summary(synthetic, held_out, verdict, [half], [])
    assert told["flagged"]["total"] == 600 and told["flagged"]["share"] < 0.02
    assert told["groups"][0]["total"] == 300
    area = told["nearer_than_held_out"]
    assert area["low"] < 0.5 < area["high"]
    closer = nearest(rng.normal(0.5, 0.1, 600))
    told = memorisation.summary(closer, held_out, verdict, [], [])
    assert told["nearer_than_held_out"]["low"] > 0.99


def test_rarity_says_how_many_but_not_which():
    schema = PELVIS.select(("view", "sex"))
    training = {"view": np.array([1] * 60 + [2] * 5), "sex": np.array([1] * 65)}
    asked = {"view": np.array([1, 2, 3, 0]), "sex": np.array([1, 1, 1, 1])}
    found = memorisation.rarity_groups(schema, training, asked)
    told = {g.name: g.mask.tolist() for g in found}
    assert told == {
        "under 11": [False, True, True, False],
        "50 to 199": [True, False, False, True],
    }


def test_membership_of_the_same_is_chance_and_of_a_gap_is_not():
    rng = np.random.default_rng(0)
    same = {"members": rng.normal(size=400), "others": rng.normal(size=400)}
    told = memorisation.membership(same)
    assert told["low"] < 0.5 < told["high"]
    assert told["found_at_1_percent"]["share"] < 0.05
    told = memorisation.membership({**same, "members": same["members"] + 2})
    # Φ(2/√2) = 0.921 for unit normals 2 apart
    assert told["auc"] == pytest.approx(0.921, abs=0.02)
