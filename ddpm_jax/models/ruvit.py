"""The residual U-ViT: convolutions at high resolution, a transformer in the middle.

After Hoogeboom et al. (2023, 2024): pixels are grouped into patches, each level adds
a block-free skip of its input to the upsampled correction from below, and no
feature map is larger than height / patch.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.models import layers
from ddpm_jax.models.embed import Embedding
from ddpm_jax.models.layers import (
    AdaRMSNorm,
    ConvBlock,
    TransformerBlock,
    dense,
    run_block,
)


class RUViT(nnx.Module):
    """(z, logsnr, cond) to an image of the same shape, zero at the start.

    Sides must be multiples of patch * 2 ** (len(channels) - 1). `down` and `up` count
    the blocks of each level above the middle, `middle` the transformer blocks.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        patch: int,
        channels: Sequence[int],
        down: Sequence[int],
        up: Sequence[int],
        middle: int,
        heads: int,
        emb: int,
        dropout: float = 0.0,
        dtype=jnp.float32,
        remat: bool = False,
        attention_kernel: str = "xla",
        rngs: nnx.Rngs,
    ):
        if not len(down) == len(up) == len(channels) - 1:
            raise ValueError(
                f"model.down has {len(down)} and model.up {len(up)} entries: expected "
                f"{len(channels) - 1}, one fewer than model.channels."
            )
        options = {"rngs": rngs, "dtype": dtype}
        self.patch, self.levels, self.remat = patch, len(down), remat
        self.dtype = dtype
        self.embedding = Embedding(schema, emb, rngs=rngs)
        self.stem = dense(patch**2, channels[0], rngs=rngs)
        self.position = dense(layers.POSITION_FEATURES, channels[0], rngs=rngs)
        self.inject = dense(emb, channels[-1], rngs=rngs)
        self.head_norm = AdaRMSNorm(channels[0], emb, rngs=rngs)
        self.head = dense(channels[0], patch**2, rngs=rngs, zero=True)

        def blocks(level, count):
            return nnx.List(
                [ConvBlock(channels[level], emb, **options) for _ in range(count)]
            )

        self.down = nnx.List([blocks(i, n) for i, n in enumerate(down)])
        self.up = nnx.List([blocks(i, n) for i, n in enumerate(up)])
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.shrink = nnx.List([dense(a, b, **options) for a, b in pairs])
        self.grow = nnx.List([dense(b, a, **options) for a, b in pairs])
        block = {"heads": heads, "rate": dropout, "kernel": attention_kernel} | options
        self.middle = nnx.List(
            [TransformerBlock(channels[-1], emb, **block) for _ in range(middle)]
        )

    def __call__(self, z, logsnr, cond, key=None):
        _, height, width, _ = z.shape
        unit = self.patch * 2**self.levels
        if height % unit or width % unit:
            raise ValueError(
                f"image size {height} x {width}: expected multiples of {unit} for "
                f"model.patch = {self.patch} and {self.levels + 1} channel widths."
            )
        e = self.embedding(logsnr, cond, max(height, width))
        x = self.stem(layers.space_to_depth(z, self.patch))
        x += self.position(layers.position_features(*x.shape[1:3]))[None]
        x = x.astype(self.dtype)
        high, low = [], []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = self._run(blocks, x, e)
            high.append(x)
            x = shrink(layers.mean_pool2(x))
            low.append(x)
        x += self.inject(e)[:, None, None].astype(self.dtype)
        x = self._run(self.middle, x, e, key)
        for blocks, grow in reversed(list(zip(self.up, self.grow, strict=True))):
            x = high.pop() + layers.upsample2(grow(x - low.pop()))
            x = self._run(blocks, x, e)
        x = self.head(self.head_norm(x.astype(jnp.float32), e))
        return layers.depth_to_space(x, self.patch)

    def _run(self, blocks, x, e, key=None):
        for index, block in enumerate(blocks):
            block_key = None if key is None else jax.random.fold_in(key, index)
            x = run_block(block, x, e, block_key, remat=self.remat)
        return x
