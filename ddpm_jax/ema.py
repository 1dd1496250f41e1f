"""Exponential moving averages of the parameters, several widths at a time.

Stored averages of two widths can be mixed, after training, into that of any other.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ddpm_jax.types import Params

Tracks = dict[str, Params]
"""By the name of the width, as written in the config."""

Stored = Mapping[tuple[int, float], PyTree]
"""Averages kept during training, by step and width, arrays of the host or a device; a
lazy mapping will do."""

MOST_ERROR = 0.1
"""Relative error of a mixed profile above which it is refused as another average."""


def gamma_from_width(width: float) -> float:
    """The exponent of the power-function average of relative width `width`.

    Solves width^2 = (g + 1) / ((g + 2)^2 (g + 3)) (Karras et al., 2024, eq. 129);
    width in (0, 0.28).
    """
    if not 0 < width < 0.28:
        raise ValueError(f"EMA width = {width}: expected more than 0, less than 0.28.")
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def power_rate(width: float):
    """1 - (1 - 1 / t)^(gamma + 1) at step t = 1, 2, … (Karras et al., 2024, eq. 127).

    The share of the newest parameters: 1 at the first step, which forgets the initial
    ones. Late in a run it is small, and 1 minus a decay would lose its digits.
    """
    exponent = gamma_from_width(width) + 1
    return lambda step: -jnp.expm1(exponent * jnp.log1p(-1 / jnp.maximum(step, 1)))


def constant_rate(decay: float):
    """The plain average of the published model, e.g. 0.9999."""
    if not 0 <= decay < 1:
        raise ValueError(f"EMA decay = {decay}: expected 0 to less than 1.")
    return lambda step: 1 - decay


def update(tracks: Tracks, params: Params, step, rates) -> Tracks:
    """Tracks after step `step` = 1, 2, …; `rates` maps each name to step -> share of
    `params`."""

    def blend(name):
        rate = rates[name](step)
        return jax.tree.map(lambda e, p: e + rate * (p - e), tracks[name], params)

    return {name: blend(name) for name in tracks}


def inner_product(step_a, gamma_a, step_b, gamma_b):
    """Integral of p_a p_b, for p(t) = (gamma + 1) t^gamma / step^(gamma + 1) to `step`.

    Karras et al. (2024), appendix C. With m the smaller step it is
    (gamma_a + 1) (gamma_b + 1) m^(gamma_a + gamma_b + 1)
    / ((gamma_a + gamma_b + 1) step_a^(gamma_a + 1) step_b^(gamma_b + 1)),
    written so that no power of a step is formed.
    """
    first = np.where(step_a < step_b, gamma_b, -gamma_a)
    scale = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return scale * (step_a / step_b) ** first / np.maximum(step_a, step_b)


def coefficients(
    stored: Sequence[tuple[int, float]], step: int, width: float
) -> tuple[np.ndarray, float]:
    """The mixture of stored (step, width) nearest to the profile asked for.

    Least squares over time in float64, as Karras et al. (2024), appendix C, but with
    a sum of exactly 1, so that constant parameters come back. The second value is
    the relative L2 error of the mixed profile.
    """
    steps = np.array([s for s, _ in stored], np.float64)
    gammas = np.array([gamma_from_width(w) for _, w in stored])
    step, gamma = np.float64(step), gamma_from_width(width)
    gram = inner_product(steps[:, None], gammas[:, None], steps[None], gammas[None])
    wished = inner_product(steps, gammas, step, gamma)
    scale = np.diag(gram) ** -0.5
    ones = scale / scale.max()
    system = np.block(
        [[gram * scale[:, None] * scale[None], ones[:, None]], [ones[None], 0]]
    )
    target = np.append(wished * scale, 1 / scale.max())
    mix = scale * np.linalg.lstsq(system, target)[0][:-1]
    assert abs(mix.sum() - 1) < 1e-6
    norm = inner_product(step, gamma, step, gamma)
    left = mix @ gram @ mix - 2 * mix @ wished + norm
    return mix, float(np.sqrt(max(left, 0) / norm))


def reconstruct(stored: Stored, step: int, width: float) -> PyTree:
    """The average of width `width` at `step` from stored ones, float32 on the host.

    What is stored under (step, width) is returned as it is; ValueError where the
    profiles there are cannot be mixed into the one asked for.
    """
    if (step, width) in stored:
        return stored[step, width]
    keys = sorted(stored)
    mix, error = coefficients(keys, step, width)
    if error > MOST_ERROR:
        raise ValueError(
            f"EMA width = {width:g} at step {step}: {len(keys)} stored averages come "
            f"within {error:.0%} of its profile; expected {MOST_ERROR:.0%} or less: a "
            "width nearer to the trained ones, or a run with config.ema.snapshot_every."
        )
    total = None
    for weight, key in zip(mix, keys, strict=True):
        part = jax.tree.map(lambda p, w=weight: w * np.asarray(p, float), stored[key])
        total = part if total is None else jax.tree.map(np.add, total, part)
    return jax.tree.map(lambda p: p.astype(np.float32), total)
