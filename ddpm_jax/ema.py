"""Exponential moving averages of the parameters, several widths at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax.types import Params

Tracks = dict[str, Params]
"""By the name of the width, as written in the config."""


def gamma_from_width(width: float) -> float:
    """The exponent of the power-function average of relative width `width`.

    Solves width^2 = (g + 1) / ((g + 2)^2 (g + 3)) (Karras et al., 2024, eq. 129);
    width in (0, 0.28).
    """
    if not 0 < width < 0.28:
        raise ValueError(f"EMA width = {width}: expected more than 0, less than 0.28.")
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def power_decay(width: float):
    """Decay (1 - 1 / t)^(gamma + 1) at step t = 1, 2, … (Karras et al., 2024, eq. 127).

    The first step has decay 0: the average forgets the initial parameters.
    """
    exponent = gamma_from_width(width) + 1
    return lambda step: (1 - 1 / jnp.maximum(step, 1)) ** exponent


def constant_decay(decay: float):
    """The plain average of the published model, e.g. 0.9999."""
    if not 0 <= decay < 1:
        raise ValueError(f"EMA decay = {decay}: expected 0 to less than 1.")
    return lambda step: decay


def update(tracks: Tracks, params: Params, step, decays) -> Tracks:
    """Tracks after step `step` = 1, 2, …; `decays` maps each name to step -> decay."""

    def blend(name):
        rate = 1 - decays[name](step)
        return jax.tree.map(lambda e, p: e + rate * (p - e), tracks[name], params)

    return {name: blend(name) for name in tracks}
