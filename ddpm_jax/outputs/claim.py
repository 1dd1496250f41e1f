"""Whose a folder is: begun once, gone on with by the same command, never taken from
another.

`request.json` says what was asked.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from ddpm_jax.data import shards
from ddpm_jax.outputs import dataset
from ddpm_jax.outputs.folder import MANIFEST, RECORDS, ROWS, SUFFIXES, Job

REQUEST = "request.json"
OURS = re.compile(r"([0-9]{6,}\.(png|dcm)|contact_sheet\.png|manifest\.csv)")
SHARDS = re.compile(
    rf"{dataset.NAME}-[a-z0-9_]+\.array_record-\d{{5}}-of-\d{{5}}(\.json)?"
    r"|features\.json|dataset_info\.json|manifest\.json"
)
TEMPORARY = re.compile(r"(.+)\.[0-9a-f]+-[0-9a-f]+\.tmp")


def begin(job: Job, overwrite: bool) -> bool:
    """Make the folder, or go on in it; whether it is finished already.

    ValueError where something else is there. `overwrite` makes it anew, unless it is
    the same command and was not finished; it removes what the request.json there asked
    for and nothing else, and is refused where it would write over another's file.
    """
    out, now = job.out, job.request()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: a file; expected a folder.")
    before = _request(out)
    same, whole = before == now, (out / MANIFEST).exists()
    if same and whole and not overwrite:
        return True
    if not same and not overwrite:
        _refuse(out, before, now)
    if not same:
        _keep_foreign(job, before)
    if before is not None and (not same or whole):
        _clear(out, before)
    out.mkdir(parents=True, exist_ok=True)
    if job.shards:
        (out / RECORDS).mkdir(exist_ok=True)
    for folder in (out, out / RECORDS):
        _remove(folder, lambda name: _is_ours(TEMPORARY.sub(r"\1", name), name))
    if not same or whole:
        shards.write_atomically(out / REQUEST, json.dumps(now, indent=1) + "\n")
    return False


def _request(out: Path) -> dict | None:
    """What the command before this one was asked for; None where there was none."""
    try:
        found = json.loads((out / REQUEST).read_text())
        known = type(found["number of images"]) is int and list(found["--format"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(
            f"{out / REQUEST}: not as this command writes it; expected another --out."
        )
    return found


def _made_by(before: dict | None) -> Callable[[str], bool]:
    """Whether a name in --out is one that the command before this one wrote."""
    count = before["number of images"] if before else 0
    suffixes = [SUFFIXES.get(kind) for kind in before["--format"]] if before else []

    def made(name: str) -> bool:
        if not OURS.fullmatch(name) or before is None:
            return False
        stem, suffix = os.path.splitext(name)
        if not stem.isdecimal():
            return True
        return suffix in suffixes and stem == f"{int(stem):06d}" and int(stem) < count

    return made


def _keep_foreign(job: Job, before: dict | None) -> None:
    """ValueError where this command would take another's file for its own."""
    writes, made = _made_by(job.request()), _made_by(before)
    names = [e.name for e in os.scandir(job.out)] if job.out.is_dir() else []
    foreign = [name for name in names if writes(name) and not made(name)]
    if job.shards and (before is None or "records" not in before["--format"]):
        place = job.out / RECORDS
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            foreign.append(RECORDS)
    if foreign:
        raise ValueError(
            f"--out {job.out}: {min(foreign)} is there and was not made by the command "
            "that request.json tells of; expected another folder."
        )


def _refuse(out, before, now):
    if before is None:
        if out.exists() and any(out.iterdir()):
            raise ValueError(
                f"--out {out}: not empty; expected a new folder or --overwrite."
            )
        return
    names = [n for n in {**before, **now} if before.get(n) != now.get(n)]
    differing = "; ".join(
        n if n == ROWS else f"{n}: {before.get(n)!r} -> {now.get(n)!r}" for n in names
    )
    raise ValueError(
        f"--out {out}: what is there was asked for otherwise ({differing}); expected "
        "the same command, another folder or --overwrite."
    )


def _is_ours(final: str, name: str) -> bool:
    """Whether `name` is a temporary of one of our files."""
    ours = OURS.fullmatch(final) or SHARDS.fullmatch(final) or final == REQUEST
    return name != final and bool(ours)


def _remove(folder: Path, chosen) -> None:
    if folder.is_dir():
        for entry in list(os.scandir(folder)):
            if chosen(entry.name):
                os.unlink(entry.path)


def _clear(out: Path, before: dict) -> None:
    """Remove what `before` made; first what says that it is finished."""
    (out / MANIFEST).unlink(missing_ok=True)
    if "records" in before["--format"]:
        (out / RECORDS / "manifest.json").unlink(missing_ok=True)
        _remove(out / RECORDS, SHARDS.fullmatch)
    _remove(out, _made_by(before))
