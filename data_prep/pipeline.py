"""The conversion from a folder of DICOM files to a finished data set.

Only rows of the plan travel to the workers and only outcomes come back; images stay
inside `shards.write_shard`. An engine other than this process pool has to run that
function once per shard and nothing else.
"""

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep import manifest as manifests
from data_prep import planning
from data_prep.deidentify import BITS, Ids
from data_prep.labels import read_labels
from data_prep.shards import Settings, Written, drop_rows, write_shard
from data_prep.splits import check_disjoint
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records

FEW = 200
"""Below so many files starting worker processes costs more than it saves."""
SCAN_CHUNK = 64
DECIDING = ("imagecodecs", "numpy", "pillow", "pydicom")
"""Packages whose version can change a record's bytes."""


@dataclass(frozen=True)
class Job:
    """What the command line asks for."""

    dicom: Path
    labels: Path
    out: Path
    key: bytes
    schema: Schema
    shares: Mapping[str, float]
    size: int = 256
    codec: str = "htj2k"
    name: str = "radiographs"
    records_per_shard: int = 0
    workers: int = 0
    max_conflict: float = 0.05
    audit: Path | None = None
    overwrite: bool = False


def run(job: Job) -> records.Manifest:
    """Convert, and return the manifest, which was written last. Where no file could be
    converted there is none in the folder, so that nobody trains on nothing.

    Raises ValueError for a user's mistake and for a fatal code: LEDGER, SPLIT_LEAK,
    SHARD_VERIFY.
    """
    check_job(job)
    labels = read_labels(job.labels, job.schema)
    print(labels.columns, flush=True)
    files = planning.list_files(job.dicom, leave_out=(job.labels,))
    if not files:
        raise ValueError(f"--dicom = {job.dicom}: no files in it.")
    settings = _settings(job)
    with _workers(job.workers, len(files)) as each:
        scan = functools.partial(planning.scan_file, root=job.dicom)
        ones = [1] * len(files)
        scanned = list(_progress("reading headers", ones, each(scan, files)))
        plan = _plan(job, labels, scanned)
        job.out.mkdir(parents=True, exist_ok=True)
        sweep(job.out, {shard.file for shard in plan.shards})
        write = functools.partial(write_shard, settings=settings)
        rows = [len(shard.rows) for shard in plan.shards]
        written = list(_progress("converting", rows, each(write, plan.shards)))
    written = _without_repeats(plan, settings, written)
    outcomes = [*plan.outcomes, *(o for each in written for o in each.outcomes)]
    result = _publish(job, settings, plan, written, outcomes, len(files))
    if job.audit:
        ids = Ids(job.key)
        paths = {ids.file(path): path for path in files}
        manifests.write_audit(job.audit, outcomes, paths)
    return result


def _settings(job) -> Settings:
    return Settings(
        root=job.dicom,
        out=job.out,
        schema=job.schema,
        size=job.size,
        codec=job.codec,
        key=job.key,
        versions={name: importlib.metadata.version(name) for name in DECIDING},
    )


def _plan(job, labels, scanned) -> planning.Plan:
    plan = planning.make_plan(
        scanned,
        labels,
        ids=Ids(job.key),
        shares=job.shares,
        name=job.name,
        per_shard=job.records_per_shard,
        max_conflict=job.max_conflict,
    )
    counts = Counter()
    for shard in plan.shards:
        counts[shard.split] += len(shard.rows)
    for split in job.shares:
        if not counts[split]:
            print(f"Note: no patient falls into the split {split}.")
    print(
        f"{len(scanned)} files, {counts.total()} with a label and a header to convert, "
        f"in {len(plan.shards)} shards."
    )
    return plan


def _without_repeats(plan, settings, written) -> list[Written]:
    drops = planning.drops(o for each in written for o in each.outcomes)
    return [
        drop_rows(shard, settings, each, drops)
        for shard, each in zip(plan.shards, written, strict=True)
    ]


def _publish(job, settings, plan, written, outcomes, listed):
    by_split = {}
    for shard, each in zip(plan.shards, written, strict=True):
        by_split.setdefault(shard.split, []).append(each)
    check_disjoint(
        {
            split: [o.patient_key for w in members for o in w.outcomes]
            for split, members in by_split.items()
        }
    )
    ledger = manifests.make_ledger(listed, outcomes, plan.labels)
    result = manifests.make_manifest(
        job.name, job.shares, by_split, ledger, settings, BITS
    )
    if faults := manifests.check_ledger(result):
        raise ValueError(faults[0])
    manifests.write_rejected(outcomes, job.out)
    if ledger["written"]:
        manifests.publish(result, by_split, job.out)
    return result


def check_job(job: Job) -> None:
    """ValueError for what cannot work, before anything is read or written."""
    if not job.dicom.is_dir():
        raise ValueError(f"--dicom = {job.dicom}: no such folder.")
    if job.out.resolve().is_relative_to(job.dicom.resolve()):
        raise ValueError(
            f"--out = {job.out} lies inside --dicom = {job.dicom}; expected it "
            "elsewhere."
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", job.name):
        raise ValueError(
            f"--name = {job.name!r}: expected small letters, digits and _."
        )
    if job.audit and job.audit.resolve().is_relative_to(job.out.resolve()):
        raise ValueError(
            f"--audit = {job.audit} lies inside --out = {job.out}; expected it "
            "elsewhere: it says which file each record came from."
        )
    if job.audit and job.audit.exists() and not manifests.is_audit(job.audit):
        raise ValueError(
            f"--audit = {job.audit}: there already, and no earlier map of this program."
        )
    if job.audit and not job.audit.parent.is_dir():
        raise ValueError(f"--audit = {job.audit}: no folder {job.audit.parent}.")
    if not job.out.exists() or job.overwrite:
        return
    if not job.out.is_dir():
        raise ValueError(f"--out = {job.out}: there already, and no folder.")
    if (job.out / records.MANIFEST).exists():
        raise ValueError(
            f"--out = {job.out}: a finished data set; expected a new folder, or "
            "--overwrite to make it anew."
        )
    if any(not _ours(path.name) for path in job.out.iterdir()):
        raise ValueError(
            f"--out = {job.out}: holds other files; expected a new or empty folder, "
            "or --overwrite to write beside them."
        )


def _ours(file: str) -> bool:
    """Whether a conversion, finished or not, leaves files of this name."""
    shard = r"[a-z0-9_]+-[a-z0-9_]+\.array_record-\d{5}-of-\d{5}(\.json)?"
    beside = r"manifest\.json|features\.json|dataset_info\.json|rejected\.csv"
    labels = r"[a-z0-9_]+\.labels\.txt"
    return bool(re.fullmatch(rf"({shard}|{beside}|{labels})(\.tmp)?", file))


def sweep(out: Path, planned: set[str]) -> None:
    """Remove what earlier runs left and this one does not continue."""
    kept = planned | {f"{file}.json" for file in planned}
    for path in out.iterdir():
        if _ours(path.name) and path.name not in kept:
            path.unlink()


@contextlib.contextmanager
def _workers(count: int, files: int) -> Iterator[Callable]:
    """A `map` over `count` processes, in order; in this one where that is quicker."""
    count = count or (os.cpu_count() or 1 if files >= FEW else 1)
    if count == 1:
        yield map
        return
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),  # Ctrl-C ends them, in silence
    )
    try:
        yield lambda function, items: pool.map(
            function,
            items,
            chunksize=SCAN_CHUNK if len(items) > SCAN_CHUNK * count else 1,
        )
    except BrokenProcessPool:
        raise ValueError(
            "a worker process died, killed by a file or for lack of memory; run the "
            "same command again: finished shards are kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _progress(title, weights, results):
    """`results` one by one, with a bar that counts the files each stands for."""
    with tqdm(total=sum(weights), desc=title, unit="file") as bar:
        for weight, result in zip(weights, results, strict=True):
            bar.update(weight)
            yield result
