"""The artificial hip: solids of metal."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_prep.phantom import solids
from data_prep.phantom.materials import STEEL, TITANIUM
from data_prep.phantom.patient import SIDES, Leg, Patient, hip_centre


class Metal(NamedTuple):
    """A union of spans of rays, its attenuation, and balls [k, 4] that enclose it."""

    spans: Callable
    attenuation: float
    balls: np.ndarray


def implant(patient: Patient, side: str, leg: Leg) -> tuple:
    """A total hip: cup, head, neck and stem.

    Steel, halved for its pores and the liner, stands for cobalt-chrome in cup and
    head; the stem is titanium, tapered, 130 to 170 mm below the head's centre.
    """
    a, b, c, d, e = patient.implant[side]
    mirror = np.array([SIDES[side], 1, 1])
    hip, turn = hip_centre(patient), leg.matrix()

    def at(x, y, z):
        return (hip + turn @ np.array([x, y, z], float)) * mirror

    centre = hip * mirror
    axis = np.array([0.68 + 0.05 * a, -0.24 + 0.06 * b, -0.69]) * mirror
    axis /= np.linalg.norm(axis)
    outer = solids.Ellipsoid(centre, np.full(3, 27 + 0.7 * c))
    inner = solids.Ellipsoid(centre, np.full(3, 22.5 + 0.7 * c))
    face = solids.HalfSpace(centre + axis * 2, axis)
    head = solids.Ellipsoid(centre, np.full(3, 16 + 1.2 * d))
    stem = (
        solids.Capsule(centre, at(30, 6, -26), 6.5, 7.5),
        solids.Capsule(at(27, 6, -24), at(44, 11, -48), 9, 10),
        solids.Capsule(at(43, 11, -46), at(40, 10, -100), 11.5, 8.5),
        solids.Capsule(at(40, 10, -100), at(37.6 - 0.1 * e, 9.5, -150 - 9 * e), 8.5, 5),
    )

    def cup(origin, directions):
        shell = solids.meet(outer(origin, directions), face(origin, directions))
        return solids.subtract(shell, inner(origin, directions))

    def ball(origin, directions):
        return (head(origin, directions),)

    def shaft(origin, directions):
        return tuple(part(origin, directions) for part in stem)

    around = np.append(centre, 30.0)[None]
    rods = [(*part.start, part.start_radius) for part in stem]
    rods += [(*part.end, part.end_radius) for part in stem]
    return (
        Metal(cup, 0.5 * STEEL, around),
        Metal(ball, 0.5 * STEEL, around),
        Metal(shaft, TITANIUM, np.array(rods)),
    )
