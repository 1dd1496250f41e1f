"""Shards to batches: random access, exact continuation, integers to the device."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np
from grain.experimental import ElasticIterator

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records

READERS, BATCHES_AHEAD = 2, 2
"""Threads of a data process, and whole batches that they have ready."""

Batch = dict
"""{"image": uint16 [b, h, w], "cond": {field: [b]}}; on the host also "record_id",
uint8 [b, 16], which never goes to a device."""


class Read(NamedTuple):
    """Of one batch: `record_ids` uint8 [b, 16], and the iterator's state `before` and
    `after` it."""

    record_ids: np.ndarray
    before: dict
    after: dict


class Encoded:
    """A stored image that `np.stack` decodes straight into the batch (NumPy's NEP 18):
    decoded one by one first, each would go through memory twice more."""

    def __init__(self, data: bytes, codec: str, shape: tuple[int, int]):
        self.data, self.codec, self.shape = data, codec, shape

    def __array__(self, dtype=None, copy=None):
        return records.decode_image(self.data, self.codec)

    def __array_function__(self, function, types, arguments, options):
        if function is not np.stack or set(options) - {"out"}:
            return NotImplemented
        images = arguments[0]
        out = options.get("out")
        if out is None:
            out = np.empty((len(images), *self.shape), np.uint16)
        for image, place in zip(images, out, strict=True):
            records.decode_image(image.data, image.codec, place)
        return out


class Decode(grain.transforms.Map):
    """An example of the shards to {"image": Encoded, "cond": {field: scalar},
    "record_id": uint8 [16]}."""

    def __init__(self, schema: Schema):
        self.schema = schema

    def map(self, example):
        shape = int(example["height"]), int(example["width"])
        image = Encoded(example["image"], example["codec"].decode(), shape)
        cond = {f.name: np.asarray(example[f.name], f.dtype) for f in self.schema}
        record_id = np.frombuffer(example["record_id"], np.uint8)
        return {"image": image, "cond": cond, "record_id": record_id}


class Contiguous(grain.MapDataset):
    """The same elements in the order in which process i of `count`, which takes every
    `count`-th from the i-th on, has block i of each batch: a global batch is then the
    same array however many processes there are."""

    def __init__(self, parent: grain.MapDataset, batch: int, count: int):
        super().__init__(parent)
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        start, place = divmod(index, self.batch)
        slot, process = divmod(place, self.count)
        block = process * (self.batch // self.count)
        return self._parent[start * self.batch + block + slot]


def train_iterator(config, schema: Schema) -> ElasticIterator:
    """Endless shuffled batches of this process's share; `get_state()` is JSON.

    Each pass over `config.data.split` is a fresh permutation of all records, fixed by
    `config.seed`.
    """
    source = records.open_split(config.data.folder, config.data.split)
    dataset = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    batch, workers = config.data.batch, config.data.workers
    shard = grain.sharding.ShardByJaxProcess()
    dataset = Contiguous(dataset.map(Decode(schema)), batch, shard.shard_count)
    return ElasticIterator(
        dataset,
        batch,
        shard,
        read_options=grain.ReadOptions(
            num_threads=READERS, prefetch_buffer_size=BATCHES_AHEAD
        ),
        multiprocessing_options=(
            grain.multiprocessing.MultiprocessingOptions(workers) if workers else None
        ),
    )


def read_all(folder: str, split: str, schema: Schema, most: int | None = None) -> Batch:
    """The first `most` records of a split as one batch in memory."""
    source = records.open_split(folder, split)
    decode = Decode(schema)
    count = len(source) if most is None else min(most, len(source))
    examples = [decode.map(source[i]) for i in range(count)]
    cond = {f.name: np.stack([e["cond"][f.name] for e in examples]) for f in schema}
    return {"image": np.stack([e["image"] for e in examples]), "cond": cond}


def prefetch(
    iterator: ElasticIterator, put: Callable, depth: int = 2
) -> Iterator[tuple[Batch, Read]]:
    """(batch on the device, what was read for it), `depth` ahead."""
    ahead = deque()
    before = iterator.get_state()
    while True:
        while len(ahead) <= depth:
            batch = dict(next(iterator))
            record_ids, after = batch.pop("record_id"), iterator.get_state()
            ahead.append((put(batch), Read(record_ids, before, after)))
            before = after
        yield ahead.popleft()
