"""The training step of a config, as `train.py` jits it, without an array behind it."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ddpm_jax import build
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.models.functional import Network
from ddpm_jax.training import guards, sharding
from ddpm_jax.training import state as states
from ddpm_jax.training import step as steps

BITS = 16
"""Of stored pixels: a scale factor, of no consequence for cost."""


class Program(NamedTuple):
    """`state` and `batch` are shapes; `make_step(mesh)` is what `train.py` jits."""

    net: Network
    schema: Schema
    state: states.State
    batch: dict
    make_step: Callable


def of_config(config, portable: bool = True) -> Program:
    """Everything that a mistake in the config can break, but for the data.

    `portable` as in `build.model`: FLOPs within a device's own kernels are not counted.
    """
    schema = build.condition_schema(config)
    build.check_parameterisation(config)
    net = build.model(config, schema, portable)
    optimizer, rates = build.optimizer(config), build.ema_rates(config)
    to_x = functools.partial(steps.to_unit, bits=BITS)
    loss = build.training_loss(config, net, schema, to_x)
    state = jax.eval_shape(
        lambda key: states.create(net.init(key), optimizer, rates), _key()
    )
    count, size = config.data.batch, config.image_size
    image = jax.ShapeDtypeStruct((count, size, size), jnp.uint16)
    batch = {"image": image, "cond": _conditions(schema, count)}

    def make_step(mesh: Mesh | None):
        options = [config.train.accumulate]
        options += [functools.partial(sharding.gather, mesh=mesh)] if mesh else []
        return guards.guarded(steps.make_step(loss, optimizer, rates, *options))

    return Program(net, schema, state, batch, make_step)


def trace_forward(plan: Program, size: int):
    """One evaluation of the network for one image."""
    z = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    logsnr = jax.ShapeDtypeStruct((1,), jnp.float32)
    cond = _conditions(plan.schema, 1)
    return jax.jit(plan.net.apply).trace(plan.state.params, z, logsnr, cond)


def trace_step(plan: Program, mesh: Mesh | None = None):
    """The step on one device, or over `mesh`, its arrays where `shardings` says."""
    options = {}
    if mesh is not None:
        state, batch, whole = shardings(plan, mesh)
        options = {
            "in_shardings": (state, whole, batch, whole),
            "out_shardings": (state, whole, whole),
        }
    jitted = jax.jit(plan.make_step(mesh), donate_argnums=0, **options)
    fault = jax.eval_shape(guards.no_fault)
    return jitted.trace(plan.state, fault, plan.batch, _key())


def trace_sampler(plan: Program, config):
    """One image by the sampler of the config, guidance and all."""
    run = build.sampler(config, plan.net, plan.schema)
    seeds = jax.ShapeDtypeStruct((1,), jnp.uint32)
    weight = jax.ShapeDtypeStruct((), jnp.float32)
    cond = _conditions(plan.schema, 1)
    return jax.jit(run).trace(plan.state.params, seeds, cond, weight)


def shardings(plan: Program, mesh: Mesh) -> tuple:
    """Of the state, the batch and the key."""
    whole = sharding.replicated(mesh)
    return sharding.split_state(plan.state, mesh), sharding.split_batch(mesh), whole


def bytes_per_device(tree, where) -> int:
    """Bytes of the arrays of `tree` on each device, laid out as the tree `where`."""
    sizes = jax.tree.map(
        lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, tree, where
    )
    return sum(jax.tree.leaves(sizes))


def _conditions(schema: Schema, count: int):
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, schema.unknown(count)))


def _key():
    return jax.eval_shape(lambda: jax.random.key(0))
