"""The folder of a command: begun once, gone on with by the same command, ended by its
manifest.csv.

`request.json` says what was asked; `000000.png`, `000000.dcm` and the shards in
`records/` are whole where they have their names; `manifest.csv` comes last.
"""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
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
REQUEST, MANIFEST, SHEET, RECORDS = (
    *("request.json", "manifest.csv", "contact_sheet.png"),
    "records",
)
MOST_ON_SHEET = 64
ROWS = "rows, seeds and prompts"
OURS = re.compile(r"([0-9]{6,}\.(png|dcm)|contact_sheet\.png|manifest\.csv)")
SHARDS = re.compile(
    rf"{dataset.NAME}-[a-z0-9_]+\.array_record-\d{{5}}-of-\d{{5}}(\.json)?"
    r"|features\.json|dataset_info\.json|manifest\.json"
)
TEMPORARY = re.compile(r"(.+)\.[0-9a-f]+-[0-9a-f]+\.tmp")


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


def begin(job: Job, overwrite: bool) -> bool:
    """Make the folder, or go on in it; whether it is finished already.

    ValueError where something else is there. `overwrite` makes it anew, unless it is
    the same command and was not finished; it removes what the request.json there asked
    for and nothing else, and is refused where it would write over another's file.
    """
    out, now = job.out, job.request()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: a file; expected a folder.")
    before = _request(out)
    same, whole = before == now, (out / MANIFEST).exists()
    if same and whole and not overwrite:
        return True
    if not same and not overwrite:
        _refuse(out, before, now)
    if not same:
        _keep_foreign(job, before)
    if before is not None and (not same or whole):
        _clear(out, before)
    out.mkdir(parents=True, exist_ok=True)
    if job.shards:
        (out / RECORDS).mkdir(exist_ok=True)
    for folder in (out, out / RECORDS):
        _remove(folder, lambda name: _is_ours(TEMPORARY.sub(r"\1", name), name))
    if not same or whole:
        shards.write_atomically(out / REQUEST, json.dumps(now, indent=1) + "\n")
    return False


def _request(out: Path) -> dict | None:
    """What the command before this one was asked for; None where there was none."""
    try:
        found = json.loads((out / REQUEST).read_text())
        known = type(found["number of images"]) is int and list(found["--format"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"{out / REQUEST}: not as this command writes it; expected another --out."
        )
    return found


def _made_by(before: dict | None) -> Callable[[str], bool]:
    """Whether a name in --out is one that the command before this one wrote."""
    count = before["number of images"] if before else 0
    suffixes = [SUFFIXES.get(kind) for kind in before["--format"]] if before else []

    def made(name: str) -> bool:
        if not OURS.fullmatch(name) or before is None:
            return False
        stem, suffix = os.path.splitext(name)
        if not stem.isdecimal():
            return True
        return suffix in suffixes and stem == f"{int(stem):06d}" and int(stem) < count

    return made


def _keep_foreign(job: Job, before: dict | None) -> None:
    """ValueError where this command would take another's file for its own."""
    writes, made = _made_by(job.request()), _made_by(before)
    names = [e.name for e in os.scandir(job.out)] if job.out.is_dir() else []
    foreign = [name for name in names if writes(name) and not made(name)]
    if job.shards and (before is None or "records" not in before["--format"]):
        place = job.out / RECORDS
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            foreign.append(RECORDS)
    if foreign:
        raise ValueError(
            f"--out {job.out}: {min(foreign)} is there and was not made by the command "
            "that request.json tells of; expected another folder."
        )


def _refuse(out, before, now):
    if before is None:
        if out.exists() and any(out.iterdir()):
            raise ValueError(
                f"--out {out}: not empty; expected a new folder or --overwrite."
            )
        return
    names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
    differing = "; ".join(
        n if n == ROWS else f"{n}: {before.get(n)!r} -> {now.get(n)!r}" for n in names
    )
    raise ValueError(
        f"--out {out}: what is there was asked for otherwise ({differing}); expected "
        "the same command, another folder or --overwrite."
    )


def _is_ours(final: str, name: str) -> bool:
    """Whether `name` is a temporary of one of our files."""
    ours = OURS.fullmatch(final) or SHARDS.fullmatch(final) or final == REQUEST
    return name != final and bool(ours)


def _remove(folder: Path, chosen) -> None:
    if folder.is_dir():
        for entry in list(os.scandir(folder)):
            if chosen(entry.name):
                os.unlink(entry.path)


def _clear(out: Path, before: dict) -> None:
    """Remove what `before` made; first what says that it is finished."""
    (out / MANIFEST).unlink(missing_ok=True)
    if "records" in before["--format"]:
        (out / RECORDS / "manifest.json").unlink(missing_ok=True)
        _remove(out / RECORDS, SHARDS.fullmatch)
    _remove(out, _made_by(before))


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
