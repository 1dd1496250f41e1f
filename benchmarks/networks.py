"""A training step of the networks at 64 x 64 on CPU, against diffusers' U-Net.

    python -m benchmarks.networks [--peer_python /path/to/python] [--repeats 10]

One step is forward, backward and AdamW in float32 on a batch, conditioned on one
label, no dropout. The three networks have the same floating-point operations within
3 % (matrix products and convolutions, padding included, 2 a multiply-accumulate). Each
runs in a process of its own; they take their steps in turn, so that a busy machine is
busy for all. Times are wall-clock medians.

compiled: XLA's own account of the step, arguments, results and temporaries together.
resident: the most that the process held, less what it held before the network was
built; for ours with the memory that compilation took.

The peer's interpreter needs torch and diffusers, best in an environment of its own:
`python -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.13.0 diffusers`.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from absl import flags

from ddpm_jax import command_line

FLAGS = command_line.new_flags()
PEER = flags.DEFINE_string(
    "peer_python", None, "An interpreter with torch and diffusers.", flag_values=FLAGS
)
REPEATS = flags.DEFINE_integer(
    "repeats", 10, "Of each step.", lower_bound=1, flag_values=FLAGS
)
BATCH = flags.DEFINE_integer(
    "batch", 16, "Images a step.", lower_bound=1, flag_values=FLAGS
)
SERVE = flags.DEFINE_string(
    "serve", None, "For the command itself: the network to run.", flag_values=FLAGS
)

SIZE = 64
NETWORKS = {
    "ruvit": dict(patch=2, channels=(128, 256, 384), down=(2, 2), up=(2, 2))
    | dict(middle=4, heads=6, emb=256),
    "unet": dict(size=SIZE, channels=(52, 96, 128, 256), blocks=2, attention=16)
    | dict(heads=4, emb=256),
}
PEER_CODE = """
import json, resource, sys, time
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode
size, batch = map(int, sys.argv[1:])
def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = resident()
plain, attention = 2 * ("DownBlock2D",), 2 * ("AttnDownBlock2D",)
model = UNet2DModel(
    sample_size=size, in_channels=1, out_channels=1, layers_per_block=2,
    block_out_channels=(32, 64, 128, 256), num_class_embeds=4,
    down_block_types=plain + attention,
    up_block_types=2 * ("AttnUpBlock2D",) + 2 * ("UpBlock2D",),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
z, t = torch.randn(batch, 1, size, size), torch.zeros(batch)
label = torch.ones(batch, dtype=torch.long)
def step():
    optimizer.zero_grad(set_to_none=True)
    loss = torch.mean((model(z, t, label).sample - z) ** 2)
    loss.backward()
    optimizer.step()
    return loss.item()
with FlopCounterMode(display=False) as counter, torch.no_grad():
    model(z[:1], t[:1], label[:1])
print(json.dumps({
    "operations": counter.get_total_flops(),
    "parameters": sum(p.numel() for p in model.parameters()),
}), flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    step()
    spent = time.perf_counter() - start
    print(json.dumps({"seconds": spent, "resident": resident() - before}), flush=True)
"""


def resident() -> int:
    """Bytes, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_step(net, optimizer) -> Callable:
    """(params, optimizer's state, z, logsnr, cond) to the next two and the loss."""
    import jax
    import jax.numpy as jnp
    import optax

    def loss(params, z, logsnr, cond):
        return jnp.mean((net.apply(params, z, logsnr, cond) - z) ** 2)

    def step(params, state, *inputs):
        value, grads = jax.value_and_grad(loss)(params, *inputs)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def serve(name: str, batch: int) -> None:
    """One of ours: a line about it, then a line of results for each line read."""
    import jax
    import jax.numpy as jnp
    import optax

    from ddpm_jax import build
    from ddpm_jax.conditions.presets import PELVIS
    from ddpm_jax.models.functional import network
    from ddpm_jax.planner import flops

    before = resident()
    schema = PELVIS.select(("view",))
    make = build.pick(build.MODELS, name, "--serve")
    net = network(lambda rngs: make(schema, **NETWORKS[name], rngs=rngs))
    optimizer = optax.adamw(1e-4)
    params = net.init(jax.random.key(0))
    state = optimizer.init(params)
    z = jax.random.normal(jax.random.key(1), (batch, SIZE, SIZE, 1))
    inputs = z, jnp.zeros(batch), {"view": jnp.ones(batch, jnp.int32)}
    one = jax.tree.map(lambda a: a[:1], inputs)
    step = jax.jit(make_step(net, optimizer), donate_argnums=(0, 1))
    compiled = step.lower(params, state, *inputs).compile()
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    report(
        operations=flops.count(jax.make_jaxpr(net.apply)(params, *one)),
        parameters=sum(value.size for value in params.values()),
        compiled=held - memory.alias_size_in_bytes + memory.temp_size_in_bytes,
    )
    for _ in sys.stdin:
        start = time.perf_counter()
        params, state, value = compiled(params, state, *inputs)
        value.block_until_ready()
        spent = time.perf_counter() - start
        report(seconds=spent, resident=resident() - before)


def report(**fields) -> None:
    print(json.dumps(fields), flush=True)


def start(command: list[str]) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)


def read(name: str, process: subprocess.Popen) -> dict:
    line = process.stdout.readline()
    if not line:
        raise ValueError(f"{name}: its process ended with status {process.wait()}.")
    return json.loads(line)


def take_turns(processes: dict[str, subprocess.Popen], repeats: int) -> dict[str, dict]:
    """What each says of itself, its median step and its memory; 2 steps of warm-up."""
    found = {name: read(name, process) for name, process in processes.items()}
    times = {name: [] for name in processes}
    for _ in range(repeats + 2):
        for name, process in processes.items():
            process.stdin.write("step\n")
            process.stdin.flush()
            answer = read(name, process)
            times[name].append(answer["seconds"])
            found[name]["resident"] = answer["resident"]
    for name in processes:
        found[name]["seconds"] = statistics.median(times[name][2:])
    return found


def line(name: str, found: dict) -> str:
    compiled = found.get("compiled")
    return (
        f"{name:10} {found['operations'] / 1e9:5.2f} GF forward an image, "
        f"{found['parameters'] / 1e6:5.1f}M parameters   "
        f"{1000 * found['seconds']:6.0f} ms a step   "
        f"compiled {f'{compiled / 2**20:5.0f} MiB' if compiled else '    -    '}   "
        f"resident {found['resident'] / 2**20:5.0f} MiB"
    )


def compare() -> None:
    ours = [sys.executable, "-m", "benchmarks.networks", f"--batch={BATCH.value}"]
    processes = {name: start([*ours, f"--serve={name}"]) for name in NETWORKS}
    if PEER.value:
        command = [PEER.value, "-c", PEER_CODE, str(SIZE), str(BATCH.value)]
        processes["diffusers"] = start(command)
    found = take_turns(processes, REPEATS.value)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    for name, result in found.items():
        print(line(name, result))
    if not PEER.value:
        print("diffusers: not run, no --peer_python given; see --help.")
        return
    peer = found["diffusers"]
    for name in NETWORKS:
        ratios = [found[name][what] / peer[what] for what in ("seconds", "resident")]
        print(
            f"{name} to diffusers: {ratios[0]:.2f} of the time, {ratios[1]:.2f} of "
            "the resident memory"
        )


def main() -> None:
    if SERVE.value:
        serve(SERVE.value, BATCH.value)
    else:
        compare()


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
