"""Which images a study is made of, and at which depth they are shown."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from tqdm import tqdm

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reader_study import blinding, draw, pixels, study
from ddpm_jax.reader_study.material import Candidate, Material
from ddpm_jax.reader_study.writing import Shown

Drawn = tuple[list[Shown], list[Shown]]
"""Practice images and counted ones."""


class TooFew(Exception):
    """Not enough images; the text says how many there are."""


def pairs(
    rng: np.random.Generator,
    real: Material,
    synthetic: Material,
    fields: Sequence[str],
    path: pixels.Path,
    drop: bool,
    training: int,
    count: int,
) -> Drawn:
    """`count` real images and as many synthetic ones, alike in `fields`; with `drop`,
    none in which a marker is found."""

    def usable(side: Material):
        if not drop:
            return lambda one: True
        return lambda one: not path(side.read(one.index), side.bits).markers

    practice = -(-training // 2)
    needed = practice + count
    found = draw.pairs(
        rng,
        real.candidates,
        synthetic.candidates,
        fields,
        (usable(real), usable(synthetic)),
    )
    taken = list(tqdm(islice(found, needed), "drawing", needed, unit="pair"))
    if len(taken) < needed:
        alike = f" alike in {', '.join(fields)}" if fields else ""
        raise TooFew(
            f"only {len(taken)} pairs of a real and a synthetic image{alike}, one a "
            f"patient; {needed} are needed"
        )
    shown = [
        Shown(side, one)
        for pair in taken
        for side, one in zip(study.TRUTHS, pair, strict=True)
    ]
    return shown[:training], shown[2 * practice :]


def labels(
    rng: np.random.Generator,
    candidates: Sequence[Candidate],
    schema: Schema,
    seen: draw.Together,
    training: int,
    count: int,
    planted: int,
) -> Drawn:
    """`count` images with the labels they were asked for and `planted` ones with a
    wrong one among them; of the practice images half have a wrong one."""
    faulty, right = planted + training // 2, count + training - training // 2
    usable = [c for c in candidates if any(c.row[n] is not None for n in schema.names)]
    shown: list[Shown] = []
    faults: list[Shown] = []
    for i in rng.permutation(len(usable)):
        one = usable[i]
        fault = draw.planted(rng, one.row, schema, schema.names, seen)
        if fault and len(faults) < faulty:
            faults.append(Shown(study.SYNTHETIC, one, *fault))
        else:
            shown.append(Shown(study.SYNTHETIC, one))
    if len(faults) < faulty or len(shown) < right:
        raise TooFew(
            f"{len(usable)} images with a label of {', '.join(schema.names)}, "
            f"{len(faults)} usable for a wrong one; {faulty + right} and {faulty} are "
            "needed"
        )
    return (
        faults[planted:] + shown[count:right],
        faults[:planted] + shown[:count],
    )


def choose_path(
    path: pixels.Path,
    least: int,
    sides: Mapping[str, Material],
    counted: Sequence[Shown],
) -> tuple[pixels.Path, list[blinding.Line]]:
    """The path of most bits, down to `least`, whose grey levels do not tell, and its
    audit."""
    for bits in range(path.bits, least - 1, -1):
        path = dataclasses.replace(path, bits=bits)
        lines = blinding.audit(
            *(_seen(path, sides[side], side, counted) for side in study.TRUTHS),
            path.levels,
        )
        if not {one.name for one in lines if one.betrays} & set(blinding.STORAGE):
            break
    return path, lines


def _seen(path, material: Material, side: str, counted: Sequence[Shown]):
    for one in counted:
        if one.side == side:
            yield path(material.read(one.candidate.index), material.bits)
