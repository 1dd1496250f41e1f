"""Cohorts that are killed at random moments, without the seconds of an import each.

    python -m tests.outputs.kills SAMPLER FOLDER COUNT KILLS SEED

Samples into FOLDER/whole undisturbed, then into FOLDER/killed, where SIGKILL comes
KILLS times, and prints the exit statuses as JSON. Each attempt is a fork of this
process, in which modules are imported and no device is in use yet.
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

from ddpm_jax import command_line, sample
from tests.training.kills import PATIENCE, ended


def arguments(sampler: str, table: str, out: Path) -> list[str]:
    return [
        *("sample", f"--sampler={sampler}", f"--conditions={table}", f"--out={out}"),
        *("--format=png,dicom,records", "--records_per_shard=24"),
        *("--splits=train=0.8,test=0.2", "--uid_root=1.2.3"),
    ]


def start(argv: list[str], log: Path) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = argv
        command_line.run(sample.main, sample.__doc__, sample.FLAGS)
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def made(out: Path) -> int:
    return sum(1 for _ in out.rglob("*")) if out.exists() else 0


def main(sampler: str, folder: str, count: str, kills: str, seed: str) -> None:
    jax.config.update("jax_compilation_cache_dir", f"{folder}/compiled")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    rng, folder = np.random.default_rng(int(seed)), Path(folder)
    table = folder / "cohort.csv"
    views = rng.choice(["AP", "lateral", "oblique", ""], int(count))
    ages = rng.integers(20, 90, int(count))
    rows = [f"{view},{age}" for view, age in zip(views, ages, strict=True)]
    table.write_text("\n".join(["view,age", *rows, rows[0]]) + "\n")
    whole, killed = folder / "whole", folder / "killed"
    log = folder / "log"
    assert ended(start(arguments(sampler, table, whole), log), PATIENCE) == 0
    share, found = made(whole) / (int(kills) + 1), []
    for _ in range(int(kills)):
        process, before = start(arguments(sampler, table, killed), log), made(killed)
        wanted = before + rng.integers(1, max(2, int(share)))
        until = time.monotonic() + PATIENCE
        while made(killed) < wanted:
            assert time.monotonic() < until, "no progress"
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        found.append(ended(process, PATIENCE))
    found.append(ended(start(arguments(sampler, table, killed), log), PATIENCE))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
