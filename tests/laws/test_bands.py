"""Laws of the error by spatial frequency."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import bands


@pytest.mark.parametrize("shape", [(16, 16), (15, 15), (12, 20), (64, 64), (9, 32)])
def test_bands_add_up_to_the_mean_squared_error(shape):
    """Parseval, for even and odd sides, one value per example."""
    error = jax.random.normal(jax.random.key(0), (3, *shape, 1)) + 0.3
    parts = bands.by_band(error)
    assert {part.shape for part in parts.values()} == {(3,)}
    np.testing.assert_allclose(
        sum(parts.values()), jnp.mean(error**2, axis=(1, 2, 3)), 1e-5
    )


@pytest.mark.parametrize(
    "rows, columns, name",
    [
        (0, 0, "0_to_2"),
        (1, -1, "0_to_2"),
        (2, 0, "2_to_4"),
        (3, 3, "4_to_8"),
        (-5, 6, "4_to_8"),
        (-6, 6, "8_to_16"),
        (0, 16, "16_and_up"),
        (15, 15, "16_and_up"),
    ],
)
def test_a_wave_is_in_the_band_of_its_frequency(rows, columns, name):
    """Its whole power, and none elsewhere; 32 px, frequencies in cycles per image."""
    y, x = np.mgrid[:32, :32] / 32
    wave = np.cos(2 * np.pi * (rows * y + columns * x)).astype(np.float32)
    parts = bands.by_band(jnp.asarray(wave)[None, :, :, None])
    for found, part in parts.items():
        expected = np.mean(wave**2) if found == f"x_mse/band_{name}" else 0
        np.testing.assert_allclose(part, [expected], rtol=1e-5, atol=1e-6)


def test_bands_are_octaves_up_to_the_nyquist_frequency():
    assert bands.edges(1024, 1024) == (0, *(2**i for i in range(1, 10)))
    assert bands.edges(15, 20) == (0, 2, 4)
    assert bands.names(16, 16)[0] == "x_mse/band_0_to_2"
    assert bands.names(16, 16)[-1] == "x_mse/band_8_and_up"


def test_white_noise_fills_bands_by_their_area():
    """n of N coefficients have n / N of the power, to 5 standard errors."""
    noise = jax.random.normal(jax.random.key(1), (64, 32, 32, 1))
    found = np.mean(np.stack(list(bands.by_band(noise).values())), axis=1)
    frequency = np.fft.fftfreq(32, 1 / 32)
    radius = np.hypot(frequency[:, None], frequency[None])
    counts, _ = np.histogram(radius, [*bands.edges(32, 32), np.inf])
    bound = 5 * np.sqrt(2 / (64 * counts))
    assert (np.abs(found / (counts / 32**2) - 1) < bound).all()


def test_bands_have_no_gradient():
    def total(error):
        return sum(part.sum() for part in bands.by_band(error).values())

    assert not np.any(jax.grad(total)(jnp.ones((2, 8, 8, 1))))


ON_EIGHT = """
import jax, jax.numpy as jnp
from ddpm_jax import bands
from ddpm_jax.training import sharding
split = sharding.split_batch(sharding.make_mesh())
error = jax.ShapeDtypeStruct((16, 8, 8, 1), jnp.float32)
run = jax.jit(bands.by_band, in_shardings=(split,), out_shardings=split)
assert jax.device_count() == 8
assert "all-gather" not in run.lower(error).compile().as_text()
"""


def test_each_device_transforms_its_own_examples():
    """XLA alone would gather the batch on every device."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_EIGHT], env=environment, check=True)
