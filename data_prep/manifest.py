"""The ledger, which must add up, and what is written beside the shards."""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.codes import ACTIONS, MEANINGS
from data_prep.planning import Outcome
from data_prep.shards import Settings, Written
from ddpm_jax.data import records
from ddpm_jax.data.shards import write_atomically

REJECTED = "rejected.csv"
TOTALS = ("written", "duplicate", "excluded", "quarantined", "dead")


def make_ledger(
    listed: int, outcomes: Sequence[Outcome], labels: Mapping[str, object]
) -> dict:
    """Counts of where every listed file ended. ValueError LEDGER if any is lost."""
    codes = Counter(outcome.code for outcome in outcomes)
    actions = Counter()
    for code, count in codes.items():
        actions[ACTIONS[code]] += count
    flags = Counter(
        flag
        for outcome in outcomes
        if outcome.code == "WRITTEN"
        for i, flag in enumerate(records.FLAGS)
        if outcome.flags >> i & 1
    )
    once = len({outcome.row_id for outcome in outcomes})
    if not listed == once == len(outcomes):
        raise ValueError(
            f"LEDGER: {listed} files were listed, but {once} are accounted for; this "
            "is a defect of this program, and nothing was published."
        )
    return {
        "listed": listed,
        **{action: actions[action] for action in TOTALS},
        "codes": dict(sorted(codes.items())),
        "flags": dict(sorted(flags.items())),
        "labels": dict(labels),
    }


def check_ledger(manifest: records.Manifest) -> list[str]:
    """What does not add up in a manifest; empty if all does."""
    ledger, faults = manifest.ledger, []
    numbers = [ledger.get(name) for name in ("listed", *TOTALS)]
    if not all(isinstance(number, int) for number in numbers):
        return ["LEDGER: totals are missing or are no whole numbers"]
    if ledger["listed"] != sum(ledger[action] for action in TOTALS):
        faults.append("LEDGER: the totals do not add up to the files listed")
    held = sum(map(manifest.count, manifest.splits))
    if ledger["written"] != held:
        faults.append(
            f"LEDGER: {ledger['written']} files were written, the shards hold {held}"
        )
    return faults


def make_manifest(
    name: str,
    shares: Mapping[str, float],
    written: Mapping[str, Sequence[Written]],
    ledger: Mapping[str, object],
    settings: Settings,
    statistics: Mapping[str, object],
) -> records.Manifest:
    """The manifest of a data set; a split without patients has no shards."""
    return records.Manifest(
        name=name,
        schema=settings.schema,
        height=settings.reading.size,
        width=settings.reading.size,
        bits=settings.reading.bits,
        codec=settings.codec,
        splits={
            split: tuple(each.shard for each in written.get(split, ()))
            for split in shares
        },
        ledger=ledger,
        settings=settings.public()
        | {"splits": dict(shares), "config_hash": settings.digest()[:16]},
        statistics=statistics,
    )


def write_rejected(outcomes: Sequence[Outcome], out: Path) -> None:
    """The list of files that are in no shard, by row id."""
    rejected = sorted(o[:2] for o in outcomes if o.code != "WRITTEN")
    lines = ["row_id,action,code"]
    lines += [f"{row_id},{ACTIONS[code]},{code}" for row_id, code in rejected]
    write_atomically(out / REJECTED, "\n".join(lines) + "\n")


AUDIT = "audit.csv"
AUDIT_COLUMNS = ("row_id", "record_id", "patient_key", "action", "code", "file")


def write_audit(
    path: Path, outcomes: Sequence[Outcome], paths: Mapping[str, str]
) -> None:
    """The private map from ids to files, readable by its owner alone."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(AUDIT_COLUMNS)
    for o in outcomes:
        file = paths[o.row_id]
        if file.startswith(("=", "+", "-", "@")):  # a spreadsheet would run it
            file = f"'{file}"
        action = ACTIONS[o.code]
        writer.writerow((o.row_id, o.record_id, o.patient_key, action, o.code, file))
    partial = path.with_name(path.name + ".tmp")
    partial.unlink(missing_ok=True)
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", errors="surrogateescape") as file:
        file.write(table.getvalue())
    partial.replace(path)


def summary(manifest: records.Manifest, splits: bool = True) -> str:
    """The ledger as a table for a person, with the splits' counts unless it was a
    dry run."""
    ledger = manifest.ledger
    lines = [f"{'files':>9}  {'code':<15} what became of them"]
    order = sorted(
        ledger["codes"].items(), key=lambda item: (TOTALS.index(ACTIONS[item[0]]), item)
    )
    for code, count in order:
        action = ACTIONS[code]
        note = "" if code == "WRITTEN" else f"{action}: "
        lines.append(f"{count:>9}  {code:<15} {note}{MEANINGS[code]}")
    lines.append(f"{ledger['listed']:>9}  listed")
    for flag, count in ledger["flags"].items():
        lines.append(f"{count:>9}  of those written carry the flag {flag}")
    missing = ledger["labels"]["without_image"]
    if missing:
        lines.append(
            f"{missing:>9}  of {ledger['labels']['rows']} label rows have no image here"
        )
    for split in manifest.splits if splits else ():
        lines.append(f"{manifest.count(split):>9}  records in {split}")
    return "\n".join(lines)
