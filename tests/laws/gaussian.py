"""Gaussian data, for which denoiser, samplers and errors are known in closed form.

A pixel, or an amplitude of the spectrum, is normal with a mean and a variance; then
x_hat is affine in z, and a whole sampler is an affine map of normal numbers.
"""

import numpy as np


def scales(logsnr):
    """alpha^2 and sigma^2 in float64, from the definition."""
    return 1 / (1 + np.exp(-logsnr)), 1 / (1 + np.exp(logsnr))


def gain(logsnr, variance):
    """d x_hat / d z of the ideal denoiser: x_hat = mean + gain (z - alpha mean)."""
    kept, noise = scales(logsnr)
    return np.sqrt(kept) * variance / (kept * variance + noise)


def through_table(rows, variance):
    """(slope, variance) of a sampler's images under the ideal denoiser.

    `slope` is d image / d z of the noise at the start, `variance` that of the images,
    the noise of each step included. The covariance of (z, x_hat_before) goes through
    one row after another; `variance` of the data may be an array, one a band.
    """
    variance = np.asarray(variance, float)
    slope, slope_before = np.ones_like(variance), np.zeros_like(variance)
    zz, zx, xx = np.ones_like(variance), 0 * variance, 0 * variance
    for logsnr, a, b, c, noise in zip(*rows, strict=True):
        g = gain(logsnr, variance)
        m = a + b * g
        slope, slope_before = m * slope + c * slope_before, g * slope
        zz, zx, xx = (
            m**2 * zz + 2 * m * c * zx + c**2 * xx + noise**2,
            g * (m * zz + c * zx),
            g**2 * zz,
        )
    return slope, zz


def mean_bias(rows, mean, variance):
    """Expected image less `mean`: the start is N(0, 1), which lacks alpha mean.

    What is missing there goes through the sampler as noise does: a closed form.
    """
    kept, _ = scales(rows.logsnr[0])
    return -np.sqrt(kept) * mean * through_table(rows, variance)[0]
