"""From a config to objects: the only package that knows what names mean.

Everything here is built before the first byte of data is read, so that a mistake in
a config costs a second, not a queue's night.
"""

from ddpm_jax.build.data import check_data, condition_schema
from ddpm_jax.build.keys import pick, within
from ddpm_jax.build.network import (
    MODELS,
    denoiser,
    loss_weight,
    model,
    noise_schedule,
    training_loss,
)
from ddpm_jax.build.samplers import (
    check_parameterisation,
    course,
    resolve_sampler,
    reverse_parts,
    sampler,
    sampling,
)
from ddpm_jax.build.training import check_counts, ema_rates, optimizer

__all__ = [
    "MODELS",
    "check_counts",
    "check_data",
    "check_parameterisation",
    "condition_schema",
    "course",
    "denoiser",
    "ema_rates",
    "loss_weight",
    "model",
    "noise_schedule",
    "optimizer",
    "pick",
    "resolve_sampler",
    "reverse_parts",
    "sampler",
    "sampling",
    "training_loss",
    "within",
]
