"""Samplers on a radiograph's spectrum: the table of design note DIFFUSION.md, 2.

Normalisation: 1024 x 1024 pixels of variance 0.45, power of the mode at k cycles an
image proportional to 1 / (3^3 + k^3), k = 1 ... 512, 2 pi k modes each, the power of
white noise 1. Then -ln S goes from -8.8 to 6.6, and 4 more at either end is the
table's range [-13, 11]. Its column of errors is over k >= 8: coarser bands of DDIM
are worse than it says, as its own column of W2 shows, which is over all k.
"""

import numpy as np
import pytest

from ddpm_jax import samplers, schedule
from tests.laws import gaussian

K = np.arange(1, 513)
POWER = 1 / (3.0**3 + K**3)
POWER *= 0.45 * 1024**2 / np.sum(2 * np.pi * K * POWER)
SHIFTED = schedule.cosine(shift=schedule.resolution_shift(64, 1024))


def discrete(steps):
    return schedule.discrete_grid(steps, schedule.cosine_table())


def uniform_time(steps):
    return schedule.uniform_time_grid(steps, SHIFTED)


def uniform_logsnr(steps):
    return schedule.uniform_logsnr_grid(steps, -13, 11)


def errors(grid, **options):
    """(worst |dB| over k >= 8, Wasserstein-2 distance in percent of the deviation)."""
    rows = samplers.coefficients(grid, **options)
    power = gaussian.through_table(rows, POWER)[1]
    worst = np.abs(10 * np.log10(power / POWER))[K >= 8].max()
    lost = np.sum(K * (np.sqrt(power) - np.sqrt(POWER)) ** 2) / np.sum(K * POWER)
    return worst, 100 * np.sqrt(lost)


TABLE = [
    (discrete(1000), {"order": 1, "eta": 1.0}, 0.50, 3.0),
    (discrete(250), {"order": 1}, 0.92, 11),
    (discrete(50), {"order": 1}, 3.9, 42),
    (uniform_time(16), {}, 32, 19),
    (uniform_time(32), {}, 26, 13),
    (uniform_logsnr(16), {}, 0.26, 2.6),
    (uniform_logsnr(24), {}, 0.11, 1.0),
]


def test_range_of_the_sampler_is_that_of_the_spectrum():
    """DIFFUSION.md, section 2: -ln S and 4 more at either end, to whole numbers."""
    ends = -np.log(POWER[[0, -1]]) + (-4, 4)
    assert np.round(ends).tolist() == [-13, 11]


@pytest.mark.parametrize("grid, options, worst, distance", TABLE)
def test_rows_of_the_table(grid, options, worst, distance):
    """Within 5 % of the errors or 0.02 dB, and within 10 % or 0.3 % of W2."""
    found = errors(grid, **options)
    np.testing.assert_allclose(found[0], worst, 0.05, 0.02)
    np.testing.assert_allclose(found[1], distance, 0.1, 0.3)


def test_default_sampler_in_16_steps_beats_1000_of_the_paper():
    default = errors(uniform_logsnr(16))
    paper = errors(discrete(1000), order=1, eta=1.0)
    assert default[0] <= 0.3 < paper[0] and default[1] < paper[1]


def test_large_variance_keeps_fine_detail():
    """beta_t and the posterior's variance are the bounds for data of variance 1 and 0
    (Ho et al., 2020, section 3.2): no band ends with less than the smaller gives."""
    power = [
        gaussian.through_table(
            samplers.coefficients(
                discrete(1000), order=1, eta=1.0, large_variance=large
            ),
            POWER,
        )[1]
        for large in (False, True)
    ]
    assert (power[1] >= power[0]).all()


def test_error_falls_with_the_steps():
    worst = [errors(uniform_logsnr(steps))[0] for steps in (8, 16, 32, 64)]
    assert (np.diff(worst) < 0).all()
