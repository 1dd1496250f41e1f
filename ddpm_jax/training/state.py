"""Everything that a training run carries from one step to the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddpm_jax.ema import Tracks
from ddpm_jax.types import Params


class State(NamedTuple):
    """`step` counts the updates made; `ema` holds the averaged parameters by width."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState
    ema: Tracks


def create(params: Params, optimizer: optax.GradientTransformation, widths) -> State:
    """The state before the first update; every average starts at the parameters."""
    tracks = {width: jax.tree.map(jnp.copy, params) for width in widths}
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), tracks)
