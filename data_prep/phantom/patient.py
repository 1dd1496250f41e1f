"""A made-up patient: what is drawn at random, and what follows from age and build."""

import dataclasses
from typing import NamedTuple

import numpy as np

from data_prep.phantom import bones

SIDES = {"right": -1, "left": 1}
REPLACED = 0.35
"""The share of hips that are replaced, as a clinic of joints sees them."""


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


def draw_patient(rng: np.random.Generator, replaced: float = REPLACED) -> Patient:
    """Sex even; age and BMI about a hip clinic's; a hip is replaced with probability
    `replaced`, which changes nothing else of the patient."""
    sex = "FM"[rng.integers(2)]
    age = int(np.clip(np.round(rng.normal(61, 17)), 20, 95))
    bmi = float(np.clip(np.round(rng.gamma(28, 1.0) + 0.5, 1), 16, 48))
    scale = float(np.clip(rng.normal({"F": 0.93, "M": 1.0}[sex], 0.035), 0.84, 1.1))
    prosthesis = {side: bool(rng.random() < replaced) for side in SIDES}
    return Patient(
        sex, age, bmi, scale, prosthesis,
        shape=rng.normal(size=8).clip(-2, 2),
        implant={side: rng.normal(size=5).clip(-2, 2) for side in SIDES},
        gas_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def frailty(age: float) -> float:
    """0 at 25 years to 1 at 90: how far the skeleton has thinned."""
    return float(np.clip((age - 25) / 65, 0, 1))


def fat_thickness(bmi: float) -> float:
    """Subcutaneous fat over the hip in mm: 8 at BMI 18, 2.4 more for each unit."""
    return float(np.clip(8 + 2.4 * (bmi - 18), 5, 75))


def hip_centre(patient):
    """The left femoral head: worn cartilage lets it rise by up to 2 mm."""
    return bones.HIP + np.float32([-0.8, 0, 2.0]) * frailty(patient.age)


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
