"""Guidance: denoisers to denoisers, and the dropout of conditions that allows it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax.types import Conditions, Denoiser, Key, Scalar


def drop(
    key: Key,
    cond: Conditions,
    unknown: Mapping[str, float],
    *,
    joint: float = 0.10,
    each: float = 0.05,
) -> Conditions:
    """Make conditions not known: all of an example's with probability `joint`, else
    each field on its own with probability `each` (Ho & Salimans, 2022, algorithm 1).

    `unknown` holds the value of "not known" by field.
    """
    joint_key, each_key = jax.random.split(key)
    keys = jax.random.split(each_key, max(len(cond), 1))
    dropped = {}
    for field_key, (name, value) in zip(keys, sorted(cond.items()), strict=False):
        hide = jax.random.bernoulli(joint_key, joint, value.shape)
        hide |= jax.random.bernoulli(field_key, each, value.shape)
        dropped[name] = jnp.where(hide, jnp.asarray(unknown[name], value.dtype), value)
    return dropped


def classifier_free(
    denoise: Denoiser, unknown: Mapping[str, float], weight: float | Scalar
) -> Denoiser:
    """x_c + (weight - 1) (x_c - x_u), both from one call at twice the batch.

    Ho & Salimans (2022), eq. 6, with weight = 1 + their w: weight 1 is the plain model
    to the bit, 0 the unconditional one. `weight` may be traced.
    """

    def guided(z, logsnr, cond):
        null = {
            name: jnp.full_like(value, unknown[name]) for name, value in cond.items()
        }
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), dict(cond), null)
        x_hat = denoise(jnp.tile(z, (2, 1, 1, 1)), jnp.tile(logsnr, 2), both)
        x_cond, x_null = jnp.split(x_hat, 2)
        return x_cond + (weight - 1) * (x_cond - x_null)

    return guided


def compositional(
    denoise: Denoiser,
    unknown: Mapping[str, float],
    weights: Mapping[str, float | Scalar],
) -> Denoiser:
    """x_u + sum over fields f of weights[f] (x_f - x_u), x_f knowing field f alone.

    Liu et al. (2022), eq. 11: fields are combined as if independent given the image.
    One call at 1 + len(weights) times the batch; fields without a weight are not
    known. With one field this is `classifier_free` given that field. Weights may be
    traced. ValueError for a weight on no field.
    """
    for name in weights:
        if name not in unknown:
            raise ValueError(
                f"guidance weight for {name!r}: expected some of "
                f"{', '.join(sorted(unknown))}."
            )
    names = sorted(weights)

    def guided(z, logsnr, cond):
        parts = [
            {
                name: value if name == kept else jnp.full_like(value, unknown[name])
                for name, value in cond.items()
            }
            for kept in (None, *names)
        ]
        stacked = jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
        count = len(parts)
        x_hat = denoise(jnp.tile(z, (count, 1, 1, 1)), jnp.tile(logsnr, count), stacked)
        x_null, *x_fields = jnp.split(x_hat, count)
        moves = [
            weights[name] * (x_field - x_null)
            for name, x_field in zip(names, x_fields, strict=True)
        ]
        return x_null + sum(moves, jnp.zeros_like(x_null))

    return guided


def autoguided(denoise: Denoiser, weaker: Denoiser, weight: float | Scalar) -> Denoiser:
    """x + (weight - 1) (x - x_weak): away from what a worse model makes of the same.

    Karras et al. (2024), Guiding a diffusion model with a bad version of itself, eq. 3;
    `weaker` is a smaller or less trained denoiser. Weight 1 is the plain model.
    """

    def guided(z, logsnr, cond):
        x_hat = denoise(z, logsnr, cond)
        return x_hat + (weight - 1) * (x_hat - weaker(z, logsnr, cond))

    return guided


def clipped(denoise: Denoiser, bound: float = 1.0) -> Denoiser:
    """x_hat held within [-bound, bound]."""
    return lambda z, logsnr, cond: jnp.clip(denoise(z, logsnr, cond), -bound, bound)


def steps_within(logsnr: np.ndarray, interval: tuple[float, float]) -> slice:
    """The steps of a decreasing-noise grid whose logsnr lies in the interval.

    Guidance only there gives better images at less cost (Kynkäänniemi et al., 2024).
    """
    low, high = interval
    inside = np.flatnonzero((logsnr >= low) & (logsnr <= high))
    return slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0)
