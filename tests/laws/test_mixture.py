"""Samplers on a mixture in two dimensions, whose score is known, as images 1 x 2 x 1.

Three classes of two modes each; "not known" is all six. Sets of samples are compared
by energy distance (Szekely & Rizzo, 2013), and what counts as the same comes from
real against real: the largest of 200 distances of one pooled real set cut in two at
random, with fixed seeds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import guidance, samplers, schedule

COUNT = 1000
SHAPE = (1, 2, 1)
MODES = np.array(
    [[-0.8, -0.6], [-0.5, 0.7], [0.1, 0.1], [0.6, -0.7], [0.8, 0.3], [0.2, 0.9]]
)
CLASS = np.array([1, 1, 2, 2, 3, 3])
SHARE = np.array([0.25, 0.05, 0.1, 0.2, 0.3, 0.1])
WIDTH = 0.08
UNKNOWN = {"c": 0}
RANGE = (-12.0, 12.0)
"""Of logsnr: sigma at 12 is 0.0025, small against WIDTH."""

SAMPLERS = {
    "2M, 32": (schedule.uniform_logsnr_grid(32, *RANGE), {}),
    "SDE-2M, 64": (schedule.uniform_logsnr_grid(64, *RANGE), {"eta": 0.5}),
    "DDIM, 250": (schedule.uniform_logsnr_grid(250, *RANGE), {"order": 1}),
    "ancestral, 1000": (
        schedule.discrete_grid(1000, schedule.cosine_table()),
        {"order": 1, "eta": 1.0},
    ),
    "reference": (schedule.uniform_logsnr_grid(500, *RANGE), {}),
}


def shares(code):
    """Of the modes, [6]; 0 is not known."""
    kept = SHARE * ((CLASS == code) | (code == 0))
    return kept / kept.sum()


SHARES = np.stack([shares(code) for code in range(4)]).astype(np.float32)


def real(code, seed, count=COUNT):
    rng = np.random.default_rng(seed)
    mode = rng.choice(len(MODES), count, p=shares(code))
    return MODES[mode] + WIDTH * rng.standard_normal((count, 2))


def denoise(z, logsnr, cond):
    """E[x | z, class]: the mean over modes of what each would say."""
    kept = jax.nn.sigmoid(logsnr)[:, None, None]
    variance = kept * WIDTH**2 + 1 - kept
    away = z[:, 0, :, 0][:, None] - jnp.sqrt(kept) * MODES[None]
    likely = -jnp.sum(away**2, -1) / (2 * variance[..., 0])
    likely += jnp.log(jnp.maximum(jnp.asarray(SHARES)[cond["c"]], 1e-30))
    x_hat = MODES[None] + jnp.sqrt(kept) * WIDTH**2 / variance * away
    weight = jax.nn.softmax(likely)[..., None]
    return jnp.sum(weight * x_hat, 1)[:, None, :, None].astype(jnp.float32)


@functools.cache
def run(name, guided=False):
    grid, options = SAMPLERS[name]
    rows = samplers.table(grid, **options)

    def made(seeds, code, weight):
        chosen = denoise
        if guided:
            chosen = guidance.classifier_free(denoise, UNKNOWN, weight)
        keys = samplers.keys_from_seeds(seeds)
        segments = [samplers.Segment(chosen, rows)]
        return samplers.sample(segments, keys, {"c": code}, SHAPE)

    return jax.jit(made)


def generated(name, code, seed, weight=None, count=COUNT):
    seeds = np.arange(count, dtype=np.uint32) + np.uint32(seed)
    codes = np.full(count, code, np.int32)
    made = run(name, weight is not None)(seeds, codes, np.float32(weight or 1))
    return np.asarray(made, float).reshape(count, 2)


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def energy(a, b):
    """2 E|a - b| - E|a - a'| - E|b - b'|, zero for equal laws alone."""
    signs = np.append(np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b)))
    return -signs @ distances(np.concatenate([a, b])) @ signs


def chance(a, b, draws=200):
    """The largest energy distance when `a` and `b` are mixed and cut at random."""
    signs = np.append(np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b)))
    rng = np.random.default_rng(0)
    cuts = np.stack([rng.permutation(signs) for _ in range(draws)], axis=1)
    return -np.sum(cuts * (distances(np.concatenate([a, b])) @ cuts), axis=0).min()


@functools.cache
def real_chance(code):
    return chance(real(code, 1), real(code, 2))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("code", [0, 2], ids=["unconditional", "conditional"])
def test_samples_have_the_law_of_the_data(name, code):
    made = generated(name, code, seed=0)
    assert energy(made, real(code, 3)) < real_chance(code)


def test_the_distance_would_tell():
    """Another class, a share of 0.1 moved, or 3 DDIM steps: all are found."""
    limit = real_chance(2)
    assert energy(real(3, 3), real(2, 4)) > 20 * limit
    moved = np.where(np.arange(COUNT)[:, None] < 100, MODES[2], real(2, 3))
    assert energy(moved, real(2, 4)) > limit
    few = schedule.uniform_logsnr_grid(3, *RANGE)
    rows = samplers.table(few, order=1)
    keys = samplers.keys_from_seeds(range(COUNT))
    cond = {"c": jnp.full(COUNT, 2)}
    made = samplers.sample([samplers.Segment(denoise, rows)], keys, cond, SHAPE)
    assert energy(np.asarray(made, float).reshape(-1, 2), real(2, 4)) > limit


@pytest.mark.parametrize("code", [1, 3])
def test_guidance_one_samples_the_conditional_law(code):
    made = generated("2M, 32", code, seed=5000, weight=1.0)
    assert energy(made, real(code, 3)) < real_chance(code)
    assert energy(made, real(0, 3)) > 10 * real_chance(code)


def test_guided_samples_are_those_of_a_fine_sampler():
    """No closed form is known for a guided law: 500 steps of 2M stand for it."""
    fine = [generated("reference", 2, seed, 2.0) for seed in (10_000, 20_000)]
    limit = chance(*fine)
    made = generated("2M, 32", 2, 30_000, 2.0)
    assert energy(made, fine[0]) < limit
    assert energy(made, real(2, 3)) > limit  # it is not the conditional law
