"""What keeps a bad step out of the training state, without waiting for the device.

A step whose loss or gradient is not finite, and every step after it, leaves the state
as it was (`guarded`); the host learns of it when it next looks. A step whose gradient
is far larger than usual can be left out, and training goes on (`skip_spikes`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

WINDOW = 64
"""Gradient norms of which `skip_spikes` takes the median."""


class Fault(NamedTuple):
    """The first step, counted from 1, whose loss or gradient norm was not finite.

    All are scalars on the device; `step` is 0 while there was none.
    """

    step: jax.Array
    loss: jax.Array
    grad_norm: jax.Array


def no_fault() -> Fault:
    return Fault(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(()))


def guarded(step: Callable) -> Callable:
    """(state, fault, batch, key) to the next state, the fault and the step's metrics.

    `step` is that of `step.make_step`. From the first fault on the state stays: it is
    the one that the faulty step was given.
    """

    def guarded_step(state, fault: Fault, batch, key):
        new, measured = step(state, batch, key)
        loss, norm = measured["loss"].compute(), measured["grad_norm"].compute()
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        found = Fault(jnp.where(finite, 0, new.step), loss, norm)
        fault = _where(fault.step > 0, fault, found)
        return _where(fault.step > 0, state, new), fault, measured

    return guarded_step


class SkipState(NamedTuple):
    """`norms`: the last WINDOW gradient norms, infinite where there was none yet;
    `skipped` counts the steps left out."""

    inner: optax.OptState
    norms: jax.Array
    skipped: jax.Array


def skip_spikes(
    optimizer: optax.GradientTransformation, factor: float
) -> optax.GradientTransformation:
    """`optimizer`, but for steps with a gradient norm above `factor` x the median.

    Such a step changes neither parameters nor moments nor the optimiser's own count of
    steps. The median is that of the last WINDOW norms before it, skipped ones among
    them: a lasting rise is followed after half a window, and until so many norms are
    known nothing is skipped.
    """

    def init(params) -> SkipState:
        norms = jnp.full(WINDOW, jnp.inf)
        return SkipState(optimizer.init(params), norms, jnp.zeros((), jnp.int32))

    def update(grads, state: SkipState, params=None):
        norm = optax.tree.norm(grads)
        skip = norm > factor * jnp.sort(state.norms)[WINDOW // 2]
        updates, inner = optimizer.update(grads, state.inner, params)
        norms = jnp.append(state.norms[1:], norm)
        return (
            _where(skip, jax.tree.map(jnp.zeros_like, updates), updates),
            SkipState(_where(skip, state.inner, inner), norms, state.skipped + skip),
        )

    return optax.GradientTransformation(init, update)


def skipped(state: optax.OptState) -> dict[str, float]:
    """What to log of `skip_spikes`: steps left out so far; {} where it is not used."""
    if not isinstance(state, SkipState):
        return {}
    return {"skipped_steps": float(state.skipped)}


def _where(condition, one, other):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
