"""A cohort from a small sampler: does the device wait, does memory grow?

    python -m benchmarks.sampling [--runs "tiny:1000:png,tiny:5000:png dicom"]

For each run `config:count:formats`: trains the config for two steps, exports it, and
runs `python -m ddpm_jax.sample` on a table of `count` rows, in a process of its own.
The share of time in which the device computed, from the first batch's start on, is
what the command says of itself; memory is the process's peak resident set. On a CPU
the writing threads take cores from the device. Images of `tiny` are as small as they
get (16 px, 4 steps), so that all that is not the network counts most.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from configs import quickstart, tiny
from ddpm_jax import command_line, runs
from ddpm_jax.export import export
from ddpm_jax.train import train
from tests.datasets import write_dataset

FLAGS = command_line.new_flags()
RUNS = flags.DEFINE_list(
    "runs",
    [
        *("tiny:1000:png", "tiny:5000:png"),
        *("tiny:1000:png dicom records", "tiny:5000:png dicom records"),
        "quickstart:200:png dicom records",
    ],
    "config:count:formats, formats with blanks between.",
    flag_values=FLAGS,
)
CONFIGS = {"tiny": tiny, "quickstart": quickstart}


def make_sampler(name: str, folder: Path) -> Path:
    """The sampler of a config after two steps, made once."""
    place = folder / name
    if place.exists():
        return place / "sampler"
    config = CONFIGS[name].get_config()
    place.mkdir()
    config.data.folder = str(write_dataset(place, size=config.image_size))
    config.train.steps = config.train.save_every = config.train.sample_every = 2
    train(config, place / "run")
    export(runs.load(place / "run"), place / "sampler")
    return place / "sampler"


def sample(sampler: Path, table: Path, out: Path, formats: str) -> tuple[str, int]:
    """(what the command says of its time, peak resident KiB)."""
    command = [
        *(sys.executable, "-m", "ddpm_jax.sample", f"--sampler={sampler}"),
        *(f"--conditions={table}", f"--out={out}", f"--format={formats}"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    said = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f"the command ended with status {process.returncode}.")
    return re.search(r"\d+ images in .+ s: .+", said).group(), usage.ru_maxrss


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for index, run in enumerate(RUNS.value):
            name, count, formats = run.split(":")
            sampler = make_sampler(name, folder)
            table, out = folder / "cohort.csv", folder / str(index)
            rows = (f"AP,{20 + i % 70}" for i in range(int(count)))
            table.write_text("\n".join(["view,age", *rows]) + "\n")
            said, peak = sample(sampler, table, out, formats.replace(" ", ","))
            print(f"{run}: {said}; {peak / 1024:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
