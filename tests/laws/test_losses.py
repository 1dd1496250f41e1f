"""Laws of the training times, the weightings and the loss."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy import stats

from ddpm_jax import build, losses, process, schedule
from ddpm_jax.models.functional import Network

SHAPE = (6, 4, 4, 1)


@pytest.mark.parametrize("count", [1, 8, 100])
def test_times_are_stratified(count):
    """Exactly one in each [i, i + 1) / count."""
    for seed in range(20):
        t = np.asarray(losses.sample_times(jax.random.key(seed), count))
        assert t.dtype == np.float32 and (t >= 0).all() and (t < 1).all()
        assert sorted(np.floor(t.astype(float) * count)) == list(range(count))


def test_each_time_is_uniform():
    """Kolmogorov-Smirnov at 1 in 1000, on one time of each batch: fixed keys."""
    keys = jax.random.split(jax.random.key(0), 2000)
    t = np.asarray(jax.vmap(lambda key: losses.sample_times(key, 3))(keys))
    for column in t.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def angle(t, low, high, shift):
    """The shifted cosine in float64, from its definition (DIFFUSION.md, 1b)."""
    a, b = (np.arctan(np.exp((shift - end) / 2)) for end in (high, low))
    return -2 * np.log(np.tan(a + t * (b - a))) + shift


SHIFT = 2 * np.log(32 / 1024)
IN_FLOAT64 = {
    "plain": (schedule.cosine(), lambda t: angle(t, -20, 14, 0)),
    "shifted": (schedule.cosine(shift=SHIFT), lambda t: angle(t, -20, 14, SHIFT)),
    "interpolated": (
        schedule.interpolated(32, 1024),
        lambda t: t * angle(t, -20, 14, SHIFT) + (1 - t) * angle(t, -20, 14, 0),
    ),
}


@pytest.mark.parametrize("name", IN_FLOAT64)
@pytest.mark.parametrize("bias", [-2.0, 0.0, 2.0])
def test_sigmoid_weight(name, bias):
    """sigmoid(bias - logsnr) (-dlogsnr/dt) / 2 on eps, that is times e^logsnr on x.

    The slope is a central difference in float64; float32 and the difference agree to
    1e-3 away from the ends, where the slope is steep.
    """
    run, exact = IN_FLOAT64[name]
    t = np.linspace(0.02, 0.98, 49)
    logsnr, step = exact(t), 1e-6
    slope = (exact(t + step) - exact(t - step)) / (2 * step)
    expected = np.exp(logsnr) / (1 + np.exp(logsnr - bias)) * -slope / 2
    time = jnp.asarray(t, jnp.float32)
    found = losses.sigmoid(run, bias)(time, run(time))
    np.testing.assert_allclose(found, expected, 1e-3)


def test_sigmoid_weight_is_bounded_on_v():
    """DIFFUSION.md, 1c: as a weight on v-MSE it is bounded over the whole schedule."""
    t = (jnp.arange(4096, dtype=jnp.float32) + 0.5) / 4096
    run = schedule.interpolated(32, 1024)
    on_v = losses.sigmoid(run, -2.0)(t, run(t)) / (1 + jnp.exp(run(t)))
    assert np.isfinite(on_v).all() and float(jnp.max(on_v)) < 5


def test_simple_and_min_snr():
    """Their weights on eps-MSE: 1 (Ho et al., 2020), min(1, 5 / SNR) (Hang et al.)."""
    logsnr = jnp.linspace(-20, 14, 35)
    snr = np.exp(np.asarray(logsnr, float))
    t = jnp.zeros(35)
    np.testing.assert_allclose(losses.simple()(t, logsnr) / snr, 1, 1e-5)
    found = losses.min_snr(5.0)(t, logsnr) / snr
    np.testing.assert_allclose(found, np.minimum(1, 5 / snr), 1e-5)


def config(name):
    return ml_collections.ConfigDict({"diffusion": {"parameterisation": name}})


def x_hat_of(z, logsnr, cond):
    """Anything that depends on all of its arguments."""
    return jnp.tanh(0.8 * z + (0.1 * logsnr + cond["c"])[:, None, None, None])


FROM_X = {
    "x": lambda z, x, logsnr: x,
    "eps": process.eps_from_x,
    "v": process.v_from_x,
}


def loss_of(denoise, x=None, c=None, weight=None):
    x = jnp.linspace(-1, 1, 96).reshape(SHAPE) if x is None else x
    return losses.diffusion_loss(
        jax.random.key(7),
        denoise,
        x,
        {"c": jnp.linspace(-1, 1, 6) if c is None else c},
        schedule=schedule.cosine(-8, 8),
        weight=weight or losses.min_snr(),
    )


@pytest.mark.parametrize("name", FROM_X)
def test_loss_does_not_know_the_parameterisation(name):
    """Networks of x, eps and v that encode the same x_hat have the same loss.

    alpha and sigma are above e^-4 here, so conversions cost 55 ulp: 1e-4.
    """

    def apply(params, z, logsnr, cond, key):
        return FROM_X[name](z, x_hat_of(z, logsnr, cond), logsnr)

    net = Network(lambda key: {}, apply)
    found, detail = loss_of(build.denoiser(config(name), net, {}))
    expected, expected_detail = loss_of(x_hat_of)
    np.testing.assert_allclose(found, expected, 1e-4)
    np.testing.assert_allclose(detail["v_mse"], expected_detail["v_mse"], 1e-4)


def test_unknown_parameterisation():
    message = "config.diffusion.parameterisation = 'y': expected one of eps, v, x"
    with pytest.raises(ValueError, match=message):
        build.denoiser(config("y"), Network(lambda key: {}, None), {})


def test_loss_is_per_example():
    """Shape [b], and value i is of image i and condition i alone."""
    x = jnp.linspace(-1, 1, 96).reshape(SHAPE)
    values, detail = loss_of(x_hat_of, x)
    assert values.shape == (6,) and {d.shape for d in detail.values()} == {(6,)}
    changed, _ = loss_of(
        x_hat_of, x.at[2].set(0.5), jnp.linspace(-1, 1, 6).at[4].set(9)
    )
    same = np.asarray(changed == values)
    assert same.tolist() == [True, True, False, True, False, True]


def test_bands_of_the_error_add_up():
    """Over the bands the loss's own squared error of x: v_mse / (1 + SNR)."""
    _, detail = loss_of(x_hat_of)
    total = sum(d for name, d in detail.items() if name.startswith("x_mse/band_"))
    snr = np.exp(np.asarray(detail["logsnr"]))
    np.testing.assert_allclose(total, detail["v_mse"] / (1 + snr), 1e-5)


def test_loss_of_a_perfect_denoiser_is_zero():
    x = jnp.linspace(-1, 1, 96).reshape(SHAPE)
    values, detail = loss_of(lambda z, logsnr, cond: x, x)
    assert not np.any(values) and not np.any(detail["v_mse"])


def test_error_of_v_is_that_of_v():
    """v_mse is the squared error of v itself, of which 1 is the untrained level."""
    x = jnp.linspace(-1, 1, 96).reshape(SHAPE)
    noise = jax.random.normal(jax.random.split(jax.random.key(7))[1], SHAPE)
    seen = {}

    def denoise(z, logsnr, cond):
        seen.update(z=z, logsnr=logsnr)
        return process.x_from_v(z, jnp.zeros_like(z), logsnr)

    _, detail = loss_of(denoise, x)
    v = process.v_from_x(seen["z"], x, seen["logsnr"])
    np.testing.assert_allclose(detail["v_mse"], jnp.mean(v**2, (1, 2, 3)), 1e-4)
    z = process.corrupt(x, noise, seen["logsnr"])
    np.testing.assert_array_equal(seen["z"], z)


WEIGHTS = {
    "simple": losses.simple(),
    "min_snr": losses.min_snr(),
    "sigmoid": losses.sigmoid(schedule.cosine(-8, 8)),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_loss_is_the_weighted_error_of_eps_and_of_v(name):
    """w x-MSE = w e^-logsnr eps-MSE = w / (1 + e^logsnr) v-MSE, whatever w.

    `simple` is then the plain error of eps (Ho et al., 2020, eq. 14).
    """
    x = jnp.linspace(-1, 1, 96).reshape(SHAPE)
    eps = jax.random.normal(jax.random.split(jax.random.key(7))[1], SHAPE)
    seen = {}

    def denoise(z, logsnr, cond):
        seen.update(z=z, logsnr=logsnr, eps=jnp.sin(3 * z))
        return process.x_from_eps(z, seen["eps"], logsnr)

    weight, spied = WEIGHTS[name], {}

    def spy(t, logsnr):
        spied["weight"] = weight(t, logsnr)
        return spied["weight"]

    found, _ = loss_of(denoise, x, weight=spy)
    logsnr, z = seen["logsnr"], seen["z"]
    v = process.v_from_x(z, x, logsnr)
    v_hat = process.v_from_x(z, process.x_from_eps(z, seen["eps"], logsnr), logsnr)
    eps_mse = jnp.mean((seen["eps"] - eps) ** 2, (1, 2, 3))
    v_mse = jnp.mean((v_hat - v) ** 2, (1, 2, 3))
    of_eps = spied["weight"] * jnp.exp(-logsnr) * eps_mse
    of_v = spied["weight"] / (1 + jnp.exp(logsnr)) * v_mse
    np.testing.assert_allclose(found, of_eps, 1e-4)
    np.testing.assert_allclose(found, of_v, 1e-4)
    if name == "simple":
        np.testing.assert_allclose(found, eps_mse, 1e-4)
