"""How a hip or pelvis is laid before the tube: views, fields, legs."""

from typing import NamedTuple

import numpy as np

from data_prep.phantom import bones
from data_prep.phantom.patient import SIDES, Leg
from data_prep.phantom.projector import aim

HIP_REACH = 36.0


class Shot(NamedTuple):
    """One picture: the archive's patient, the number among that patient's, what."""

    patient: int
    number: int
    view: str
    side: str


def stance(view: str, side: str, rng: np.random.Generator):
    """Azimuth, elevation, roll (deg) and the legs for a view, with human slack.

    Obliques are Judet's, 38 to 46 deg either way. A lateral of one hip is cross-table:
    the side on the detector, the beam coming from the other side and 38 deg from
    below, square to the femoral neck, the other thigh lifted out of the field.

    A lateral of both is a right lateral 14 deg short of 90, the right thigh 22 deg
    forward, the left 6 deg back: the right hip and femur are in front (viewer's left)
    and, nearer to the detector, smaller; the left ones behind and larger.
    """
    tilt, roll, turn = rng.normal(size=3).clip(-2, 2) * [3.0, 1.5, 2.0]
    slack = rng.normal(size=(2, 3)).clip(-2, 2) * np.radians([1.5, 2.5, 6])
    lean = rng.choice([-1, 1]) * rng.uniform(38, 46)
    legs = {
        name: Leg(*(slack[i] + np.radians([0, 3, 2]))) for i, name in enumerate(SIDES)
    }
    if view == "AP":
        return turn, tilt, roll, legs
    if view == "oblique":
        return lean, tilt, roll, legs
    if side == "both":
        legs["right"] = legs["right"]._replace(flexion=np.radians(22 + tilt))
        legs["left"] = legs["left"]._replace(flexion=np.radians(-6 + tilt / 2))
        return 76 + turn / 2, tilt / 2, roll, legs
    other = "left" if side == "right" else "right"
    legs[other] = Leg(np.radians(105), np.radians(10), 0.0)
    return -90 * SIDES[side] + turn * 2, 38 + tilt, roll * 2, legs


def frame(view: str, side: str, rng: np.random.Generator):
    """Camera and legs: the field laid on both hips or, lateral of it, on one.

    Fields on the detector, mm over the patient's scale: 430 for both (400 lateral);
    for one 225 AP, 200 oblique, 215 lateral. A field of one hip is moved away from
    the other hip until a ball of 36 mm about that one's centre lies outside.
    """
    azimuth, elevation, roll, legs = stance(view, side, rng)
    across, down, zoom = rng.normal(size=3).clip(-2, 2) * [4.0, 5.0, 0.02]
    if side == "both":
        field = {"lateral": 400.0}.get(view, 430.0) * (1 + zoom)
        target = np.array([across, 15.0, {"lateral": -8.0}.get(view, 12.0) + down])
        return aim(target, azimuth, elevation, roll, field), legs
    sign = SIDES[side]
    hip = bones.HIP * [sign, 1, 1]
    field = {"AP": 225.0, "oblique": 200.0, "lateral": 215.0}[view] * (1 + zoom)
    camera = aim(hip, azimuth, elevation, roll, field)
    shift = {"AP": (8 * sign, 24), "oblique": (14 * sign, 18), "lateral": (0, 28)}[view]
    right, fall = shift[0] + across, shift[1] + down
    target = hip + right * camera.right - fall * camera.up
    camera = aim(target, azimuth, elevation, roll, field)
    return _shun(camera, bones.HIP * [-sign, 1, 1]), legs


def _shun(camera, hip):
    """Move the tube and field sideways until `hip` and its ball are out of sight."""
    u, v, magnification = (float(value[0]) for value in camera.project(hip[None]))
    needed = camera.field / 2 + HIP_REACH * magnification
    lacking = needed - max(abs(u), abs(v))
    if lacking <= 0:
        return camera
    if abs(u) >= abs(v):
        step = -np.sign(u) * camera.right * lacking
    else:
        step = np.sign(v) * camera.up * lacking
    return camera._replace(source=camera.source + step / magnification)
