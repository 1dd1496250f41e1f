"""From shards in a folder to a data set: the ledger, the proofs, the publication."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import manifest as manifests
from data_prep import plans, report, review
from data_prep.deidentify import safe_row
from data_prep.planning import drops
from data_prep.plans import Saved
from data_prep.shards import Written, drop_rows, finished
from data_prep.splits import check_disjoint
from ddpm_jax.data import records, shards
from ddpm_jax.data.shards import read_entries, write_atomically
from ddpm_jax.data.spectrum import Spectrum

REPORT = "report.html"
SAMPLE = 256
"""Images that the spectrum is measured on, spread over the first split."""


def finish(plan: Saved) -> records.Manifest:
    """Publish what `write` made. ValueError where a shard is missing or does not match
    the plan, and for the fatal codes LEDGER and SPLIT_LEAK."""
    written = _collect(plan)
    repeats = drops(o for each in written for o in each.outcomes)
    written = [
        drop_rows(shard, plan.settings, each, repeats)
        for shard, each in zip(plan.shards(), written, strict=True)
    ]
    ended = plan.outcomes()
    outcomes = [*ended, *(o for each in written for o in each.outcomes)]
    result, by_split = _manifest(plan, written, outcomes)
    out = plan.settings.out
    manifests.write_audit(plan.private / manifests.AUDIT, outcomes, plan.paths())
    manifests.write_rejected(outcomes, out)
    if result.ledger["written"]:
        facts = _facts(plan, result, by_split)
        write_atomically(out / REPORT, report.render(facts))
        review.write(plan.private / review.FILE, result, out)
        sizes = {
            split: sum(each.payload for each in members)
            for split, members in by_split.items()
        }
        shards.publish(result, sizes, out)
    if plan.content["random_ids"]:
        (plan.private / plans.KEY).unlink(missing_ok=True)
    return result


def _collect(plan: Saved) -> list[Written]:
    found, missing = [], []
    shards = tqdm(plan.shards(), "verifying shards", len(plan.files), unit="shard")
    for shard in shards:
        written = finished(shard, plan.settings)
        (missing if written is None else found).append(written or shard.file)
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(plan.files)} shards are not there or do not match "
            f"the plan, the first {missing[0]}; expected all of them: run the rest "
            "with --step write or --shards i/n."
        )
    return found


def _manifest(plan, written, outcomes):
    by_split = {}
    for (split, _, _), each in zip(plan.content["shards"], written, strict=True):
        by_split.setdefault(split, []).append(each)
    check_disjoint(
        {
            split: [o.patient_key for w in members for o in w.outcomes]
            for split, members in by_split.items()
        }
    )
    listed = len(plan.paths())
    ledger = manifests.make_ledger(listed, outcomes, plan.content["labels"])
    result = manifests.make_manifest(
        plan.content["name"],
        plan.content["shares"],
        by_split,
        ledger,
        plan.settings,
        _statistics(plan, by_split),
    )
    if faults := manifests.check_ledger(result):
        raise ValueError(faults[0])
    return result, by_split


def _statistics(plan: Saved, by_split: Mapping) -> dict:
    size, bits = plan.settings.reading.size, plan.settings.reading.bits
    members = by_split.get(next(iter(plan.content["shares"])), ())
    measured = Spectrum.empty(size)
    for pixels in sample(members, plan.settings.out, SAMPLE):
        measured += Spectrum.of(2 * (pixels / (2**bits - 1)) - 1)
    return {"spectrum": measured.to_json()} if measured.images else {}


def sample(members: Sequence[Written], out: Path, most: int) -> Iterator[np.ndarray]:
    """The pixels of up to `most` images, the same number of every shard."""
    each = -(-most // max(len(members), 1))
    total = 0
    for written in members:
        for i, entry in enumerate(read_entries(out / written.shard.file)):
            if i == each or total == most:
                break
            total += 1
            yield review.image_of(entry).pixels


def _facts(plan: Saved, result, by_split: Mapping) -> report.Facts:
    rows = {split: [] for split in result.splits}
    patients = {split: set() for split in result.splits}
    kept = {
        o.row_id: o.patient_key
        for members in by_split.values()
        for written in members
        for o in written.outcomes
        if o.code == "WRITTEN"
    }
    for shard in plan.shards():
        for row in shard.rows:
            if row.row_id in kept:
                rows[shard.split].append(safe_row(row.conditions))
                patients[shard.split].add(row.patient_key)
    return report.Facts(
        manifest=result,
        rows=rows,
        patients={split: len(keys) for split, keys in patients.items()},
        confusion=plan.confusion(),
        spectrum=result.statistics.get("spectrum"),
    )
