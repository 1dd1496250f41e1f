"""The whole command `data_prep.convert`: does it use both cores, does memory stay flat?

    python -m benchmarks.command [--only scaling,memory] [--files 64]

scaling: `--step write` over `--files` raw files of 7.5 MP with one and with two
workers, in turn, less the time of the same command when all shards are finished; the
ratio is that of two workers to twice one.

memory: all steps over 1000 and over 4000 small files; the peak resident memory of the
largest of the command's processes.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.conversion import radiograph
from ddpm_jax import command_line
from tests import dicoms

FLAGS = command_line.new_flags()
ONLY = flags.DEFINE_list(
    "only", ["scaling", "memory"], "What to measure.", flag_values=FLAGS
)
FILES = flags.DEFINE_integer("files", 64, "Of 7.5 MP.", flag_values=FLAGS)
COUNTS = (1000, 4000)


def make_archive(folder: Path, pictures: list[np.ndarray], count: int) -> None:
    """`count` files and their label table; each file's first pixels are its own."""
    with (folder / "labels.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("file", "view"))
        for i in range(count):
            pixels = pictures[i % len(pictures)].copy()
            pixels[0, :2] = i // 4096, i % 4096
            name = f"{i:05d}.dcm"
            dicoms.save(folder / "archive" / name, pixels, PatientID=f"P{i}")
            writer.writerow((name, "AP"))


def convert(folder: Path, *arguments: str) -> tuple[float, int]:
    """(seconds, peak resident KiB) of one run of the command."""
    command = [
        *(sys.executable, "-m", "data_prep.convert", "--overwrite"),
        *("--dicom", folder / "archive", "--labels", folder / "labels.csv"),
        *("--out", folder / "out", *arguments),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"DDPM_JAX_KEY": "benchmark" * 4},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ValueError(f"the command ended with status {status}.")
    return time.perf_counter() - start, usage.ru_maxrss


def scaling(folder: Path) -> Iterator[str]:
    make_archive(folder, [radiograph(0)], FILES.value)
    rates = {}
    options = ("--size=1024", "--records_per_shard=4")
    for workers in (1, 2):
        shutil.rmtree(folder / "out", ignore_errors=True)
        convert(folder, *options, "--step=plan")
        step = (*options, "--step=write", f"--workers={workers}")
        whole, idle = convert(folder, *step)[0], convert(folder, *step)[0]
        rates[workers] = FILES.value / (whole - idle)
        yield f"{workers} workers  {rates[workers]:5.1f} images/s from raw 7.5 MP"
    yield f"two workers are {rates[2] / (2 * rates[1]):.0%} of twice one"


def memory(folder: Path) -> Iterator[str]:
    small = [radiograph(i)[:512, :400] for i in range(2)]
    peaks = []
    for count in COUNTS:
        place = folder / str(count)
        place.mkdir()
        make_archive(place, small, count)
        spent, peak = convert(place, "--size=256")
        peaks.append(peak)
        yield f"{count} files  {peak / 1024:5.0f} MiB at most, {spent:.0f} s"
    yield f"{COUNTS[1]} files take {peaks[1] / peaks[0]:.2f} times the memory"


MEASURES = {"scaling": scaling, "memory": memory}


def main() -> None:
    for name in ONLY.value:
        if name not in MEASURES:
            raise ValueError(f"--only {name}: expected some of {', '.join(MEASURES)}.")
        with tempfile.TemporaryDirectory() as folder:
            for line in MEASURES[name](Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
