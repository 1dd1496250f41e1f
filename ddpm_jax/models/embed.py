"""From noise level, resolution and conditions to one vector per example, float32."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.models.layers import dense

REFERENCE_SIZE = 64


def fourier(x, low: int, high: int):
    """[b] to [b, 2 (high - low + 1)]: sine and cosine at frequencies 2^low … 2^high."""
    angles = 2 * math.pi * x[:, None] * 2.0 ** jnp.arange(low, high + 1)[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class CategoricalEmbedding(nnx.Module):
    """A table with one row a value; row 0 is "not known"."""

    def __init__(self, field, emb, *, rngs):
        init = nnx.initializers.normal(0.3)
        self.table = nnx.Embed(
            len(field.values) + 1, emb, embedding_init=init, rngs=rngs
        )

    def __call__(self, code):
        return self.table(code)


class ContinuousEmbedding(nnx.Module):
    """An MLP on Fourier features of the standardised value; "not known" is a vector.

    Values beyond 4 standard deviations count as 4; the longest wave is 16 of them, so
    that no two values within look the same.
    """

    def __init__(self, field, emb, *, rngs):
        self.mean, self.std = field.mean, field.std
        self.dense1 = dense(12, emb, rngs=rngs)
        self.dense2 = dense(emb, emb, rngs=rngs)
        self.unknown = nnx.Param(jnp.zeros(emb))

    def __call__(self, value):
        known = ~jnp.isnan(value)
        standard = (jnp.where(known, value, self.mean) - self.mean) / self.std
        h = jax.nn.silu(self.dense1(fourier(jnp.clip(standard, -4, 4), -4, 1)))
        return jnp.where(known[:, None], self.dense2(h), self.unknown[...][None])


EMBEDDINGS = {"categorical": CategoricalEmbedding, "continuous": ContinuousEmbedding}


class Embedding(nnx.Module):
    """The sum of noise level, resolution and conditions, through an MLP.

    The noise level enters as logsnr + 2 log(size / 64): one code then means one
    corruption of the image as a whole at every resolution.
    """

    def __init__(self, schema: Schema, emb: int, *, rngs):
        self.time1 = dense(24, emb, rngs=rngs)
        self.time2 = dense(emb, emb, rngs=rngs)
        self.size = dense(1, emb, rngs=rngs, zero=True)
        self.fields = nnx.Dict(
            {f.name: EMBEDDINGS[f.kind](f, emb, rngs=rngs) for f in schema}
        )
        self.out = dense(emb, emb, rngs=rngs)

    def __call__(self, logsnr, cond, size: int):
        reference = logsnr + 2 * math.log(size / REFERENCE_SIZE)
        e = self.time2(jax.nn.silu(self.time1(fourier(reference / 4, -6, 5))))
        octaves = jnp.full((1, 1), math.log2(size / REFERENCE_SIZE), jnp.float32)
        e += self.size(octaves)
        for name, field in self.fields.items():
            e += field(cond[name])
        return jax.nn.silu(self.out(jax.nn.silu(e)))
