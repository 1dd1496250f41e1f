"""Training times, weightings and the one loss, on x_hat, per example."""

import jax
import jax.numpy as jnp

from ddpm_jax import bands, process
from ddpm_jax.types import (
    Conditions,
    Denoiser,
    Image,
    Key,
    PerExample,
    Schedule,
    Weight,
)


def sample_times(key: Key, count: int) -> PerExample:
    """t_i = (u + i / count) mod 1 with one u: each uniform, together stratified.

    Kingma et al. (2021), appendix I.1: lowers the variance of the batch's loss.
    """
    u = jax.random.uniform(key)
    return jnp.mod(u + jnp.arange(count) / count, 1.0)


def simple() -> Weight:
    """The plain error of eps: weight SNR on x (Ho et al., 2020, eq. 14)."""
    return lambda t, logsnr: jnp.exp(logsnr)


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) on x (Hang et al., 2023, eq. 8)."""
    return lambda t, logsnr: jnp.minimum(jnp.exp(logsnr), gamma)


def sigmoid(schedule: Schedule, bias: float = 0.0) -> Weight:
    """sigmoid(bias - logsnr) (-dlogsnr/dt) / 2 on the error of eps.

    Hoogeboom et al. (2024), simpler diffusion, section 3.1. On x this is times SNR,
    and SNR sigmoid(bias - logsnr) = e^bias sigmoid(logsnr - bias), which is bounded.
    """
    slope = jax.vmap(jax.grad(schedule))
    return lambda t, logsnr: (
        -slope(t) / 2 * jnp.exp(bias) * jax.nn.sigmoid(logsnr - bias)
    )


def diffusion_loss(
    key: Key,
    denoise: Denoiser,
    x: Image,
    cond: Conditions,
    *,
    schedule: Schedule,
    weight: Weight,
) -> tuple[PerExample, dict[str, PerExample]]:
    """The weighted squared error of x_hat, one value per example.

    The second value holds, per example, the `logsnr` drawn, the unweighted error of
    v, `v_mse`, which is of the same order at every noise level, and that of x by
    spatial frequency, `x_mse/band_LOW_to_HIGH` in cycles per image.
    """
    time_key, noise_key = jax.random.split(key)
    t = sample_times(time_key, len(x))
    logsnr = schedule(t)
    eps = jax.random.normal(noise_key, x.shape, x.dtype)
    x_hat = denoise(process.corrupt(x, eps, logsnr), logsnr, cond)
    error = x - x_hat
    mse = jnp.mean(error**2, axis=(1, 2, 3))
    detail = {"logsnr": logsnr, "v_mse": mse * (1 + jnp.exp(logsnr))}
    return weight(t, logsnr) * mse, detail | bands.by_band(error)
