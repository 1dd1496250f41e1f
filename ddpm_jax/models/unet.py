"""A compact U-Net with per-block skips, of the kind the published DDPMs use.

Ho et al. (2020), appendix B, and Dhariwal & Nichol (2021): residual blocks on a
pyramid of feature maps, attention on the small ones.
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
    conv3x3,
    dense,
    run_block,
)


class UNet(nnx.Module):
    """(z, logsnr, cond) to an image of the same shape, zero at the start.

    `channels` has one width a level, each level half the size of the one before;
    `attention` is the largest grid side that gets a transformer block after each
    residual block.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        size: int,
        channels: Sequence[int],
        blocks: int,
        attention: int,
        heads: int,
        emb: int,
        dropout: float = 0.0,
        dtype=jnp.float32,
        remat: bool = False,
        attention_kernel: str = "xla",
        rngs: nnx.Rngs,
    ):
        options = {"rngs": rngs, "dtype": dtype}
        self.levels, self.blocks = len(channels), blocks
        self.dtype, self.remat = dtype, remat
        self.embedding = Embedding(schema, emb, rngs=rngs)
        self.stem = conv3x3(1, channels[0], rngs=rngs)
        self.head_norm = AdaRMSNorm(channels[0], emb, rngs=rngs)
        self.head = conv3x3(channels[0], 1, rngs=rngs, zero=True)

        def stage(level):
            width = channels[level]
            pair = [ConvBlock(width, emb, rate=dropout, **options)]
            if size // 2**level <= attention:
                block = {"heads": heads, "kernel": attention_kernel} | options
                pair.append(TransformerBlock(width, emb, **block))
            return nnx.List(pair)

        def stages():
            return nnx.List(
                [
                    nnx.List([stage(i) for _ in range(blocks)])
                    for i in range(self.levels)
                ]
            )

        self.down, self.up = stages(), stages()
        self.middle = nnx.List([stage(self.levels - 1)])
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.shrink = nnx.List([dense(a, b, **options) for a, b in pairs])
        self.grow = nnx.List([dense(b, a, **options) for a, b in pairs])
        self.join = nnx.List(
            [
                nnx.List([dense(2 * c, c, **options) for _ in range(blocks)])
                for c in channels
            ]
        )

    def __call__(self, z, logsnr, cond, key=None):
        _, height, width, _ = z.shape
        unit = 2 ** (self.levels - 1)
        if height % unit or width % unit:
            raise ValueError(
                f"image size {height} x {width}: expected multiples of {unit} for "
                f"{self.levels} entries in model.channels."
            )
        e = self.embedding(logsnr, cond, max(height, width))
        x = self.stem(z).astype(self.dtype)
        skips = []
        for level in range(self.levels):
            for index, stage in enumerate(self.down[level]):
                x = self._run(stage, x, e, _address(key, 0, level, index))
                skips.append(x)
            if level + 1 < self.levels:
                x = self.shrink[level](layers.mean_pool2(x))
        x = self._run(self.middle[0], x, e, _address(key, 1, 0, 0))
        for level in reversed(range(self.levels)):
            for index, stage in enumerate(self.up[level]):
                x = self.join[level][index](jnp.concatenate([x, skips.pop()], -1))
                x = self._run(stage, x, e, _address(key, 2, level, index))
            if level:
                x = layers.upsample2(self.grow[level - 1](x))
        return self.head(jax.nn.silu(self.head_norm(x.astype(jnp.float32), e)))

    def _run(self, stage, x, e, key):
        for block in stage:
            x = run_block(block, x, e, key, remat=self.remat)
        return x


def _address(key, *path):
    for index in path:
        key = None if key is None else jax.random.fold_in(key, index)
    return key
