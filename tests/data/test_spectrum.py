"""Laws of the radially averaged power spectrum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_jax.data.spectrum import Spectrum, radial_power, ring_sizes


def noise(size, seed=0):
    return np.random.default_rng(seed).standard_normal((size, size))


def wave(size, down, across, phase=0.3):
    i, j = np.mgrid[:size, :size]
    return np.cos(2 * np.pi * (down * i + across * j) / size + phase)


def test_white_noise_of_variance_one_has_power_one_in_every_ring():
    images = 400
    mean = sum(radial_power(noise(32, seed)) for seed in range(images)) / images
    # |DFT|² of white noise has variance 1, conjugate pairs count once: 2 / n; the few
    # coefficients that are their own conjugate have variance 2, which 5 sigma covers
    sigma = np.sqrt(2 / ring_sizes(32) / images)
    assert np.all(np.abs(mean - 1) < 5 * sigma)


@given(st.integers(2, 33), st.integers(0, 99))
def test_the_rings_and_what_they_leave_out_hold_all_energy(size, seed):
    x = noise(size, seed)
    rings = np.sum(ring_sizes(size) * radial_power(x))
    power = np.abs(np.fft.fft2(x)) ** 2 / size**2
    f = np.fft.fftfreq(size) * size
    corners = power[np.hypot(f[:, None], f) >= size // 2 + 0.5].sum()
    mean = size**2 * x.mean() ** 2
    np.testing.assert_allclose(rings + corners + mean, np.sum(x**2), rtol=1e-9)


@pytest.mark.parametrize(
    "down, across, ring", [(0, 5, 5), (3, 4, 5), (7, 0, 7), (1, 1, 1), (2, 2, 3)]
)
def test_a_cosine_lands_in_its_ring(down, across, ring):
    size = 32
    power = radial_power(wave(size, down, across))
    # a cosine of amplitude 1 has mean square 1/2
    assert power[ring - 1] * ring_sizes(size)[ring - 1] == pytest.approx(size**2 / 2)
    assert np.delete(power, ring - 1) == pytest.approx(0, abs=1e-20)


@given(st.floats(-3, 3), st.floats(-1, 1))
def test_scale_is_squared_and_the_mean_does_not_count(a, offset):
    x = noise(16)
    scaled = radial_power(a * x + offset)
    np.testing.assert_allclose(scaled, a**2 * radial_power(x), rtol=1e-9, atol=1e-24)


def test_turning_an_image_changes_nothing():
    x = noise(17)
    for turned in (x.T, x[::-1], np.rot90(x), np.roll(x, (3, 5), (0, 1))):
        np.testing.assert_allclose(radial_power(turned), radial_power(x))


def test_spectra_add_to_the_mean_in_any_order():
    parts = [Spectrum.of(noise(8, seed)) for seed in range(4)]
    forth = sum(parts, Spectrum.empty(8)).to_json()
    back = (parts[3] + (parts[2] + (parts[1] + parts[0]))).to_json()
    assert forth["images"] == 4 and forth["size"] == 8
    np.testing.assert_allclose(forth["power"], back["power"])
    mean = np.mean([radial_power(noise(8, seed)) for seed in range(4)], axis=0)
    np.testing.assert_allclose(forth["power"], mean)


def test_the_range_reaches_four_beyond_every_ring():
    power = np.exp([-1.0, 2.0, 7.04])
    content = Spectrum(2, 6, 2 * power).to_json()
    assert content["logsnr_low"] == -11.0
    assert content["logsnr_high"] == 5.0
    assert Spectrum(1, 4, np.array([1.0, 0.0])).to_json()["logsnr_high"] == 4.0


def test_the_mean_sets_the_low_end():
    """A sampler starts without a mean; 4 beyond its level, e^-2 of it is missing."""
    x = noise(16) + 3
    found = Spectrum.of(x).to_json()
    assert found["mean_power"] == pytest.approx(256 * x.mean() ** 2)
    assert found["logsnr_low"] == round(-math.log(found["mean_power"]) - 4, 1)
    turned = Spectrum.of(x - x.mean()).to_json()
    np.testing.assert_allclose(found["power"], turned["power"])


def test_noise_that_halves_the_range_moves_it_by_ln_4():
    whole = Spectrum.of(noise(16)).to_json()
    half = Spectrum.of(noise(16) / 2).to_json()
    moved = half["logsnr_low"] - whole["logsnr_low"]
    assert moved == pytest.approx(math.log(4), abs=0.11)


@pytest.mark.parametrize("shape", [(4, 5), (4,), (4, 4, 1), (1, 1)])
def test_only_square_images(shape):
    with pytest.raises(ValueError, match="expected .size, size."):
        radial_power(np.zeros(shape))


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        radial_power(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="no power"):
        Spectrum.empty(4).to_json()
    with pytest.raises(ValueError, match="one size"):
        Spectrum.empty(4) + Spectrum.empty(6)
