"""The Gaussian process z = alpha x + sigma eps, in one coordinate: logsnr.

alpha^2 = sigmoid(logsnr), sigma^2 = sigmoid(-logsnr); v = alpha eps - sigma x
(Salimans & Ho, 2022). Everything is float32.
"""

import jax
import jax.numpy as jnp

from ddpm_jax.types import Image, PerExample


def alpha(logsnr):
    return jnp.sqrt(jax.nn.sigmoid(logsnr))


def sigma(logsnr):
    return jnp.sqrt(jax.nn.sigmoid(-logsnr))


def per_image(values: PerExample) -> Image:
    """[b] to [b, 1, 1, 1]."""
    return values[:, None, None, None]


def corrupt(x: Image, eps: Image, logsnr: PerExample) -> Image:
    """z at `logsnr`."""
    return per_image(alpha(logsnr)) * x + per_image(sigma(logsnr)) * eps


def x_from_eps(z: Image, eps: Image, logsnr: PerExample) -> Image:
    return (z - per_image(sigma(logsnr)) * eps) / per_image(alpha(logsnr))


def eps_from_x(z: Image, x: Image, logsnr: PerExample) -> Image:
    return (z - per_image(alpha(logsnr)) * x) / per_image(sigma(logsnr))


def x_from_v(z: Image, v: Image, logsnr: PerExample) -> Image:
    return per_image(alpha(logsnr)) * z - per_image(sigma(logsnr)) * v


def v_from_x(z: Image, x: Image, logsnr: PerExample) -> Image:
    return (per_image(alpha(logsnr)) * z - x) / per_image(sigma(logsnr))


def x_from_x(z: Image, x: Image, logsnr: PerExample) -> Image:
    return x


TO_X = {"x": x_from_x, "eps": x_from_eps, "v": x_from_v}
"""What a network's output becomes x_hat by; the names of the parameterisations."""


def posterior(
    z: Image, x: Image, logsnr: PerExample, logsnr_next: PerExample
) -> tuple[Image, PerExample]:
    """Mean and variance of q(z_s | z_t, x) for logsnr_next = logsnr(s) > logsnr(t).

    Ho et al. (2020), eqs. 6 and 7, in logsnr. The coefficient of z is written
    (alpha_t / alpha_s) (sigma_s / sigma_t)^2, which stays finite as alpha_t -> 0.
    """
    c = -jnp.expm1(logsnr - logsnr_next)
    ratio = alpha(logsnr) / alpha(logsnr_next)
    shrink = (sigma(logsnr_next) / sigma(logsnr)) ** 2
    mean = per_image(ratio * shrink) * z + per_image(c * alpha(logsnr_next)) * x
    return mean, c * sigma(logsnr_next) ** 2
