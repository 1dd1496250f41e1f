"""A made-up patient: what is drawn at random, and the solids it becomes.

Lengths in mm, LPS coordinates (+x patient's left, +y posterior, +z superior) with
the origin midway between the hips; linear attenuation in 1/mm.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from data_prep.phantom import bones, solids

# 1/mm at 60 keV: mass attenuation (NIST XCOM; ICRU-44 tissues) times density.
MUSCLE = 0.02048 * 1.05
FAT = 0.01974 * 0.95
CORTEX = 0.03148 * 1.92
MARROW_BONE = 0.0295
GAS = 0.0
TITANIUM = 0.0766 * 4.51
STEEL = 0.1205 * 7.9

SIDES = {"right": -1, "left": 1}


@dataclasses.dataclass(frozen=True)
class Patient:
    """What is true of a patient in every picture; `prosthesis` by side name.

    age 20 to 95 years, bmi 16 to 48 kg/m2, `scale` body size over the adult male's;
    `shape` and `implant` (by side) hold standard normal draws: form, not labels.
    """

    sex: str
    age: int
    bmi: float
    scale: float
    prosthesis: dict[str, bool]
    shape: np.ndarray
    implant: dict[str, np.ndarray]
    gas_seed: int


class Scene(NamedTuple):
    """What the beam meets.

    `points` [n, 3] carry `mass` [n] mm^2: excess attenuation over muscle times volume.
    `body` and `flesh` are unions of solids: skin, and the muscle inside; `gas` are
    bubbles. `metal` holds (spans-making function, attenuation, centre, reach).
    """

    points: np.ndarray
    mass: np.ndarray
    body: tuple
    flesh: tuple
    gas: tuple
    metal: tuple


def draw_patient(rng: np.random.Generator) -> Patient:
    """Sex even; age and BMI about a hip clinic's; each hip replaced with p = 0.35."""
    sex = "FM"[rng.integers(2)]
    age = int(np.clip(np.round(rng.normal(61, 17)), 20, 95))
    bmi = float(np.clip(np.round(rng.gamma(28, 1.0) + 0.5, 1), 16, 48))
    scale = float(np.clip(rng.normal({"F": 0.93, "M": 1.0}[sex], 0.035), 0.84, 1.1))
    prosthesis = {side: bool(rng.random() < 0.35) for side in SIDES}
    return Patient(
        sex, age, bmi, scale, prosthesis,
        shape=rng.normal(size=8).clip(-2, 2),
        implant={side: rng.normal(size=5).clip(-2, 2) for side in SIDES},
        gas_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def frailty(age: float) -> float:
    """0 at 25 years to 1 at 90: how far the skeleton has thinned."""
    return float(np.clip((age - 25) / 65, 0, 1))


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
    trabecular = (MARROW_BONE - MUSCLE) * (1 - 0.5 * loss) * cloud.spongy
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
    spread = spread + (0.20 * female - 0.07 + 0.03 * arch) * below
    taller = 1 - 0.06 * female + 0.025 * height
    front = 1 + np.where(y < 0, -0.04 * female, 0.05 * female) + 0.03 * depth
    bent = [x + side * spread, y * front, np.where(z > 0, z * taller, z)]
    return np.stack(bent, -1).astype(np.float32)


class Leg(NamedTuple):
    """Where a thigh points, radians: forward, outward and turned outward."""

    flexion: float
    abduction: float
    turn: float

    def matrix(self):
        """Rotation of the left femur; the right one's is its mirror image."""
        f, a, t = self
        flex = [[1, 0, 0], [0, np.cos(f), np.sin(f)], [0, -np.sin(f), np.cos(f)]]
        out = [[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]]
        turn = [[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]]
        return np.array(flex) @ np.array(out) @ np.array(turn)


def _mirrored(points, sign):
    return points * np.float32([sign, 1, 1])


def _hip_centre(patient):
    """The left femoral head: worn cartilage lets it rise by up to 2 mm."""
    return bones.HIP + np.float32([-0.8, 0, 2.0]) * frailty(patient.age)


def _thigh_bone(patient, side, leg, pitch):
    cloud = bones.cloud("femur", pitch)
    mass = bone_mass(cloud, patient.age, 1 + 0.08 * patient.shape[4])
    keep = mass > 1e-4
    if patient.prosthesis[side]:
        neck = (cloud.points - np.float32([30, 6, -26])) @ np.float32([0.6, 0.1, -0.79])
        keep = keep & (neck > 0)
    points = cloud.points[keep]
    points = points * np.float32([1 + 0.03 * patient.shape[5], 1, 1])
    placed = points @ leg.matrix().T.astype(np.float32) + _hip_centre(patient)
    return _mirrored(placed, SIDES[side]), mass[keep]


def _pelvis_bones(patient, pitch):
    density = 1 + 0.08 * patient.shape[4]
    hip_bone = bones.cloud("hemipelvis", pitch)
    parts = [(hip_bone, sign) for sign in (-1, 1)]
    parts += [(bones.cloud(name, pitch), 1) for name in ("sacrum", "lumbar")]
    points = [_mirrored(cloud.points, sign) for cloud, sign in parts]
    masses = [bone_mass(cloud, patient.age, density) for cloud, _ in parts]
    return shape_pelvis(np.concatenate(points), patient), np.concatenate(masses)


def fat_thickness(bmi: float) -> float:
    """Subcutaneous fat over the hip in mm: 8 at BMI 18, 2.4 more for each unit."""
    return float(np.clip(8 + 2.4 * (bmi - 18), 5, 75))


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
        hip, turn = _hip_centre(patient), legs[side].matrix()
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


def implant(patient: Patient, side: str, leg: Leg) -> tuple:
    """A total hip: cup, head, neck and stem, as (spans of the rays, attenuation).

    Steel stands for cobalt-chrome in cup and head (36 mm less by chance), the stem
    is titanium, 115 to 150 mm long, tapered, in the line of the shaft.
    """
    a, b, c, d, e = patient.implant[side]
    mirror = np.array([SIDES[side], 1, 1])
    hip, turn = _hip_centre(patient), leg.matrix()

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

    middle = at(25, 6, -80)
    return (
        (cup, 0.5 * STEEL, centre, 30.0),
        (ball, 0.5 * STEEL, centre, 20.0),
        (shaft, TITANIUM, middle, 115.0),
    )


def build_scene(patient: Patient, legs: dict[str, Leg], pitch: float) -> Scene:
    """The patient as the beam meets it, unscaled (see `Patient.scale`)."""
    clouds = [_pelvis_bones(patient, pitch)]
    clouds += [_thigh_bone(patient, side, legs[side], pitch) for side in SIDES]
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
