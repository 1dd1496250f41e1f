"""The error by spatial frequency of crops: nothing for the same distribution, and what
a filter did, in the band in which it did it."""

import numpy as np
import pytest
from scipy import ndimage

from ddpm_jax.evaluation import spectrum


def noise(count, size, seed):
    return np.random.default_rng(seed).normal(size=(count, size, size))


def error(real, synthetic):
    powers = [spectrum.crop_power(x) for x in (real, synthetic)]
    return spectrum.band_error(*powers, np.random.default_rng(0))


def test_white_noise_has_power_one_in_every_ring():
    power = spectrum.crop_power(noise(300, 32, 0)).mean(0)
    assert power.shape == (16,)
    np.testing.assert_allclose(power[1:], 1, 0.06)  # the mean taken off is in ring 1


def test_brightness_is_in_no_band():
    x = noise(2, 32, 0)
    np.testing.assert_allclose(spectrum.ring_power(x[0] + 7), spectrum.ring_power(x[0]))


def test_contrast_is_in_all_bands_alike():
    found = error(noise(100, 32, 0), 2 * noise(100, 32, 0))
    np.testing.assert_allclose(found.error, 20 * np.log10(2), 1e-6)


def test_same_distribution_has_an_error_within_its_interval():
    found = error(noise(200, 32, 0), noise(200, 32, 1))
    low, high = np.array(found.low), np.array(found.high)
    assert (low < 0.3).all() and (high > -0.3).all() and found.rms < 0.5


def test_blur_is_found_where_it_acts():
    """A Gaussian of s px takes exp(-(2 pi s f)²) of the power at frequency f."""
    real = noise(200, 64, 0)
    blurred = ndimage.gaussian_filter(noise(200, 64, 1), (0, 1, 1), mode="wrap")
    found = error(real, blurred)
    assert found.edges == (1 / 64, 2 / 64, 4 / 64, 8 / 64, 16 / 64, 0.5)
    assert abs(found.error[0]) < 1 and found.error[-1] < -15
    assert list(found.error[2:]) == sorted(found.error[2:], reverse=True)
    middle = 12 / 64  # of the band from 8 to 16 cycles
    expected = -10 * np.log10(np.e) * (2 * np.pi * middle) ** 2
    assert found.error[3] == pytest.approx(expected, abs=1.5)


def test_edges_of_an_image_are_not_fine_detail():
    """A slope is smooth, though its two ends differ: without a window it is not."""
    slope = np.tile(np.linspace(-1, 1, 64), (64, 1))
    power = spectrum.ring_power(slope)
    assert power[15:].max() < 1e-4 * power[0]


def test_crops_are_not_resized():
    real = noise(3, spectrum.CROP + 40, 0)
    assert spectrum.crop_power(real).shape == (3, spectrum.CROP // 2)
