"""A set of radiographs as an evaluation sees it: conditions at hand, pixels on demand,
real and synthetic ones on one scale of 16 bits."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ddpm_jax.conditions.schema import Conditions, Schema
from ddpm_jax.data import pipeline, records

AT_ONCE = 64
FULL = 65535


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """n images of `size` px. `read(i)` is the uint16 [size, size] image i in 0..65535;
    `cond` holds [n] a field of `schema`; `identity` changes whenever an image does."""

    schema: Schema
    cond: Conditions
    size: int
    read: Callable[[int], np.ndarray]
    identity: str

    def __len__(self) -> int:
        return len(next(iter(self.cond.values())))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.read(i) for i in range(len(self)))

    def batches(self, at_once: int = AT_ONCE) -> Iterator[np.ndarray]:
        """uint16 [<= at_once, size, size] in order."""
        for start in range(0, len(self), at_once):
            stop = min(start + at_once, len(self))
            yield np.stack([self.read(i) for i in range(start, stop)])

    def take(self, index: Sequence[int] | np.ndarray) -> "Images":
        """Those of `index`, in its order; one may come again."""
        index = np.asarray(index, int)
        digest = hashlib.sha256(self.identity.encode() + index.astype("<i8").tobytes())
        return Images(
            self.schema,
            {name: values[index] for name, values in self.cond.items()},
            self.size,
            lambda i: self.read(int(index[i])),
            digest.hexdigest(),
        )

    def rows(self) -> list[dict]:
        return self.schema.decode(self.cond)


def of_records(
    folder: str, split: str, schema: Schema, most: int, size: int | None = None
) -> Images:
    """The records of a split, or `most` of them drawn at random where there are more;
    always the same ones. They are shrunk to `size`, a divisor of their own, if given.
    """
    manifest = records.check_counts(folder, split)
    if manifest.height != manifest.width:
        raise ValueError(f"{folder}: images that are not square.")
    source = records.Entries(folder, split)
    size = size or manifest.height
    decode = pipeline.Decode(schema, size)
    cond, _ = records.read_conditions(folder, split, schema)

    def read(i: int) -> np.ndarray:
        return to_full(np.asarray(decode.map(source[i])["image"]), manifest.bits)

    identity = f"{manifest.fingerprint()}/{split}"
    identity += f"/{size}" if size < manifest.height else ""
    whole = Images(schema, cond, size, read, identity)
    if len(whole) <= most:
        return whole
    drawn = np.random.default_rng(0).choice(len(whole), most, replace=False)
    return whole.take(np.sort(drawn))


def to_full(image: np.ndarray, bits: int) -> np.ndarray:
    """uint16 of `bits` bits to all 16."""
    top = 2**bits - 1
    if top == FULL:
        return image
    return ((image.astype(np.uint32) * FULL + top // 2) // top).astype(np.uint16)


def join(a: Images, b: Images) -> Images:
    """Those of `a`, then those of `b`; fields that `b` lacks are not known in it."""
    cond = {}
    for field in a.schema:
        lacking = np.full(len(b), field.unknown, field.dtype)
        cond[field.name] = np.concatenate(
            [a.cond[field.name], b.cond.get(field.name, lacking)]
        )
    digest = hashlib.sha256(f"{a.identity}+{b.identity}".encode()).hexdigest()
    n = len(a)
    return Images(
        a.schema,
        cond,
        a.size,
        lambda i: a.read(i) if i < n else b.read(i - n),
        digest,
    )
