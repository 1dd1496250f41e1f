"""Rays through solids: closed forms, and counts of what lies on the ray."""

import numpy as np
import pytest

from data_prep.phantom import solids

STEPS = np.linspace(0, 200, 4001, dtype=np.float32)


@pytest.fixture(scope="module")
def rays():
    rng = np.random.default_rng(0)
    directions = rng.normal([0, 0, 8], [1, 1, 0.5], (400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.array([1.0, -2.0, -100.0]), directions.astype(np.float32)


def chord(span):
    return span[1] - span[0]


def counted(inside, origin, directions):
    """Length on which `inside(points)` holds, by stepping along each ray."""
    step = STEPS[1] - STEPS[0]
    return [inside(origin + STEPS[:, None] * ray).sum() * step for ray in directions]


def test_sphere_chord_is_twice_root_of_r2_minus_d2(rays):
    origin, directions = rays
    centre = np.array([3.0, 4.0, 5.0])
    distance = np.linalg.norm(np.cross(centre - origin, directions), axis=1)
    expected = 2 * np.sqrt(np.maximum(20.0**2 - distance**2, 0))
    span = solids.Ellipsoid(centre, np.full(3, 20.0))(origin, directions)
    assert (expected > 0).any() and (expected == 0).any()
    np.testing.assert_allclose(chord(span), expected, atol=0.02)


def test_ellipsoid_is_a_sphere_in_stretched_space(rays):
    origin, directions = rays
    centre, radii = np.array([3.0, -6.0, 8.0]), np.array([30.0, 12.0, 22.0])
    stretched = directions / radii
    length = np.linalg.norm(stretched, axis=1)
    offset = (origin - centre) / radii
    distance = np.linalg.norm(np.cross(offset, stretched), axis=1) / length
    expected = 2 * np.sqrt(np.maximum(1 - distance**2, 0)) / length
    span = solids.Ellipsoid(centre, radii)(origin, directions)
    np.testing.assert_allclose(chord(span), expected, atol=0.02)


def test_capsule_across_and_along_its_axis():
    rod = solids.Capsule(np.zeros(3), np.array([0, 0, 50.0]), 10.0, 10.0)
    across = np.array([[1, 0, 0]], np.float32)
    along = np.array([[0, 0, 1]], np.float32)
    span = rod(np.array([-40.0, 6.0, 25.0]), across)
    assert chord(span)[0] == pytest.approx(2 * 8, abs=1e-3)
    assert chord(rod(np.array([0, 0, -40.0]), along))[0] == pytest.approx(70, abs=1e-3)


@pytest.mark.parametrize("radii", [(12.0, 12.0), (16.0, 5.0), (4.0, 15.0), (40.0, 2.0)])
def test_tapered_capsule_is_the_hull_of_its_balls(rays, radii):
    start, end = np.array([-15.0, 5.0, -10.0]), np.array([20.0, -8.0, 15.0])

    def inside(points):
        along = np.linspace(0, 1, 31)[:, None, None]
        gap = np.linalg.norm(points - (start + along * (end - start)), axis=-1)
        return np.any(gap <= radii[0] + along[..., 0] * (radii[1] - radii[0]), axis=0)

    origin, directions = rays[0], rays[1][:20]
    span = solids.Capsule(start, end, *radii)(origin, directions)
    expected = counted(inside, origin, directions)
    np.testing.assert_allclose(chord(span), expected, atol=0.35)


def test_cutting_off_a_half_space_leaves_the_other_half(rays):
    ball = solids.Ellipsoid(np.zeros(3), np.full(3, 30.0))(*rays)
    normal = np.array([0.6, 0.0, 0.8])
    halves = [solids.HalfSpace(np.zeros(3), side * normal)(*rays) for side in (1, -1)]
    lengths = sum(chord(solids.meet(ball, half)) for half in halves)
    np.testing.assert_allclose(lengths, chord(ball), atol=1e-3)


def test_what_is_subtracted_and_what_remains_make_the_whole(rays):
    whole = solids.Ellipsoid(np.zeros(3), np.array([25.0, 30, 20]))(*rays)
    hole = solids.Ellipsoid(np.array([5.0, 0, 6]), np.full(3, 14.0))(*rays)
    left, right = solids.subtract(whole, hole)
    assert (chord(left) >= 0).all() and (chord(right) >= 0).all()
    remains = chord(left) + chord(right) + chord(solids.meet(whole, hole))
    np.testing.assert_allclose(remains, chord(whole), atol=1e-3)


def test_union_counts_each_stretch_once():
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, 100, (6, 200))
    spans = [(start, start + rng.uniform(0, 30, 200)) for start in starts]
    spans.append((np.zeros(200), np.zeros(200)))
    ticks = np.arange(0, 130, 0.01)[:, None]
    covered = np.any([(a <= ticks) & (ticks < b) for a, b in spans], axis=0)
    np.testing.assert_allclose(solids.length(*spans), covered.sum(0) * 0.01, atol=0.1)
