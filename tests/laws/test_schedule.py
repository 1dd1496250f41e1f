"""Laws of the noise schedules and of the grids that samplers visit."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import schedule

STEPS = np.arange(1, 1001)
TIMES = np.linspace(0, 1, 1025, dtype=np.float32)
"""Multiples of 2^-10: exact in float32."""

CONTINUOUS = {
    "plain": schedule.cosine(),
    "shifted down": schedule.cosine(shift=schedule.resolution_shift(64, 1024)),
    "shifted up": schedule.cosine(shift=schedule.resolution_shift(64, 16)),
    "interpolated": schedule.interpolated(32, 1024),
}
every_schedule = pytest.mark.parametrize("name", CONTINUOUS)


def digits(value, count=4):
    return float(f"{value:.{count - 1}e}")


def alpha_bar(table):
    return 1 / (1 + np.exp(-table))


def test_table_of_the_published_model():
    """Figures recomputed for this project, design note DIFFUSION.md, section 1a."""
    table = schedule.cosine_table()
    assert table[0] == np.inf and len(table) == 1001 and table.dtype == np.float64
    assert digits(1 - alpha_bar(table)[1]) == 4.128e-5
    assert digits(table[1], 5) == 10.095
    assert digits(table[999]) == -12.93
    assert digits(table[1000]) == -19.84
    assert digits(alpha_bar(table)[1000], 2) == 2.4e-9


def test_only_the_last_beta_is_clipped():
    """Nichol & Dhariwal (2021), section 3.2: beta <= 0.999 near t = T."""
    table = schedule.cosine_table()
    beta = 1 - alpha_bar(table)[1:] / alpha_bar(table)[:-1]
    np.testing.assert_allclose(beta[-1], 0.999, 1e-9)
    assert (beta[:-1] < 0.998).all()


def test_table_is_the_cosine_where_nothing_is_clipped():
    angle = (STEPS[:-1] / 1000 + 0.008) / 1.008 * np.pi / 2
    first = math.cos(0.008 / 1.008 * np.pi / 2) ** 2
    expected = np.cos(angle) ** 2 / first  # Nichol & Dhariwal (2021), eq. 17
    found = alpha_bar(schedule.cosine_table())[1:-1]
    np.testing.assert_allclose(found, expected, 1e-10)


def test_discrete_schedule_is_the_table_step_by_step():
    """t in (i - 1, i] / 1000 is step i, whatever float32 makes of i / 1000."""
    run = schedule.discrete_cosine()
    table = schedule.cosine_table()[1:].astype(np.float32)
    for offset in (0, -0.25, -0.75):
        t = jnp.asarray((STEPS + offset) / 1000, jnp.float32)
        np.testing.assert_array_equal(run(t), table)
    np.testing.assert_array_equal(run(jnp.zeros(1)), table[:1])


@every_schedule
def test_continuous_schedules_decrease_from_high_to_low(name):
    logsnr = np.asarray(CONTINUOUS[name](jnp.asarray(TIMES)))
    assert logsnr.dtype == np.float32 and np.isfinite(logsnr).all()
    assert (np.diff(logsnr) < 0).all()
    # After the shift: 1e-5 is 10 ulp of 14, for the logarithms of two sines.
    np.testing.assert_allclose(logsnr[[0, -1]], [14, -20], 0, 2e-5)


@every_schedule
def test_weights_can_be_taken_from_the_slope_at_both_ends(name):
    from ddpm_jax import losses

    t = jnp.asarray([0, 2.0**-20, 0.5, 1 - 2.0**-20, 1], jnp.float32)
    weight = losses.sigmoid(CONTINUOUS[name])(t, CONTINUOUS[name](t))
    assert np.isfinite(weight).all() and (np.asarray(weight) > 0).all()


def test_plain_schedule_is_the_cosine():
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2) when the ends are far away."""
    t = TIMES[64:-64]
    expected = -2 * np.log(np.tan(np.pi / 2 * t.astype(float)))
    found = schedule.cosine(-60, 60)(jnp.asarray(t))
    np.testing.assert_allclose(found, expected, 0, 1e-5)


@pytest.mark.parametrize("noise_size, size", [(64, 1024), (32, 256), (64, 16)])
def test_shift_moves_the_noise_by_the_ratio_of_sides(noise_size, size):
    """alpha / sigma is multiplied by noise_size / size (Hoogeboom et al., 2023)."""
    t = jnp.asarray(TIMES[64:-64])
    shift = schedule.resolution_shift(noise_size, size)
    moved = schedule.cosine(-60, 60, shift)(t) - schedule.cosine(-60, 60)(t)
    np.testing.assert_allclose(np.exp(moved / 2), noise_size / size, 1e-5)


def test_interpolated_lies_between_its_ends():
    t = jnp.asarray(TIMES[1:-1])
    fine = schedule.cosine()(t)
    coarse = schedule.cosine(shift=schedule.resolution_shift(32, 1024))(t)
    between = schedule.interpolated(32, 1024)(t)
    assert (between < fine).all() and (between > coarse).all()
    # At either end it goes with the one that it starts from.
    assert fine[0] - between[0] < 0.01 and between[-1] - coarse[-1] < 0.01


def test_share_of_training_at_fine_detail():
    """Share of t with logsnr > 3, where the far ends do not matter.

    0.9 % and 14 %: design note DIFFUSION.md, section 1c. Interpolated: the definition
    of simple diffusion with infinite ends, on a fine grid in float64.
    """
    t = (np.arange(20_000) + 0.5) / 20_000

    def percent(run):
        return 100 * float(jnp.mean(run(jnp.asarray(t, jnp.float32)) > 3))

    assert round(percent(CONTINUOUS["shifted down"]), 1) == 0.9
    assert round(percent(CONTINUOUS["plain"])) == 14
    exact = -2 * np.log(np.tan(np.pi / 2 * t)) + t * 2 * np.log(32 / 1024)
    assert abs(percent(CONTINUOUS["interpolated"]) - 100 * np.mean(exact > 3)) < 0.05


def check_grid(grid, steps):
    assert grid.shape == (steps + 1,) and grid.dtype == np.float64
    assert (np.diff(grid) > 0).all() and grid[-1] == np.inf
    assert np.isfinite(grid[:-1]).all()


@pytest.mark.parametrize("steps", [1, 2, 7, 16, 33])
def test_grids_increase_to_clean(steps):
    check_grid(schedule.uniform_logsnr_grid(steps, -13, 11), steps)
    check_grid(schedule.uniform_time_grid(steps, CONTINUOUS["interpolated"]), steps)
    check_grid(schedule.uniform_time_grid(steps, schedule.discrete_cosine()), steps)
    check_grid(schedule.discrete_grid(steps, schedule.cosine_table()), steps)


def test_uniform_logsnr_moves_equally():
    grid = schedule.uniform_logsnr_grid(16, -13, 11)
    assert (grid[0], grid[15]) == (-13, 11)
    np.testing.assert_allclose(np.diff(grid[:-1]), 24 / 15, 1e-12)


@pytest.mark.parametrize("steps", [1, 7, 10, 33, 50, 999, 1000])
def test_discrete_grid_starts_at_the_terminal_step(steps):
    table = schedule.cosine_table()
    grid = schedule.discrete_grid(steps, table)
    assert grid[0] == table[-1]
    assert set(grid) <= set(table)


def test_discrete_grid_is_the_trailing_one():
    """Lin et al. (2024), table 2: T = 1000, S = 10 visits 1000, 900, ..., 100."""
    table = schedule.cosine_table()
    visited = [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    np.testing.assert_array_equal(schedule.discrete_grid(10, table), table[visited])
    np.testing.assert_array_equal(schedule.discrete_grid(1000, table), table[::-1])


@pytest.mark.parametrize("steps", [0, -1])
def test_too_few_steps(steps):
    with pytest.raises(ValueError, match=f"sampler steps = {steps}: expected 1 or"):
        schedule.uniform_logsnr_grid(steps, -13, 11)
    with pytest.raises(ValueError, match=f"sampler steps = {steps}"):
        schedule.uniform_time_grid(steps, CONTINUOUS["plain"])


def test_more_steps_than_the_table_has():
    with pytest.raises(ValueError, match="steps = 1001: expected 1 to 1000"):
        schedule.discrete_grid(1001, schedule.cosine_table())
