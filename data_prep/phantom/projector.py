"""The X-ray tube: where it stands for each view, and what reaches the detector.

An image is seen from the tube: its columns run along `right`, its rows against `up`.
Azimuth 0 is AP (beam along +y, patient's right on the viewer's left); azimuth +90 is
a right lateral (right side on the detector, anterior to the viewer's left).
"""

from typing import NamedTuple

import numpy as np

from data_prep.phantom import anatomy, solids
from data_prep.phantom.materials import FAT, MUSCLE

SOURCE_TO_OBJECT = 1000.0
SOURCE_TO_DETECTOR = 1150.0
MAGNIFICATION = SOURCE_TO_DETECTOR / SOURCE_TO_OBJECT


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
        axes = np.stack([self.right, -self.up, self.beam])
        shift = (axes @ self.source)[:, None].astype(points.dtype)
        u, v, depth = axes.astype(points.dtype) @ points.T - shift
        magnification = np.asarray(SOURCE_TO_DETECTOR, points.dtype) / depth
        return u * magnification, v * magnification, magnification

    def sees(self, centres, reach):
        """Whether balls of `reach` mm about `centres` [n, 3] may show: bool [n]."""
        u, v, magnification = self.project(centres)
        return np.maximum(abs(u), abs(v)) < self.field / 2 + reach * magnification

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
    x = u * np.float32(1 / pitch) + np.float32(size / 2 + 0.5)
    y = v * np.float32(1 / pitch) + np.float32(size / 2 + 0.5)
    seen = np.maximum(abs(u), abs(v)) < np.float32(camera.field / 2 + 0.49 * pitch)
    weight = mass * np.square(magnification) * np.float32(pitch**-2) * seen
    x, y = (np.clip(axis, 0, np.float32(size + 0.999)) for axis in (x, y))
    column, row = x.astype(np.intp), y.astype(np.intp)
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
    path = FAT * (skin - flesh) + MUSCLE * (flesh - 0.7 * gas)
    return path.reshape(size, size)


def _metal(scene, camera, size):
    """Metal at twice the pixel rate, only where its bounding spheres fall."""
    fine = 2 * size
    image = np.zeros((fine, fine), np.float32)
    pitch = camera.field / fine
    for spans, attenuation, balls in scene.metal:
        u, v, magnification = camera.project(balls[:, :3])
        middle = np.stack([v, u]) / pitch + fine / 2
        extent = balls[:, 3] * magnification / pitch * 1.1
        low = np.clip(np.floor(middle - extent).min(1), 0, fine).astype(int)
        high = np.clip(np.ceil(middle + extent).max(1), 0, fine).astype(int)
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
    soft_size = min(size, max(64, size // 2))
    soft = _soft(scene, camera, soft_size)
    if soft_size < size:
        grow = resample(soft_size, size)
        soft = grow @ soft @ grow.T
    return Attenuation(soft, bone, _metal(scene, camera, size))
