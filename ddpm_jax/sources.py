"""Where images come from, in one shape: a training run or an exported sampler."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ddpm_jax import build, runs, sampler
from ddpm_jax.conditions.schema import Row, Schema
from ddpm_jax.types import Params


class Source(NamedTuple):
    """Something that makes images: run(seeds, cond, guidance) to uint16 [b, h, w].

    `program(params, seeds, cond, guidance)` is the same for JAX to place and to trace;
    it does not wait for what it computes.
    """

    schema: Schema
    size: int
    guidance: float
    run: Callable
    model_hash: str
    steps: int
    program: Callable
    params: Params


def open_source(
    workdir: str | None,
    exported: str | None,
    steps: int | None = None,
    ema: str | None = None,
) -> Source:
    """The run in `workdir` or the sampler in `exported`: exactly one of them."""
    if bool(workdir) == bool(exported):
        raise ValueError("expected one of --workdir and --sampler.")
    if workdir:
        return from_run(workdir, steps, ema)
    if steps is not None:
        raise ValueError("--steps: an exported sampler has its steps built in.")
    if ema is not None:
        raise ValueError("--ema: an exported sampler has its average built in.")
    return from_sampler(exported)


def from_run(folder: str, steps: int | None = None, ema: str | None = None) -> Source:
    """The newest checkpoint of a run; `steps` and `ema` in place of its config's."""
    run = runs.load(folder, ema)
    jitted = jax.jit(build.sampler(run.config, run.network, run.schema, steps))
    return Source(
        run.schema,
        run.config.image_size,
        run.config.sampler.guidance,
        lambda seeds, cond, weight: jitted(run.params, seeds, cond, weight),
        model_hash(run.params),
        run.config.sampler.steps if steps is None else steps,
        jitted,
        run.params,
    )


def from_sampler(folder: str) -> Source:
    """An exported sampler."""
    loaded = sampler.load_sampler(folder)
    return Source(
        loaded.schema,
        loaded.description["height"],
        loaded.guidance,
        loaded.run,
        model_hash(loaded.params),
        loaded.description["steps"],
        loaded._program,
        loaded.params,
    )


def model_hash(params: Params) -> str:
    """sha256 over names and values: one identity in a run and in its exports."""
    digest = hashlib.sha256()
    for name in sorted(params):
        digest.update(name.encode())
        digest.update(np.asarray(params[name]).tobytes())
    return digest.hexdigest()


def images(
    source: Source,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    guidance: float | None = None,
    batch: int = sampler.BATCH,
) -> Iterator[np.ndarray]:
    """uint16 [<= batch, h, w] parts, in the order of rows and seeds."""
    weight = sampler.check_guidance(source.guidance if guidance is None else guidance)
    return sampler.in_batches(
        lambda seeds, cond: source.run(seeds, cond, weight),
        sampler.check_seeds(seeds),
        source.schema.encode(rows),
        batch,
    )
