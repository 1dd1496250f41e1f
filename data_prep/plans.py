"""The plan on disk, in the private folder: what every worker of every engine reads.

It holds paths and the label rows, so the folder is its owner's alone. What is asked
is `job.json`; each shard's rows are a file of their own, so that a worker reads no
more than it converts.
"""

import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.deidentify import load_key
from data_prep.planning import Outcome, Plan, Row, ShardPlan
from data_prep.shards import Settings
from data_prep.worker import Reading
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data.shards import write_atomically

FOLDER, KEY, LOCK = "plan", "random.key", "lock"
DECIDING = ("imagecodecs", "numpy", "pillow", "pydicom")
JOB, PATHS, OUTCOMES = "job.json", "paths.json", "outcomes.json"


def make_private(folder: Path) -> None:
    """`folder`, readable by its owner alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


def save(
    private: Path,
    plan: Plan,
    settings: Settings,
    key_file: Path | None,
    extra: Mapping[str, object],
) -> None:
    """Write the plan; `job.json` last, so that half a plan is none."""
    folder = private / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / JOB).unlink(missing_ok=True)
    for old in folder.glob("*.rows.json"):
        old.unlink()
    for shard in plan.shards:
        rows = [row._replace(patient_key=row.patient_key.hex()) for row in shard.rows]
        write_atomically(folder / f"{shard.file}.rows.json", json.dumps(rows))
    confusion = {
        name: [[*pair, count] for pair, count in table.items()]
        for name, table in plan.confusion.items()
    }
    content = dict(extra) | {
        "root": os.fspath(settings.root.resolve()),
        "out": os.fspath(settings.out.resolve()),
        "schema": settings.schema.to_json(),
        "reading": settings.reading._asdict(),
        "codec": settings.codec,
        "key_id": settings.public()["key_id"],
        "key_file": key_file and os.fspath(key_file.resolve()),
        "versions": dict(settings.versions),
        "shards": [[s.split, s.file, len(s.rows)] for s in plan.shards],
        "labels": plan.labels,
        "confusion": confusion,
    }
    write_atomically(folder / PATHS, json.dumps(plan.paths))
    write_atomically(folder / OUTCOMES, json.dumps(plan.outcomes))
    write_atomically(folder / JOB, json.dumps(content))


@dataclasses.dataclass(frozen=True)
class Saved:
    """A plan as it was saved; `content` is all of `job.json`."""

    private: Path
    content: Mapping
    settings: Settings

    @property
    def files(self) -> list[str]:
        return [file for _, file, _ in self.content["shards"]]

    def count(self, file: str) -> int:
        """The rows of one shard."""
        return next(rows for _, name, rows in self.content["shards"] if name == file)

    def shard(self, file: str) -> ShardPlan:
        split = next(s for s, name, _ in self.content["shards"] if name == file)
        path = self.private / FOLDER / f"{file}.rows.json"
        return ShardPlan(split, file, tuple(map(_row, json.loads(path.read_text()))))

    def shards(self) -> Iterator[ShardPlan]:
        return map(self.shard, self.files)

    def outcomes(self) -> list[Outcome]:
        """Where the files ended that are in no shard's rows."""
        return [Outcome(*outcome) for outcome in self._read(OUTCOMES)]

    def paths(self) -> dict[str, str]:
        """{row id: path below the root} of every listed file."""
        return self._read(PATHS)

    def _read(self, name):
        return json.loads((self.private / FOLDER / name).read_text())

    def confusion(self) -> dict:
        return {
            name: {(label, header): count for label, header, count in table}
            for name, table in self.content["confusion"].items()
        }


def _row(fields) -> Row:
    row_id, path, stamp, patient_key, conditions, flags = fields
    key = bytes.fromhex(patient_key)
    return Row(row_id, path, tuple(stamp), key, conditions, tuple(flags))


def load(private: Path, key: bytes | None = None) -> Saved:
    """The plan in `private`. ValueError where there is none, or not of this key."""
    path = private / FOLDER / JOB
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        raise ValueError(
            f"--private = {private}: no plan in it; expected a run with --step plan "
            "before --step write, --shards or --step finish."
        ) from None
    out, key_file = Path(content["out"]), content["key_file"]
    settings = Settings(
        root=Path(content["root"]),
        out=out,
        schema=Schema.from_json(content["schema"]),
        reading=_reading(content["reading"]),
        codec=content["codec"],
        key=key or load_key(Path(key_file) if key_file else None, out),
        versions=content["versions"],
    )
    if settings.public()["key_id"] != content["key_id"]:
        raise ValueError(
            f"NO_KEY: --private = {private}: planned under another key; expected the "
            "key that --step plan had."
        )
    if (here := versions()) != content["versions"]:
        raise ValueError(
            f"--private = {private}: planned with {_listed(content['versions'])}; "
            f"here are {_listed(here)}: expected the same, since they decide the bytes."
        )
    return Saved(private, content, settings)


def versions() -> dict[str, str]:
    """Of the packages whose version can change a record's bytes."""
    return {name: importlib.metadata.version(name) for name in DECIDING}


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def _reading(fields) -> Reading:
    return Reading(**fields | {"sop_classes": tuple(fields["sop_classes"])})
