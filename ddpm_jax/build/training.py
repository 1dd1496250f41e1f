"""How long a config trains, with which optimiser and averages."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm_jax import ema
from ddpm_jax.build.keys import pick, within
from ddpm_jax.training import guards


def check_counts(config) -> None:
    """The numbers of `config.train` and their like that must not be too small."""
    least = {
        "config.seed": (config.seed, 0),
        "config.data.workers": (config.data.workers, 0),
        "config.ema.snapshot_every": (config.ema.get("snapshot_every", 0), 0),
        "config.train.steps": (config.train.steps, 1),
        "config.train.log_every": (config.train.log_every, 1),
        "config.train.save_every": (config.train.save_every, 1),
        "config.train.keep": (config.train.keep, 1),
        "config.train.sample_every": (config.train.sample_every, 1),
        "config.train.sample_count": (config.train.sample_count, 1),
    }
    for where, (value, low) in least.items():
        if value < low:
            raise ValueError(f"{where} = {value}: expected {low} or more.")
    if not config.data.folder:
        raise ValueError(
            "config.data.folder: not set; expected the --out folder of "
            "`python -m data_prep.convert`."
        )


def learning_rate(config) -> optax.Schedule:
    """Warm-up, then constant, cosine to 0, or 1/sqrt decay with a linear end to 0."""
    peak, steps = config.optimizer.learning_rate, config.train.steps
    warmup = min(config.optimizer.warmup, steps)
    rest = max(1, steps - warmup)
    start = max(1, config.optimizer.decay_from - warmup)
    cooldown = max(1, round(0.1 * steps))
    decays = {
        "constant": lambda step: peak,
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "rsqrt": lambda step: (
            peak
            * jnp.minimum(1, jax.lax.rsqrt(jnp.maximum(step, 1) / start))
            * jnp.clip((rest - step) / cooldown, 0, 1)
        ),
    }
    decay = pick(decays, config.optimizer.decay, "config.optimizer.decay")
    ramp = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([lambda step: ramp(step + 1), decay], [warmup])


def optimizer(config) -> optax.GradientTransformation:
    """AdamW with decay on matrices only, after clipping by the global norm.

    With `config.optimizer.skip_above` steps of far too large a gradient are left out.
    """
    options = config.optimizer
    ranges = {
        "learning_rate": (0, np.inf),
        "b1": (0, 0.99999),
        "b2": (0, 0.99999),
        "warmup": (0, np.inf),
        "weight_decay": (0, 1),
        "clip": (1e-6, np.inf),
    }
    for name, (low, high) in ranges.items():
        within(f"config.optimizer.{name}", options[name], low, high)
    adamw = optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.adamw(
            learning_rate(config),
            options.b1,
            options.b2,
            weight_decay=options.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
    above = options.get("skip_above", 0.0)
    if above and not above > 1:
        raise ValueError(
            f"config.optimizer.skip_above = {above:g}: expected 0 (off) or more than 1."
        )
    return guards.skip_spikes(adamw, above) if above else adamw


def ema_rates(config) -> dict[str, Callable]:
    """step -> rate, by the name of the track; config.ema.name is power or constant."""
    kinds = {"power": ema.power_rate, "constant": ema.constant_rate}
    make = pick(kinds, config.ema.name, "config.ema.name")
    if config.ema.name == "constant" and config.ema.get("snapshot_every", 0):
        raise ValueError(
            "config.ema.snapshot_every: nothing is made of constant averages; expected "
            "0, or config.ema.name = power."
        )
    widths = [float(width) for width in config.ema.widths]
    if not widths or len(set(widths)) < len(widths):
        raise ValueError(
            f"config.ema.widths = {tuple(widths)}: expected one or more different ones."
        )
    return {f"{width:g}": make(width) for width in widths}
