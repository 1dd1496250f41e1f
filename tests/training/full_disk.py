"""Three checkpoints where no file may be larger than those of the first two.

python -m tests.training.full_disk WORKDIR
"""

import resource
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags

from ddpm_jax import command_line
from ddpm_jax.training.checkpoint import Checkpoints
from ddpm_jax.training.state import State

LIMIT = 2**18


def state_of(step: int, size: int) -> State:
    noise = np.random.default_rng(step).normal(size=size)  # does not compress
    return State(jnp.int32(step), {"a/b": jnp.float32(noise)}, (), {})


def main() -> None:
    with Checkpoints(Path(WORKDIR), keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state_of(step, 8), {})
        checkpoints.finish()
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        checkpoints.save(3, state_of(3, LIMIT), {})
        while True:  # the training loop, which looks at every step
            checkpoints.check()


if __name__ == "__main__":
    WORKDIR = sys.argv.pop()
    command_line.run(main, __doc__, flags.FlagValues())
