"""The training step: pure; the caller jits, shards and donates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from clu import metrics

from ddpm_jax import bands, ema
from ddpm_jax.training.state import State
from ddpm_jax.types import Key

NOISE_LEVELS = (-jnp.inf, -6.0, -2.0, 2.0, 6.0, jnp.inf)
"""Edges, in logsnr, of the bands in which the error of v is logged."""


def to_unit(image, bits: int):
    """Stored integers [b, h, w] of `bits` bits to float32 [b, h, w, 1] in [-1, 1]."""
    return image[..., None].astype(jnp.float32) * (2 / (2**bits - 1)) - 1


def make_step(
    loss: Callable, optimizer: optax.GradientTransformation, decays: dict
) -> Callable:
    """(state, batch, key) to the next state and the step's metrics.

    `loss(params, key, batch)` returns values and details of shape [b] as
    `losses.diffusion_loss`. Randomness is addressed by (key, step), so that a resumed
    run draws what an uninterrupted one would.
    """

    def mean_loss(params, key, batch):
        values, detail = loss(params, key, batch)
        return jnp.mean(values), detail

    def step(state: State, batch, key: Key):
        key = jax.random.fold_in(key, state.step)
        (value, detail), grads = jax.value_and_grad(mean_loss, has_aux=True)(
            state.params, key, batch
        )
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        count = state.step + 1
        tracks = ema.update(state.ema, params, count, decays)
        measured = summarise(value, optax.tree.norm(grads), detail)
        return State(count, params, opt_state, tracks), measured

    return step


def summarise(loss, grad_norm, detail) -> dict[str, metrics.Average]:
    """Running averages that merge over steps without leaving the device."""
    averages = {
        "loss": metrics.Average.from_model_output(loss),
        "grad_norm": metrics.Average.from_model_output(grad_norm),
    }
    edges = zip(NOISE_LEVELS[:-1], NOISE_LEVELS[1:], strict=True)
    for low, high in edges:
        inside = (detail["logsnr"] >= low) & (detail["logsnr"] < high)
        averages[f"v_mse/logsnr_{low:g}_to_{high:g}"] = (
            metrics.Average.from_model_output(detail["v_mse"], mask=inside)
        )
    for name in filter(lambda name: name.startswith(bands.PREFIX), detail):
        averages[name] = metrics.Average.from_model_output(detail[name])
    return averages


def merge(total, new):
    """Averages over the steps of both."""
    return (
        new if total is None else {name: total[name].merge(new[name]) for name in new}
    )
