"""Noise schedules t -> logsnr, and the grids of logsnr that samplers visit."""

import math

import jax.numpy as jnp
import numpy as np

from ddpm_jax.types import Schedule


def cosine_table(steps: int = 1000, offset: float = 0.008) -> np.ndarray:
    """logsnr of the discrete cosine schedule, float64 [steps + 1], index 0 = +inf.

    Nichol & Dhariwal (2021), eq. 17, with beta clipped at 0.999; the product over the
    clipped betas, not the cosine, defines alpha_bar, which is why the last entry is
    finite.
    """
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    beta = np.clip(1 - f[1:] / f[:-1], 0, 0.999)
    alpha_bar = np.cumprod(1 - beta)
    return np.append(np.inf, np.log(alpha_bar) - np.log1p(-alpha_bar))


def discrete_cosine(steps: int = 1000) -> Schedule:
    """The published model's process: t in (i - 1, i] / steps is its step i."""
    table = jnp.asarray(cosine_table(steps)[1:], jnp.float32)

    def schedule(t):
        step = jnp.ceil(t * steps * (1 - 1e-6))  # i / steps is i, rounded up or not
        return table[jnp.clip(step.astype(int), 1, steps) - 1]

    return schedule


def cosine(low: float = -20.0, high: float = 14.0, shift: float = 0.0) -> Schedule:
    """Cosine schedule, shifted by `shift` in logsnr, from `high` to `low` after it.

    logsnr = -2 log tan(a + t (b - a)) + shift (Hoogeboom et al., 2023, simple
    diffusion, appendix A). Written as a quotient of sines with host constants in
    float64, so that neither end cancels in float32.
    """
    a = math.atan(math.exp((shift - high) / 2))
    b = math.atan(math.exp((shift - low) / 2))
    rest = math.atan(math.exp((low - shift) / 2))  # pi / 2 - b, without cancellation

    def schedule(t):
        sin, cos = jnp.sin(a + t * (b - a)), jnp.sin(rest + (1 - t) * (b - a))
        return 2 * (jnp.log(cos) - jnp.log(sin)) + shift

    return schedule


def resolution_shift(noise_size: int, size: int) -> float:
    """Shift that gives images of `size` px the noise that `noise_size` px would see."""
    return 2 * math.log(noise_size / size)


def interpolated(
    noise_size: int, size: int, low: float = -20.0, high: float = 14.0
) -> Schedule:
    """From the plain cosine at t = 0 to one shifted to `noise_size` px at t = 1.

    Hoogeboom et al. (2023), simple diffusion, section 3.2: coarse structure gets the
    noise of a small image while fine detail keeps its share of training.
    """
    fine = cosine(low, high)
    coarse = cosine(low, high, resolution_shift(noise_size, size))
    return lambda t: t * coarse(t) + (1 - t) * fine(t)


def uniform_logsnr_grid(steps: int, low: float, high: float) -> np.ndarray:
    """float64 [steps + 1]: `steps` equal moves in logsnr, the last one to clean."""
    _check_steps(steps)
    return np.append(np.linspace(low, high, steps), np.inf)


def uniform_time_grid(steps: int, schedule: Schedule) -> np.ndarray:
    """float64 [steps + 1]: the schedule at t = 1, ..., 1 / steps, then clean."""
    _check_steps(steps)
    t = np.linspace(1, 0, steps + 1)[:-1]
    return np.append(np.asarray(schedule(jnp.asarray(t, jnp.float32)), float), np.inf)


def discrete_grid(steps: int, table: np.ndarray) -> np.ndarray:
    """float64 [steps + 1]: `steps` entries of a discrete table, T first, then clean.

    steps = T visits every entry; fewer are spread evenly and always start at T, so
    that the zero of the terminal SNR is visited (Lin et al., 2024, "trailing").
    """
    _check_steps(steps, len(table) - 1)
    index = np.round(np.linspace(len(table) - 1, 0, steps + 1)[:-1]).astype(int)
    return np.append(table[index], np.inf)


def _check_steps(steps, most=None):
    if steps < 1 or (most is not None and steps > most):
        upper = "" if most is None else f" to {most}"
        raise ValueError(f"sampler steps = {steps}: expected 1{upper or ' or more'}.")
