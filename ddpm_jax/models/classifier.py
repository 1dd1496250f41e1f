"""A small convolutional network that reads conditions off images, for evaluation."""

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm_jax.conditions.schema import Field, Schema
from ddpm_jax.models.layers import (
    conv3x3,
    dense,
    dropout,
    mean_pool2,
    rms_norm,
    space_to_depth,
)

GRID = 16


class Classifier(nnx.Module):
    """Images [b, size, size, 1] in [-1, 1] to ({field: [b, k]}, features [b, 4 width]).

    A categorical field has k = len(values) logits, a continuous one its standardised
    number, k = 1. `size` is a multiple of 16. Patches make a grid of 16 x 16,
    convolutions one of 4 x 4, which is flattened rather than pooled: which side a hip
    lies on is a matter of position.
    """

    def __init__(self, schema: Schema, *, size: int, width: int, rngs: nnx.Rngs):
        if size % GRID:
            raise ValueError(
                f"classifier: image size {size}: expected a multiple of {GRID}."
            )
        self.patch = size // GRID
        self.stem = dense(self.patch**2, width, rngs=rngs)
        self.stages = nnx.List(
            [
                conv3x3(width, 2 * width, rngs=rngs),
                conv3x3(2 * width, 4 * width, rngs=rngs),
            ]
        )
        self.hidden = dense(GRID * GRID * width // 4, 4 * width, rngs=rngs)
        self.heads = nnx.Dict(
            {
                field.name: dense(4 * width, outputs(field), rngs=rngs)
                for field in schema
            }
        )

    def __call__(self, x, key=None):
        x = self.stem(space_to_depth(x, self.patch))
        for stage in self.stages:
            x = mean_pool2(jax.nn.silu(stage(rms_norm(x))))
        h = jax.nn.silu(self.hidden(rms_norm(x.reshape(len(x), -1))))
        kept = dropout(h, 0.2, key)
        read = {n: head(kept).astype(jnp.float32) for n, head in self.heads.items()}
        return read, h.astype(jnp.float32)


def outputs(field: Field) -> int:
    return len(field.values) if field.kind == "categorical" else 1
