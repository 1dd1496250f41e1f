"""A made-up archive of hip and pelvis radiographs: DICOM files and labels.csv.

    python -m data_prep.phantom --out DIR --count 3000 --size 128

Every patient is invented and every picture computed from a 3-D anatomy; the same
--seed, --size and --prosthesis give the same bytes, and a smaller --count the first of
them.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_prep.phantom import archive
from data_prep.phantom.patient import REPLACED
from ddpm_jax import command_line

FLAGS = command_line.new_flags()
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)
COUNT = flags.DEFINE_integer("count", 1000, "Number of images.", flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Seed of all that is random.", flag_values=FLAGS)
SIZE = flags.DEFINE_integer(
    "size", 128, "Rows and columns of each image, 16 to 4096.", flag_values=FLAGS
)
PROSTHESIS = flags.DEFINE_float(
    "prosthesis",
    REPLACED,
    "Share of hips with a prosthesis; few make a minority.",
    flag_values=FLAGS,
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace the archive in --out.", flag_values=FLAGS
)
WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes; default: one a core.", flag_values=FLAGS
)
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def check(count, seed, size, workers, prosthesis) -> None:
    """Raise ValueError, naming the flag and what is allowed, for a user's mistake."""
    bounds = {
        "count": (count, 1, 10**7),
        "seed": (seed, 0, 2**63),
        "size": (size, 16, 4096),
        "workers": (workers, 1, 1024),
        "prosthesis": (prosthesis, 0, 1),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise ValueError(f"--{name} {value}: expected {low} to {high}.")


def prepare(out: Path, overwrite: bool) -> None:
    """Make `out`; of an archive already there, with `overwrite`, take away our own."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, expected a folder.")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise ValueError(f"--out {out}: not empty; name another or --overwrite.")
        (out / "labels.csv").unlink(missing_ok=True)
        shutil.rmtree(out / "images", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def pool(workers: int):
    """Fresh one-threaded processes; on an error or Ctrl-C nothing queued is begun."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    context = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def make(
    out: Path, count: int, seed: int, size: int, workers: int, prosthesis: float
) -> list[dict]:
    """Write the archive, labels.csv last, and return its rows."""
    shots = archive.plan(seed, count)
    write = functools.partial(archive.write_image, str(out), seed, size, prosthesis)
    workers = min(workers, count)
    chunk = max(1, min(32, count // (4 * workers)))
    with pool(workers) as executor:
        results = executor.map(write, shots, chunksize=chunk)
        rows = list(
            tqdm(results, total=count, desc="drawing", unit="image", dynamic_ncols=True)
        )
    archive.write_labels(out / "labels.csv", rows)
    return rows


def main() -> None:
    command_line.require(FLAGS, "out")
    count, size = COUNT.value, SIZE.value
    workers = (os.cpu_count() or 1) if WORKERS.value is None else WORKERS.value
    prosthesis = PROSTHESIS.value
    check(count, SEED.value, size, workers, prosthesis)
    out, start = Path(OUT.value), time.monotonic()
    prepare(out, OVERWRITE.value)
    try:
        rows = make(out, count, SEED.value, size, workers, prosthesis)
    except concurrent.futures.process.BrokenProcessPool:
        raise ValueError(
            "a worker process died, of memory perhaps: try fewer --workers."
        ) from None
    people = len({row["patient_id"] for row in rows})
    views = Counter(row["view"] for row in rows)
    spread = ", ".join(f"{views[view]} {view}" for view in archive.VIEWS)
    print(
        f"{out}: {len(rows)} images of {people} patients ({spread}), "
        f"{size} x {size}, and labels.csv, in {time.monotonic() - start:.1f} s"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
