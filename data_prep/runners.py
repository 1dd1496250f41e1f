"""Where shards are written: threads here, each with a child, or a Beam runner.

Whatever runs it, the work is `shards.write_shard`, once for each file name.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from data_prep import plans, shards
from data_prep.job import LOCAL
from data_prep.plans import Saved

A, B = TypeVar("A"), TypeVar("B")


class _Stopped(Exception):
    """Another thread has failed, or the user interrupted."""


@contextlib.contextmanager
def mapping(workers: int) -> Iterator[Callable[[Callable[[A], B], Iterable[A]], list]]:
    """A `map`, in order, over threads (0: one a core), each of which drives a child.

    The parsing, decoding and resizing is done by the children; here, only codecs and
    files that let go of Python's lock.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def write(plan: Saved, files: Sequence[str], runner: str, options, workers: int):
    """Write the shards `files` of a plan, or find them finished."""
    total = sum(map(plan.count, files))
    with tqdm(total=total, desc="converting", unit="file") as bar:
        if runner == LOCAL:
            _write_here(plan, files, workers, bar)
        else:
            _write_by_beam(plan, files, runner, options, bar)


def _write_here(plan, files, workers, bar):
    stop, lock = threading.Event(), threading.Lock()

    def advance():
        if stop.is_set():
            raise _Stopped
        with lock:
            bar.update()

    def one(file):
        shards.write_shard(plan.shard(file), plan.settings, advance)

    with mapping(workers) as each:
        try:
            for _ in each(one, files):
                pass
        finally:
            stop.set()


def _write_by_beam(plan, files, runner, options, bar):
    from data_prep import beam

    with _watching(plan, files, bar):
        beam.write(plan.private, files, runner, options)


@contextlib.contextmanager
def _watching(plan: Saved, files: Sequence[str], bar: tqdm) -> Iterator[None]:
    """Moves `bar` as sidecars of shards appear, wherever those are written."""
    done, left = threading.Event(), set(files)

    def look():
        for file in sorted(left):
            if (plan.settings.out / f"{file}{shards.SIDECAR}").exists():
                left.discard(file)
                bar.update(plan.count(file))

    def watch():
        while not done.wait(1):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()


def write_one(private: str, file: str, key: bytes | None = None) -> int:
    """One shard of the plan in `private`; its rows. What a remote worker runs."""
    plan = plans.load(Path(private), key)
    shards.write_shard(plan.shard(file), plan.settings)
    return plan.count(file)
