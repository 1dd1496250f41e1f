"""Few steps: what goes wrong in the peers (PEERS.md) with data of mean 0.8, std 0.2.

Their 10 DDIM steps give 0.782 and 0.146: the grid misses the terminal step. Here each
sampler's mean and deviation are propagated through its table in float64 and held
against the closed form in the symbols of its paper; the loop is run at 10 steps.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import samplers, schedule
from tests.laws import gaussian

MEAN, STD = 0.8, 0.2
STEPS = (7, 10, 13, 50, 100, 333)
"""7, 13 and 333 do not divide 1000: a peer refuses them."""
GRIDS = {
    "discrete": lambda n: schedule.discrete_grid(n, schedule.cosine_table()),
    "uniform_logsnr": lambda n: schedule.uniform_logsnr_grid(n, -13, 11),
    "uniform_time": lambda n: schedule.uniform_time_grid(
        n, schedule.interpolated(32, 64)
    ),
}
SAMPLERS = {
    "DDIM": {"order": 1, "eta": 0.0},
    "ancestral, small": {"order": 1, "eta": 1.0},
    "ancestral, large": {"order": 1, "eta": 1.0, "large_variance": True},
    "2M": {"order": 2, "eta": 0.0},
    "SDE-2M": {"order": 2, "eta": 1.0},
}
every_case = pytest.mark.parametrize(
    "grid, steps, name", [(g, n, s) for g in GRIDS for n in STEPS for s in SAMPLERS]
)


def first_order_variance(grid, eta, large):
    """Song et al. (2021), eq. 12: predicted x, direction to x_t and fresh noise."""
    total = 1.0
    kept, noise = gaussian.scales(grid)
    for i in range(len(grid) - 1):
        g = gaussian.gain(grid[i], STD**2)
        eps = (1 - np.sqrt(kept[i]) * g) / np.sqrt(noise[i])
        beta = 1 - kept[i] / kept[i + 1]
        small = eta**2 * noise[i + 1] / noise[i] * beta
        factor = np.sqrt(kept[i + 1]) * g + np.sqrt(noise[i + 1] - small) * eps
        last = i == len(grid) - 2
        total = factor**2 * total + (beta if large and not last else small)
    return total


def second_order_variance(grid, eta):
    """Lu et al. (2022), algorithm 2, and its SDE form, by impulse responses.

    The image is a sum over the independent normal numbers that enter; the response to
    each is the sampler itself run on that number alone.
    """
    kept, noise = gaussian.scales(grid)
    h = np.diff(grid[:-1]) / 2
    fresh = np.append(1, np.sqrt(noise[1:-1] * (1 - np.exp(-2 * eta * h))))
    z, before = np.zeros_like(fresh), np.zeros_like(fresh)
    z[0] = 1
    for i, step in enumerate(h):
        x_hat = gaussian.gain(grid[i], STD**2) * z
        d = x_hat + (x_hat - before) * (step / (2 * h[i - 1]) if i else 0)
        outer = np.sqrt(kept[i + 1]) * (1 - np.exp(-(1 + eta) * step))
        z = np.sqrt(noise[i + 1] / noise[i]) * np.exp(-eta * step) * z + outer * d
        z[i + 1] += fresh[i + 1]
        before = x_hat
    return np.sum((gaussian.gain(grid[-2], STD**2) * z) ** 2)


@every_case
def test_deviation_is_that_of_the_published_formulas(grid, steps, name):
    options, places = SAMPLERS[name], GRIDS[grid](steps)
    rows = samplers.coefficients(places, **options)
    if options["order"] == 1:
        large = "large_variance" in options
        expected = first_order_variance(places, options["eta"], large)
    else:
        expected = second_order_variance(places, options["eta"])
    found = gaussian.through_table(rows, STD**2)[1]
    np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), 1e-8)


@every_case
def test_mean_has_no_bias(grid, steps, name):
    """0.8 to 0.001 with the float32 table, at any number of steps.

    The start is N(0, 1) where the process has N(alpha 0.8, ...): bias = -alpha(start)
    0.8 slope, at most alpha(start) 0.8 0.2 where the sampler is exact. alpha is 5e-5
    on the discrete grid, 1.5e-3 at logsnr -13, 5e-5 at -20.
    """
    rows = samplers.table(GRIDS[grid](steps), **SAMPLERS[name])
    rows = samplers.Table(*(column.astype(float) for column in rows))
    bias = gaussian.mean_bias(rows, MEAN, STD**2)
    kept, _ = gaussian.scales(rows.logsnr[0])
    assert abs(bias) <= np.sqrt(kept) * MEAN * (STD + 0.02) < 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_deviation_comes_to_the_data(name):
    """0.2, with an error that falls like 1 / steps (order 1) or faster."""
    errors = []
    for steps in (50, 100, 333):
        rows = samplers.coefficients(GRIDS["uniform_logsnr"](steps), **SAMPLERS[name])
        errors.append(abs(np.sqrt(gaussian.through_table(rows, STD**2)[1]) - STD))
    assert errors[1] < errors[0] / 1.8 and errors[2] < errors[1] / 3


def denoise(z, logsnr, cond):
    """E[x | z]."""
    kept, noise = 1 / (1 + jnp.exp(-logsnr)), 1 / (1 + jnp.exp(logsnr))
    g = jnp.sqrt(kept) * STD**2 / (kept * STD**2 + noise)
    alpha = jnp.sqrt(kept)[:, None, None, None]
    return MEAN + g[:, None, None, None] * (z - alpha * MEAN)


@pytest.mark.parametrize("grid", ["discrete", "uniform_logsnr"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_images_of_ten_steps(grid, name):
    """65,536 pixels: the mean is known to std / 256, the deviation to std / 362; five
    of either."""
    rows = samplers.table(GRIDS[grid](10), **SAMPLERS[name])
    keys = samplers.keys_from_seeds(range(64))
    made = samplers.sample([samplers.Segment(denoise, rows)], keys, {}, (32, 32, 1))
    std = np.sqrt(gaussian.through_table(rows, STD**2)[1])
    assert abs(np.mean(made) - MEAN) < 1e-3 + 5 * std / 256
    assert abs(np.std(made) - std) < 5 * std / 362
