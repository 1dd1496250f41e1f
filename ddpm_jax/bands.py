"""The squared error by spatial frequency, in octaves of cycles per image.

Bands add up to the mean squared error (Parseval's theorem), whatever the image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddpm_jax.types import Image, PerExample

PREFIX = "x_mse/band_"


def edges(height: int, width: int) -> tuple[int, ...]:
    """0, 2, 4, 8, … up to the Nyquist frequency, each the start of a band.

    The last band holds that frequency and the corners of the spectrum beyond it.
    """
    nyquist = min(height, width) // 2
    return (0, *(2**i for i in range(1, nyquist.bit_length()) if 2**i <= nyquist))


def names(height: int, width: int) -> list[str]:
    """x_mse/band_0_to_2, …, x_mse/band_32_and_up."""
    lows = edges(height, width)
    ends = [f"_to_{high}" for high in lows[1:]] + ["_and_up"]
    return [f"{PREFIX}{low}{end}" for low, end in zip(lows, ends, strict=True)]


def by_band(error: Image) -> dict[str, PerExample]:
    """The part of mean(error^2) in each band, one value per example; no gradient."""
    parts = _band_power(jax.lax.stop_gradient(error))
    return dict(zip(names(*error.shape[1:3]), parts.T, strict=True))


def _band_power(error: Image) -> Float[Array, "b bands"]:
    _, height, width, _ = error.shape
    power = jnp.mean(_spectrum(error) / (height * width) ** 2.0, axis=-1)
    rows, columns = np.arange(height), np.arange(width // 2 + 1)
    twice = np.where((columns > 0) & (2 * columns != width), 2.0, 1.0)  # for -columns
    power *= twice[None, None].astype(np.float32)
    rows = np.minimum(rows, height - rows)
    squared = rows[:, None] ** 2 + columns[None] ** 2
    ends = [*edges(height, width)[1:], height + width]
    octave = np.searchsorted(np.square(ends), squared, side="right")
    inside = octave == np.arange(len(ends))[:, None, None]
    sums = [jnp.sum(power, axis=(1, 2), where=mask[None]) for mask in inside]
    return jnp.stack(sums, axis=-1)


def _spectrum(image: Image) -> Float[Array, "b h k c"]:
    """|DFT|^2 by rows and by the columns' frequencies from 0 to Nyquist.

    As matrix products, for which XLA has no gathering to do when examples are split
    over devices, unlike for its FFT, and which a TPU does faster.
    """
    _, height, width, _ = image.shape
    cos_w, sin_w = _waves(width, width // 2 + 1)
    cos_h, sin_h = _waves(height, height)
    product = functools.partial(jnp.einsum, precision="high")
    real = product("bhwc,wk->bhkc", image, cos_w)
    imaginary = product("bhwc,wk->bhkc", image, sin_w)

    def over_rows(part, waves):
        return product("bhkc,hr->brkc", part, waves)

    real, imaginary = (
        over_rows(real, cos_h) - over_rows(imaginary, sin_h),
        over_rows(real, sin_h) + over_rows(imaginary, cos_h),
    )
    return real**2 + imaginary**2


def _waves(length: int, count: int) -> tuple[Array, Array]:
    """cos and sin of 2 pi n k / length, [length, count]."""
    phase = jnp.arange(length)[:, None] * jnp.arange(count)[None] % length
    angle = 2 * jnp.pi / length * phase
    return jnp.cos(angle), jnp.sin(angle)
