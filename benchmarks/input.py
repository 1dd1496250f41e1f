"""What part of a training step on the CPU is the step, and what part its data.

    python -m benchmarks.input [--configs tiny,quickstart] [--blocks 8]

The loop of `ddpm_jax.train` (next batch, step, sums of its metrics) against the same
without the pipeline: one batch that is on the device already. Blocks of steps in turn,
each ended by waiting for the device; medians. Their ratio is the share of the time
that is spent in the step; reading threads take cores from the step as well, which
counts against them. `data_wait_share` is what the trainer would log. The images are
those of the tests, of the config's size, as PNG.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import jax
from absl import flags

from configs import quickstart, tiny
from ddpm_jax import build, command_line
from ddpm_jax.data import pipeline, records
from ddpm_jax.training import monitoring, sharding
from ddpm_jax.training import state as states
from ddpm_jax.training import step as steps
from tests.datasets import write_dataset

FLAGS = command_line.new_flags()
NAMES = flags.DEFINE_list(
    "configs", ["tiny", "quickstart"], "What to train.", flag_values=FLAGS
)
BLOCKS = flags.DEFINE_integer("blocks", 8, "Of each kind.", flag_values=FLAGS)
COUNT = 4000
CONFIGS = {"tiny": (tiny, 200), "quickstart": (quickstart, 15)}
"""Each with the steps of a block."""


def make_step(config, schema, bits: int) -> tuple[Callable, states.State]:
    net, optimizer = build.model(config, schema), build.optimizer(config)
    decays = build.ema_rates(config)
    to_x = functools.partial(steps.to_unit, bits=bits)
    step = steps.make_step(
        build.training_loss(config, net, schema, to_x), optimizer, decays
    )
    state = states.create(net.init(jax.random.key(0)), optimizer, decays)
    return jax.jit(step, donate_argnums=0), state


def measure(config, count: int) -> Iterator[str]:
    schema = build.condition_schema(config)
    bits = records.load_manifest(config.data.folder).bits
    step, state = make_step(config, schema, bits)
    key, clock = jax.random.key(1), monitoring.Clock(config.data.batch)
    split = sharding.split_batch(sharding.make_mesh())
    spent, waits = {"whole": [], "step": []}, []
    with closing(pipeline.train_iterator(config, schema)) as data:
        batches = pipeline.prefetch(
            data, functools.partial(sharding.put, sharding=split)
        )
        for block in range(BLOCKS.value + 1):
            for kind in spent:
                fixed, _ = next(batches)
                total = None
                jax.block_until_ready(state)
                clock.restart(0)
                start = time.perf_counter()
                for _ in range(count):
                    if kind == "whole":
                        with clock.waiting(state.step):
                            batch, _ = next(batches)
                    else:
                        batch = fixed
                    state, measured = step(state, batch, key)
                    total = steps.merge(total, measured)
                jax.block_until_ready((state, total))
                if block:
                    spent[kind].append((time.perf_counter() - start) / count)
                    if kind == "whole":
                        waits.append(clock.rate(count)["data_wait_share"])
    whole, inside = (statistics.median(spent[kind]) for kind in ("whole", "step"))
    yield f"{1000 * whole:.1f} ms a step, {1000 * inside:.1f} ms without its data"
    yield f"{inside / whole:.1%} of the time is the step"
    yield f"data_wait_share {statistics.median(waits):.3f}"


def main() -> None:
    for name in NAMES.value:
        module, count = build.pick(CONFIGS, name, "--configs")
        config = module.get_config()
        with tempfile.TemporaryDirectory() as folder:
            write_dataset(
                Path(folder), size=config.image_size, counts=[("train", COUNT)]
            )
            config.data.folder = folder
            for line in measure(config, count):
                print(f"{name:10} {line}", flush=True)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
