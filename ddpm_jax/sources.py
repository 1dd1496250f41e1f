"""Where images come from, in one shape: a training run or an exported sampler."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ddpm_jax import build, runs, sampler
from ddpm_jax.conditions.numeric import check_seeds
from ddpm_jax.conditions.schema import Row, Schema
from ddpm_jax.reverse import Reverse
from ddpm_jax.types import Params


class Source(NamedTuple):
    """Something that makes images: run(seeds, cond, guidance) to uint16 [b, h, w] in
    `steps`, perhaps not computed yet, and the sampler behind it for all else."""

    schema: Schema
    size: int
    guidance: float
    run: Callable
    model_hash: str
    steps: int
    sampler: sampler.Sampler


def open_source(
    workdir: str | None,
    exported: str | None,
    steps: int | None = None,
    ema: str | None = None,
    checkpoint: str = "latest",
) -> Source:
    """The run in `workdir` or the sampler in `exported`: exactly one of them."""
    if bool(workdir) == bool(exported):
        raise ValueError("expected one of --workdir and --sampler.")
    if workdir:
        return from_run(workdir, steps, ema, checkpoint)
    if ema is not None:
        raise ValueError("--ema: an exported sampler has its average built in.")
    if checkpoint != "latest":
        raise ValueError(
            f"--checkpoint {checkpoint}: an exported sampler has one set of weights."
        )
    return from_sampler(exported, steps)


def from_run(
    folder: str,
    steps: int | None = None,
    ema: str | None = None,
    checkpoint: str = "latest",
) -> Source:
    """The newest checkpoint of a run, or the best model; `steps` and `ema` in place of
    its config's."""
    run = runs.load(folder, ema, checkpoint)
    options = run.config.sampler
    reverse = Reverse(
        build.reverse_parts(run.config, run.network, run.schema),
        run.params,
        functools.cache(functools.partial(build.course, run.config)),
        dict(options.get("shares", {})),
    )
    size, guidance = run.config.image_size, float(options.guidance)
    return _source(sampler.Sampler(run.schema, size, guidance, reverse), steps)


def from_sampler(folder: str, steps: int | None = None) -> Source:
    """An exported sampler; `steps`, one of those it has, in place of its own."""
    return _source(sampler.load_sampler(folder), steps)


def _source(made: sampler.Sampler, steps: int | None) -> Source:
    steps = made.reverse.course(steps).steps
    return Source(
        made.schema,
        made.size,
        made.guidance,
        functools.partial(made.run, steps=steps),
        model_hash(made.params),
        steps,
        made,
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
    weight = source.sampler.check_guidance(guidance)
    return sampler.in_batches(
        lambda seeds, cond: source.run(seeds, cond, weight),
        check_seeds(seeds),
        source.schema.encode(rows),
        batch,
    )
