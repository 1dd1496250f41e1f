"""A patient as solids: posed bones, flesh, gas and metal.

Lengths in mm, LPS coordinates (+x patient's left, +y posterior, +z superior) with
the origin midway between the hips.
"""

from typing import NamedTuple

import numpy as np

from data_prep.phantom import bones, solids
from data_prep.phantom.implant import implant
from data_prep.phantom.materials import CORTEX, MUSCLE, TRABECULAR
from data_prep.phantom.patient import (
    SIDES,
    Leg,
    Patient,
    fat_thickness,
    frailty,
    hip_centre,
)


class Scene(NamedTuple):
    """What the beam meets.

    `points` [n, 3] carry `mass` [n] mm^2: excess attenuation over muscle times volume.
    `body` and `flesh` are unions of solids: skin, and the muscle inside; `gas` are
    bubbles; `metal` holds `Metal`s.
    """

    points: np.ndarray
    mass: np.ndarray
    body: tuple
    flesh: tuple
    gas: tuple
    metal: tuple


def bone_mass(cloud: bones.Cloud, age: float, density: float = 1.0):
    """Excess attenuation over muscle times volume, mm^2, of each point of a cloud.

    With age the cortex loses up to 40 % of its thickness and trabecular bone half
    its mass. The split of a point's cube between outside, cortex and inside is that
    of a plane surface at its depth, so thin cortex keeps its mass at any pitch.
    """
    loss, half = frailty(age), cloud.pitch / 2
    cortex = cloud.cortex * (1 - 0.4 * loss)
    inside = np.clip(cloud.depth + half, 0, cloud.pitch)
    core = np.clip(cloud.depth + half - cortex, 0, cloud.pitch)
    trabecular = (TRABECULAR - MUSCLE) * (1 - 0.5 * loss) * cloud.spongy
    shell = (CORTEX - MUSCLE) * (1 - 0.15 * loss)
    filling = (inside - core) * shell + core * trabecular
    return (filling * (cloud.pitch**2 * density)).astype(np.float32)


def shape_pelvis(points, patient: Patient):
    """The male landmark pelvis bent to the patient's: sex and chance, smoothly.

    A woman's wings are lower (6 %) and flare, her ischia stand 9 mm further apart,
    her pubic arch is wider and her inlet rounder; hip centres stay in place.
    """
    female = float(patient.sex == "F")
    flare, height, arch, depth = patient.shape[:4]
    x, y, z = points.T
    above, below = np.maximum(z - 25, 0), np.maximum(-18 - z, 0)
    side = np.sign(x) * np.clip(np.abs(x) / 30, 0, 1)
    spread = (0.06 * female - 0.03 + 0.025 * flare) * above
    spread += (0.20 * female - 0.07 + 0.03 * arch) * below
    taller = -0.06 * female + 0.025 * height
    front, back = 1 - 0.04 * female + 0.03 * depth, 1 + 0.05 * female + 0.03 * depth
    bent = np.empty((3, len(points)), np.float32)
    bent[0] = x + side * spread
    bent[1] = np.maximum(y, 0) * back + np.minimum(y, 0) * front
    bent[2] = z + np.maximum(z, 0) * taller
    return bent.T


def _mirrored(points, sign):
    return points * np.float32([sign, 1, 1])


def _posed(patient, name, pitch, pose, sees):
    """A bone's visible cells put in place by `pose`: points, mass and the cloud."""
    cloud = bones.cloud(name, pitch)
    cloud = cloud.only(sees(pose(cloud.centres), 1.3 * cloud.reach))
    mass = bone_mass(cloud, patient.age, 1 + 0.08 * patient.shape[4])
    return pose(cloud.points), mass, cloud


def _thigh_bone(patient, side, leg, pitch, sees):
    wide = np.float32([1 + 0.03 * patient.shape[5], 1, 1])
    turn, hip = leg.matrix().astype(np.float32), hip_centre(patient)

    def pose(points):
        placed = (turn * wide) @ points.T + hip[:, None]
        return _mirrored(placed.T, SIDES[side])

    points, mass, cloud = _posed(patient, "femur", pitch, pose, sees)
    if patient.prosthesis[side]:
        neck = (cloud.points - np.float32([30, 6, -26])) @ np.float32([0.6, 0.1, -0.79])
        mass = np.where(neck > 0, mass, 0)
    return points, mass


def _pelvis_bone(patient, name, sign, pitch, sees):
    def pose(points):
        return shape_pelvis(_mirrored(points, sign), patient)

    return _posed(patient, name, pitch, pose, sees)[:2]


def _flesh(patient, legs, extra):
    """Trunk, buttocks and thighs, each grown by `extra` mm of fat."""
    muscle = 1 + 0.012 * (patient.bmi - 27)
    parts = [
        solids.Ellipsoid(
            np.array([0, 20.0, 110]),
            np.array([158 * muscle + 0.8 * extra, 98 * muscle + extra, 280]),
        )
    ]
    for side, sign in SIDES.items():
        hip, turn = hip_centre(patient), legs[side].matrix()
        knee = hip + turn @ np.array([5, 10, -360.0])
        hip = hip + turn @ np.array([12, 12, -30.0])
        mirror = np.array([sign, 1, 1])
        thigh = (80 * muscle + 0.65 * extra, 58 * muscle + 0.5 * extra)
        parts.append(solids.Capsule(hip * mirror, knee * mirror, *thigh))
        buttock = np.array([72, 62, 52]) * muscle + 0.7 * extra
        parts.append(solids.Ellipsoid(np.array([66.0, 62, -8]) * mirror, buttock))
    return tuple(parts)


def _gas(patient):
    rng = np.random.default_rng(patient.gas_seed)
    count = rng.integers(2, 9)
    centres = rng.uniform([-95, -55, 45], [95, 5, 165], (count, 3))
    rectum = rng.uniform([-12, 40, -5], [12, 55, 40], (1, 3))
    radii = rng.uniform(5, 19, (count + 1, 1)) * rng.uniform(0.6, 1.5, (count + 1, 3))
    pairs = zip(np.concatenate([centres, rectum]), radii, strict=True)
    return tuple(solids.Ellipsoid(centre, radius) for centre, radius in pairs)


def everything(centres, reach):
    """Sees all cells."""
    return np.ones(len(centres), bool)


def build_scene(patient: Patient, legs: dict[str, Leg], pitch: float, sees=everything):
    """The patient as the beam meets it, unscaled (see `Patient.scale`).

    Bones are sampled every `pitch` mm, and only where `sees(centres, reach)`.
    """
    parts = [("hemipelvis", -1), ("hemipelvis", 1), ("sacrum", 1), ("lumbar", 1)]
    clouds = [_pelvis_bone(patient, *part, pitch, sees) for part in parts]
    clouds += [_thigh_bone(patient, side, legs[side], pitch, sees) for side in SIDES]
    metal = [
        part
        for side in SIDES
        if patient.prosthesis[side]
        for part in implant(patient, side, legs[side])
    ]
    return Scene(
        points=np.concatenate([points for points, _ in clouds]),
        mass=np.concatenate([mass for _, mass in clouds]),
        body=_flesh(patient, legs, fat_thickness(patient.bmi)),
        flesh=_flesh(patient, legs, 0.0),
        gas=_gas(patient),
        metal=tuple(metal),
    )
