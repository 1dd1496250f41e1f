"""The X-ray tube: where it stands for each view, and what reaches the detector.

An image is seen from the tube: its columns run along `right`, its rows against `up`.
Azimuth 0 is AP (beam along +y, patient's right on the viewer's left); azimuth +90 is
a right lateral (right side on the detector, anterior to the viewer's left).
"""

from typing import NamedTuple

import numpy as np

from data_prep.phantom import anatomy, bones, solids

SOURCE_TO_OBJECT = 1000.0
SOURCE_TO_DETECTOR = 1150.0
MAGNIFICATION = SOURCE_TO_DETECTOR / SOURCE_TO_OBJECT
HIP_REACH = 33.0


class Camera(NamedTuple):
    """Tube at `source`, looking along `beam` at `field` mm of detector (square).

    All in the patient's model units (mm over the patient's scale).
    """

    source: np.ndarray
    beam: np.ndarray
    right: np.ndarray
    up: np.ndarray
    field: float

    def project(self, points):
        """Detector coordinates u (to the right), v (down) in mm, and magnification."""
        offset = points - np.asarray(self.source, np.asarray(points).dtype)
        dtype = offset.dtype
        magnification = SOURCE_TO_DETECTOR / (offset @ self.beam.astype(dtype))
        u = offset @ self.right.astype(dtype) * magnification
        return u, -(offset @ self.up.astype(dtype)) * magnification, magnification

    def rays(self, rows, columns, size):
        """Unit directions [n, 3] through pixel coordinates of a `size` px square."""
        pitch = self.field / size
        u = (columns + 0.5) * pitch - self.field / 2
        v = (rows + 0.5) * pitch - self.field / 2
        rays = SOURCE_TO_DETECTOR * self.beam + u[:, None] * self.right
        rays = rays - v[:, None] * self.up
        return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


class Attenuation(NamedTuple):
    """Line integrals [size, size] of attenuation, dimensionless: soft, bone, metal."""

    soft: np.ndarray
    bone: np.ndarray
    metal: np.ndarray


def aim(target, azimuth, elevation, roll, field) -> Camera:
    """A camera whose central ray meets `target`; angles in degrees.

    Elevation tips the beam towards the head; roll turns the picture clockwise.
    """
    azimuth, elevation, roll = np.radians([azimuth, elevation, roll])
    level = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    pole = np.array([0, 0, 1.0])
    beam = np.cos(elevation) * level + np.sin(elevation) * pole
    right = np.cross(level, pole)
    up = np.cross(right, beam)
    right, up = (
        np.cos(roll) * right + np.sin(roll) * up,
        np.cos(roll) * up - np.sin(roll) * right,
    )
    source = np.asarray(target, float) - SOURCE_TO_OBJECT * beam
    return Camera(source, beam, right, up, field)


def splat(camera: Camera, points, mass, size) -> np.ndarray:
    """Line integrals of a cloud: each mass spread over the four nearest of size^2.

    The sum over the image times the pixel's area is the mass seen, magnified.
    """
    u, v, magnification = camera.project(points)
    pitch = camera.field / size
    x = u / np.float32(pitch) + np.float32(size / 2 + 0.5)
    y = v / np.float32(pitch) + np.float32(size / 2 + 0.5)
    seen = (x > 0) & (x < size + 1) & (y > 0) & (y < size + 1)
    x, y = x[seen], y[seen]
    weight = mass[seen] * magnification[seen] ** 2 / np.float32(pitch * pitch)
    column, row = x.astype(np.int32), y.astype(np.int32)
    x, y = x - column, y - row
    wide = size + 2
    corner = row * wide + column
    below, beside = y * weight, x * weight
    both = x * below
    shares = (weight - beside - below + both, beside - both, below - both, both)
    total = np.zeros(wide * wide)
    for shift, share in zip((0, 1, wide, wide + 1), shares, strict=True):
        total += np.bincount(corner + shift, share, wide * wide)
    return total.reshape(wide, wide)[1:-1, 1:-1].astype(np.float32)


def resample(size_in, size_out) -> np.ndarray:
    """Matrix [size_out, size_in] that interpolates linearly between pixel centres."""
    place = np.clip(
        (np.arange(size_out) + 0.5) * size_in / size_out - 0.5, 0, size_in - 1
    )
    return np.maximum(1 - np.abs(place[:, None] - np.arange(size_in)), 0).astype("f4")


def blur(size, sigma) -> np.ndarray:
    """Matrix [size, size] of a Gaussian of `sigma` pixels whose rows sum to one."""
    offset = np.arange(size)[:, None] - np.arange(size)
    kernel = np.exp(-0.5 * (offset / max(sigma, 1e-3)) ** 2)
    return (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)


def _soft(scene, camera, size):
    rows, columns = np.divmod(np.arange(size * size), size)
    rays = camera.rays(rows, columns, size)

    def depth(parts):
        return solids.length(*(part(camera.source, rays) for part in parts))

    flesh = depth(scene.flesh)
    skin = np.maximum(depth(scene.body), flesh)
    gas = np.minimum(depth(scene.gas), flesh)
    path = anatomy.FAT * (skin - flesh) + anatomy.MUSCLE * (flesh - 0.7 * gas)
    return path.reshape(size, size)


def _metal(scene, camera, size):
    """Metal at twice the pixel rate, only where its bounding spheres fall."""
    fine = 2 * size
    image = np.zeros((fine, fine), np.float32)
    pitch = camera.field / fine
    for spans, attenuation, centre, reach in scene.metal:
        u, v, magnification = camera.project(np.asarray(centre)[None])
        middle = np.array([v[0], u[0]]) / pitch + fine / 2
        extent = reach * magnification[0] / pitch * 1.1
        low = np.clip(np.floor(middle - extent), 0, fine).astype(int)
        high = np.clip(np.ceil(middle + extent), 0, fine).astype(int)
        if np.any(high <= low):
            continue
        box = tuple(slice(*pair) for pair in zip(low, high, strict=True))
        rows, columns = np.mgrid[box]
        rays = camera.rays(rows.ravel(), columns.ravel(), fine)
        path = solids.length(*spans(camera.source, rays)) * attenuation
        image[box] += path.reshape(rows.shape)
    return image.reshape(size, 2, size, 2).mean((1, 3))


def attenuate(scene: anatomy.Scene, camera: Camera, size: int, pitch: float):
    """Line integrals of a scene whose bones were sampled every `pitch` mm."""
    coarse = min(size, int(np.ceil(camera.field / (pitch * MAGNIFICATION))))
    bone = splat(camera, scene.points, scene.mass, coarse)
    if coarse < size:
        grow = resample(coarse, size)
        bone = grow @ bone @ grow.T
    soft_size = min(size, 256)
    soft = _soft(scene, camera, soft_size)
    if soft_size < size:
        grow = resample(soft_size, size)
        soft = grow @ soft @ grow.T
    return Attenuation(soft, bone, _metal(scene, camera, size))


def stance(view: str, side: str, rng: np.random.Generator):
    """Azimuth, elevation, roll (deg) and the legs for a view, with human slack.

    Obliques are Judet's, 38 to 46 deg either way. A lateral of one hip is cross-table:
    the tube 38 deg caudad of the table's plane, the other thigh lifted out of the
    field. A lateral of both is a right lateral turned 14 deg short of 90, right thigh
    20 deg forward, so that the right hip lies in front (viewer's left) and, nearer
    to the detector, is magnified less.
    """
    tilt, roll, turn = rng.normal(size=3).clip(-2, 2) * [3.0, 1.5, 2.0]
    slack = rng.normal(size=(2, 3)).clip(-2, 2) * np.radians([1.5, 2.5, 6])
    lean = rng.choice([-1, 1]) * rng.uniform(38, 46)
    legs = {
        name: anatomy.Leg(*(slack[i] + np.radians([0, 3, 2])))
        for i, name in enumerate(anatomy.SIDES)
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
    legs[other] = anatomy.Leg(np.radians(105), np.radians(10), 0.0)
    return -90 * anatomy.SIDES[side] + turn * 2, 38 + tilt, roll * 2, legs


def frame(view: str, side: str, rng: np.random.Generator):
    """Camera and legs: the field laid on both hips or, lateral of it, on one.

    Fields on the detector, mm over the patient's scale: 430 for both (410 lateral),
    225 AP, 200 oblique, 215 lateral for one. A field of one hip is moved away from
    the other hip until a ball of 33 mm about that one's centre lies outside.
    """
    azimuth, elevation, roll, legs = stance(view, side, rng)
    across, down, zoom = rng.normal(size=3).clip(-2, 2) * [4.0, 5.0, 0.02]
    if side == "both":
        field = {"lateral": 400.0}.get(view, 430.0) * (1 + zoom)
        target = np.array([across, 15.0, {"lateral": -8.0}.get(view, 12.0) + down])
        return aim(target, azimuth, elevation, roll, field), legs
    sign = anatomy.SIDES[side]
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
