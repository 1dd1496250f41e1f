r"""A config's training step and sampler on the devices at hand, beside what is planned.

    XLA_CLIENT_MEM_FRACTION=0.95 python -m benchmarks.device \
        --config configs/pelvis_1024.py --config.data.batch=64

The step is the one that `ddpm_jax.train` runs, on one batch of noise that stays on the
device: what is measured is the device, not the input pipeline. Times are medians over
`--repeats` rounds, after one round of warm-up. Compiled memory is the compiler's
account of the step, peak memory the runtime's of the whole.

Sampling is a batch of `--images` at guidance 1.5 by the config's own sampler, beside
the evaluations of the network that it takes, alone and as large; 1000 images follow.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from ddpm_jax import build, command_line
from ddpm_jax.planner import flops, program, utilization
from ddpm_jax.training import guards, sharding
from ddpm_jax.training import state as states

FLAGS = command_line.new_flags()
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file under configs/.", flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Rounds.", lower_bound=1, flag_values=FLAGS
)
STEPS = flags.DEFINE_integer(
    "steps", 4, "Training steps a round.", lower_bound=0, flag_values=FLAGS
)
IMAGES = flags.DEFINE_integer(
    "images", 8, "Sampled at once.", lower_bound=0, flag_values=FLAGS
)
SEEN = 40_000_000


def median_seconds(run: Callable[[], object]) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(REPEATS.value):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def conditions(schema, count: int) -> dict:
    """Rows in which nothing is left open, all alike."""
    one = {
        field.name: field.values[0] if field.kind == "categorical" else field.low
        for field in schema
    }
    return jax.tree.map(jnp.asarray, schema.encode([one] * count))


def train(config, plan: program.Program) -> None:
    mesh = sharding.make_mesh(config.train.fsdp)
    state_where, batch_where, whole = program.shardings(plan, mesh)
    start = time.perf_counter()
    step = program.trace_step(plan, mesh).lower().compile()
    compiling = time.perf_counter() - start
    optimizer, rates = build.optimizer(config), build.ema_rates(config)

    def create(key):
        return states.create(plan.net.init(key), optimizer, rates)

    key = jax.device_put(jax.random.key(0), whole)
    state = jax.jit(create, out_shardings=state_where)(key)
    fault = jax.device_put(guards.no_fault(), whole)
    image = np.random.default_rng(0).integers(
        0, 2**16, plan.batch["image"].shape, np.uint16
    )
    batch = {"image": image, "cond": conditions(plan.schema, len(image))}
    batch = jax.device_put(batch, batch_where)

    def run():
        nonlocal state, fault
        for _ in range(STEPS.value):
            state, fault, measured = step(state, fault, batch, key)
        return state, measured

    seconds = median_seconds(run) / STEPS.value
    rate, count = config.data.batch / seconds, jax.device_count()
    kinds = [device.device_kind for device in jax.devices()]
    mfu = utilization.mfu_per_rate(config, kinds)
    memory = step.memory_analysis()
    planned = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    share = "peak of this device not known"
    if mfu:
        share = f"{mfu * rate:.1%} of the bf16 peak"
    print(
        f"step      batch {config.data.batch} in {1e3 * seconds:,.0f} ms, compiled in "
        f"{compiling:.0f} s; {share}\n"
        f"          {rate:,.1f} images/s, {SEEN / rate * count / 3600:,.1f} "
        f"device-hours for {SEEN:,} images\n"
        f"          {planned / 1e9:.1f} GB compiled, "
        f"{peak / 1e9 if peak else math.nan:.1f} GB peak",
        flush=True,
    )


def sample(config, plan: program.Program) -> None:
    count = IMAGES.value
    params = jax.jit(plan.net.init)(jax.random.key(0))
    cond, weight = conditions(plan.schema, count), np.float32(1.5)
    seeds = jnp.arange(count, dtype=jnp.uint32)
    run = jax.jit(build.sampler(config, plan.net, plan.schema))
    whole = median_seconds(lambda: run(params, seeds, cond, weight))
    sampling = build.sampling(config)
    guided = len(sampling.table.logsnr[sampling.guided])
    plain = len(sampling.table.logsnr) - guided
    forward = flops.count(
        program.trace_forward(program.of_config(config), config.image_size).jaxpr
    )
    peak = utilization.peak([jax.local_devices()[0].device_kind])
    share = ""
    if peak:
        done = count * forward * (plain + 2 * guided)
        share = f", {done / whole / peak:.1%} of the bf16 peak"
    print(
        f"sampling  {count} images by {plain} plain and {guided} guided steps in "
        f"{whole:.2f} s: {1000 * whole / count:,.0f} s for 1000{share}",
        flush=True,
    )
    network = jax.jit(plan.net.apply)

    def evaluate(times: int) -> float:
        """Seconds of the network on `times` batches at once."""
        z = jax.random.normal(
            jax.random.key(1), (times * count, config.image_size, config.image_size, 1)
        )
        logsnr, rows = jnp.zeros(len(z)), conditions(plan.schema, len(z))
        return median_seconds(lambda: network(params, z, logsnr, rows))

    alone = plain * evaluate(1) + guided * evaluate(2)
    print(
        f"          {alone:.2f} s in the network's evaluations alone, "
        f"{1 - alone / whole:.1%} beside them",
        flush=True,
    )


def main() -> None:
    command_line.require(FLAGS, "config")
    config = CONFIG.value
    name = Path(config_flags.get_config_filename(FLAGS["config"])).stem
    devices = jax.devices()
    print(f"{name} on {len(devices)} x {devices[0].device_kind}, jax {jax.__version__}")
    plan = program.of_config(config, portable=False)
    if STEPS.value:
        train(config, plan)
    if IMAGES.value:
        sample(config, plan)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
