"""Trainings that are killed at random moments, without the seconds of an import each.

    python -m tests.training.kills DATA FOLDER STEPS KILLS SEED

Trains configs/tiny.py undisturbed in FOLDER/whole, then in FOLDER/killed, stopped
KILLS times, and prints one line of JSON: signals and exit statuses. Each is a fork of
this process, in which modules are imported and no device is in use yet.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
from absl import flags

from configs import tiny
from ddpm_jax import command_line, train

PATIENCE = 120
"""Seconds after which a training that should end has hung."""


def config_of(data: str, steps: int):
    config = tiny.get_config()
    config.data.folder = data
    config.data.verify = False
    config.ema.widths = (0.05, 0.10)
    config.ema.snapshot_every = 10
    config.evaluation.update(every=4, count=20, epochs=6)
    config.train.update(
        steps=steps, log_every=3, save_every=5, sample_every=steps, sample_count=1
    )
    return config


def start(config, workdir: Path) -> int:
    """The process id of a training of its own."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        said = os.open(
            workdir.with_suffix(".log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT
        )
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["train"]
        command_line.run(lambda: train.train(config, workdir), "", flags.FlagValues())
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(process: int, seconds: float) -> int | None:
    """Its exit status, minus the signal that killed it, or None after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def attempt(config, workdir: Path, rng, share: float) -> tuple[str, int]:
    """Start, stop at a random moment, (signal, exit status): one in four while it
    starts, the others in the steps that make `share` of the lines, twice on average."""
    number = signal.SIGKILL if rng.uniform() < 0.5 else signal.SIGTERM
    before, process = lines(workdir), start(config, workdir)
    status = None
    if rng.uniform() < 0.25:
        status = ended(process, rng.uniform(0, 3))
    else:
        wanted = rng.integers(1, max(2, int(2 * share)))
        until = time.monotonic() + PATIENCE
        behind = before  # lines are dropped when it goes on, then made again
        while status is None and lines(workdir) < behind + wanted:
            assert time.monotonic() < until, "no progress"
            status = ended(process, 0.005)
        if status is None:
            status = ended(process, rng.uniform(0, 0.05))
    if status is None:
        os.kill(process, number)
        status = ended(process, PATIENCE)
        assert status is not None, "does not end"
        return number.name, status
    return "", status


def main(data: str, folder: str, steps: str, kills: str, seed: str) -> None:
    config = config_of(data, int(steps))
    jax.config.update("jax_compilation_cache_dir", f"{folder}/compiled")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    rng = np.random.default_rng(int(seed))
    whole, killed = Path(folder) / "whole", Path(folder) / "killed"
    assert ended(start(config, whole), 5 * PATIENCE) == 0, whole.with_suffix(".log")
    left, found = int(kills), []
    share = lines(whole) / (left + 1)
    for _ in range(left):
        found.append(attempt(config, killed, rng, share))
        print(len(found), found[-1], lines(killed), file=sys.stderr, flush=True)
    found.append(("", ended(start(config, killed), 5 * PATIENCE)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
