"""Shards to batches: random access, exact continuation, integers to the device."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np
from grain.experimental import ElasticIterator

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import augment, balance, records

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


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A stored image that `np.stack` decodes straight into the batch (NumPy's NEP 18):
    decoded one by one first, each would go through memory twice more.

    It comes out with `shape`, the stored one divided by `shrink`."""

    data: bytes
    codec: str
    shape: tuple[int, int]
    shrink: int = 1
    mirrored: bool = False

    def mirror(self) -> "Encoded":
        return dataclasses.replace(self, mirrored=not self.mirrored)

    def decode(self, out: np.ndarray | None = None) -> np.ndarray:
        """uint16 [h, w], written to `out` where given."""
        if self.shrink == 1:
            image = records.decode_image(self.data, self.codec, out)
        else:
            whole = records.decode_image(self.data, self.codec)
            image = mean_pool(whole, self.shrink, out)
        if self.mirrored:
            image[...] = image[:, ::-1].copy()
        return image

    def __array__(self, dtype=None, copy=None):
        return self.decode()

    def __array_function__(self, function, types, arguments, options):
        if function is not np.stack or set(options) - {"out"}:
            return NotImplemented
        images = arguments[0]
        out = options.get("out")
        if out is None:
            out = np.empty((len(images), *self.shape), np.uint16)
        for image, place in zip(images, out, strict=True):
            image.decode(place)
        return out


def mean_pool(
    image: np.ndarray, side: int, out: np.ndarray | None = None
) -> np.ndarray:
    """uint16 means over side x side pixels, rounded, written to `out` where given."""
    height, width = image.shape
    parts = image.reshape(height // side, side, width // side, side)
    total = parts.sum((1, 3), dtype=np.uint32) + side**2 // 2
    if out is None:
        out = np.empty(total.shape, np.uint16)
    out[...] = total // side**2
    return out


class Decode(grain.transforms.Map):
    """An example of the shards to {"image": Encoded, "cond": {field: scalar},
    "record_id": uint8 [16]}; images of `size` px where given, a divisor of their own.
    """

    def __init__(self, schema: Schema, size: int | None = None):
        self.schema, self.size = schema, size

    def map(self, example):
        height, width = int(example["height"]), int(example["width"])
        shrink = height // self.size if self.size else 1
        shape = height // shrink, width // shrink
        image = Encoded(example["image"], example["codec"].decode(), shape, shrink)
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


class Flip(grain.transforms.RandomMap):
    """Mirror image and conditions with a probability; grain's `rng` is addressed by
    (seed, position in training)."""

    def __init__(self, mirror: augment.Mirror, probability: float):
        self.mirror, self.probability = mirror, probability

    def random_map(self, example, rng: np.random.Generator):
        if rng.random() >= self.probability:
            return example
        cond = self.mirror.conditions(example["cond"])
        return example | {"image": example["image"].mirror(), "cond": cond}


class Draw(grain.transforms.MapWithIndex):
    """Position in training to the example that `draws` says."""

    def __init__(self, source, draws: balance.Draws):
        self.source, self.draws = source, draws

    def map_with_index(self, index, element):
        return self.source[self.draws(index)]


def train_dataset(
    config, schema: Schema, say: Callable[[str], None] = lambda line: None
) -> grain.MapDataset:
    """Position in training -> example of `Decode`, endless; the same on every host.

    Each pass over `config.data.split` is a fresh permutation of all records, fixed by
    `config.seed`; with `config.data.balance` it is what `balance.Draws` makes of them.
    `say` is told in a line each what balance and mirror do.
    """
    source = records.Entries(config.data.folder, config.data.split)
    fields, power = config.data.get("balance", ()), config.data.get("balance_power", 1)
    if fields and power:
        codes = records.read_codes(config.data.folder, config.data.split, fields)
        draws = balance.Draws.make(balance.cells(codes), power, config.seed)
        say(f"balanced over {' x '.join(fields)} with power {power:g}: {draws}")
        positions = grain.MapDataset.range(len(draws)).repeat()
        dataset = positions.map_with_index(Draw(source, draws))
    else:
        dataset = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    dataset = dataset.map(Decode(schema, config.image_size))
    flip = config.data.get("flip", 0.0)
    if flip:
        mirror = augment.Mirror.of(schema)
        say(f"mirrored with probability {flip:g}; exchanged with it: {mirror}")
        dataset = dataset.random_map(Flip(mirror, flip), seed=config.seed)
    return dataset


def train_iterator(
    config, schema: Schema, say: Callable[[str], None] = lambda line: None
) -> ElasticIterator:
    """This process's share of `train_dataset` in batches; `get_state()` is JSON."""
    batch, workers = config.data.batch, config.data.workers
    shard = grain.sharding.ShardByJaxProcess()
    return ElasticIterator(
        Contiguous(train_dataset(config, schema, say), batch, shard.shard_count),
        batch,
        shard,
        read_options=grain.ReadOptions(
            num_threads=READERS, prefetch_buffer_size=BATCHES_AHEAD
        ),
        multiprocessing_options=(
            grain.multiprocessing.MultiprocessingOptions(workers) if workers else None
        ),
    )


def position(index: int) -> dict:
    """The state of a `train_iterator` that goes on at example `index`."""
    return {"global_next_index": index}


def read_all(folder: str, split: str, schema: Schema, most: int | None = None) -> Batch:
    """The first `most` records of a split as one batch in memory."""
    source = records.open_split(folder, split)
    decode = Decode(schema)
    count = len(source) if most is None else min(most, len(source))
    examples = [decode.map(source[i]) for i in range(count)]
    cond = {f.name: np.stack([e["cond"][f.name] for e in examples]) for f in schema}
    return {"image": np.stack([e["image"] for e in examples]), "cond": cond}


def owned(batch: Batch) -> Batch:
    """What goes to the device, in memory of its own, which grain's workers' is not: JAX
    on a CPU works on the array it is given and lets go of it late, so that shared
    memory would be left over at exit, and more of it be in use meanwhile."""
    image, cond = _owned(batch["image"]), batch["cond"]
    return {"image": image, "cond": {name: _owned(cond[name]) for name in cond}}


def _owned(array: np.ndarray) -> np.ndarray:
    return array if type(array) is np.ndarray else np.array(array)


def prefetch(
    iterator: ElasticIterator, put: Callable, depth: int = 2
) -> Iterator[tuple[Batch, Read]]:
    """(batch on the device, what was read for it), `depth` ahead."""
    ahead = deque()
    before = iterator.get_state()
    while True:
        while len(ahead) <= depth:
            batch = next(iterator)
            record_ids, after = _owned(batch["record_id"]), iterator.get_state()
            ahead.append((put(owned(batch)), Read(record_ids, before, after)))
            before = after
        yield ahead.popleft()
