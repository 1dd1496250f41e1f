"""Writing the on-disk contract: one shard at a time, then what makes them a data set.

Commit order of a shard: `.tmp` -> close -> reopen, count, read all -> fsync -> rename.
Whatever interrupts it, a file with its final name is whole. No JAX here.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from array_record.python.array_record_module import (
    ArrayRecordReader,
    ArrayRecordWriter,
)

from ddpm_jax.data import records

OPTIONS = "group_size:1,uncompressed"


def temporary(final: Path) -> Path:
    """A `.tmp` beside `final` that no other writer has."""
    writer = f"{os.getpid():x}-{threading.get_ident():x}"
    return final.with_name(f"{final.name}.{writer}.tmp")


class Entries:
    """Entries on their way into a shard, counted and hashed under a temporary name;
    the last of two writers of one shard wins, with the same bytes."""

    def __init__(self, final: Path):
        self.final, self.path = final, temporary(final)
        self.count = self.payload = 0
        self.digest = hashlib.sha256()

    def __enter__(self):
        with _as_os_error(self.path):
            self._writer = ArrayRecordWriter(str(self.path), OPTIONS)
        return self

    def write(self, entry: bytes):
        with _as_os_error(self.path):
            self._writer.write(entry)
        self.digest.update(entry)
        self.count += 1
        self.payload += len(entry)

    def __exit__(self, kind, *_):
        try:
            with _as_os_error(self.path):
                self._writer.close()
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        if kind is not None:
            self.path.unlink(missing_ok=True)

    def commit(self) -> records.Shard:
        """Read back, synchronise and rename what was closed; ValueError where it is
        not what was written."""
        count, digest = 0, hashlib.sha256()
        for entry in read_entries(self.path):
            digest.update(entry)
            count += 1
        if (count, digest.digest()) != (self.count, self.digest.digest()):
            raise ValueError(
                f"SHARD_VERIFY: {self.final.name} does not hold what was written to "
                "it; is the disk full or failing?"
            )
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.final)
        return records.Shard(self.final.name, count, records.file_digest(self.final))


@contextlib.contextmanager
def _as_os_error(path: Path):
    """array_record tells of a full disk or a forbidden folder by RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].split(": ", 1)[-1]
        raise OSError(f"{path}: cannot be written ({reason}).") from None


def read_entries(path: Path) -> Iterator[bytes]:
    """All entries of an ArrayRecord file in order; ValueError if it is broken."""
    try:
        reader = ArrayRecordReader(str(path))
        try:
            if not reader.ok():
                raise ValueError
            for _ in range(reader.num_records()):
                yield reader.read()
        finally:
            reader.close()  # a broken file raises here as well
    except Exception:  # array_record raises its own, undocumented types
        raise ValueError(f"SHARD_VERIFY: {path.name} is broken.") from None


def read_entry(path: Path, index: int) -> bytes:
    """One entry of an ArrayRecord file that is whole."""
    reader = ArrayRecordReader(str(path))
    try:
        return reader.read([index])[0]
    finally:
        reader.close()


def write_atomically(path: Path, content: str | bytes) -> None:
    """All of `content` under `path`, on the disk, or nothing."""
    data = content.encode() if isinstance(content, str) else content
    partial = temporary(path)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OSError(f"{path}: cannot be written ({error.strerror}).") from None


@contextlib.contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """ValueError that says `busy` while another process holds the file `lock`; one that
    was killed lets go."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{busy}; wait for it, or end it.") from None
        yield


def publish(manifest: records.Manifest, payload: Mapping[str, int], out: Path) -> None:
    """TFDS's metadata and, last of all, the manifest: with it the folder becomes a
    data set. `payload` is the bytes of each split that has shards."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        dataset_name=manifest.name, data_dir=str(out), filetype_suffix="array_record"
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.records for shard in manifest.splits[split]],
            num_bytes=size,
            filename_template=template,
        )
        for split, size in payload.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=str(out),
        features=records.features(manifest.schema),
        split_infos=infos,
        filename_template=template,
        check_data=False,
    )
    content = json.dumps(manifest.to_json(), indent=1)
    write_atomically(out / records.MANIFEST, content + "\n")
