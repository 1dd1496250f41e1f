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
    loss: Callable,
    optimizer: optax.GradientTransformation,
    rates: dict,
    accumulate: int = 1,
    gather: Callable = lambda params: params,
) -> Callable:
    """(state, batch, key) to the next state and the step's metrics.

    `loss(params, key, batch)` returns values and details of shape [b] as
    `losses.diffusion_loss`. Randomness is addressed by (key, step), so that a resumed
    run draws what an uninterrupted one would. The batch goes through in `accumulate`
    equal parts, one after the other, in the memory of one.
    `gather(params)` is what the loss sees of parameters that are split over devices.
    """

    def mean_loss(params, key, batch):
        values, detail = loss(gather(params), key, batch)
        return jnp.mean(values), detail

    gradient = accumulated(jax.value_and_grad(mean_loss, has_aux=True), accumulate)

    def step(state: State, batch, key: Key):
        key = jax.random.fold_in(key, state.step)
        (value, detail), grads = gradient(state.params, key, batch)
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        count = state.step + 1
        tracks = ema.update(state.ema, params, count, rates)
        measured = summarise(value, optax.tree.norm(grads), detail)
        return State(count, params, opt_state, tracks), measured

    return step


def accumulated(gradient: Callable, parts: int) -> Callable:
    """`gradient(params, key, batch)` -> ((value, detail), grads), by `parts` in a scan.

    Value and gradients are the means over the parts; part i has examples i, i + parts,
    ..., so that no example leaves the device it is on, and the key fold_in(key, i).
    """
    if parts == 1:
        return gradient

    def split(leaf):
        return jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0)

    def over_parts(params, key, batch):
        def add(total, part):
            index, examples = part
            (value, detail), grads = gradient(
                params, jax.random.fold_in(key, index), examples
            )
            return jax.tree.map(jnp.add, total, (value, grads)), detail

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        each = jnp.arange(parts), jax.tree.map(split, batch)
        total, detail = jax.lax.scan(add, zero, each)
        value, grads = jax.tree.map(lambda sum_: sum_ / parts, total)
        return (value, jax.tree.map(jnp.ravel, detail)), grads

    return over_parts


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
