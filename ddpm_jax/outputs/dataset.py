"""Synthetic images as a data set in the training format (`ddpm_jax.data.records`).

Which row is in which shard is decided before the first image is made: a shard is
written whole or not at all, and by one process.
"""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records, shards
from ddpm_jax.data.spectrum import Spectrum
from ddpm_jax.data.splits import split_of
from ddpm_jax.outputs.requests import Asked, Model, identity

NAME, CODEC, BITS = "synthetic", "htj2k", 16
SIDECAR = ".json"
MEASURED = 256
"""Images that the spectrum is measured on, as many of each shard of the first split."""


class ShardPlan(NamedTuple):
    """A shard, and which of the images asked for are in it, in order."""

    file: str
    split: str
    rows: tuple[int, ...]


class Ids(NamedTuple):
    """16 bytes each. Repeats of an image share a subject, and so a split, but are
    records of their own."""

    record: bytes
    subject: bytes


def ids(asked: Sequence[Asked], model: Model) -> list[Ids]:
    found, before = [], Counter()
    for one in asked:
        key = identity(one, model)
        again, before[key] = before[key], before[key] + 1
        record = bytes(a ^ b for a, b in zip(key[:16], again.to_bytes(16), strict=True))
        found.append(Ids(record, key[16:]))
    return found


def plan(
    ids: Sequence[Ids], shares: Mapping[str, float], per_shard: int
) -> list[ShardPlan]:
    """Images by split in the order asked, up to `per_shard` in a shard."""
    members = {split: [] for split in shares}
    for index, one in enumerate(ids):
        members[split_of(one.subject, shares)].append(index)
    planned = []
    for split, rows in members.items():
        count = -(-len(rows) // per_shard)
        for i in range(count):
            name = f"{NAME}-{split}.array_record-{i:05d}-of-{count:05d}"
            part = tuple(rows[i * per_shard : (i + 1) * per_shard])
            planned.append(ShardPlan(name, split, part))
    return planned


def entry(image: np.ndarray, row: Mapping, ids: Ids, schema: Schema) -> bytes:
    """The entry of a uint16 [h, w] image, of which all is content."""
    height, width = image.shape
    record = records.Record(
        record_id=ids.record,
        patient_key=ids.subject,
        image=records.encode_image(image, CODEC, BITS),
        codec=CODEC,
        bits=BITS,
        height=height,
        width=width,
        content_box=(0, 0, height, width),
        original_rows=height,
        original_columns=width,
        spacing_mm=(np.nan, np.nan),
        voi_source="none",
        inverted=False,
        flags=0,
        output_hash=records.image_hash(image),
        row=row,
    )
    return records.serialize(record, schema)


class Shards:
    """Writes entries as they come to their shards; one thread at a time may call it.

    The entries of a shard must come in its order; shards may come mixed.
    """

    def __init__(self, folder: Path, planned: Sequence[ShardPlan]):
        self.folder = folder
        self.of = {row: shard for shard in planned for row in shard.rows}
        self._open: dict[str, shards.Entries] = {}

    def append(self, row: int, made: Future) -> None:
        """Wait for the entry of image `row`; the last of a shard commits it."""
        planned = self.of[row]
        if planned.file not in self._open:
            self._open[planned.file] = shards.Entries(self.folder / planned.file)
            self._open[planned.file].__enter__()
        entries = self._open[planned.file]
        entries.write(made.result())
        if entries.count == len(planned.rows):
            entries.__exit__(None)
            shard = entries.commit()
            content = dataclasses.asdict(shard) | {"payload": entries.payload}
            path = self.folder / f"{planned.file}{SIDECAR}"
            shards.write_atomically(path, json.dumps(content))
            del self._open[planned.file]

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_) -> None:
        """Drop what is not whole."""
        for entries in self._open.values():
            with contextlib.suppress(OSError):
                entries.__exit__(KeyboardInterrupt)
        self._open.clear()


def finished(folder: Path, planned: ShardPlan) -> bool:
    """Whether the shard is there; its sidecar is written after it."""
    return (folder / f"{planned.file}{SIDECAR}").is_file()


def publish(
    folder: Path,
    planned: Sequence[ShardPlan],
    schema: Schema,
    size: int,
    settings: Mapping,
    shares: Mapping[str, float],
) -> records.Manifest:
    """What makes finished shards a data set: TFDS's metadata, then the manifest."""
    splits, payload = {split: () for split in shares}, Counter()
    for each in planned:
        content = json.loads((folder / f"{each.file}{SIDECAR}").read_text())
        payload[each.split] += content.pop("payload")
        splits[each.split] += (records.Shard(**content),)
    count = sum(len(each.rows) for each in planned)
    nothing = dict.fromkeys(("duplicate", "excluded", "quarantined", "dead"), 0)
    manifest = records.Manifest(
        name=NAME,
        schema=schema,
        height=size,
        width=size,
        bits=BITS,
        codec=CODEC,
        splits=splits,
        ledger={"listed": count, "written": count, **nothing},
        settings={"synthetic": True, **settings, "splits": dict(shares)},
        statistics=_statistics(folder, planned, size),
    )
    shards.publish(manifest, payload, folder)
    return manifest


def _statistics(folder, planned, size) -> dict:
    first = [each for each in planned if each.split == planned[0].split]
    measured = Spectrum.empty(size)
    for each in first:
        for index in range(min(len(each.rows), -(-MEASURED // len(first)))):
            x = 2 * (read(folder, each, index) / (2**BITS - 1)) - 1
            measured += Spectrum.of(x)
    varies = measured.total.any()
    return {"spectrum": measured.to_json()} if varies else {}


def read(folder: Path, planned: ShardPlan, index: int) -> np.ndarray:
    """The uint16 [h, w] image of the `index`-th entry of a finished shard."""
    found = records.Entry(shards.read_entry(folder / planned.file, index))
    return records.decode_image(found["image"], CODEC)
