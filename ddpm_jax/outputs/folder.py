"""The folder of a command: what is to be in it, what is missing, and its end.

`000000.png`, `000000.dcm` and the shards in
`records/` are whole where they have their names; `manifest.csv` comes last. Whose the
folder is, is for `claim.py`.
"""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom

from ddpm_jax import __version__, pictures
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import shards
from ddpm_jax.outputs import dataset, dicom, png
from ddpm_jax.outputs.requests import Asked, Model

FORMATS = ("png", "dicom", "records")
SUFFIXES = {"png": ".png", "dicom": ".dcm"}
MANIFEST, SHEET, RECORDS = "manifest.csv", "contact_sheet.png", "records"
MOST_ON_SHEET = 64
ROWS = "rows, seeds and prompts"


@dataclasses.dataclass(frozen=True)
class Job:
    """All that decides the bytes in `out`. `kind`: run or sampler, whose programs may
    round otherwise."""

    out: Path
    asked: Sequence[Asked]
    schema: Schema
    size: int
    model: Model
    kind: str
    batch: int
    formats: tuple[str, ...] = ("png",)
    burn_in: bool = False
    uid_root: str = ""
    shares: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"train": 1}
    )
    per_shard: int = 512

    @property
    def header(self) -> dicom.Header:
        return dicom.Header(self.schema, self.model, self.uid_root, self.burn_in)

    @functools.cached_property
    def ids(self) -> list[dataset.Ids]:
        return dataset.ids(self.asked, self.model)

    @functools.cached_property
    def shards(self) -> list[dataset.ShardPlan]:
        """None but where records are asked for."""
        if "records" not in self.formats:
            return []
        return dataset.plan(self.ids, self.shares, self.per_shard)

    def name(self, index: int, kind: str) -> str:
        return f"{index:06d}{SUFFIXES[kind]}"

    def request(self) -> dict:
        """What must be the same for another command to go on, in words for people."""
        rows = [[*one.row.items(), one.seed, one.prompt] for one in self.asked]
        whole = {
            "ddpm_jax": __version__,
            "model": self.model.sha256,
            "taken from": self.kind,
            "--guidance": self.model.guidance,
            "--steps": self.model.steps,
            "--batch": self.batch,
            "--format": list(self.formats),
            "--burn_in": self.burn_in,
            "number of images": len(self.asked),
            ROWS: _digest(rows),
        }
        if "dicom" in self.formats:
            whole["--uid_root"] = self.uid_root
        if "records" in self.formats:
            whole["--splits"] = dict(self.shares)
            whole["--records_per_shard"] = self.per_shard
        return json.loads(json.dumps(whole))


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def missing(job: Job) -> dict[int, tuple[str, ...]]:
    """What is still to be made: {index: formats}, in the order in which to make it."""
    there = {entry.name for entry in os.scandir(job.out)}
    wanted = [kind for kind in job.formats if kind in SUFFIXES]
    left = {i: [k for k in wanted if job.name(i, k) not in there] for i in order(job)}
    for shard in job.shards:
        if not dataset.finished(job.out / RECORDS, shard):
            for index in shard.rows:
                left[index].append("records")
    return {index: tuple(kinds) for index, kinds in left.items() if kinds}


def order(job: Job) -> list[int]:
    """Shard by shard where there are shards."""
    if job.shards:
        return [index for shard in job.shards for index in shard.rows]
    return list(range(len(job.asked)))


def share(job: Job, process: int, count: int) -> set[int]:
    """The images of one of `count` processes: every `count`-th shard, or without
    shards every `count`-th batch."""
    whole = range(len(job.asked))
    parts = [shard.rows for shard in job.shards] or [
        whole[i : i + job.batch] for i in range(0, len(whole), job.batch)
    ]
    return {index for part in parts[process::count] for index in part}


def finish(job: Job) -> None:
    """The data set's manifest, the contact sheet and, last, manifest.csv."""
    if job.shards:
        settings = {
            "model_sha256": job.model.sha256,
            "guidance": job.model.guidance,
            "steps": job.model.steps,
        }
        place = job.out / RECORDS
        made = (job.schema, job.size, settings, job.shares)
        dataset.publish(place, job.shards, *made)
    shown = range(min(MOST_ON_SHEET, len(job.asked)))
    captions = [
        f"{job.schema.caption(job.asked[i].row)}; seed {job.asked[i].seed}"
        for i in shown
    ]
    images = np.stack([read(job, i) for i in shown])
    buffer = io.BytesIO()
    pictures.contact_sheet(images, captions).save(buffer, "PNG")
    shards.write_atomically(job.out / SHEET, buffer.getvalue())
    shards.write_atomically(job.out / MANIFEST, manifest(job))


def read(job: Job, index: int) -> np.ndarray:
    """The uint16 [h, w] image of `index`, from whichever file there is."""
    if "png" in job.formats:
        return png.decode((job.out / job.name(index, "png")).read_bytes())
    if "dicom" in job.formats:
        return pydicom.dcmread(job.out / job.name(index, "dicom")).pixel_array
    shard = next(each for each in job.shards if index in each.rows)
    return dataset.read(job.out / RECORDS, shard, shard.rows.index(index))


def manifest(job: Job) -> str:
    """One line an image: file, seed, conditions, prompt, and what made it."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    uids, records = "dicom" in job.formats, "records" in job.formats
    writer.writerow(
        ["file", "seed", *job.schema.names, "prompt"]
        + ["model_sha256", "guidance", "steps"]
        + ["sop_instance_uid"] * uids
        + ["record_id"] * records
    )
    files = [kind for kind in FORMATS if kind in job.formats]
    shard_of = {row: each.file for each in job.shards for row in each.rows}
    for index, one in enumerate(job.asked):
        name = (
            f"{RECORDS}/{shard_of[index]}"
            if files == ["records"]
            else job.name(index, files[0])
        )
        values = ["" if value is None else value for value in one.row.values()]
        writer.writerow(
            [name, one.seed, *values, one.prompt, *job.model]
            + ([dicom.instance_uid(one, job.header)] if uids else [])
            + ([job.ids[index].record.hex()] if records else [])
        )
    return table.getvalue()
