"""Laws of the Gaussian process, in float32 as the project runs it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_jax import process
from ddpm_jax.schedule import cosine_table

quick = settings(max_examples=40, deadline=None)
logsnrs = st.floats(-20, 14, width=32)

ULP = 2.0**-24
"""Relative rounding of one float32 operation."""


def draw(seed=0, shape=(1, 4, 4, 1)):
    x_key, eps_key, hat_key = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.uniform(x_key, shape, minval=-1, maxval=1)
    x_hat = jax.random.uniform(hat_key, shape, minval=-1, maxval=1)
    return x, jax.random.normal(eps_key, shape), x_hat


def scales(logsnr):
    """alpha and sigma in float64, from the definition."""
    return (1 + np.exp(-logsnr)) ** -0.5, (1 + np.exp(logsnr)) ** -0.5


def close(found, expected, atol):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), 0, atol)


@quick
@given(logsnrs)
def test_alpha_and_sigma_are_on_the_unit_circle(value):
    logsnr = jnp.full(1, value)
    alpha, sigma = process.alpha(logsnr), process.sigma(logsnr)
    close(alpha**2 + sigma**2, [1], 8 * ULP)
    # alpha^2 carries the rounding of value, up to 20 ulp of exp, halved by the root.
    np.testing.assert_allclose(alpha, scales(value)[0], 32 * ULP)
    np.testing.assert_allclose(sigma, scales(value)[1], 32 * ULP)


@quick
@given(logsnrs)
def test_eps_round_trip(value):
    x, eps, _ = draw()
    logsnr = jnp.full(1, value)
    z = process.corrupt(x, eps, logsnr)
    alpha, sigma = scales(value)
    # z, of order 4, is rounded once or twice; the division makes that 1 / scale.
    close(process.x_from_eps(z, eps, logsnr), x, 32 * ULP / alpha)
    close(process.eps_from_x(z, x, logsnr), eps, 32 * ULP / sigma)


@quick
@given(logsnrs)
def test_v_round_trip(value):
    x, eps, _ = draw()
    logsnr = jnp.full(1, value)
    alpha, sigma = scales(value)
    z = process.corrupt(x, eps, logsnr)
    v = (alpha * np.asarray(eps, float) - sigma * np.asarray(x, float)).astype("f4")
    close(process.x_from_v(z, jnp.asarray(v), logsnr), x, 64 * ULP)
    close(process.v_from_x(z, x, logsnr), v, 64 * ULP / sigma)


@quick
@given(st.floats(-12, 12, width=32))
def test_round_trip_through_all_three(value):
    """x_hat -> v -> x_hat -> eps -> x_hat of any x_hat, not only of the true image.

    Each way multiplies the rounding of numbers of order 4 by 1 / alpha or 1 / sigma at
    most, and the way back takes it away again but for the last conversion.
    """
    x, eps, x_hat = draw()
    logsnr = jnp.full(1, value)
    z = process.corrupt(x, eps, logsnr)
    v = process.v_from_x(z, x_hat, logsnr)
    again = process.TO_X["v"](z, v, logsnr)
    close(again, x_hat, 64 * ULP)
    eps_hat = process.eps_from_x(z, again, logsnr)
    back = process.TO_X["eps"](z, eps_hat, logsnr)
    alpha, sigma = scales(value)
    close(back, x_hat, 128 * ULP / alpha)
    # eps_hat = sigma z + alpha v: the fourth way round.
    close(sigma * z + alpha * v, eps_hat, 128 * ULP / sigma)


def test_x_is_itself():
    x, z, _ = draw()
    assert process.TO_X["x"](z, x, jnp.zeros(1)) is x


@quick
@given(st.floats(-10, 14, width=32))
def test_squared_errors_of_eps_and_v_are_weighted_errors_of_x(value):
    """eps-MSE = e^logsnr x-MSE = alpha^2 v-MSE, v-MSE = (1 + e^logsnr) x-MSE."""
    x, eps, x_hat = draw()
    logsnr = jnp.full(1, value)
    z = process.corrupt(x, eps, logsnr)

    def error(convert):
        difference = convert(z, x, logsnr) - convert(z, x_hat, logsnr)
        return float(jnp.mean(difference**2))

    x_mse = float(jnp.mean((x - x_hat) ** 2))
    # alpha (x - x_hat) is a difference of numbers of order 4.
    rtol = 64 * ULP / scales(value)[0]
    of_eps, of_v = error(process.eps_from_x), error(process.v_from_x)
    np.testing.assert_allclose(of_eps, np.exp(value) * x_mse, rtol)
    np.testing.assert_allclose(of_v, (1 + np.exp(value)) * x_mse, rtol)
    np.testing.assert_allclose(of_eps, scales(value)[0] ** 2 * of_v, 2 * rtol)


def ho_posterior(step):
    """Coefficients of x_0 and x_t, and the variance: Ho et al. (2020), eqs. 6 and 7.

    From the betas of Nichol & Dhariwal (2021), eq. 17, written out again here.
    """
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    alpha_bar = np.append(1, np.cumprod(1 - beta))
    b, now, after = beta[step - 1], alpha_bar[step], alpha_bar[step - 1]
    x = np.sqrt(after) * b / (1 - now)
    z = np.sqrt(1 - b) * (1 - after) / (1 - now)
    return x, z, (1 - after) / (1 - now) * b


@pytest.mark.parametrize("precision, rtol", [("float64", 1e-9), ("float32", 2e-3)])
def test_posterior_is_that_of_the_published_process(precision, rtol):
    """float64: the formulas agree; 1e-9 because Ho's own 1 - alpha_bar_1 cancels.

    float32: neighbours differ by 6e-3 in a logsnr rounded to 1e-6 at most.
    """
    step = np.arange(1, 1001)
    table = cosine_table()
    one, zero = np.ones((1000, 1, 1, 1)), np.zeros((1000, 1, 1, 1))
    with jax.enable_x64(precision == "float64"):
        now, after = jnp.asarray(table[step]), jnp.asarray(table[step - 1])
        one, zero = jnp.asarray(one), jnp.asarray(zero)
        assert now.dtype == precision
        of_x, variance = process.posterior(zero, one, now, after)
        of_z, _ = process.posterior(one, zero, now, after)
        found = [np.asarray(c, float).ravel() for c in (of_x, of_z, variance)]
    for value, expected in zip(found, ho_posterior(step), strict=True):
        np.testing.assert_allclose(value, expected, rtol, 1e-12)


@pytest.mark.parametrize("logsnr", [-20.0, -60.0, -200.0, -np.inf])
def test_posterior_is_finite_at_zero_terminal_snr(logsnr):
    """From pure noise nothing is kept of z: the mean is alpha_s x."""
    x, z, _ = draw()
    after = jnp.full(1, -5.0)
    mean, variance = process.posterior(z, x, jnp.full(1, logsnr), after)
    alpha, sigma = scales(-5.0)
    close(mean, alpha * x, 4 * np.exp(logsnr / 2) / alpha + 64 * ULP)
    close(variance, [sigma**2], np.exp(logsnr + 5) + 8 * ULP)


def test_last_step_of_the_posterior_is_x():
    x, z, _ = draw()
    mean, variance = process.posterior(z, x, jnp.full(1, 10.0), jnp.full(1, jnp.inf))
    close(mean, x, 0)
    close(variance, [0], 0)
