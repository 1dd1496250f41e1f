"""20 steps of configs/tiny.py on this process's share of the devices.

    python -m tests.training.layouts DATA WORKDIR FSDP STEPS

Small arrays are split as well. One line of JSON at the end: how often the step was
traced, and the kinds of collectives in the compiled step with their number.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import jax

from configs import tiny
from ddpm_jax import train
from ddpm_jax.planner import program
from ddpm_jax.training import distributed, sharding
from ddpm_jax.training import step as steps

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)


def collectives(config, mesh) -> Counter:
    step = program.trace_step(program.of_config(config), mesh)
    return Counter(COLLECTIVE.findall(step.lower().compile().as_text()))


def main(data: str, workdir: str, fsdp: str, count: str) -> None:
    sharding.LEAST_SPLIT = 16
    distributed.initialize()
    config = tiny.get_config()
    config.data.folder = data
    config.optimizer.decay = "constant"  # the same for any number of steps
    config.train.update(
        fsdp=int(fsdp), steps=int(count), log_every=1, save_every=10, sample_every=20
    )
    config.evaluation.update(every=10, count=24, epochs=6)
    traced, make_step = [], steps.make_step

    def counting(*args):
        step = make_step(*args)

        def traced_step(*args):
            traced.append(None)
            return step(*args)

        return traced_step

    steps.make_step = counting
    train.train(config, Path(workdir))
    times = len(traced)
    found = {}
    if jax.process_count() == 1:
        found = collectives(config, sharding.make_mesh(int(fsdp)))
    if distributed.leads():
        print(json.dumps({"traced": times, "collectives": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
