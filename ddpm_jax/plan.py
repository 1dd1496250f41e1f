r"""What a config costs on devices that need not be there, before any is rented.

    python -m ddpm_jax.plan --config configs/pelvis_1024.py --device a100-80g --count 8

Parameters, FLOPs, and the memory of the real training step as its compiler accounts for
it; then speed, device-hours and sampling time at a share of the peak that is assumed,
not measured. Memory is by XLA's CPU backend, unless --target describes a GPU or
--topology names a TPU slice. On 2 CPU cores pelvis_1024 takes under a minute by the CPU
backend or for GPUs; for TPUs the compiler takes many minutes.
"""

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ddpm_jax import build, command_line
from ddpm_jax.planner import flops, memory, program, report, targets
from ddpm_jax.planner.devices import DEVICES
from ddpm_jax.training import phases, sharding

FLAGS = command_line.new_flags()
CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file under configs/; --config.a.b=value changes one key of it.",
    flag_values=FLAGS,
)
DEVICE = flags.DEFINE_string(
    "device", None, f"One of {', '.join(sorted(DEVICES))}.", flag_values=FLAGS
)
COUNT = flags.DEFINE_integer(
    "count", 1, "How many of them.", lower_bound=1, flag_values=FLAGS
)
BATCH = flags.DEFINE_integer(
    "batch",
    None,
    "Images a step on all devices; default: the config's.",
    lower_bound=1,
    flag_values=FLAGS,
)
PHASE = flags.DEFINE_integer(
    "phase",
    None,
    "Of config.phases, the first 0; default: the last.",
    lower_bound=0,
    flag_values=FLAGS,
)
SHARE = flags.DEFINE_float(
    "share",
    0.40,
    "Share of the peak that training and sampling reach: an assumption.",
    lower_bound=0.001,
    upper_bound=1.0,
    flag_values=FLAGS,
)
IMAGES = flags.DEFINE_integer(
    "images",
    40_000_000,
    "Images seen in training.",
    lower_bound=1,
    flag_values=FLAGS,
)
TARGET = flags.DEFINE_string(
    "target",
    None,
    "A GPU as XLA describes it (text proto): compile for it, whether there or not.",
    flag_values=FLAGS,
)
TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "A TPU slice, e.g. v5e:4x4, in place of --device and --count: compile for it.",
    flag_values=FLAGS,
)
JSON = flags.DEFINE_string("json", None, "A file to make.", flag_values=FLAGS)
MARKDOWN = flags.DEFINE_string(
    "markdown", None, "A file to append a row of a table to.", flag_values=FLAGS
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Write --json if it exists.", flag_values=FLAGS
)


def plan(name: str, config, device: str, target: targets.Target) -> report.Plan:
    """Count, then compile the training step of `config` for `target`."""
    batch, size = config.data.batch, config.image_size
    accumulate = config.train.accumulate
    sharding.check_batch(batch, target.mesh, "config.data.batch", accumulate)
    whole = program.of_config(config)
    sampling = build.sampling(config)
    forward = program.trace_forward(whole, size)
    step = program.trace_step(whole)
    say(f"traced; compiling the training step by {target.compiler}")
    return report.Plan(
        config=name,
        size=size,
        batch=batch,
        device=device,
        count=target.mesh.size,
        share=SHARE.value,
        images=IMAGES.value,
        compiler=target.compiler,
        parameters=sum(p.size for p in whole.state.params.values()),
        forward=flops.count(forward.jaxpr),
        forward_by_xla=flops.by_xla(forward.lower()),
        step=flops.count(step.jaxpr) // batch,
        step_by_xla=flops.by_xla(step.lower()) / batch,
        sample=flops.count(program.trace_sampler(whole, config).jaxpr),
        sampler_steps=len(sampling.table.logsnr),
        guided_steps=int(sampling.guided.stop - sampling.guided.start),
        memory=memory.of_step(whole, target),
        limits=DEVICES[device],
    )


def choose(fsdp: int) -> tuple[str, targets.Target]:
    """The device and what to compile for, as the flags ask."""
    family = TOPOLOGY.value.partition(":")[0] if TOPOLOGY.value else None
    device = DEVICE.value or family
    if device is None:
        raise ValueError("--device: needed, or --topology; see --help.")
    limits = build.pick(DEVICES, device, "--device" if DEVICE.value else "--topology")
    if family not in (None, device):
        raise ValueError(f"--topology {TOPOLOGY.value}: not of --device {device}.")
    if family and limits.platform != "tpu":
        raise ValueError(f"--topology {TOPOLOGY.value}: {family} is no TPU.")
    if TARGET.value and limits.platform != "cuda":
        raise ValueError(f"--target: describes a GPU; --device {device} is none.")
    if family and FLAGS["count"].present:
        raise ValueError("--count: --topology says how many; expected one of the two.")
    targets.prepare(1 if family or TARGET.value else COUNT.value)
    if family:
        return device, targets.tpu(TOPOLOGY.value, fsdp)
    if TARGET.value:
        return device, targets.cuda(TARGET.value, COUNT.value, fsdp)
    return device, targets.virtual(COUNT.value, fsdp)


def main():
    command_line.require(FLAGS, "config")
    path = config_flags.get_config_filename(FLAGS["config"])
    if not Path(path).is_file():
        raise ValueError(f"--config {path}: no such file; see configs/.")
    if JSON.value and Path(JSON.value).exists() and not OVERWRITE.value:
        raise ValueError(f"--json {JSON.value}: exists; expected --overwrite.")
    for flag, out in (("json", JSON.value), ("markdown", MARKDOWN.value)):
        if out and (Path(out).is_dir() or not Path(out).absolute().parent.is_dir()):
            raise ValueError(
                f"--{flag} {out}: expected a file in a folder that exists."
            )
    build.within("--share", SHARE.value, 0.001, 1)
    config = phase_of(CONFIG.value)
    device, target = choose(config.train.fsdp)
    config.data.batch = BATCH.value or config.data.batch
    made = plan(Path(path).stem, config, device, target)
    print(report.table(made))
    write(made)


def phase_of(config):
    """The config of --phase."""
    found = phases.of(config)
    index = len(found) - 1 if PHASE.value is None else PHASE.value
    if index >= len(found):
        raise ValueError(f"--phase {index}: expected 0 to {len(found) - 1}.")
    if len(found) > 1:
        first, last = found[index].first, found[index].last
        say(f"phase {index}, steps {first} to {last}; --phase plans another")
    return found[index].config


def write(made: report.Plan) -> None:
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(made.to_json(), indent=2) + "\n")
    if MARKDOWN.value:
        path = Path(MARKDOWN.value)
        head = "" if path.exists() else report.HEADER
        with open(path, "a") as file:
            file.write(head + report.markdown_row(made))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
