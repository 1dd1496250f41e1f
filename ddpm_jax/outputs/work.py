"""One command's images, made and written by all processes."""

import os
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from ddpm_jax.data import shards
from ddpm_jax.outputs import dataset, dicom, folder, png, stream
from ddpm_jax.outputs.writers import Writers
from ddpm_jax.sources import Source
from ddpm_jax.training import distributed

THREADS = max(2, min(16, os.cpu_count() or 1))


def make(job: folder.Job, source: Source) -> stream.Clock:
    """All that is missing, each process its share; Clock says what that took.

    Returns when all processes are done; where one failed, all end.
    """
    failure = None
    try:
        clock = _make(job, source)
    except BaseException as error:  # the others wait for this process
        failure = error
    failed = distributed.count(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise ValueError(
            f"{failed} of {jax.process_count()} processes did not end their share; "
            "see what they say, then run the same command again."
        )
    return clock


def _make(job: folder.Job, source: Source) -> stream.Clock:
    clock = stream.Clock()
    batch, start = stream.spread(source, job.model.guidance, job.batch)
    mine = folder.share(job, jax.process_index(), jax.process_count())
    left = {i: kinds for i, kinds in folder.missing(job).items() if i in mine}
    parts = stream.stream(source, job.asked, list(left), start, batch, clock)
    most = 4 * max(batch, THREADS)
    with (
        tqdm(
            total=len(mine),
            initial=len(mine) - len(left),
            desc="sampling",
            unit="image",
            disable=not distributed.leads(),
        ) as bar,
        Writers(THREADS, most) as writers,
        dataset.Shards(job.out / folder.RECORDS, job.shards) as collected,
        Writers(1, most) as ordered,
    ):
        for indices, images in parts:
            for index, image in zip(indices, images, strict=True):
                made = writers.submit(write, job, index, image, left[index])
                if "records" in left[index]:
                    ordered.submit(collected.append, index, made)
            bar.update(writers.news())
        writers.drain()
        ordered.drain()
        bar.update(writers.news())
    return clock


def write(
    job: folder.Job, index: int, image: np.ndarray, kinds: tuple[str, ...]
) -> bytes | None:
    """The files of one uint16 [h, w] image; its entry where it goes to a shard."""
    shown = png.marked(image) if job.burn_in else image
    if "png" in kinds:
        content = png.encode(shown)
        shards.write_atomically(job.out / job.name(index, "png"), content)
    if "dicom" in kinds:
        content = dicom.encode(shown, job.asked[index], job.header)
        shards.write_atomically(job.out / job.name(index, "dicom"), content)
    if "records" not in kinds:
        return None
    return dataset.entry(image, job.asked[index].row, job.ids[index], job.schema)


def lead(act: Callable, verb: str) -> bool:
    """Whether what process 0 makes of `act` is true, told to all; all end where it
    fails."""
    result, failure = 0, None
    if distributed.leads():
        try:
            result = int(bool(act()))
        except (ValueError, OSError) as error:
            result, failure = 2, error
    result = distributed.agree(result)
    if failure is not None:
        raise failure
    if result == 2:
        raise ValueError(f"process 0 could not {verb} the folder; see what it says.")
    return bool(result)
