"""One mesh over all devices; where each array of a step lives."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """All devices along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Leading axis over `data`; its length must be a multiple of the device count."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(batch: int, mesh: Mesh, where: str) -> None:
    if batch % mesh.size or batch < 1:
        raise ValueError(
            f"{where} = {batch}: expected a positive multiple of the {mesh.size} "
            "devices."
        )


def put(tree, sharding: NamedSharding):
    """Host arrays of this process to one global array each."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), tree
    )
