"""The blocks that the networks are made of; [b, h, w, c] throughout.

Parameters are float32. Norms, softmax and the embedding are computed in float32,
matrix products and convolutions in `dtype`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

ZEROS = nnx.initializers.zeros_init()


def dense(inputs, outputs, *, rngs, dtype=jnp.float32, zero=False, bias=True):
    """A matrix product over channels; also what a 1 x 1 convolution is written as."""
    init = {"kernel_init": ZEROS} if zero else {}
    return nnx.Linear(inputs, outputs, use_bias=bias, dtype=dtype, rngs=rngs, **init)


def conv3x3(inputs, outputs, *, rngs, dtype=jnp.float32, zero=False):
    init = {"kernel_init": ZEROS} if zero else {}
    return nnx.Conv(inputs, outputs, (3, 3), dtype=dtype, rngs=rngs, **init)


def rms_norm(x, eps=1e-6):
    """x over the root of its mean square over channels, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)


def dropout(x, rate, key):
    """Inverted dropout; the identity without a key or a rate."""
    if key is None or not rate:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


class AdaRMSNorm(nnx.Module):
    """RMS norm over channels, scaled by 1 + Dense(e), zero at the start."""

    def __init__(self, channels, emb, *, rngs, dtype=jnp.float32):
        self.scale = dense(emb, channels, rngs=rngs, zero=True)
        self.dtype = dtype

    def __call__(self, x, e):
        return (rms_norm(x) * (1 + self.scale(e)[:, None, None])).astype(self.dtype)


class ConvBlock(nnx.Module):
    """Residual block of two 3 x 3 convolutions, the identity at the start."""

    def __init__(self, channels, emb, *, rngs, dtype=jnp.float32, rate=0.0):
        options = {"rngs": rngs, "dtype": dtype}
        self.norm1 = AdaRMSNorm(channels, emb, **options)
        self.conv1 = conv3x3(channels, channels, **options)
        self.norm2 = AdaRMSNorm(channels, emb, **options)
        self.conv2 = conv3x3(channels, channels, zero=True, **options)
        self.rate = rate

    def __call__(self, x, e, key=None):
        h = self.conv1(jax.nn.silu(self.norm1(x, e)))
        h = dropout(jax.nn.silu(self.norm2(h, e)), self.rate, key)
        return x + self.conv2(h)


class TransformerBlock(nnx.Module):
    """Pre-norm attention over all positions, then an MLP; the identity at the start.

    Queries and keys are RMS-normed and carry rotary positions (`rotary`); `kernel` is
    what `attention` runs.
    """

    def __init__(
        self,
        channels,
        emb,
        *,
        heads,
        rngs,
        dtype=jnp.float32,
        rate=0.0,
        kernel="xla",
    ):
        if channels % heads or (channels // heads) % 4:
            raise ValueError(
                f"model.heads = {heads} for {channels} channels: expected a divisor "
                "that leaves a multiple of 4 channels a head."
            )
        options = {"rngs": rngs, "dtype": dtype}
        self.norm1 = AdaRMSNorm(channels, emb, **options)
        self.qkv = dense(channels, 3 * channels, bias=False, **options)
        self.out = dense(channels, channels, zero=True, **options)
        self.norm2 = AdaRMSNorm(channels, emb, **options)
        self.mlp1 = dense(channels, 4 * channels, **options)
        self.mlp2 = dense(4 * channels, channels, zero=True, **options)
        self.heads, self.dtype, self.rate = heads, dtype, rate
        self.kernel = kernel

    def __call__(self, x, e, key=None):
        x = x + self.out(self._attend(self.norm1(x, e)))
        h = jax.nn.gelu(self.mlp1(self.norm2(x, e)))
        return x + self.mlp2(dropout(h, self.rate, key))

    def _attend(self, x):
        b, h, w, c = x.shape
        qkv = self.qkv(x).reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        angles = rotary_angles(h, w, c // self.heads)
        q = rotary(rms_norm(q), angles).astype(self.dtype)
        k = rotary(rms_norm(k), angles).astype(self.dtype)
        return attention(q, k, v, self.kernel).reshape(b, h, w, c)


def attention(q, k, v, kernel):
    """softmax(q k' / sqrt(channels)) v of [b, n, heads, channels].

    `kernel` is xla, which any device runs, or cudnn, flash attention on NVIDIA GPUs
    (Dao et al., 2022): without the [n, n] matrix in memory, the same but for rounding.
    cudnn takes 16-bit floats, an even n and up to 128 channels in eights; what is not
    so goes by xla.
    """
    n, channels = q.shape[1], q.shape[3]
    if q.dtype == jnp.float32 or n % 2 or channels % 8 or channels > 128:
        kernel = "xla"
    return jax.nn.dot_product_attention(q, k, v, implementation=kernel)


def run_block(block, x, e, key, *, remat):
    """block(x, e, key); with `remat` its activations are recomputed for gradients."""
    call = jax.checkpoint(lambda x, e, key: block(x, e, key)) if remat else block
    return call(x, e, key)


def positions(height, width):
    """float64 [h, w, 2]: row and column of each pixel's centre, in (-1, 1)."""
    rows = (np.arange(height) + 0.5) / height * 2 - 1
    columns = (np.arange(width) + 0.5) / width * 2 - 1
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)


POSITION_FEATURES = 16


def position_features(height, width):
    """float32 [h, w, 16]: sines and cosines of row and column, from half a wave up.

    Radiographs are taken in set positions, so that where a pixel lies says much.
    """
    frequencies = math.pi / 2 * 2.0 ** np.arange(POSITION_FEATURES // 4)
    angles = positions(height, width)[..., None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    return waves.reshape(height, width, POSITION_FEATURES).astype(np.float32)


def rotary_angles(height, width, channels):
    """float32 [h * w, channels / 2]: half for the row, half for the column.

    Positions are in [-1, 1] across the image whatever its resolution, frequencies from
    pi to 10 pi, so that one set of weights serves several resolutions (axial RoPE,
    Heo et al., 2024; normalised positions, Crowson et al., 2024).
    """
    frequencies = np.geomspace(math.pi, 10 * math.pi, channels // 4)
    angles = positions(height, width)[..., None] * frequencies
    return angles.reshape(height * width, channels // 2).astype(np.float32)


def rotary(x, angles):
    """Rotate channel pairs of x [b, n, heads, channels] by angles [n, channels / 2]."""
    sin, cos = jnp.sin(angles)[None, :, None], jnp.cos(angles)[None, :, None]
    x1, x2 = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos], axis=-1)


def space_to_depth(x, patch):
    """[b, h, w, c] to [b, h / p, w / p, p * p * c]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // patch, w // patch, -1)


def depth_to_space(x, patch):
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * patch, w * patch, -1)


def mean_pool2(x):
    """Mean over 2 x 2 windows."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def upsample2(x):
    """Nearest neighbour, twice as high and wide."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)
