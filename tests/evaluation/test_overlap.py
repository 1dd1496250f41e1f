"""Laws of the distance of two images where they overlap."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_jax.evaluation import overlap

SIDES = 16, 40, 64


def textures(count, side, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, side, side))
    return np.float32(ndimage.gaussian_filter(noise, (0, side / 40, side / 40)))


def shifted(x, by, fill):
    """Content moves by `by`; elsewhere is `fill`."""
    moved = np.roll(x, by, (1, 2))
    mask = np.ones(x.shape[1:], bool)
    for axis, b in enumerate(by):
        index = [slice(None)] * 2
        index[axis] = slice(0, b) if b > 0 else slice(x.shape[1] + b, None)
        if b:
            mask[tuple(index)] = False
    return np.where(mask, moved, fill)


@pytest.mark.parametrize("side", SIDES)
def test_what_fills_the_border_does_not_matter(side):
    x, rng = textures(12, side), np.random.default_rng(1)
    for _ in range(4):
        by = rng.integers(-(side // 8), side // 8 + 1, 2)
        shifts = np.repeat(2 * by[None], len(x), 0)
        fills = (0.0, 9.0, textures(12, side, 2))
        found = [overlap.distances(shifted(x, by, f), x, shifts) for f in fills]
        assert np.max(found) < 5e-3
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])
        back = overlap.distances(x, shifted(x, by, 9.0), -shifts)
        assert back.max() < 5e-3


@pytest.mark.parametrize("side", SIDES)
def test_closed_forms(side):
    """0 of a brighter image of more contrast, 2 of its negative, and that of two
    vectors of length 1 between: of independent ones sqrt(2)."""
    x, none = textures(40, side), np.zeros((40, 2), int)
    assert overlap.distances(3 * x + 5, x, none).max() < 5e-2
    np.testing.assert_allclose(overlap.distances(-x, x, none), 2, atol=1e-3)
    others = textures(40, side, 3)
    found = overlap.distances(x, others, none)
    np.testing.assert_allclose(found, overlap.distances(others, x, none), atol=1e-4)
    assert np.mean(found**2) == pytest.approx(2, abs=0.25)


def test_half_a_pixel_is_half_a_pixel():
    """A sum of waves, sampled half a pixel further; the crops differ by as much."""
    rng, i = np.random.default_rng(0), np.arange(64)

    def waves(at):
        found = 0
        for f, phase in zip(rng.integers(2, 6, (6, 2)), rng.random(6), strict=True):
            y, x = f[0] * (i + at) / 64, f[1] * (i + at) / 64
            found = found + np.cos(2 * np.pi * (y[:, None] + x + phase))
        return np.float32(found)[None]

    state = rng.bit_generator.state
    still = waves(0)
    rng.bit_generator.state = state
    moved = waves(-0.5)
    told = {
        s: overlap.distances(moved, still, np.full((1, 2), s))[0] for s in (0, 1, 2)
    }
    assert told[1] < 0.06 and told[1] < 0.3 * min(told[0], told[2])


def test_no_pairs_have_no_distances():
    none = np.zeros((0, 64, 64), np.float32)
    assert overlap.distances(none, none, np.zeros((0, 2), int)).shape == (0,)
