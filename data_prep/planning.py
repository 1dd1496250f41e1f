"""What will go where, decided from names, headers and labels before any pixel."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from data_prep import conflicts, worker
from data_prep.codes import Rejected
from data_prep.deidentify import Ids
from data_prep.dicom import Header
from data_prep.labels import Label, Labels
from ddpm_jax.data.splits import split_of

FEWEST_PER_SHARD, MOST_PER_SHARD, SHARDS_WANTED = 32, 512, 32


class Row(NamedTuple):
    """One file of the plan. `path` and `stamp` never leave the private folder."""

    row_id: str
    path: str
    stamp: tuple[int, int]
    patient_key: bytes
    conditions: Mapping
    flags: tuple[str, ...]


class Outcome(NamedTuple):
    """Where one file ended, in terms that may be written down."""

    row_id: str
    code: str
    record_id: str = ""
    patient_key: str = ""
    flags: int = 0


class ShardPlan(NamedTuple):
    """One shard: its split, its file name, its rows in order."""

    split: str
    file: str
    rows: tuple[Row, ...]


class Scanned(NamedTuple):
    """A listed file: its header, or the code it is rejected with."""

    path: str
    stamp: tuple[int, int]
    header: Header | None
    code: str


class Plan(NamedTuple):
    """Shards to write, files that ended here, how the labels fared, label against
    header {field: {(label, header): files}}, and {row id: path} of all files."""

    shards: tuple[ShardPlan, ...]
    outcomes: tuple[Outcome, ...]
    labels: Mapping[str, object]
    confusion: Mapping[str, Mapping[tuple[str, str], int]]
    paths: Mapping[str, str]


def list_files(root: Path, leave_out: Iterable[Path] = ()) -> list[str]:
    """Every file below `root`, links included (they are counted, never followed).

    ValueError where a folder cannot be read: its files could not be counted.
    """
    left_out = {Path(os.path.realpath(path)) for path in leave_out}
    found = []
    for folder, folders, files in os.walk(root, onerror=_unreadable):
        links = [name for name in folders if os.path.islink(Path(folder, name))]
        for name in (*files, *links):
            path = Path(folder, name)
            if Path(os.path.realpath(path)) not in left_out or path.is_symlink():
                found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _unreadable(error: OSError):
    raise ValueError(
        f"--dicom: a folder below it cannot be read ({error.strerror}), so its files "
        "cannot be counted; make it readable or move it away."
    )


def scan_file(path: str, root: Path, reading: worker.Reading) -> Scanned:
    """The header of one listed file."""
    full = root / path
    try:
        found = os.lstat(full)
        stamp = (found.st_size, found.st_mtime_ns)
        return Scanned(path, stamp, worker.scan(full, root, reading), "")
    except Rejected as rejected:
        return Scanned(path, (0, 0), None, rejected.code)
    except OSError:
        return Scanned(path, (0, 0), None, "NOT_REGULAR")
    except Exception:  # one file must not end the run, whatever is in it
        return Scanned(path, (0, 0), None, "CRASH")


def make_plan(
    scanned: Iterable[Scanned],
    labels: Labels,
    *,
    ids: Ids,
    shares: Mapping[str, float],
    name: str,
    per_shard: int,
    max_conflict: float,
) -> Plan:
    """Rows joined, split by patient and dealt out to shards; order is by row id, which
    keeps neither the archive's order nor a patient's images together."""
    rows, outcomes, used = {split: [] for split in shares}, [], set()
    paths = {}
    compared = conflicts.Tally()
    for file in scanned:
        row_id = ids.file(file.path)
        paths[row_id] = file.path
        try:
            label, patient = _join(file, labels, used)
        except Rejected as rejected:
            outcomes.append(Outcome(row_id, rejected.code))
            continue
        patient_key = ids.patient(patient)
        flags = ["LABEL_RANGE"] if label.out_of_range else []
        if compared.add(file.header, label.row):
            flags.append("LABEL_CONFLICT")
        row = Row(row_id, file.path, file.stamp, patient_key, label.row, tuple(flags))
        rows[split_of(patient_key, shares)].append(row)
    compared.check(max_conflict)
    shards = [
        shard
        for split, members in rows.items()
        for shard in _deal(split, sorted(members), name, per_shard)
    ]
    report = {
        "rows": len(labels.rows),
        "without_image": len(labels.rows) - len(used),
        "conflicts": compared.to_json(),
    }
    return Plan(tuple(shards), tuple(outcomes), report, compared.confusion, paths)


def _join(file: Scanned, labels: Labels, used: set[int]) -> tuple[Label, str]:
    """(label, patient) of a file; `used` collects the rows that have an image."""
    if file.header is None:
        used.update(labels.matching("", file.path))
        raise Rejected(file.code)
    used.update(labels.matching(file.header.uid, file.path))
    label = labels.find(file.header.uid, file.path)
    patient = file.header.patient or (f"|{label.patient}" if label.patient else "")
    if not patient:
        raise Rejected("NO_PATIENT")
    return label, patient


def _deal(split, rows, name, per_shard):
    """Rows in equal runs; by default about SHARDS_WANTED shards of moderate size."""
    if not rows:
        return []
    wanted = -(-len(rows) // SHARDS_WANTED)
    size = per_shard or min(max(wanted, FEWEST_PER_SHARD), MOST_PER_SHARD)
    count = -(-len(rows) // size)
    ends = [len(rows) * i // count for i in range(count + 1)]
    return [
        ShardPlan(
            split,
            f"{name}-{split}.array_record-{i:05d}-of-{count:05d}",
            tuple(rows[ends[i] : ends[i + 1]]),
        )
        for i in range(count)
    ]


def drops(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """{row id: code} of written rows that hold a picture which is there already.

    The same record id is the same stored pixels: within one patient all but the
    first are duplicates; under two patients none can be trusted.
    """
    outcomes = [o for o in outcomes if o.record_id]
    repeated = {k for k, n in Counter(o.record_id for o in outcomes).items() if n > 1}
    groups = {}
    for outcome in outcomes:
        if outcome.record_id in repeated:
            groups.setdefault(outcome.record_id, []).append(outcome)
    dropped = {}
    for group in groups.values():
        same = len({outcome.patient_key for outcome in group}) == 1
        rest, code = (group[1:], "DUP_SAME") if same else (group, "DUP_CROSS")
        dropped |= {outcome.row_id: code for outcome in rest}
    return dropped
