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
    assert abs(final(ema.power_rate(width), values) - expected) < 300 * 2.0**-24 * 4


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
    found = final(ema.constant_rate(0.9), values)
    weights = 0.1 * 0.9 ** np.arange(50)[::-1]
    expected = weights @ np.asarray(values, float) + 0.9**50 * 1e3
    np.testing.assert_allclose(found, expected, 50 * 2.0**-24 * 4)


def test_decay_zero_is_the_newest_value():
    values = jnp.arange(5.0)
    assert final(ema.constant_rate(0.0), values) == 4.0


def test_tracks_do_not_mix():
    rates = {"a": ema.constant_rate(0.0), "b": ema.constant_rate(0.5)}
    tracks = {"a": {"w": jnp.zeros(2)}, "b": {"w": jnp.zeros(2)}}
    updated = ema.update(tracks, {"w": jnp.ones(2)}, jnp.int32(1), rates)
    assert jax.tree.map(list, updated) == {"a": {"w": [1, 1]}, "b": {"w": [0.5, 0.5]}}


STEPS = 4096
WIDTHS = (0.05, 0.10)
WISHED = (0.03, 0.075, 0.15, 0.20)


@pytest.fixture(scope="module")
def walk():
    """{width: averages [STEPS, 256] after every step} of a random walk, in float64."""
    path = np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 256)), axis=0)
    tracks = {width: np.zeros_like(path) for width in WIDTHS + WISHED}
    for width, track in tracks.items():
        exponent = ema.gamma_from_width(width) + 1
        for step in range(1, STEPS + 1):
            decay = (1 - 1 / step) ** exponent
            track[step - 1] = decay * track[step - 2] + (1 - decay) * path[step - 1]
    return tracks


def kept(walk, count):
    """`count` snapshots, evenly spaced to the end, of both trained widths."""
    steps = [STEPS * (i + 1) // count for i in range(count)]
    return {(s, w): {"w": walk[w][s - 1]} for s in steps for w in WIDTHS}


def relative_error(found, walk, width):
    """Relative to how far the true average is from the nearer trained one."""
    true = walk[width][-1]
    nearest = min(np.linalg.norm(walk[w][-1] - true) for w in WIDTHS)
    return np.linalg.norm(found["w"] - true) / nearest


@pytest.mark.parametrize(
    "count, most",
    [
        (8, {0.075: 0.02, 0.15: 0.02, 0.20: 0.04}),
        (16, {0.03: 0.05, 0.075: 0.003, 0.15: 0.003, 0.20: 0.01}),
        (32, {0.03: 0.006, 0.075: 0.0005, 0.15: 0.0005, 0.20: 0.002}),
        (64, {0.03: 0.001, 0.075: 0.0001, 0.15: 0.0001, 0.20: 0.0005}),
    ],
)
def test_a_third_width_is_made_of_two(walk, count, most):
    """Against the average tracked all the way: half the spacing of snapshots is an
    eighth of the error or less. Bounds: measured, and at least a quarter more."""
    for width, bound in most.items():
        found = ema.reconstruct(kept(walk, count), STEPS, width)
        assert found["w"].dtype == np.float32
        assert relative_error(found, walk, width) < bound, width


@pytest.mark.parametrize("count", [1, 4, 16, 64, 128])
@pytest.mark.parametrize("width", WISHED)
def test_mixtures_sum_to_one(count, width):
    stored = [(STEPS * (i + 1) // count, w) for i in range(count) for w in WIDTHS]
    mix, error = ema.coefficients(stored, STEPS, width)
    assert abs(mix.sum() - 1) < 1e-9 and 0 < error < 1


def test_inner_product_of_profiles():
    """Against the integral itself, by the midpoint rule."""
    t = (np.arange(200_000) + 0.5) / 200_000 * 90

    def profile(step, gamma):
        return np.where(t < step, (gamma + 1) * (t / step) ** gamma / step, 0)

    for a, b in [((90, 7), (60, 17)), ((60, 17), (90, 7)), ((70, 3), (70, 5))]:
        integral = np.mean(profile(*a) * profile(*b)) * 90
        np.testing.assert_allclose(ema.inner_product(*a, *b), integral, 1e-4)


def test_a_stored_average_is_itself(walk):
    stored = kept(walk, 8)
    mix, error = ema.coefficients(sorted(stored), STEPS, 0.10)
    expected = [float(key == (STEPS, 0.10)) for key in sorted(stored)]
    np.testing.assert_allclose(mix, expected, atol=1e-9)
    assert error < 1e-6
    assert ema.reconstruct(stored, STEPS, 0.10) is stored[STEPS, 0.10]


def test_constant_parameters_are_reproduced():
    """To the ulp of float32, however few are stored and however wild the mixture."""
    constant = {"a": np.float32([1.1, -3e5]), "b": np.float32(0.7)}
    for count in (4, 128):
        stored = {
            (s, w): constant
            for s in range(STEPS // count, STEPS + 1, STEPS // count)
            for w in WIDTHS
        }
        found = ema.reconstruct(stored, STEPS, 0.075)
        jax.tree.map(
            lambda f, e: np.testing.assert_allclose(f, e, 1e-7), found, constant
        )


def test_a_width_too_far_from_what_is_stored_is_refused(walk):
    with pytest.raises(ValueError, match="width = 0.2 at step 4096: 2 stored averages"):
        ema.reconstruct(kept(walk, 1), STEPS, 0.20)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.28, 1.0])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=f"EMA width = {width}: expected more than 0"):
        ema.gamma_from_width(width)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f"EMA decay = {decay}: expected 0 to less"):
        ema.constant_rate(decay)


@pytest.mark.parametrize("step", [1, 2, 78_125, 1_000_000, 1_000_321])
def test_rate_keeps_its_digits_late_in_a_run(step):
    """Against float64; formed as 1 - decay in float32 it was 1.5 % off at 10^6."""
    exponent = ema.gamma_from_width(0.05) + 1
    with np.errstate(divide="ignore"):
        exact = -np.expm1(exponent * np.log1p(-1 / np.float64(step)))
    found = ema.power_rate(0.05)(jnp.int32(step))
    np.testing.assert_allclose(found, exact, 1e-5)
