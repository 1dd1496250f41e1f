"""One mesh over the devices of all hosts; where each array of a step lives."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")
LEAST_SPLIT = 2**14
"""Elements below which an array is not worth the messages of splitting it."""


def make_mesh(fsdp: int = 1, devices: Sequence | None = None) -> Mesh:
    """All devices as [data, fsdp]: `fsdp` neighbours keep one copy of the state.

    ValueError where `fsdp` does not divide the number of devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(
            f"config.train.fsdp = {fsdp}: expected a divisor of the {count} device(s)."
        )
    shape, types = (count // fsdp, fsdp), (AxisType.Auto,) * 2
    if devices is None:
        return jax.make_mesh(shape, AXES, axis_types=types)
    return Mesh(np.array(devices).reshape(shape), AXES, axis_types=types)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Leading axis over all devices; its length must be a multiple of their count."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def split_state(state, mesh: Mesh | AbstractMesh):
    """For each array of `state`: its longest axis that `fsdp` divides, along `fsdp`.

    Small arrays, and all where `fsdp` is 1, are whole on every device. Parameters,
    gradients, moments and averages then take 1 / fsdp of the memory (ZeRO stage 3,
    Rajbhandari et al., 2020), and each layer's parameters
    are gathered where they are needed (`gather`).
    """
    fsdp = mesh.shape["fsdp"]

    def place(leaf) -> NamedSharding:
        if fsdp == 1 or math.prod(leaf.shape) < LEAST_SPLIT:
            return replicated(mesh)
        axes = [axis for axis, length in enumerate(leaf.shape) if length % fsdp == 0]
        if not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "fsdp"))

    return jax.tree.map(place, state)


def gather(params, mesh: Mesh):
    """Whole parameters on every device, within a jitted program; their gradients are
    split again. Weights travel to the examples and not, as XLA may choose for small
    layers, the other way."""
    if mesh.shape["fsdp"] == 1:
        return params
    whole, split = replicated(mesh), split_state(params, mesh)
    constrain = jax.lax.with_sharding_constraint

    @jax.custom_vjp
    def gathered(params):
        return constrain(params, whole)

    gathered.defvjp(
        lambda params: (gathered(params), None),
        lambda _, grads: (constrain(grads, split),),
    )
    return gathered(params)


def placed(shapes, where):
    """Shapes and dtypes that know where their arrays live."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where
    )


def check_batch(batch: int, mesh: Mesh, where: str, accumulate: int = 1) -> None:
    if accumulate < 1:
        raise ValueError(f"config.train.accumulate = {accumulate}: expected 1 or more.")
    if batch % (mesh.size * accumulate) or batch < 1:
        times = f" times config.train.accumulate = {accumulate}"
        raise ValueError(
            f"{where} = {batch}: expected a positive multiple of the {mesh.size} "
            f"devices{times if accumulate > 1 else ''}."
        )


def put(tree, sharding: NamedSharding):
    """Host arrays, this process's part of each, to one global array each."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), tree
    )


def put_whole(tree, sharding: NamedSharding):
    """Host arrays that every process holds whole to one global array each."""

    def spread(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

    return jax.tree.map(spread, tree)


def to_host(tree):
    """Global arrays to whole NumPy arrays on every host; all hosts must call it."""

    def gather(x):
        if x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(gather, tree)
