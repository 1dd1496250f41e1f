"""Laws of a training step: accumulation, and which arrays are split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from ddpm_jax.training import sharding
from ddpm_jax.training import step as steps


def mean_loss(params, key, batch):
    """Noise enters through the key, examples through the batch."""
    noise = jax.random.normal(key, ())
    values = (batch["x"] * params["w"] - batch["y"]) ** 2 + noise * params["b"]
    return jnp.mean(values), {"value": values, "x": batch["x"]}


PARAMS = {"w": jnp.float32(0.7), "b": jnp.float32(-0.2)}
BATCH = {"x": jnp.arange(12.0), "y": jnp.linspace(-1, 1, 12) ** 2}
GRADIENT = jax.value_and_grad(mean_loss, has_aux=True)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 12])
def test_accumulation_is_the_mean_over_the_parts(parts):
    """Part i: examples i, i + parts, ... and the key folded with i."""
    key = jax.random.key(3)
    found = steps.accumulated(GRADIENT, parts)(PARAMS, key, BATCH)
    keys = [key] if parts == 1 else [jax.random.fold_in(key, i) for i in range(parts)]
    apart = [
        GRADIENT(PARAMS, k, {n: v[i::parts] for n, v in BATCH.items()})
        for i, k in enumerate(keys)
    ]
    (value, detail), grads = found
    np.testing.assert_allclose(value, np.mean([v for (v, _), _ in apart]), 1e-6)
    for name in PARAMS:
        expected = np.mean([g[name] for _, g in apart])
        np.testing.assert_allclose(grads[name], expected, 1e-6)
    assert sorted(detail["x"].tolist()) == sorted(BATCH["x"].tolist())


def test_longest_divisible_axis_is_split_and_small_arrays_are_whole():
    mesh = AbstractMesh((2, 4), sharding.AXES)
    shapes = {
        "kernel": (3, 3, 64, 128),
        "odd": (129, 130),
        "wide": (1024, 30),
        "bias": (128,),
        "step": (),
    }
    state = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    specs = {n: s.spec for n, s in sharding.split_state(state, mesh).items()}
    assert specs == {
        "kernel": PartitionSpec(None, None, None, "fsdp"),
        "odd": PartitionSpec(),
        "wide": PartitionSpec("fsdp"),
        "bias": PartitionSpec(),
        "step": PartitionSpec(),
    }
    whole = AbstractMesh((8, 1), sharding.AXES)
    assert {s.spec for s in sharding.split_state(state, whole).values()} == {
        PartitionSpec()
    }


@pytest.mark.parametrize("fsdp", [0, -1, 2])
def test_fsdp_divides_the_devices(fsdp):
    with pytest.raises(ValueError, match=f"config.train.fsdp = {fsdp}: expected a div"):
        sharding.make_mesh(fsdp, jax.devices("cpu")[:1])


def test_batch_divides_into_parts():
    mesh = sharding.make_mesh(1, jax.devices("cpu")[:1])
    sharding.check_batch(8, mesh, "b", 4)
    with pytest.raises(ValueError, match="b = 8: .* times config.train.accumulate = 3"):
        sharding.check_batch(8, mesh, "b", 3)
    with pytest.raises(ValueError, match="config.train.accumulate = 0: expected 1"):
        sharding.check_batch(8, mesh, "b", 0)
