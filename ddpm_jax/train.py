r"""Train a conditional diffusion model of radiographs.

    python -m ddpm_jax.train --config configs/quickstart.py --workdir runs/first \
        --config.data.folder=data/shards

Running the same command again goes on from the newest checkpoint. SIGTERM saves and
exits with status 75 (EX_TEMPFAIL: start it again), Ctrl-C saves and exits with 130.
"""

import contextlib
import functools
import signal
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from ddpm_jax import build, command_line, pictures, runs
from ddpm_jax.data import pipeline, records
from ddpm_jax.planner import utilization
from ddpm_jax.training import (
    distributed,
    guards,
    monitoring,
    profiling,
    repro,
    sharding,
    snapshots,
    weights_and_biases,
)
from ddpm_jax.training import state as states
from ddpm_jax.training import step as steps
from ddpm_jax.training.checkpoint import Checkpoints

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


def train(config, workdir: Path, profile: str = "") -> None:
    """Train from the newest checkpoint in `workdir`, or from the start.

    `profile` is what --profile says.
    """

    # ---- Everything that a mistake in the config can break, before any data ----
    mesh = sharding.make_mesh(config.train.fsdp)
    accumulate = config.train.accumulate
    sharding.check_batch(config.data.batch, mesh, "config.data.batch", accumulate)
    schema = build.condition_schema(config)
    net = build.model(config, schema)
    optimizer = build.optimizer(config)
    rates = build.ema_rates(config)
    build.pick(rates, f"{config.sampler.ema:g}", "config.sampler.ema")
    build.check_parameterisation(config)
    build.sampler(config, net, schema)
    build.check_counts(config)
    profiling.span(profile, start=0)
    weights_and_biases.check(config)
    manifest = records.load_manifest(config.data.folder)
    build.check_data(config, schema, manifest)
    build.resolve_sampler(config, manifest)
    if config.data.verify:
        records.check_split(config.data.folder, config.data.split)

    to_x = functools.partial(steps.to_unit, bits=manifest.bits)
    loss = build.training_loss(config, net, schema, to_x)

    def create(key):
        return states.create(net.init(key), optimizer, rates)

    replicated, split = sharding.replicated(mesh), sharding.split_batch(mesh)
    make_keys = jax.jit(
        lambda: jax.random.split(jax.random.key(config.seed)), out_shardings=replicated
    )
    init_key, step_key = make_keys()
    shapes = jax.eval_shape(create, init_key)
    where = sharding.split_state(shapes, mesh)
    gather = functools.partial(sharding.gather, mesh=mesh)
    train_step = jax.jit(
        guards.guarded(steps.make_step(loss, optimizer, rates, accumulate, gather)),
        in_shardings=(where, replicated, split, replicated),
        out_shardings=(where, replicated, replicated),
        donate_argnums=0,
    )

    # ---- State and data, new or restored ----
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, config.train.keep))
        start = checkpoints.start()
        if start > config.train.steps:
            raise ValueError(
                f"config.train.steps = {config.train.steps}: {workdir} is at step "
                f"{start} already; expected as many or more."
            )
        runs.begin(workdir, config, schema, manifest)
        checkpoints.set_aside(after=start)
        project = config.train.get("wandb", "")
        writer = monitoring.make_writer(workdir, start, project)
        stack.enter_context(closing(writer))
        data = pipeline.train_iterator(config, schema, monitoring.say)
        stack.enter_context(closing(data))
        stop = stack.enter_context(distributed.stop_signal())
        total = None
        if start:
            like = sharding.placed(shapes, where)
            state, cursor = checkpoints.restore(start, like)
            data.set_state(cursor.get("data", cursor))
            total = monitoring.unpack(cursor.get("averages", {}))
        else:
            state = jax.jit(create, out_shardings=where)(init_key)
            writer.write_texts(0, {"parameters": monitoring.overview(shapes.params)})
            writer.write_hparams(config.to_dict())
        monitoring.announce(config, manifest, shapes.params, mesh.size, start)

        # ---- The loop ----
        span, traces = profiling.span(profile, start), workdir / "profile"
        train_step = profiling.Traced(train_step, span, traces, start)
        stack.enter_context(closing(train_step))
        put = functools.partial(sharding.put, sharding=split)
        batches = pipeline.prefetch(data, put)
        show = SampleGrid(config, net, schema, workdir / "samples", writer, mesh)
        kinds = [device.device_kind for device in jax.devices()]
        mfu_per_rate = utilization.mfu_per_rate(config, kinds)
        clock = monitoring.Clock(config.data.batch, mfu_per_rate)
        starvation = monitoring.Starvation(config.data.workers)
        watch = repro.Watch(workdir, config, step_key)
        fault = jax.jit(guards.no_fault, out_shardings=replicated)()
        number, stopping = start, 0
        snapshot_every = config.ema.get("snapshot_every", 0)
        with monitoring.progress(config.train.steps, start) as bar:
            for number in range(start + 1, config.train.steps + 1):
                with clock.waiting(state.step):
                    batch, read = next(batches)
                watch.note(number, read)
                state, fault, measured = train_step(state, fault, batch, step_key)
                total = steps.merge(total, measured)
                bar.update()

                checkpoints.check()
                last = number == config.train.steps
                stopping = 0 if last else stop(number)
                due = number % config.train.save_every == 0 or last
                logging = number % config.train.log_every == 0 or due
                keeping = snapshot_every and number % snapshot_every == 0
                if logging or keeping or stopping or watch.full:
                    watch.check(fault, state.params)
                if logging:
                    scalars = monitoring.compute(total) | clock.rate(number)
                    scalars |= guards.skipped(state.optimizer)
                    writer.write_scalars(number, scalars)
                    starvation(number, scalars)
                    bar.set_postfix(loss=f"{scalars['loss']:.4f}")
                    total = None
                if keeping:
                    snapshots.save(workdir, number, state.ema, checkpoints.submit)
                if due or stopping:
                    writer.flush()
                    cursor = {"data": read.after, "averages": monitoring.pack(total)}
                    checkpoints.save(number, state, cursor)
                if stopping:
                    break
                showing = number % config.train.sample_every == 0 or last
                if showing:
                    show(number, state.ema)
                if due or showing:
                    clock.restart(number)
        checkpoints.finish()
    if distributed.leads():
        pictures.loss_curve(workdir / "loss.png", monitoring.read_metrics(workdir))
    if stopping:
        monitoring.say(f"step {number} is saved; the same command goes on from there")
        raise (
            command_line.Preempted if stopping == signal.SIGTERM else KeyboardInterrupt
        )
    monitoring.say(f"trained to step {number}; see {workdir / 'loss.png'}")


class SampleGrid:
    """The same seeds and conditions at every step: a grid of what the average makes."""

    def __init__(self, config, net, schema, folder: Path, writer, mesh):
        count = config.train.sample_count
        drawn = pipeline.read_all(config.data.folder, config.data.split, schema, count)
        rows = [schema.coarse(row) for row in schema.decode(drawn["cond"])]
        self.captions = [schema.caption(row) for row in rows]
        whole = sharding.replicated(mesh)
        where = whole if len(rows) % mesh.size else sharding.split_batch(mesh)
        seeds = np.arange(len(rows), dtype=np.uint32)
        self.asked = sharding.put_whole((seeds, schema.encode(rows)), where)
        self.guidance = sharding.put_whole(np.float32(config.sampler.guidance), whole)
        self.run = jax.jit(build.sampler(config, net, schema), out_shardings=whole)
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
