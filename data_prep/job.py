"""What the command line asks for, and what of it cannot work."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from data_prep.worker import Reading
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records

LOCAL = "local"
STEPS = ("all", "plan", "write", "finish")


@dataclass(frozen=True)
class Job:
    """One conversion. `key` None: from `key_file` or the environment by each worker;
    `shards` = (i, n): every n-th shard from the i-th."""

    dicom: Path
    labels: Path
    out: Path
    key: bytes
    schema: Schema
    shares: Mapping[str, float]
    reading: Reading = field(default_factory=lambda: Reading(256))
    codec: str = "htj2k"
    name: str = "radiographs"
    records_per_shard: int = 0
    workers: int = 0
    max_conflict: float = 0.05
    overwrite: bool = False
    labels_map: Path | None = None
    private: Path | None = None
    key_file: Path | None = None
    step: str = "all"
    shards: tuple[int, int] = (0, 1)
    runner: str = LOCAL
    beam_options: str = ""
    dry_run: bool = False
    random_ids: bool = False

    @property
    def private_folder(self) -> Path:
        """Where the plan, the audit map and the review sheet go: beside `out`."""
        return self.private or self.private_of(self.out)

    @staticmethod
    def private_of(out: Path) -> Path:
        """The private folder of `out` where none is named."""
        return out.with_name(f"{out.name}.private")

    @property
    def tables(self) -> tuple[Path, ...]:
        """Files that may lie in the archive and are no part of it."""
        return (self.labels, *filter(None, (self.labels_map,)))


def parse_slice(text: str) -> tuple[int, int]:
    """(i, n) of "i/n", i from 0; ValueError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise ValueError(f"--shards = {text!r}: expected i/n with 0 <= i < n.")
    return int(found[1]), int(found[2])


def check(job: Job) -> None:
    """ValueError for what cannot work, before anything is read or written."""
    if not job.dicom.is_dir():
        raise ValueError(f"--{job.reading.source} = {job.dicom}: no such folder.")
    if job.out.resolve().is_relative_to(job.dicom.resolve()):
        raise ValueError(
            f"--out = {job.out} lies inside --{job.reading.source} = {job.dicom}; "
            "expected it elsewhere."
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", job.name):
        raise ValueError(
            f"--name = {job.name!r}: expected small letters, digits and _."
        )
    if job.step in ("plan", "finish") and job.shards != (0, 1):
        raise ValueError(
            f"--shards: not with --step {job.step}; expected --step write."
        )
    if job.runner != LOCAL and find_spec("apache_beam") is None:
        raise ValueError(
            f"--runner = {job.runner}: needs the extra: pip install 'ddpm_jax[beam]'."
        )
    _check_private(job)
    if job.step in ("all", "plan") and not job.dry_run:
        _check_out(job)


def _check_private(job):
    private = job.private_folder.resolve()
    for flag, folder in (("out", job.out), (job.reading.source, job.dicom)):
        if private.is_relative_to(folder.resolve()):
            raise ValueError(
                f"--private = {job.private_folder} lies inside --{flag} = {folder}; "
                "expected it elsewhere: it says which file each record came from."
            )
    for flag, folder in (("out", job.out), (job.reading.source, job.dicom)):
        if folder.resolve().is_relative_to(private):
            raise ValueError(
                f"--{flag} = {folder} lies inside --private = {job.private_folder}; "
                "expected it elsewhere: that folder is closed to others."
            )
    if job.private_folder.exists() and not job.private_folder.is_dir():
        raise ValueError(f"--private = {job.private_folder}: there, and no folder.")


def _check_out(job):
    for table in (*job.tables, *filter(None, (job.key_file, job.dicom))):
        if table.resolve().is_relative_to(job.out.resolve()):
            raise ValueError(
                f"--out = {job.out} holds {table.name}, which is read; expected it "
                "elsewhere."
            )
    if not job.out.exists():
        return
    if not job.out.is_dir():
        raise ValueError(f"--out = {job.out}: there already, and no folder.")
    if job.overwrite:
        _check_mark(job.out)
        return
    if (job.out / records.MANIFEST).exists():
        raise ValueError(
            f"--out = {job.out}: a finished data set; expected a new folder, or "
            "--overwrite to make it anew."
        )
    if any(not is_ours(path.name) for path in job.out.iterdir()):
        raise ValueError(
            f"--out = {job.out}: holds other files; expected a new or empty folder, "
            "or --overwrite to write beside them."
        )


def _check_mark(out: Path) -> None:
    """ValueError where files have the names of ours in a folder that is not."""
    named = [path.name for path in out.iterdir() if is_ours(path.name)]
    if not named or any(".array_record-" in name for name in named):
        return
    try:
        records.load_manifest(out)
    except ValueError:
        raise ValueError(
            f"--out = {out}: holds {sorted(named)[0]}, but is no data set of this "
            "program; expected another folder: nothing was overwritten."
        ) from None


def is_ours(file: str) -> bool:
    """Whether a conversion, finished or not, leaves files of this name."""
    shard = r"[a-z0-9_]+-[a-z0-9_]+\.array_record-\d{5}-of-\d{5}(\.json)?"
    beside = (
        r"manifest\.json|features\.json|dataset_info\.json|rejected\.csv|report\.html"
    )
    labels = r"[a-z0-9_]+\.labels\.txt"
    return bool(
        re.fullmatch(rf"({shard}|{beside}|{labels})((\.[0-9a-f-]+)?\.tmp)?", file)
    )


def sweep(out: Path, planned: set[str]) -> None:
    """Remove what earlier runs left and this one does not continue."""
    kept = planned | {f"{file}.json" for file in planned}
    for path in out.iterdir():
        if is_ours(path.name) and path.name not in kept:
            path.unlink()
