"""A made-up archive of hip and pelvis radiographs: DICOM files and labels.csv.

    python -m data_prep.phantom --out DIR --count 3000 --size 128

Every patient is invented and every picture computed from a 3-D anatomy; the same
--seed and --size give the same bytes, and a smaller --count the first of them.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from absl import app, flags
from tqdm import tqdm

from data_prep.phantom import archive

FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Folder to make; must be new or empty.")
flags.DEFINE_integer("count", 1000, "Number of pictures, 1 or more.")
flags.DEFINE_integer("seed", 0, "Seed of everything random, 0 or more.")
flags.DEFINE_integer("size", 128, "Rows and columns of each picture, 16 to 4096.")
flags.DEFINE_bool("overwrite", False, "Replace the archive that --out holds.")
flags.DEFINE_integer("workers", None, "Processes [default: the number of cores].")
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def check(out, count, seed, size, workers) -> None:
    """Raise ValueError, naming the flag and what is allowed, for a user's mistake."""
    bounds = {
        "count": (count, 1, 10**7),
        "seed": (seed, 0, 2**63),
        "size": (size, 16, 4096),
        "workers": (workers, 1, 1024),
    }
    if not out:
        raise ValueError("--out: expected a folder to make.")
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


def make(out: Path, count: int, seed: int, size: int, workers: int) -> list[dict]:
    """Write the archive, labels.csv last, and return its rows."""
    shots = archive.plan(seed, count)
    write = functools.partial(archive.write_image, str(out), seed, size)
    workers = min(workers, count)
    chunk = max(1, min(32, count // (4 * workers)))
    with pool(workers) as executor:
        results = executor.map(write, shots, chunksize=chunk)
        rows = list(tqdm(results, total=count, unit=" images", dynamic_ncols=True))
    archive.write_labels(out / "labels.csv", rows)
    return rows


def main(argv) -> None:
    if len(argv) > 1:
        raise ValueError(f"{argv[1]!r}: not a flag; see --help.")
    out, workers = FLAGS.out, FLAGS.workers
    workers = (os.cpu_count() or 1) if workers is None else workers
    check(out, FLAGS.count, FLAGS.seed, FLAGS.size, workers)
    out, start = Path(out), time.monotonic()
    prepare(out, FLAGS.overwrite)
    rows = make(out, FLAGS.count, FLAGS.seed, FLAGS.size, workers)
    people = len({row["patient_id"] for row in rows})
    views = Counter(row["view"] for row in rows)
    spread = ", ".join(f"{views[view]} {view}" for view in archive.VIEWS)
    print(
        f"{out}: {len(rows)} images of {people} patients ({spread}), "
        f"{FLAGS.size} x {FLAGS.size}, and labels.csv, "
        f"in {time.monotonic() - start:.1f} s"
    )


def _guarded(argv):
    try:
        main(argv)
    except (ValueError, OSError) as error:
        _fail(error, 1)
    except concurrent.futures.process.BrokenProcessPool:
        _fail("a worker process died, of memory perhaps: try fewer --workers.", 1)
    except KeyboardInterrupt:
        _fail("interrupted; the archive is not complete, labels.csv not written.", 130)


def _parse(argv):
    try:
        return FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()), 2)


def _fail(message, status):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    app.run(_guarded, flags_parser=_parse)
