"""Laws of the averages of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpm_jax import ema


@pytest.mark.parametrize("width, gamma", [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_of_the_published_widths(width, gamma):
    """Karras et al. (2024), section 3.1: their two widths and exponents."""
    assert round(ema.gamma_from_width(width), 2) == gamma


def final(decay, values):
    """The average after all of `values`, from a start that must be forgotten."""

    def step(tracks, count_and_value):
        count, value = count_and_value
        return ema.update(tracks, {"w": value}, count, {"a": decay}), None

    counts = jnp.arange(1, len(values) + 1)
    start = {"a": {"w": jnp.float32(1e3)}}
    return float(jax.lax.scan(step, start, (counts, values))[0]["a"]["w"])


@pytest.mark.parametrize("width", [0.05, 0.10, 0.25])
def test_power_average_weighs_by_a_power_of_time(width):
    """Step i of N has the weight of the profile t^gamma over ((i - 1) / N, i / N].

    Karras et al. (2024), eq. 3. 300 float32 updates round to 300 ulp at the most.
    """
    values = jax.random.normal(jax.random.key(0), (300,))
    edges = (np.arange(301) / 300) ** (ema.gamma_from_width(width) + 1)
    expected = np.diff(edges) @ np.asarray(values, float)
    assert abs(final(ema.power_decay(width), values) - expected) < 300 * 2.0**-24 * 4


@pytest.mark.parametrize("width", [0.01, 0.05, 0.10, 0.25])
def test_width_is_the_spread_of_the_profile(width):
    """The standard deviation of the profile relative to the training so far."""
    t = (np.arange(100_000) + 0.5) / 100_000
    profile = t ** ema.gamma_from_width(width)
    profile /= profile.sum()
    mean = profile @ t
    assert abs(np.sqrt(profile @ (t - mean) ** 2) - width) < 1e-5


def test_constant_decay():
    """The weights of the last values are (1 - d) d^age."""
    values = jax.random.normal(jax.random.key(1), (50,))
    found = final(ema.constant_decay(0.9), values)
    weights = 0.1 * 0.9 ** np.arange(50)[::-1]
    expected = weights @ np.asarray(values, float) + 0.9**50 * 1e3
    np.testing.assert_allclose(found, expected, 50 * 2.0**-24 * 4)


def test_decay_zero_is_the_newest_value():
    values = jnp.arange(5.0)
    assert final(ema.constant_decay(0.0), values) == 4.0


def test_tracks_do_not_mix():
    decays = {"a": ema.constant_decay(0.0), "b": ema.constant_decay(0.5)}
    tracks = {"a": {"w": jnp.zeros(2)}, "b": {"w": jnp.zeros(2)}}
    updated = ema.update(tracks, {"w": jnp.ones(2)}, jnp.int32(1), decays)
    assert jax.tree.map(list, updated) == {"a": {"w": [1, 1]}, "b": {"w": [0.5, 0.5]}}


@pytest.mark.parametrize("width", [0.0, -0.1, 0.28, 1.0])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=f"EMA width = {width}: expected more than 0"):
        ema.gamma_from_width(width)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f"EMA decay = {decay}: expected 0 to less"):
        ema.constant_decay(decay)
