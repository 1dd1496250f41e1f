"""The files of a design: what is shown is in OUT, what it is in the private folder."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ddpm_jax import pictures
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reader_study import draw, pixels, study
from ddpm_jax.reader_study.material import Candidate, Material

SAME_TIME = 946_684_800
"""Seconds since 1970 that every image file bears: the first of January, 2000."""


MOST_ON_SHEET = 40


class Shown(NamedTuple):
    """One image of the study, before it has a name."""

    side: str
    candidate: Candidate
    planted: str = ""
    claim: str = ""


class Plan(NamedTuple):
    """What the study is made of, before anything has a name."""

    protocol: str
    readers: Sequence[str]
    training: Sequence[Shown]
    counted: Sequence[Shown]
    repeats: int
    schema: Schema
    path: pixels.Path


def write(
    out: Path, rng: np.random.Generator, plan: Plan, sides: Mapping[str, Material]
) -> dict[str, Shown]:
    """Write OUT, images in random order under random names; name -> what it is."""
    shown = [*plan.training, *plan.counted]
    order = rng.permutation(len(shown)).tolist()
    ids = dict(zip(order, draw.new_ids(rng, len(shown)), strict=True))
    names = [ids[i] for i in range(len(shown))]
    fresh(out)
    (out / study.IMAGES).mkdir()
    for i in tqdm(order, desc="writing", unit="image"):
        material = sides[shown[i].side]
        image = plan.path(material.read(shown[i].candidate.index), material.bits).image
        file = study.image_path(out, ids[i])
        file.write_bytes(np.ascontiguousarray(image, "<u2").tobytes())
        os.utime(file, (SAME_TIME, SAME_TIME))
    content = new_study(rng, plan, names, image.shape)
    study.write_private(out / study.STUDY, study.seal(content.to_json()))
    tokens = {reader: study.new_token() for reader in plan.readers}
    study.write_private(out / study.READERS, tokens)
    return dict(zip(names, shown, strict=True))


def new_study(rng, plan: Plan, names: Sequence[str], shape) -> study.Study:
    """Everything in it is sorted by name or shuffled: no order tells. Repeats, which
    are drawn by kind, have randomness of their own: the rest knows no truth."""
    rng, by_kind = rng.spawn(2)
    practice, rest = names[: len(plan.training)], names[len(plan.training) :]
    repeats = choose_repeats(by_kind, rest, plan.counted, plan.repeats)
    shown = [*plan.training, *plan.counted]
    truth = dict(zip(practice, plan.training, strict=True))
    claims = {
        name: claim(one, plan.schema)
        for name, one in sorted(zip(names, shown, strict=True))
        if plan.schema.names
    }
    return study.Study(
        plan.protocol,
        *shape,
        plan.path.levels,
        fields=tuple((field.name, field.title) for field in plan.schema),
        claims=claims,
        feedback={
            name: truth[name].planted if plan.schema.names else truth[name].side
            for name in sorted(truth)
        },
        sequences={
            reader: draw.sequence(rng, sorted(practice), sorted(rest), repeats)
            for reader in plan.readers
        },
    )


def choose_repeats(
    rng, names: Sequence[str], counted: Sequence[Shown], count: int
) -> list[str]:
    """Of every kind as many, as far as their number allows; no planted one."""
    kinds = [
        [n for n, one in zip(names, counted, strict=True) if one.side == side]
        for side in study.TRUTHS
    ]
    planted = {n for n, one in zip(names, counted, strict=True) if one.planted}
    drawn = [
        [kind[i] for i in rng.permutation(len(kind)) if kind[i] not in planted]
        for kind in kinds
        if kind
    ]
    turn = [name for group in zip(*drawn, strict=False) for name in group]  # alternate
    return turn[:count]


def claim(one: Shown, schema: Schema) -> dict[str, str]:
    """What is said of an image, as text, field by field; not known is not claimed."""
    row = {name: one.candidate.row[name] for name in schema.names}
    if one.planted:
        row[one.planted] = one.claim
    return {
        field.name: _words(field, row[field.name])
        for field in schema
        if row[field.name] is not None
    }


def _words(field, value) -> str:
    if field.kind == "categorical":
        return value
    return " ".join(filter(None, (f"{value:g}", field.unit)))


@contextlib.contextmanager
def whole(*folders: Path) -> Iterator[list[Path]]:
    """A folder beside each, to be filled; they take the places of `folders`, in this
    order, once all is written. Until then and after an error nothing there changes."""
    pending = [one.with_name(f".{one.name}.partial") for one in folders]
    try:
        yield pending
        for made, folder in zip(pending, folders, strict=True):
            if folder.exists():
                shutil.rmtree(folder)
            made.replace(folder)
    except OSError as error:
        raise ValueError(f"{folders[-1]}: not written ({error.strerror}).") from None
    finally:
        for made in pending:
            shutil.rmtree(made, ignore_errors=True)


def fresh(folder: Path) -> None:
    """An empty folder of mode 700."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)


def write_private(
    private: Path,
    out: Path,
    made: Mapping[str, Shown],
    settings: Mapping,
    said: str,
) -> None:
    """The truth by image and how the study was made; `said` is for people."""
    fresh(private)
    truth = {
        name: dataclasses.asdict(
            study.Truth(one.side, one.candidate.source, one.planted)
        )
        for name, one in sorted(made.items())
    }
    (private / "design.txt").write_text(said + "\n")
    for side in study.TRUTHS:
        write_sheet(private / f"{side}.png", out, made, side)
    digest = study.digest(out / study.STUDY)
    key = {"study_sha256": digest, "settings": dict(settings), "truth": truth}
    study.write_private(private / study.KEY, key)


def write_sheet(file: Path, out: Path, made: Mapping, side: str) -> None:
    """Some images of one side as they are shown, for somebody who will not read."""
    names = [name for name, one in sorted(made.items()) if one.side == side]
    names = names[:MOST_ON_SHEET]
    content = study.load(out)
    images = [
        np.fromfile(study.image_path(out, name), "<u2").reshape(
            content.height, content.width
        )
        for name in names
    ]
    if images:
        grey = np.stack(images).astype(np.uint32) * 65535 // (content.levels - 1)
        pictures.contact_sheet(grey.astype(np.uint16), names).save(file)
