"""The on-disk contract between `data_prep`, which writes it, and `ddpm_jax`.

A data set is a folder that TFDS reads (`features.json`, `dataset_info.json`,
`{name}-{split}.array_record-00003-of-00016`) and a `manifest.json`, written last,
which says what the shards must hold. No JAX here: data workers import this file.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from ddpm_jax.conditions.schema import Conditions, Schema

VERSION = 1
MANIFEST = "manifest.json"
VOI_SOURCES = ("none", "window", "lut", "percentile")
FLAGS = (
    "VOI_MISSING",
    "VOI_INVALID",
    "HIGHBIT",
    "BAD_LUT",
    "POLARITY_CONFLICT",
    "MIRRORED",
    "LABEL_RANGE",
    "LABEL_CONFLICT",
)
"""What a record's `flags` say: bit i is FLAGS[i]. New flags go to the end."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One radiograph as it is stored: an allow-list, with no room for anything else.

    `image` holds `codec` bytes of a uint16 [height, width] array in
    [0, 2**bits - 1], bone bright, zero outside `content_box` = (top, left, bottom,
    right), half-open, in pixels. `spacing_mm` = (row, column) is that of the stored
    pixels, NaN where not known. `row` holds the conditions.
    """

    record_id: bytes
    patient_key: bytes
    image: bytes
    codec: str
    bits: int
    height: int
    width: int
    content_box: tuple[int, int, int, int]
    original_rows: int
    original_columns: int
    spacing_mm: tuple[float, float]
    voi_source: str
    inverted: bool
    flags: int
    output_hash: bytes
    row: Mapping[str, str | float | None]


@functools.cache
def features(schema: Schema):
    """The TFDS features of a record; "unknown" is class 0 of each categorical field."""
    import tensorflow_datasets as tfds

    as_bytes = tfds.features.Tensor(shape=(), dtype=np.object_)
    by_kind = {
        "categorical": lambda field: tfds.features.ClassLabel(
            names=["unknown", *field.values]
        ),
        "continuous": lambda field: tfds.features.Scalar(np.float32),
    }
    return tfds.features.FeaturesDict(
        {
            "record_id": as_bytes,
            "patient_key": as_bytes,
            "image": as_bytes,
            "codec": as_bytes,
            "bits": np.int32,
            "height": np.int32,
            "width": np.int32,
            "content_box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
            "original_rows": np.int32,
            "original_columns": np.int32,
            "spacing_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "voi_source": tfds.features.ClassLabel(names=list(VOI_SOURCES)),
            "inverted": np.bool_,
            "flags": np.int32,
            "output_hash": as_bytes,
        }
        | {field.name: by_kind[field.kind](field) for field in schema}
    )


def serialize(record: Record, schema: Schema) -> bytes:
    """The bytes of one ArrayRecord entry: a function of the record alone.

    TFDS leaves the order of a protocol buffer's map to chance, which differs from
    process to process; `deterministic` sorts it.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    example = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name != "row"
    }
    example["codec"] = record.codec.encode()
    row = schema.parse(record.row)
    example |= {field.name: field.encode(row[field.name]) for field in schema}
    spec = features(schema)
    entry = spec.serialize_example(spec.encode_example(example))
    parsed = tf_example_pb2.Example.FromString(entry)
    return parsed.SerializeToString(deterministic=True)


def flag_bits(names: Iterable[str]) -> int:
    """The `flags` of a record from names out of FLAGS."""
    return sum(1 << FLAGS.index(name) for name in set(names))


def image_hash(pixels: np.ndarray) -> bytes:
    """The `output_hash` of a uint16 [h, w] image: 16 bytes of SHA-256 over its shape
    and its pixels, little-endian, so that it outlives a change of codec."""
    digest = hashlib.sha256(np.array(pixels.shape, "<u4").tobytes())
    digest.update(np.ascontiguousarray(pixels, "<u2"))
    return digest.digest()[:16]


def _png_encode(pixels):
    return imagecodecs.png_encode(pixels, level=6)


CODECS = {
    "htj2k": (imagecodecs.htj2k_encode, imagecodecs.htj2k_decode),
    "png": (_png_encode, imagecodecs.png_decode),
}


def _wake_htj2k():
    """The first use of OpenJPH by two threads at once fails in about 1 process of 100:
    it then gives wrong bytes or pixels and no exception."""
    imagecodecs.htj2k_decode(imagecodecs.htj2k_encode(np.zeros((8, 8), np.uint16)))


_wake_htj2k()


def encode_image(pixels: np.ndarray, codec: str, bits: int = 16) -> bytes:
    """Lossless bytes of a uint16 [h, w] image, one byte a pixel where `bits` <= 8."""
    if codec not in CODECS:
        raise ValueError(f"codec = {codec!r}: expected one of {', '.join(CODECS)}.")
    width = np.uint8 if bits <= 8 else np.uint16
    return bytes(CODECS[codec][0](np.ascontiguousarray(pixels, width)))


def decode_image(data: bytes, codec: str, out: np.ndarray | None = None) -> np.ndarray:
    """The uint16 [h, w] image of `encode_image`, written to `out` where given."""
    if codec not in CODECS:
        raise ValueError(f"codec = {codec!r}: expected one of {', '.join(CODECS)}.")
    decode = CODECS[codec][1]
    if out is None:
        return np.asarray(decode(data), np.uint16)
    try:
        return decode(data, out=out)
    except ValueError:  # stored in bytes, or of another size
        out[...] = decode(data)
        return out


@dataclasses.dataclass(frozen=True)
class Shard:
    """One ArrayRecord file: its name in the folder, its records, its sha256."""

    file: str
    records: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a finished data set holds; `ledger` counts where every input ended,
    `statistics` holds the images' power spectrum."""

    name: str
    schema: Schema
    height: int
    width: int
    bits: int
    codec: str
    splits: Mapping[str, tuple[Shard, ...]]
    ledger: Mapping[str, object]
    settings: Mapping[str, object]
    statistics: Mapping[str, object] = dataclasses.field(default_factory=dict)
    version: int = VERSION

    def count(self, split: str) -> int:
        return sum(shard.records for shard in self.splits[split])

    def fingerprint(self) -> str:
        """A hash of the shards' own hashes: the identity of the data."""
        digests = [
            (s.file, s.sha256) for shards in self.splits.values() for s in shards
        ]
        return hashlib.sha256(json.dumps(sorted(digests)).encode()).hexdigest()

    def to_json(self) -> dict:
        return dataclasses.asdict(self) | {"schema": self.schema.to_json()}

    @classmethod
    def from_json(cls, content: Mapping) -> "Manifest":
        splits = {
            split: tuple(Shard(**shard) for shard in shards)
            for split, shards in content["splits"].items()
        }
        schema = Schema.from_json(content["schema"])
        shards = [shard for members in splits.values() for shard in members]
        if not (
            all(type(content[name]) is int for name in ("height", "width", "bits"))
            and 1 <= content["bits"] <= 16
            and content["codec"] in CODECS
            and isinstance(content["name"], str)
            and all(isinstance(content[n], Mapping) for n in ("ledger", "settings"))
            and all(isinstance(s.file, str) and type(s.records) is int for s in shards)
        ):
            raise TypeError("a value of another type")
        return cls(**(dict(content) | {"splits": splits, "schema": schema}))


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of a data set; ValueError where there is none to be read."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {MANIFEST} here, so this is no finished data set; expected "
            "the --out folder of `python -m data_prep.convert`."
        )
    try:
        content = json.loads(path.read_text())
        version = content["version"]
        if version == VERSION:
            return Manifest.from_json(content)
    except (
        *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
    ) as error:
        raise ValueError(
            f"{path}: not a readable manifest ({type(error).__name__}); convert again."
        ) from None
    raise ValueError(
        f"{path}: data set version {version!r}, but this program reads version "
        f"{VERSION}; convert again."
    )


def open_split(folder: str | Path, split: str):
    """Random access to the examples of one split, as dicts of numpy values.

    Raises ValueError where a split, a shard or a record is missing.
    """
    check_counts(folder, split)
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(str(folder)).as_data_source(split=split)


def check_counts(folder: str | Path, split: str) -> Manifest:
    """The manifest; ValueError where a split, a shard or a record is missing.

    An ArrayRecord file that was cut off reads as empty without an error, so every
    shard's own count is held against the manifest.
    """
    manifest = load_manifest(folder)
    if split not in manifest.splits:
        raise ValueError(
            f"{folder}: no split {split!r}; expected one of "
            f"{', '.join(manifest.splits)}."
        )
    for shard in manifest.splits[split]:
        found = _record_count(Path(folder) / shard.file)
        if found != shard.records:
            raise ValueError(
                f"{folder}: shard {shard.file} holds {found} readable records, the "
                f"manifest says {shard.records}; convert again."
            )
    if not manifest.count(split):
        raise ValueError(f"{folder}: split {split!r} holds no records.")
    return manifest


class Entries:
    """The examples of `open_split`, each a function from a feature's name to its value
    as it is stored: what is not asked for costs nothing, where TFDS takes 0.3 ms."""

    def __init__(self, folder: str | Path, split: str):
        self.entries = open_split(folder, split).data_source

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> "Entry":
        return Entry(self.entries[index])


class Entry:
    """One record's bytes, read by name: bytes, int or float; [n] where there are n."""

    def __init__(self, entry: bytes):
        from tensorflow_datasets.proto import tf_example_pb2

        self.features = tf_example_pb2.Example.FromString(entry).features.feature

    def __getitem__(self, name: str):
        if name not in self.features:
            raise KeyError(name)
        feature = self.features[name]
        values = getattr(feature, feature.WhichOneof("kind")).value
        return values[0] if len(values) == 1 else np.array(values)


def read_codes(
    folder: str | Path, split: str, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """int32 [n] codes of categorical fields of every record, in the order of
    `open_split`. No image is decoded, but all bytes of the split are read."""
    columns = _read_columns(folder, split, names)
    return {name: columns[name].astype(np.int32) for name in names}


def read_conditions(
    folder: str | Path, split: str, schema: Schema
) -> tuple[Conditions, np.ndarray]:
    """The conditions of every record and int [n], which patient each is of, read as
    `read_codes` does. Patients are numbered 0, 1, … in no order that means anything."""
    columns = _read_columns(folder, split, (*schema.names, "patient_key"))
    conditions = {f.name: columns[f.name].astype(f.dtype) for f in schema}
    return conditions, np.unique(columns["patient_key"], return_inverse=True)[1]


def _read_columns(folder, split: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    paths = [Path(folder) / s.file for s in load_manifest(folder).splits[split]]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda path: _shard_columns(path, names), paths))
    return {
        name: np.concatenate([part[i] for part in parts if len(part[i])] or [()])
        for i, name in enumerate(names)
    }


def _shard_columns(path: Path, names: Sequence[str], at_once: int = 16):
    """One array [records] a name, of the kind that is stored."""
    reader = ArrayRecordReader(str(path))
    try:
        rows = []
        for start in range(0, reader.num_records(), at_once):
            stop = min(start + at_once, reader.num_records())
            for entry in map(Entry, reader.read(start, stop)):
                rows.append([entry[name] for name in names])
    finally:
        reader.close()
    return [np.array([row[i] for row in rows]) for i in range(len(names))]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_split(folder: str | Path, split: str) -> None:
    """Hash every shard of a split, a few at a time; ValueError for one that is missing
    or not, to the bit, what the manifest says."""
    shards = load_manifest(folder).splits[split]

    def same(shard):
        path = Path(folder) / shard.file
        return path.is_file() and file_digest(path) == shard.sha256

    with ThreadPoolExecutor(4) as pool:
        for shard, good in zip(shards, pool.map(same, shards), strict=True):
            if not good:
                raise ValueError(
                    f"{folder}: shard {shard.file} is not what the manifest says; "
                    "`python -m data_prep.verify` tells more; convert again."
                )


def _record_count(path: Path) -> int:
    try:
        reader = ArrayRecordReader(str(path))
        try:
            return reader.num_records() if reader.ok() else 0
        finally:
            reader.close()  # a broken file raises here as well
    except Exception:  # array_record raises its own, undocumented types
        return 0
