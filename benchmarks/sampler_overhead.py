"""What sampling costs beyond the network, and how long a sampler takes to load.

    python -m benchmarks.sampler_overhead [--config configs/quickstart.py] [--batch 8]

overhead: guided sampling through the parts of the loop, as runs and exported samplers
do it, against the network's own evaluations alone: as many of them in a loop that does
nothing else, at the batch and, where guidance acts, at twice the batch. Beside it the
same sampler as one program of static scans. All in turn, the least time of each, since
others may use the machine.

load: an exported sampler with parameters of the config's network, untrained, from disk
until it can sample (compilation apart), in a fresh process.
"""

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from ddpm_jax import build, command_line, runs
from ddpm_jax.export import export
from ddpm_jax.reverse import Reverse

FLAGS = command_line.new_flags()
CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/quickstart.py", "A config.", flag_values=FLAGS
)
BATCH = flags.DEFINE_integer(
    "batch", 8, "Images at a time.", lower_bound=1, flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
    "repeats", 30, "Of each measure.", lower_bound=1, flag_values=FLAGS
)
LOAD = """
import sys, time
import ddpm_jax, jax
jax.devices()
start = time.perf_counter()
sampler = ddpm_jax.load_sampler(sys.argv[1])
jax.block_until_ready(sampler.params)
print(time.perf_counter() - start)
"""


def untrained(config) -> runs.Run:
    """A run of no steps: time does not depend on what the parameters are."""
    schema = build.condition_schema(config)
    net = build.model(config, schema)
    params = net.init(jax.random.key(0))
    data = {"name": "none", "fingerprint": "none", "records": {}}
    return runs.Run(config, schema, data, net, params, 0, "0")


def seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def overhead(run: runs.Run, batch: int, repeats: int) -> str:
    config, schema = run.config, run.schema
    course = build.course(config)
    guided = course.guided[1] - course.guided[0]
    plain = course.steps - guided
    seeds, size = np.arange(batch, dtype=np.uint32), config.image_size
    cond, weight = schema.unknown(batch), float(config.sampler.guidance)
    parts = build.reverse_parts(config, run.network, schema)
    reverse = Reverse(parts, run.params, lambda steps: course, {})
    one = jax.jit(build.sampler(config, run.network, schema))
    logsnr = jnp.asarray(course.rows[:, 0])

    @jax.jit
    def network(params, image, first, stop, cond):
        def body(index, image):
            return run.network.apply(
                params, image, jnp.full(len(image), logsnr[index]), cond
            )

        return jax.lax.fori_loop(first, stop, body, image)

    def evaluations():
        for count, steps in ((batch, plain), (2 * batch, guided)):
            image = jnp.zeros((count, size, size, 1))
            last = network(run.params, image, 0, steps, schema.unknown(count))
            jax.block_until_ready(last)
        return last

    calls = {
        "network": evaluations,
        "parts": functools.partial(reverse.run, seeds, cond, weight),
        "stream": lambda: list(reverse.stream(seeds, cond, weight))[-1].x_hat,
        "scan": functools.partial(one, run.params, seeds, cond, weight),
    }
    for call in calls.values():
        seconds(call)
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            least[name] = min(least[name], seconds(call))
    alone, parts, stream, scan = least.values()
    return (
        f"{course.steps} steps, {guided} guided, batch {batch}, {size} px: network "
        f"alone {alone:.3f} s; sampling {parts / alone:.3f} of it, with previews "
        f"{stream / alone:.3f}; one program of static scans {scan / alone:.3f}; parts "
        f"to that {parts / scan:.3f}"
    )


def load(run: runs.Run, repeats: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "sampler"
        export(run, out)
        size = sum(file.stat().st_size for file in out.iterdir())
        command = [sys.executable, "-c", LOAD, str(out)]
        found = [
            float(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(repeats)
        ]
    parameters = sum(p.size for p in run.params.values())
    return (
        f"{parameters / 1e6:.1f}M parameters, {size / 1e6:.1f} MB: loaded in "
        f"{statistics.median(found):.2f} s"
    )


def main():
    run = untrained(CONFIG.value)
    print(overhead(run, BATCH.value, REPEATS.value), flush=True)
    print(load(run, min(3, REPEATS.value)))


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
