"""Samplers: coefficient tables, the one step, and the loops that take it.

Every sampler here is z' = A z + B x_hat + C x_hat_before + S xi, with coefficients
known before the loop starts (docs/notation.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from ddpm_jax.types import Conditions, Denoiser, Image, Keys


class Table(NamedTuple):
    """One row per evaluation of the denoiser, host arrays of shape [steps]."""

    logsnr: np.ndarray
    z: np.ndarray
    x: np.ndarray
    x_before: np.ndarray
    noise: np.ndarray


def table(grid: np.ndarray, **options) -> Table:
    """`coefficients(grid, **options)` in float32, as `sample` runs them."""
    rows = coefficients(grid, **options)
    return Table(*(column.astype(np.float32) for column in rows))


def coefficients(
    grid: np.ndarray, *, order: int = 2, eta: float = 0.0, large_variance: bool = False
) -> Table:
    """float64 rows for a grid of logsnr [steps + 1], increasing, last = +inf (clean).

    With l = logsnr / 2 and h = l_s - l_t: order 1 is DDIM at eta 0 (Song et al., 2021)
    and ancestral sampling at eta 1 (Ho et al., 2020); order 2 is DPM-Solver++(2M) at
    eta 0 and its SDE form above (Lu et al., 2022, algorithm 2 and appendix). The first
    step is order 1 and the last returns x_hat. `large_variance` replaces the
    posterior's variance by beta_t (Ho et al., 2020, section 3.2), for eta 1, order 1.
    """
    if order not in (1, 2) or not 0 <= eta <= 1:
        raise ValueError(f"sampler order {order}, eta {eta}: expected 1 or 2, 0 to 1.")
    if large_variance and (order, eta) != (1, 1.0):
        raise ValueError("large variance: expected order 1 and eta 1.")
    logsnr, after = np.asarray(grid[:-1], float), np.asarray(grid[1:-1], float)
    h = np.diff(logsnr) / 2
    if not (np.isfinite(logsnr).all() and (h > 0).all()):
        raise ValueError(
            "sampler grid: its logsnr do not rise from step to step; expected finite "
            "ends and no more steps than the schedule has."
        )
    sigma = _sigma(logsnr)
    a = sigma[1:] / sigma[:-1] * np.exp(-eta * h)
    b = -_alpha(after) * np.expm1(-(1 + eta) * h)
    c = np.zeros_like(b)
    if order == 2 and len(h) > 1:
        correction = b[1:] / (2 * h[:-1] / h[1:])
        b[1:], c[1:] = b[1:] + correction, -correction
    spread = sigma[:-1] if large_variance else sigma[1:]
    s = spread * np.sqrt(-np.expm1(-2 * eta * h))
    return Table(
        logsnr, np.append(a, 0), np.append(b, 1), np.append(c, 0), np.append(s, 0)
    )


def _alpha(logsnr):
    return np.exp(-np.logaddexp(0, -logsnr) / 2)


def _sigma(logsnr):
    return np.exp(-np.logaddexp(0, logsnr) / 2)


def normal(keys: Keys, shape: tuple[int, ...]) -> Image:
    """Standard normal images [len(keys), *shape]; image i depends on key i alone."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def keys_from_seeds(seeds) -> Keys:
    """One key per seed, uint32 [b]: the address of an image's randomness."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def to_uint16(x_hat: Image) -> Num[Array, "b h w"]:
    """x in [-1, 1], one channel, to uint16 0 … 65535; clipped and rounded."""
    unit = (jnp.clip(x_hat[..., 0], -1, 1) + 1) / 2
    return jnp.round(unit * 65535).astype(jnp.uint16)


def rows(table: Table, part: slice) -> Table:
    """The rows of `part`."""
    return jax.tree.map(lambda column: column[part], table)


class Segment(NamedTuple):
    """Consecutive rows of a table and the denoiser that runs them."""

    denoise: Denoiser
    rows: Table


class Trajectory(NamedTuple):
    """What a sampler saw and thought: z before and x_hat after each evaluation,
    [steps, b, h, w, c], first the noisiest."""

    z: Array
    x_hat: Array


def sample(
    segments: Sequence[Segment],
    keys: Keys,
    cond: Conditions,
    shape: tuple[int, int, int],
) -> Image:
    """x_hat at the end of the table, [len(keys), *shape], from standard normal noise.

    Segments run in order as static scans over one carry, so that guidance costs only
    the steps it acts on.
    """
    return _scan(segments, keys, cond, shape, keep=False)[0]


def trajectory(
    segments: Sequence[Segment],
    keys: Keys,
    cond: Conditions,
    shape: tuple[int, int, int],
) -> tuple[Image, Trajectory]:
    """`sample`, to the bit, and all that led to it, at 2 `steps` times its memory."""
    return _scan(segments, keys, cond, shape, keep=True)


def _scan(segments, keys, cond, shape, keep):
    z, kept = normal(keys, shape), []
    carry = (z, jnp.zeros_like(z), jnp.zeros((), int))
    for segment in segments:
        carry, seen = _run(segment, carry, keys, cond, keep)
        kept.append(seen)
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept) if keep else None
    return carry[0], whole


def _run(segment, carry, keys, cond, keep):
    stochastic = bool(np.any(segment.rows.noise))

    def step(carry, row):
        z, x_before, index = carry
        state = _step(
            segment.denoise, (z, x_before), row, index, keys, cond, stochastic
        )
        seen = Trajectory(z, state[1]) if keep else None
        return (*state, index + 1), seen

    rows = jax.tree.map(jnp.asarray, segment.rows)
    return jax.lax.scan(step, carry, rows)


def advance(
    denoise: Denoiser,
    state: tuple[Image, Image],
    rows: Num[Array, "n 5"],
    start,
    stop,
    keys: Keys,
    cond: Conditions,
    *,
    stochastic: bool,
) -> tuple[Image, Image]:
    """(z, x_hat) after rows [start, stop) of `stacked` coefficients; the bounds may be
    traced, so that one program takes any number of steps from any step on.

    `sample` to the bit where it is compiled alike. `stochastic`: whether any row has
    noise.
    """

    def body(index, state):
        row = Table(*rows[index])
        return _step(denoise, state, row, index, keys, cond, stochastic)

    return jax.lax.fori_loop(start, stop, body, state)


def stacked(table: Table) -> np.ndarray:
    """float32 [steps, 5]: a table as one array, its columns in the order of `Table`."""
    return np.stack(table, axis=1).astype(np.float32)


def _step(denoise, state, row, index, keys, cond, stochastic):
    z, x_before = state
    x_hat = denoise(z, jnp.full(z.shape[:1], row.logsnr), cond)
    z = row.z * z + row.x * x_hat + row.x_before * x_before
    if stochastic:
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        z += row.noise * normal(step_keys, z.shape[1:])
    return z, x_hat
