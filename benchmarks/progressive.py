r"""Progressive 16, 32, 64 px against 64 px from the start, at equal FLOPs.

    python -m benchmarks.progressive --data quickstart/shards --out progressive

Both are configs/quickstart.py. The direct run makes `--steps` steps of 32 images; the
progressive one spends 15 % of their FLOPs on 16 px (128 images a step), 25 % on 32 px
(64) and 60 % on 64 px (32), all at the learning rate's one course. The figure is the
mean error of v (and the training loss) on the data set's `test` split at 64 px, same
noise for all, conditions given, weights averaged; `--seeds` of each.
"""

import statistics
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags

from configs import quickstart
from ddpm_jax import build, command_line, losses, runs
from ddpm_jax.data import pipeline, records
from ddpm_jax.planner import flops, program
from ddpm_jax.train import train
from ddpm_jax.training import phases
from ddpm_jax.training import step as steps

FLAGS = command_line.new_flags()
DATA = flags.DEFINE_string("data", None, "Shards of 64 px.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", None, "The folder of the runs.", flag_values=FLAGS)
STEPS = flags.DEFINE_integer(
    "steps", 600, "Of the direct run.", lower_bound=10, flag_values=FLAGS
)
SEEDS = flags.DEFINE_integer("seeds", 2, "Of each.", lower_bound=1, flag_values=FLAGS)

SMALL = ((16, 128, 0.15), (32, 64, 0.25))
"""Size, batch, share of the FLOPs."""
DRAWS = 4


def direct(seed: int) -> ml_collections.ConfigDict:
    config = quickstart.get_config()
    config.seed = seed
    config.data.folder = DATA.value
    config.train.update(steps=STEPS.value, sample_every=10**9, save_every=STEPS.value)
    return config


def progressive(seed: int) -> ml_collections.ConfigDict:
    config = direct(seed)
    whole = STEPS.value * step_flops(config)
    entries, until, spent = [], 0, 0.0
    for size, batch, share in SMALL:
        entry = {"image_size": size, "data.batch": batch}
        part = config.copy_and_resolve_references()
        part.update_from_flattened_dict(entry)
        until += round(share * whole / step_flops(part))
        spent += share
        entries.append({"until": until} | entry)
    config.phases = tuple(entries)
    config.train.steps = until + round((1 - spent) * STEPS.value)
    return config


def step_flops(config) -> int:
    return flops.count(program.trace_step(program.of_config(config)).jaxpr)


def total_flops(config) -> float:
    return sum(
        (phase.last - phase.first + 1) * step_flops(phase.config)
        for phase in phases.of(config)
    )


def held_out(workdir: Path) -> tuple[float, float]:
    """(error of v, weighted loss) on the test split."""
    run = runs.load(workdir)
    manifest = records.load_manifest(DATA.value)
    batch = pipeline.read_all(DATA.value, "test", run.schema)
    x = steps.to_unit(batch["image"], manifest.bits)
    options = {
        "schedule": build.noise_schedule(run.config),
        "weight": build.loss_weight(run.config),
    }
    denoise = build.denoiser(run.config, run.network, run.params)

    @jax.jit
    def errors(key, x, cond):
        loss, detail = losses.diffusion_loss(key, denoise, x, cond, **options)
        return detail["v_mse"], loss

    found = []
    for draw in range(DRAWS):
        for start in range(0, len(x) - 31, 32):
            part = slice(start, start + 32)
            key = jax.random.fold_in(jax.random.key(draw), start)
            cond = {name: value[part] for name, value in batch["cond"].items()}
            found.append(errors(key, x[part], cond))
    return tuple(float(np.mean(values)) for values in zip(*found, strict=True))


def main() -> None:
    command_line.require(FLAGS, "data", "out")
    results = {}
    for seed in range(SEEDS.value):
        for make in (direct, progressive):
            config = make(seed)
            workdir = Path(OUT.value) / f"{make.__name__}_{seed}"
            start = time.perf_counter()
            train(config, workdir)
            spent = time.perf_counter() - start
            v_mse, loss = held_out(workdir)
            results.setdefault(make.__name__, []).append((v_mse, loss))
            images = sum(
                (p.last - p.first + 1) * p.config.data.batch for p in phases.of(config)
            )
            print(
                f"{make.__name__:12} seed {seed}: {total_flops(config) / 1e12:.1f} "
                f"TFLOP, {config.train.steps} steps, {images:,} images, {spent:.0f} s; "
                f"error of v {v_mse:.4f}, loss {loss:.4f}",
                flush=True,
            )
    for index, name in enumerate(("error of v", "loss")):
        means = [
            statistics.mean(pair[index] for pair in results[kind])
            for kind in ("direct", "progressive")
        ]
        print(f"{name}: progressive is {means[1] / means[0]:.3f} of direct")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
