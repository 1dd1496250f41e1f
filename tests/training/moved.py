"""A checkpoint of eight devices, restored onto fewer and in other splits.

    python -m tests.training.moved WORKDIR        with 8 devices

Saves a state in each layout of `LAYOUTS` and restores it in every other: all leaves are
where they were asked for, with the bits that they had, and so after the next update.
"""

import itertools
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from ddpm_jax.training import sharding
from ddpm_jax.training import state as states
from ddpm_jax.training.checkpoint import Checkpoints

LAYOUTS = {(8, 1), (8, 4), (2, 1), (2, 2), (1, 1)}
"""Devices, and how many of them share one copy of the state."""


def update(state):
    return jax.tree.map(lambda x: x + x, state)


def main(workdir: str) -> None:
    optimizer = optax.adam(1e-3)
    values = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)
    whole = states.create({"a/b": values, "c": values[0]}, optimizer, ["0.1"])
    assert values.size >= sharding.LEAST_SPLIT
    places = {}
    for devices, fsdp in sorted(LAYOUTS):
        mesh = sharding.make_mesh(fsdp, jax.devices()[:devices])
        places[devices, fsdp] = sharding.split_state(whole, mesh)
        with Checkpoints(Path(workdir) / f"{devices}_{fsdp}") as checkpoints:
            state = jax.tree.map(jax.device_put, whole, places[devices, fsdp])
            checkpoints.save(1, state, {"devices": devices})
    split = places[8, 4].params["a/b"]
    assert split.shard_shape(values.shape) == (64, 128)
    for (devices, fsdp), onto in itertools.permutations(places, 2):
        like = sharding.placed(
            jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, whole)), places[onto]
        )
        with Checkpoints(Path(workdir) / f"{devices}_{fsdp}") as checkpoints:
            restored, _ = checkpoints.restore(1, like)
        jax.tree.map(np.testing.assert_array_equal, restored, whole)
        leaf = restored.params["a/b"]
        assert leaf.sharding.is_equivalent_to(places[onto].params["a/b"], 2)
        following = jax.jit(update, donate_argnums=0)(restored)
        jax.tree.map(np.testing.assert_array_equal, following, update(whole))
    print(f"{len(places)} layouts")


if __name__ == "__main__":
    main(*sys.argv[1:])
