"""One function writes one shard, from its first row to its name in the folder.

A shard is committed (`ddpm_jax.data.shards`), then its sidecar `.json`: a later run
takes it over only if that says that nothing has changed.
"""

import contextlib
import dataclasses
import functools
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_prep import worker
from data_prep.codes import ACTIONS, Rejected
from data_prep.deidentify import Ids, build_record
from data_prep.planning import Outcome, Row, ShardPlan
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records, shards
from ddpm_jax.data.shards import Entries, read_entries, write_atomically

SIDECAR = ".json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a shard's bytes, besides its rows."""

    root: Path
    out: Path
    schema: Schema
    reading: worker.Reading
    codec: str
    key: bytes
    versions: Mapping[str, str]

    def public(self) -> dict:
        """What may be written down: no key, no folder."""
        return {
            "record_version": records.VERSION,
            **self.reading._asdict(),
            "sop_classes": list(self.reading.sop_classes),
            "codec": self.codec,
            "key_id": Ids(self.key).key_id(),
            "versions": dict(self.versions),
        }

    def digest(self) -> str:
        """Changes with what is asked, with the codecs and with this code."""
        asked = json.dumps([self.public(), self.schema.to_json()]).encode()
        return hashlib.sha256(asked + _code_digest()).hexdigest()


DECIDING = (
    *("burned_in", "codes", "decode", "deidentify", "dicom", "geometry", "images"),
    *("luts", "picture", "shards", "values"),
)
"""Modules of this package whose change can change a record's bytes."""


@functools.cache
def _code_digest() -> bytes:
    files = [Path(__file__).with_name(f"{name}.py") for name in DECIDING]
    files += [Path(records.__file__), Path(shards.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()


@dataclasses.dataclass(frozen=True)
class Written:
    """A shard in the folder and where each of its rows ended."""

    shard: records.Shard
    outcomes: tuple[Outcome, ...]
    payload: int
    dropped: tuple[str, ...] = ()


def write_shard(
    plan: ShardPlan, settings: Settings, advance: Callable[[], None] = lambda: None
) -> Written:
    """The shard of `plan`, written now or found finished by an earlier run; after
    each row `advance()` is called, and what it raises ends the shard unfinished."""
    found = finished(plan, settings)
    if found is not None:
        for _ in plan.rows:
            advance()
        return found
    ids, outcomes, entries = Ids(settings.key), [], Entries(settings.out / plan.file)
    with entries:
        for row in plan.rows:
            outcome, entry = convert_row(row, ids, settings)
            outcomes.append(outcome)
            if entry is not None:
                entries.write(entry)
            advance()
    return _commit(plan, settings, entries, tuple(outcomes), ())


def convert_row(row: Row, ids: Ids, settings: Settings) -> tuple[Outcome, bytes | None]:
    """Where one file ends, and its entry if that is in the shard."""
    patient_key = row.patient_key.hex()
    try:
        _check_stamp(settings.root / row.path, row.stamp)
        record = build_record(
            worker.read(settings.root / row.path, settings.root, settings.reading),
            row.conditions,
            ids=ids,
            patient_key=row.patient_key,
            codec=settings.codec,
            bits=settings.reading.bits,
            flags=row.flags,
        )
    except Rejected as rejected:
        return Outcome(row.row_id, rejected.code, "", patient_key), None
    except Exception:  # one file must not end the run, whatever is in it
        return Outcome(row.row_id, "CRASH", "", patient_key), None
    outcome = Outcome(
        row.row_id, "WRITTEN", record.record_id.hex(), patient_key, record.flags
    )
    return outcome, records.serialize(record, settings.schema)


def _check_stamp(path, stamp):
    """The label and the patient belong to the file that was planned."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_size, found.st_mtime_ns) != stamp:
            raise Rejected("CHANGED")


def drop_rows(
    plan: ShardPlan, settings: Settings, written: Written, drops: Mapping[str, str]
) -> Written:
    """The shard without the rows in `drops`, {row id: code}: its records are copied,
    not converted again, unless one that was dropped before must come back."""
    mine = {o.row_id for o in written.outcomes if o.row_id in drops}
    if mine == set(written.dropped):
        return dataclasses.replace(written, outcomes=recode(written.outcomes, drops))
    if set(written.dropped) - mine:
        _sidecar(plan.file, settings).unlink()
        return drop_rows(plan, settings, write_shard(plan, settings), drops)
    present = [
        o.row_id
        for o in written.outcomes
        if o.record_id and o.row_id not in written.dropped
    ]
    entries = Entries(settings.out / plan.file)
    with entries:
        source = read_entries(settings.out / plan.file)
        for row_id, entry in zip(present, source, strict=True):
            if row_id not in mine:
                entries.write(entry)
    outcomes = recode(written.outcomes, drops)
    return _commit(plan, settings, entries, outcomes, tuple(sorted(mine)))


def recode(
    outcomes: Sequence[Outcome], drops: Mapping[str, str]
) -> tuple[Outcome, ...]:
    """Outcomes with the codes of `drops`, {row id: code}; others are written."""
    return tuple(
        o._replace(code=drops.get(o.row_id, "WRITTEN")) if o.record_id else o
        for o in outcomes
    )


def _commit(plan, settings, entries, outcomes, dropped) -> Written:
    shard = entries.commit()
    written = Written(shard, outcomes, entries.payload, dropped)
    content = _stamp(plan, settings) | dataclasses.asdict(written)
    write_atomically(_sidecar(plan.file, settings), json.dumps(content))
    return written


def finished(plan: ShardPlan, settings: Settings) -> Written | None:
    """What an earlier run wrote, if settings, input and bytes are all the same."""
    try:
        content = json.loads(_sidecar(plan.file, settings).read_text())
        shard = records.Shard(**content["shard"])
        same = all(content[k] == v for k, v in _stamp(plan, settings).items())
        if not same or records.file_digest(settings.out / plan.file) != shard.sha256:
            return None
        outcomes = tuple(Outcome(*outcome) for outcome in content["outcomes"])
        dropped = tuple(content["dropped"])
        if shard.file != plan.file or not _sound(plan, outcomes, dropped):
            return None
        return Written(shard, outcomes, int(content["payload"]), dropped)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _sound(plan, outcomes, dropped) -> bool:
    """Whether a sidecar tells of the plan's rows, in the terms of the ledger."""
    expected = [(row.row_id, row.patient_key.hex()) for row in plan.rows]
    return (
        [(o.row_id, o.patient_key) for o in outcomes] == expected
        and all(o.code in ACTIONS and isinstance(o.flags, int) for o in outcomes)
        and all(re.fullmatch("([0-9a-f]{32})?", o.record_id) for o in outcomes)
        and set(dropped) <= {row.row_id for row in plan.rows}
    )


def _stamp(plan, settings):
    """Hashes of the settings and of the rows with their files' size and time."""
    rows = hmac.new(settings.key, digestmod="sha256")
    for row in plan.rows:
        rows.update(
            repr((*row[:4], sorted(row.conditions.items()), row.flags)).encode()
        )
    return {"settings": settings.digest(), "input": rows.hexdigest()}


def _sidecar(file, settings):
    return settings.out / f"{file}{SIDECAR}"
