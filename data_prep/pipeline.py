"""The conversion from a folder of files to a finished data set, in three steps.

`plan` reads names, headers and labels and decides what goes where; `write` makes the
shards, here or on a cluster, all or a slice of them; `finish` puts the ledger together
and publishes. They meet in the private folder and in the shards' sidecars alone, so
each can be run again after any interruption.
"""

import functools
from collections import Counter
from contextlib import AbstractContextManager

from tqdm import tqdm

from data_prep import finish, label_map, planning, plans, runners, shards
from data_prep import job as jobs
from data_prep import manifest as manifests
from data_prep.deidentify import Ids
from data_prep.job import Job
from data_prep.labels import read_labels
from data_prep.shards import Settings
from ddpm_jax.data import records
from ddpm_jax.data.shards import alone


def run(job: Job) -> records.Manifest | None:
    """Do what `job.step` says; the manifest, where that published one.

    Where no file could be converted there is none in the folder, so that nobody
    trains on nothing. Raises ValueError for a user's mistake and for a fatal code:
    LEDGER, SPLIT_LEAK, SHARD_VERIFY.
    """
    jobs.check(job)
    if job.dry_run:
        return _preview(job)
    plans.make_private(job.private_folder)
    if job.step in ("all", "plan"):
        with _alone(job):
            make_plan(job)
    if job.step in ("all", "write"):
        plan = _load(job)
        index, count = job.shards
        files = plan.files[index::count]
        runners.write(plan, files, job.runner, job.beam_options, job.workers)
    if job.step in ("all", "finish"):
        with _alone(job):
            return finish.finish(_load(job))
    return None


def _load(job: Job) -> plans.Saved:
    """The plan; ValueError where it is one of other folders."""
    plan = plans.load(job.private_folder, job.key)
    asked = (
        ("out", job.out, plan.settings.out),
        (
            job.reading.source,
            job.dicom,
            plan.settings.root,
        ),
    )
    for flag, folder, planned in asked:
        if folder.resolve() != planned:
            raise ValueError(
                f"--{flag} = {folder}: the plan in {job.private_folder} is for "
                f"{planned}; expected the same, or --step plan again."
            )
    return plan


def _alone(job: Job) -> AbstractContextManager:
    """No two plans or finishes of one folder at a time."""
    folder = job.private_folder
    busy = f"--private = {folder}: another conversion is at work there"
    return alone(folder / plans.LOCK, busy)


def make_plan(job: Job) -> None:
    """List, scan, join and deal out; the plan is in the private folder afterwards."""
    plan = _plan(job, settings := _settings(job))
    job.out.mkdir(parents=True, exist_ok=True)
    jobs.sweep(job.out, {shard.file for shard in plan.shards})
    extra = {
        "name": job.name,
        "shares": dict(job.shares),
        "random_ids": job.random_ids,
    }
    plans.save(job.private_folder, plan, settings, job.key_file, extra)


def _plan(job: Job, settings: Settings) -> planning.Plan:
    mapping = label_map.load_map(job.labels_map) if job.labels_map else None
    labels = read_labels(job.labels, job.schema, mapping)
    print(labels.columns, flush=True)
    files = planning.list_files(job.dicom, leave_out=job.tables)
    if not files:
        raise ValueError(f"--{job.reading.source} = {job.dicom}: no files in it.")
    scan = functools.partial(
        planning.scan_file, root=job.dicom, reading=settings.reading
    )
    with runners.mapping(job.workers) as each:
        bar = tqdm(each(scan, files), "reading headers", len(files), unit="file")
        scanned = list(bar)
    plan = planning.make_plan(
        scanned,
        labels,
        ids=Ids(job.key),
        shares=job.shares,
        name=job.name,
        per_shard=job.records_per_shard,
        max_conflict=job.max_conflict,
    )
    _announce(job, len(files), plan)
    return plan


def _settings(job: Job) -> Settings:
    return Settings(
        root=job.dicom,
        out=job.out,
        schema=job.schema,
        reading=job.reading,
        codec=job.codec,
        key=job.key,
        versions=plans.versions(),
    )


def _announce(job: Job, listed: int, plan: planning.Plan) -> None:
    counts = Counter()
    for shard in plan.shards:
        counts[shard.split] += len(shard.rows)
    for split in job.shares if counts else ():
        if not counts[split]:
            print(f"Note: no patient falls into the split {split}.")
    print(
        f"{listed} files, {counts.total()} with a label and a header to convert, "
        f"in {len(plan.shards)} shards."
    )


def _preview(job: Job) -> records.Manifest:
    """The manifest that would be: everything is read and decoded, nothing written."""
    plan = _plan(job, settings := _settings(job))
    ids, rows = Ids(job.key), [row for shard in plan.shards for row in shard.rows]

    def one(row):
        return shards.convert_row(row, ids, settings)[0]

    with runners.mapping(job.workers) as each:
        found = list(tqdm(each(one, rows), "converting", len(rows), unit="file"))
    drops = planning.drops(found)
    outcomes = [*plan.outcomes, *shards.recode(found, drops)]
    ledger = manifests.make_ledger(len(plan.paths), outcomes, plan.labels)
    return manifests.make_manifest(job.name, job.shares, {}, ledger, settings, {})
