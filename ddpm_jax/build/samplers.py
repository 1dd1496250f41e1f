"""The sampler of a config."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ddpm_jax import guidance, reverse, samplers, schedule
from ddpm_jax.build.keys import named, pick
from ddpm_jax.build.network import denoiser, noise_schedule, parameterisation
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data.records import Manifest
from ddpm_jax.models.functional import Network
from ddpm_jax.types import Denoiser

TYPICAL_RANGE = (-16.5, 11.0)
"""Where no data set says: the logsnr of radiographs of 1024 px with mean -0.5 and a
power spectrum of 1 / k^3, 4 further out."""


def resolve_sampler(config, manifest: Manifest) -> None:
    """Fill `config.sampler.low` and `.high`, where open, from the data's spectrum: the
    least and the largest -ln of its power, 4 further out.

    Means over k x k pixels have 1 / k^2 of the power in each ring that they keep, and
    none of those with the least, so that `high` holds for them as it is.
    """
    if config.sampler.grid != "uniform_logsnr":
        return
    found = manifest.statistics.get("spectrum", {})
    shifts = 2 * np.log(manifest.height / config.image_size), 0.0
    for name, typical, shift in zip(
        ("low", "high"), TYPICAL_RANGE, shifts, strict=True
    ):
        if config.sampler[name] is None:
            config.sampler[name] = float(found.get(f"logsnr_{name}", typical) + shift)


def logsnr_range(options) -> tuple[float, float]:
    pairs = zip((options.low, options.high), TYPICAL_RANGE, strict=True)
    low, high = (typical if given is None else given for given, typical in pairs)
    if not low < high:
        raise ValueError(
            f"config.sampler.low = {low:g}, high = {high:g}: expected low < high."
        )
    return low, high


LEAST_FOR_EPS = -12.0
"""x = (z - sigma eps) / alpha magnifies an error of eps by exp(6) = 400 there."""


def check_parameterisation(config) -> None:
    """ValueError for eps with (nearly) zero terminal SNR, where it says nothing of x.

    The paper's discrete process ends at -19.8 and is let in as it was published.
    """
    parameterisation(config)
    name, options = named(config.diffusion.schedule, "config.diffusion.schedule")
    lows = {"config.diffusion.schedule.low": options.get("low", -20.0)}
    if config.sampler.grid == "uniform_logsnr":
        lows["config.sampler.low"] = logsnr_range(config.sampler)[0]
    if config.diffusion.parameterisation != "eps" or name == "discrete_cosine":
        return
    for where, low in lows.items():
        if low < LEAST_FOR_EPS:
            raise ValueError(
                f"{where} = {low:g}: too noisy for config.diffusion.parameterisation = "
                f"'eps'; expected {LEAST_FOR_EPS:g} or more, or 'v'."
            )


class Sampling(NamedTuple):
    """How images are made: the table, where guidance acts, whether x_hat is cut, and
    the share of the guidance weight that each field has on its own, {} for all of
    them jointly."""

    table: samplers.Table
    guided: slice
    clip: bool
    shares: Mapping[str, float]

    def segments(self, denoise: Denoiser, unknown, weight) -> list[samplers.Segment]:
        """Plain, guided, plain: each a static scan; empty ones are left out."""
        denoise = _cut(denoise, self.clip)
        if self.shares:
            weights = {name: weight * share for name, share in self.shares.items()}
            guided = guidance.compositional(denoise, unknown, weights)
        else:
            guided = guidance.classifier_free(denoise, unknown, weight)
        guided = _cut(guided, self.clip)
        start, stop = self.guided.start, self.guided.stop
        parts = [
            (denoise, slice(0, start)),
            (guided, slice(start, stop)),
            (denoise, slice(stop, None)),
        ]
        return [
            samplers.Segment(chosen, samplers.rows(self.table, part))
            for chosen, part in parts
            if len(self.table.logsnr[part])
        ]


def _cut(denoise: Denoiser, clip: bool) -> Denoiser:
    return guidance.clipped(denoise) if clip else denoise


def _discrete_table(config) -> np.ndarray:
    name, options = named(config.diffusion.schedule, "config.diffusion.schedule")
    if name != "discrete_cosine":
        raise ValueError(
            "config.sampler.grid = 'discrete': expected config.diffusion.schedule.name "
            f"= discrete_cosine, not {name!r}."
        )
    return schedule.cosine_table(**options)


def sampling(config, steps: int | None = None) -> Sampling:
    """The sampler of `config.sampler`, with `steps` in place of its own if given."""
    options = config.sampler
    steps = options.steps if steps is None else steps
    grids = {
        "uniform_logsnr": lambda: schedule.uniform_logsnr_grid(
            steps, *logsnr_range(options)
        ),
        "uniform_time": lambda: schedule.uniform_time_grid(
            steps, noise_schedule(config)
        ),
        "discrete": lambda: schedule.discrete_grid(steps, _discrete_table(config)),
    }
    grid = pick(grids, options.grid, "config.sampler.grid")()
    rows = samplers.table(
        grid,
        order=options.order,
        eta=options.eta,
        large_variance=options.large_variance,
    )
    interval = tuple(options.guidance_interval)
    if len(interval) != 2 or not interval[0] <= interval[1]:
        raise ValueError(
            f"config.sampler.guidance_interval = {interval}: expected two logsnr, the "
            "lower first."
        )
    shift = 2 * np.log(config.image_size / 64)
    guided = guidance.steps_within(grid[:-1] + shift, interval)
    return Sampling(rows, guided, options.clip, dict(options.get("shares", {})))


def sampler(config, net: Network, schema: Schema, steps: int | None = None) -> Callable:
    """(params, seeds uint32 [b], cond, guidance) to uint16 [b, size, size].

    Pure and jittable; image i depends on seed i and condition i alone.
    """
    plan = sampling(config, steps)
    unknown = _unknown(schema, plan.shares)
    shape = _shape(config)

    def run(params, seeds, cond, weight):
        segments = plan.segments(denoiser(config, net, params), unknown, weight)
        keys = samplers.keys_from_seeds(seeds)
        return samplers.to_uint16(samplers.sample(segments, keys, cond, shape))

    return run


def reverse_parts(config, net: Network, schema: Schema) -> reverse.Parts:
    """The sampler of `config` in pieces that serve every number of steps, each pure and
    jittable; `reverse.Parts` says what they take."""
    options = config.sampler
    unknown = _unknown(schema, options.get("shares", {}))
    shape, stochastic = _shape(config), options.eta > 0

    def start(seeds):
        z = samplers.normal(samplers.keys_from_seeds(seeds), shape)
        return z, jnp.zeros_like(z)

    def advance(guide, params, state, rows, first, stop, seeds, cond):
        plain = _cut(denoiser(config, net, params), options.clip)
        denoise = _cut(guide(plain), options.clip)
        keys = samplers.keys_from_seeds(seeds)
        bounds = rows, first, stop, keys, cond
        return samplers.advance(denoise, state, *bounds, stochastic=stochastic)

    def plain(*inputs):
        return advance(lambda denoise: denoise, *inputs)

    def guided(*inputs):
        *inputs, weight = inputs
        return advance(
            lambda denoise: guidance.classifier_free(denoise, unknown, weight), *inputs
        )

    def composed(*inputs):
        *inputs, weights = inputs
        return advance(
            lambda denoise: guidance.compositional(denoise, unknown, weights), *inputs
        )

    return reverse.Parts(start, plain, guided, composed, samplers.to_uint16)


def course(config, steps: int | None = None) -> reverse.Course:
    """`sampling` as `reverse_parts` take it."""
    plan = sampling(config, steps)
    bounds = int(plan.guided.start), int(plan.guided.stop)
    return reverse.Course(samplers.stacked(plan.table), bounds)


def _shape(config) -> tuple[int, int, int]:
    return config.image_size, config.image_size, 1


def _unknown(schema: Schema, shares) -> dict[str, float]:
    """The value of "not known" by field; ValueError for a share of no field."""
    unknown = {field.name: field.unknown for field in schema}
    for name in shares:
        pick(unknown, name, "config.sampler.shares")
    return unknown
