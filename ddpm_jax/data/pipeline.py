"""Shards to batches: random access, exact continuation, integers to the device."""

from collections import deque
from collections.abc import Callable, Iterator

import grain
import numpy as np
from grain.experimental import ElasticIterator

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records

Batch = dict
"""{"image": uint16 [b, h, w], "cond": {field: [b]}}."""


class Decode(grain.transforms.Map):
    """An example of the shards to {"image": uint16 [h, w], "cond": {field: scalar}}."""

    def __init__(self, schema: Schema):
        self.schema = schema

    def map(self, example):
        image = records.decode_image(example["image"], example["codec"].decode())
        cond = {f.name: np.asarray(example[f.name], f.dtype) for f in self.schema}
        return {"image": image, "cond": cond}


def train_iterator(config, schema: Schema) -> ElasticIterator:
    """Endless shuffled batches of this process's share; `get_state()` is JSON.

    Each pass over `config.data.split` is a fresh permutation of all records, fixed by
    `config.seed`.
    """
    source = records.open_split(config.data.folder, config.data.split)
    dataset = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    workers = config.data.workers
    return ElasticIterator(
        dataset.map(Decode(schema)),
        config.data.batch,
        grain.sharding.ShardByJaxProcess(),
        read_options=grain.ReadOptions(
            num_threads=2, prefetch_buffer_size=config.data.batch
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
) -> Iterator[tuple[Batch, dict]]:
    """(batch on the device, state of the iterator just after it), `depth` ahead."""
    ahead = deque()
    while True:
        while len(ahead) <= depth:
            batch = put(next(iterator))
            ahead.append((batch, iterator.get_state()))
        yield ahead.popleft()
