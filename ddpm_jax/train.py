r"""Train a conditional diffusion model of radiographs.

    python -m ddpm_jax.train --config configs/quickstart.py --workdir runs/first \
        --config.data.folder=data/shards

Running the same command again goes on from the newest checkpoint. SIGTERM saves and
exits with status 75 (EX_TEMPFAIL: start it again), Ctrl-C saves and exits with 130.
"""

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from ddpm_jax import build, command_line, pictures, runs, validation
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import pipeline, records
from ddpm_jax.models.functional import Network
from ddpm_jax.planner import utilization
from ddpm_jax.training import (
    best,
    distributed,
    guards,
    monitoring,
    phases,
    profiling,
    repro,
    sharding,
    snapshots,
    weights_and_biases,
)
from ddpm_jax.training import state as states
from ddpm_jax.training import step as steps
from ddpm_jax.training.checkpoint import Checkpoints
from ddpm_jax.types import Key

FLAGS = command_line.new_flags()
CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file under configs/; --config.a.b=value changes one key of it.",
    flag_values=FLAGS,
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run's folder: checkpoints, metrics, samples. Made if missing.",
    flag_values=FLAGS,
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes: needed on TPU virtual machines of several hosts alone; "
    "Slurm, GKE and JAX_COORDINATOR_ADDRESS are seen without it.",
    flag_values=FLAGS,
)
PROFILE = flags.DEFINE_string(
    "profile",
    "",
    "Steps to trace into WORKDIR/profile, for xprof: a number, or FIRST:LAST.",
    flag_values=FLAGS,
)


class Prepared(NamedTuple):
    """A phase's config as objects; `shapes` and `where` are of the state."""

    phase: phases.Phase
    schema: Schema
    network: Network
    manifest: records.Manifest
    shapes: states.State
    where: states.State
    create: Callable
    step: Callable


@dataclasses.dataclass
class Session:
    """What lasts for the whole training, while phases come and go."""

    workdir: Path
    mesh: jax.sharding.Mesh
    key: Key
    checkpoints: Checkpoints
    writer: monitoring.Writer
    stop: Callable
    traced: profiling.Span | None
    bar: tqdm


def train(config, workdir: Path, profile: str = "") -> None:
    """Train from the newest checkpoint in `workdir`, or from the start.

    `profile` is what --profile says.
    """
    mesh = sharding.make_mesh(config.train.fsdp)
    check(config, profile)
    prepared = prepare_all(config, mesh)
    check_phases(config, prepared)
    make_keys = jax.jit(
        lambda: jax.random.split(jax.random.key(config.seed)),
        out_shardings=sharding.replicated(mesh),
    )
    init_key, step_key = make_keys()

    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, config.train.keep))
        start = checkpoints.start()
        if start > config.train.steps:
            raise ValueError(
                f"config.train.steps = {config.train.steps}: {workdir} is at step "
                f"{start} already; expected as many or more."
            )
        coming = [one for one in prepared if one.phase.last > start] or prepared[-1:]
        first = coming[0]
        runs.begin(workdir, config, first.schema, first.manifest, start)
        if distributed.leads():
            best.set_aside(workdir, after=start)
        checkpoints.set_aside(after=start)
        writer = monitoring.make_writer(workdir, start, config.train.get("wandb", ""))
        stack.enter_context(closing(writer))
        stop = stack.enter_context(distributed.stop_signal())
        cursor = {}
        if start:
            like = sharding.placed(first.shapes, first.where)
            state, cursor = checkpoints.restore(start, like)
        else:
            state = first.create(init_key)
            overview = monitoring.overview(first.shapes.params)
            writer.write_texts(0, {"parameters": overview})
            writer.write_hparams(config.to_dict())
        bar = stack.enter_context(monitoring.progress(config.train.steps, start))
        traced = profiling.span(profile, start)
        session = Session(
            workdir, mesh, step_key, checkpoints, writer, stop, traced, bar
        )
        stack.callback(lambda: profiling.say_untraced(session.traced))
        number, stopping = start, 0
        for one in coming:
            if one.phase.first > start + 1:
                runs.begin(workdir, config, one.schema, one.manifest, number)
            state, number, stopping = run(session, one, state, number, cursor)
            cursor = {}
            if stopping:
                break
        checkpoints.finish()
    if distributed.leads():
        found = best.newest(workdir)
        lines = monitoring.read_metrics(workdir)
        pictures.loss_curve(
            workdir / "loss.png", lines, found.measured.step if found else None
        )
        if found and not stopping:
            monitoring.say(
                f"the best is {found.measured}; take it with --checkpoint best"
            )
    if stopping:
        monitoring.say(f"step {number} is saved; the same command goes on from there")
        raise (
            command_line.Preempted if stopping == signal.SIGTERM else KeyboardInterrupt
        )
    monitoring.say(f"trained to step {number}; see {workdir / 'loss.png'}")


def check(config, profile: str) -> None:
    """What can be wrong with a training as a whole; ValueError."""
    build.check_counts(config)
    profiling.span(profile, start=0)
    weights_and_biases.check(config)


def prepare_all(config, mesh) -> list[Prepared]:
    """`prepare` of each phase; an error says of which entry of `config.phases`."""
    prepared = []
    for index, phase in enumerate(phases.of(config)):
        try:
            prepared.append(prepare(phase, mesh))
        except ValueError as error:
            entry = index < len(config.get("phases", ()))
            where = f"config.phases[{index}]: " if entry else ""
            raise ValueError(f"{where}{error}") from None
    return prepared


def prepare(phase: phases.Phase, mesh) -> Prepared:
    """Everything that a mistake in the config can break, before any image is read."""
    config = phase.config
    accumulate = config.train.accumulate
    sharding.check_batch(config.data.batch, mesh, "config.data.batch", accumulate)
    schema = build.condition_schema(config)
    net = build.model(config, schema)
    optimizer = build.optimizer(config)
    rates = build.ema_rates(config)
    build.pick(rates, f"{config.sampler.ema:g}", "config.sampler.ema")
    build.check_parameterisation(config)
    build.sampler(config, net, schema)
    manifest = records.load_manifest(config.data.folder)
    build.check_data(config, schema, manifest)
    build.resolve_sampler(config, manifest)
    validation.check(config, manifest)

    to_x = functools.partial(steps.to_unit, bits=manifest.bits)
    loss = build.training_loss(config, net, schema, to_x)

    def create(key):
        return states.create(net.init(key), optimizer, rates)

    whole, split = sharding.replicated(mesh), sharding.split_batch(mesh)
    shapes = jax.eval_shape(create, jax.eval_shape(lambda: jax.random.key(0)))
    where = sharding.split_state(shapes, mesh)
    gather = functools.partial(sharding.gather, mesh=mesh)
    step = jax.jit(
        guards.guarded(steps.make_step(loss, optimizer, rates, accumulate, gather)),
        in_shardings=(where, whole, split, whole),
        out_shardings=(where, whole, whole),
        donate_argnums=0,
    )
    create = jax.jit(create, out_shardings=where)
    return Prepared(phase, schema, net, manifest, shapes, where, create, step)


def check_phases(config, prepared: list[Prepared]) -> None:
    """One set of parameters and one set of fields in all phases, and shards as written;
    what the phases' data sets say of the sampler goes into `config`."""
    for index, one in enumerate(prepared[:-1]):
        where, last = f"config.phases[{index}]", prepared[-1]
        if one.manifest.schema != last.manifest.schema:
            raise ValueError(f"{where}: its data set has other fields than the last.")
        if one.manifest.bits != last.manifest.bits:
            raise ValueError(
                f"{where}: its data set has {one.manifest.bits} bits, that of the last "
                f"phase {last.manifest.bits}; expected as many."
            )
        if one.shapes != last.shapes:
            raise ValueError(
                f"{where}: its parameters have other shapes than those of the last "
                f"phase; config.model.name = {config.model.name!r} is not of one size "
                f"for {one.phase.config.image_size} and {config.image_size} px."
            )
    if config.data.verify:
        for folder in {one.phase.config.data.folder for one in prepared}:
            for split in validation.splits(config):
                records.check_split(folder, split)
    phases.resolve(config, [one.phase.config.sampler for one in prepared])


def run(
    session: Session, prepared: Prepared, state: states.State, start: int, cursor: dict
) -> tuple[states.State, int, int]:
    """Train from step `start` to the end of a phase: the state, the step reached, and
    the signal that ended it before, or 0. `cursor` is what the checkpoint of `start`
    says of data and metrics, {} for nothing."""
    config, schema = prepared.phase.config, prepared.schema
    workdir, writer, checkpoints = session.workdir, session.writer, session.checkpoints
    final = prepared.phase.last
    with contextlib.ExitStack() as stack:
        data = pipeline.train_iterator(config, schema, monitoring.say)
        stack.enter_context(closing(data))
        if start >= prepared.phase.first:
            data.set_state(cursor["data"] if "data" in cursor else cursor)
        else:
            data.set_state(pipeline.position(prepared.phase.position))
        total = monitoring.unpack(cursor.get("averages", {}))
        monitoring.announce(
            config, prepared.manifest, prepared.shapes.params, session.mesh.size, start
        )

        span, session.traced = profiling.within(session.traced, final)
        traces = workdir / "profile"
        train_step = profiling.Traced(prepared.step, span, traces, start)
        stack.enter_context(closing(train_step))
        split = sharding.split_batch(session.mesh)
        put = functools.partial(sharding.put, sharding=split)
        batches = pipeline.prefetch(data, put)
        show = SampleGrid(prepared, workdir / "samples", writer, session.mesh)
        distance = measuring_distance(session, prepared) if start < final else None
        kinds = [device.device_kind for device in jax.devices()]
        mfu_per_rate = utilization.mfu_per_rate(config, kinds)
        clock = monitoring.Clock(config.data.batch, mfu_per_rate)
        starvation = monitoring.Starvation(config.data.workers)
        watch = repro.Watch(workdir, config, session.key)
        no_fault = jax.jit(
            guards.no_fault, out_shardings=sharding.replicated(session.mesh)
        )
        fault, number, stopping = no_fault(), start, 0
        snapshot_every = config.ema.get("snapshot_every", 0)
        for number in range(start + 1, final + 1):
            with clock.waiting(state.step):
                batch, read = next(batches)
            watch.note(number, read)
            state, fault, measured = train_step(state, fault, batch, session.key)
            total = steps.merge(total, measured)
            session.bar.update()

            checkpoints.check()
            last = number == final
            stopping = 0 if number == config.train.steps else session.stop(number)
            due = number % config.train.save_every == 0 or last
            measuring = distance and (number % distance.every == 0 or last)
            logging = number % config.train.log_every == 0 or due or measuring
            keeping = snapshot_every and number % snapshot_every == 0
            if logging or keeping or stopping or watch.full:
                watch.check(fault, state.params)
            if logging:
                scalars = monitoring.compute(total) | clock.rate(number)
                scalars |= guards.skipped(state.optimizer)
                if measuring:
                    scalars |= distance(number, state.ema, checkpoints.submit)
                writer.write_scalars(number, scalars)
                starvation(number, scalars)
                session.bar.set_postfix(loss=f"{scalars['loss']:.4f}")
                total = None
            if keeping:
                snapshots.save(workdir, number, state.ema, checkpoints.submit)
            if due or stopping:
                writer.flush()
                cursor = {"data": read.after, "averages": monitoring.pack(total)}
                checkpoints.save(number, state, cursor)
                if distance and distributed.leads():
                    checkpoints.submit(
                        lambda: best.drop_older(workdir, checkpoints.steps())
                    )
            if stopping:
                break
            showing = number % config.train.sample_every == 0 or last
            if showing:
                show(number, state.ema)
            if due or showing or measuring:
                clock.restart(number)
    return state, number, stopping


def measuring_distance(
    session: Session, prepared: Prepared
) -> validation.Distance | None:
    """None where the config asks for none."""
    config = prepared.phase.config
    if not validation.every(config):
        return None
    return validation.Distance(
        config,
        prepared.schema,
        prepared.network,
        prepared.manifest.schema,
        session.workdir,
        session.mesh,
    )


class SampleGrid:
    """The same seeds and conditions at every step: a grid of what the average makes."""

    def __init__(self, prepared: Prepared, folder: Path, writer, mesh):
        config, schema = prepared.phase.config, prepared.schema
        count = config.train.sample_count
        drawn = pipeline.read_all(config.data.folder, config.data.split, schema, count)
        rows = [schema.coarse(row) for row in schema.decode(drawn["cond"])]
        self.captions = [schema.caption(row) for row in rows]
        whole = sharding.replicated(mesh)
        where = whole if len(rows) % mesh.size else sharding.split_batch(mesh)
        seeds = np.arange(len(rows), dtype=np.uint32)
        self.asked = sharding.put_whole((seeds, schema.encode(rows)), where)
        self.guidance = sharding.put_whole(np.float32(config.sampler.guidance), whole)
        sample = build.sampler(config, prepared.network, schema)
        self.run = jax.jit(sample, out_shardings=whole)
        self.ema = f"{config.sampler.ema:g}"
        self.folder, self.writer = folder, writer
        folder.mkdir(exist_ok=True)

    def __call__(self, number: int, tracks) -> None:
        images = np.asarray(self.run(tracks[self.ema], *self.asked, self.guidance))
        if distributed.leads():
            sheet = pictures.contact_sheet(images, self.captions)
            sheet.save(self.folder / f"step_{number:07d}.png")
            self.writer.write_images(number, {"samples": np.asarray(sheet)[..., None]})


def main():
    command_line.require(FLAGS, "config", "workdir")
    path = config_flags.get_config_filename(FLAGS["config"])
    if not Path(path).is_file():
        raise ValueError(f"--config {path}: no such file; see configs/.")
    distributed.initialize(DISTRIBUTED.value)
    train(CONFIG.value, Path(WORKDIR.value), PROFILE.value)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
