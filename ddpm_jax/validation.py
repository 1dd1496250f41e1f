"""The Fréchet distance to held-out images while a model trains, and the best by it.

Images are compared in the features of a labeller (`evaluation.labeller`). It learns
once from the split that the model learns from, and is kept in `WORKDIR/fd` with the
mean and the covariance of the held-out images' features; nothing is kept of a single
image. Distances of one phase can be compared, and those of one sampler: where the
images' size or anything else than the model changes, the best is looked for anew.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from ddpm_jax import build
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records
from ddpm_jax.ema import Tracks
from ddpm_jax.evaluation import labeller, store
from ddpm_jax.evaluation.frechet import Moments, frechet_distance
from ddpm_jax.evaluation.images import Images, of_records
from ddpm_jax.evaluation.labeller import Labeller
from ddpm_jax.models.classifier import GRID
from ddpm_jax.models.functional import Network
from ddpm_jax.training import best, distributed, sharding

FOLDER = "fd"
LEAST = 20
"""Images of either kind that a distance needs."""
MOST = 10_000
"""Real images of a split; drawn where there are more."""
AT_ONCE = 16
"""Images at a time on a device, or a batch of training where that is less."""


def every(config) -> int:
    """Steps from one distance to the next, 0 for never; older configs have none."""
    return config.get("evaluation", {}).get("every", 0)


def splits(config) -> list[str]:
    """Of the data set, all that a training reads."""
    held_out = [config.evaluation.split] if every(config) else []
    return [config.data.split, *held_out]


def check(config, manifest: records.Manifest) -> None:
    """What can be wrong with `config.evaluation`; ValueError."""
    options, where = config.get("evaluation", {}), "config.evaluation"
    for name, low in {"every": 0, "count": LEAST, "epochs": 1}.items():
        value = options.get(name)
        if value is not None and value < low:
            raise ValueError(f"{where}.{name} = {value}: expected {low} or more.")
    if not every(config):
        return
    split, size = options.split, config.image_size
    build.pick(manifest.splits, split, f"{where}.split")
    if split == config.data.split:
        raise ValueError(
            f"{where}.split = {split!r}: the model learns from it; expected another of "
            f"{', '.join(sorted(manifest.splits))}."
        )
    for used in splits(config):
        if manifest.count(used) < LEAST:
            raise ValueError(
                f"{where}.every = {options.every}: split {used!r} holds "
                f"{manifest.count(used)} images; expected {LEAST} or more, or 0."
            )
    if labeller.input_size(size) % GRID:
        raise ValueError(
            f"{where}.every = {options.every}: images of {size} px, but its labeller "
            f"reads multiples of {GRID}; expected 0."
        )


class Reference(NamedTuple):
    """What synthetic images are held against: the `moments` of held-out ones in the
    features of a labeller. `floor` is the distance of real images that neither it nor
    `moments` have seen, as many as are made or, where those are fewer, a fifth of what
    the model learns from: what a model that draws as the data do would have."""

    labeller: Labeller
    moments: Moments
    floor: float
    identity: str


def reference(config, schema: Schema, folder: Path) -> Reference:
    """Made now, or before by the same inputs and kept in `folder`; `schema` holds the
    fields that the labeller reads."""
    options, data = config.evaluation, config.data
    learnt, held_out = (
        of_records(data.folder, split, schema, MOST, config.image_size)
        for split in (data.split, options.split)
    )
    order = np.random.default_rng(0).permutation(len(learnt))
    spared = min(options.count, len(learnt) // 5)
    others, learnt = (
        learnt.take(np.sort(part)) for part in (order[:spared], order[spared:])
    )
    folder.mkdir(exist_ok=True)
    reader = _trained(learnt, schema, options.epochs, folder)
    inputs = {
        "labeller": reader.identity,
        "held out": held_out.identity,
        "others": others.identity,
    }

    def make():
        theirs = _moments(reader, held_out)
        floor = frechet_distance(_moments(reader, others), theirs)
        return {
            "count": theirs.count,
            "total": theirs.total,
            "outer": theirs.outer,
            "floor": floor,
        }

    kept = store.arrays(folder, "reference", inputs, make)
    moments = Moments(int(kept["count"]), kept["total"], kept["outer"])
    return Reference(reader, moments, float(kept["floor"]), store.key(inputs))


def _trained(images: Images, schema: Schema, epochs: int, folder: Path) -> Labeller:
    steps = labeller.steps_of(epochs, len(images))
    inputs = {"images": images.identity, "schema": schema.to_json(), "steps": steps}

    def make():
        with tqdm(total=steps, desc="labeller", unit="step", leave=False) as bar:
            return labeller.train(
                images, schema, steps=steps, report=lambda loss: bar.update()
            ).params

    params = store.arrays(folder, "labeller", inputs, make)
    size = labeller.input_size(images.size)
    return Labeller(schema, size, labeller.WIDTH, params)


def _moments(reader: Labeller, images: Images) -> Moments:
    parts = (Moments.of(reader.outputs(part)[1]) for part in images.batches())
    return functools.reduce(operator.add, parts)


class Distance:
    """The distance of `config.evaluation.count` images, made by the average that
    `config.sampler.ema` names with the conditions of held-out records: the same
    conditions and seeds at every step.

    Every process must make it and call it; process 0 reads the images.
    """

    def __init__(
        self,
        config,
        schema: Schema,
        network: Network,
        stored: Schema,
        workdir: Path,
        mesh: jax.sharding.Mesh,
    ):
        """`stored` has the fields of the data set, all of which the labeller reads."""
        self.workdir, self.every = workdir, every(config)
        self.ema, self.count = f"{config.sampler.ema:g}", config.evaluation.count
        if distributed.leads():
            self.reference = reference(config, stored, workdir / FOLDER)
            self.how = _how(config, self.reference)
            found = best.newest(workdir)
            comparable = found is not None and found.measured.how == self.how
            self.least = found.measured.fd if comparable else math.inf
        distributed.wait("the labeller is trained")
        whole = sharding.replicated(mesh)
        self.asked = list(_asked(config, schema, mesh))
        self.guidance = sharding.put_whole(np.float32(config.sampler.guidance), whole)
        sample = build.sampler(config, network, schema)
        self.run = jax.jit(sample, out_shardings=whole)

    def __call__(
        self, step: int, tracks: Tracks, submit: Callable = lambda job: job()
    ) -> dict[str, float]:
        """Scalars of one step; its averages are kept where none were better."""
        moments = self._moments(self._images(tracks[self.ema]))
        measured, better = best.Measured(step, 0.0, 0.0, self.count, ""), False
        if distributed.leads():
            fd = frechet_distance(moments, self.reference.moments)
            measured = measured._replace(
                fd=fd, fd_real=self.reference.floor, how=self.how
            )
            better = fd < self.least
            self.least = min(fd, self.least)
        if distributed.agree(int(better)):
            best.save(self.workdir, measured, tracks, submit)
        return {"fd": measured.fd, "fd_real": measured.fd_real}

    def _images(self, params) -> Iterator[jax.Array]:
        """uint16 [b, h, w] parts; the next is under way when one is given out."""
        made = None
        for asked in self.asked:
            before, made = made, self.run(params, *asked, self.guidance)
            if before is not None:
                yield jax.block_until_ready(before)
        yield jax.block_until_ready(made)

    def _moments(self, parts: Iterator[jax.Array]) -> Moments | None:
        total, left = None, self.count
        for part in parts:
            if distributed.leads():
                images = np.asarray(part)[:left]
                found = Moments.of(self.reference.labeller.outputs(images)[1])
                total = found if total is None else total + found
                left -= len(images)
        return total


def _asked(config, schema: Schema, mesh) -> Iterator[tuple]:
    """(seeds, conditions) on the devices, parts of one size; the last is filled up."""
    options, count = config.evaluation, config.evaluation.count
    cond, patients = records.read_conditions(config.data.folder, options.split, schema)
    most = config.data.batch // config.train.accumulate
    batch = min(most, AT_ONCE * mesh.size)
    whole = -(-count // batch) * batch
    rows = np.resize(np.random.default_rng(0).permutation(len(patients)), whole)
    seeds = np.arange(whole, dtype=np.uint32)
    for start in range(0, whole, batch):
        part = slice(start, start + batch)
        chosen = {name: values[rows[part]] for name, values in cond.items()}
        yield sharding.put_whole((seeds[part], chosen), sharding.split_batch(mesh))


def _how(config, reference: Reference) -> str:
    options = config.evaluation
    return store.key(
        {
            "reference": reference.identity,
            "size": config.image_size,
            "rows": [options.split, options.count],
            "sampler": store.plain(config.sampler.to_dict()),
        }
    )
