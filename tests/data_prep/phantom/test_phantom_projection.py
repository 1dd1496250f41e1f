"""Views, clouds and the anatomy's laws in the picture."""

import dataclasses

import numpy as np
import pytest

from data_prep.phantom import anatomy, archive, bones, detector, positioning, projector
from data_prep.phantom.patient import SIDES, Leg, draw_patient
from data_prep.phantom.positioning import Shot

PITCH, SIZE = 3.0, 64
OTHER = {"right": "left", "left": "right"}
STRAIGHT = {side: Leg(0.0, 0.05, 0.0) for side in SIDES}
FRONT = projector.aim([0.0, 15, 0], 0, 0, 0, 430.0)


@pytest.fixture(scope="module")
def patient():
    drawn = draw_patient(archive.stream(0, 0))
    metal = dict.fromkeys(SIDES, False)
    return dataclasses.replace(drawn, age=50, bmi=26.0, prosthesis=metal)


def look(patient, camera=FRONT, legs=STRAIGHT):
    scene = anatomy.build_scene(patient, legs, PITCH, camera.sees)
    return projector.attenuate(scene, camera, SIZE, PITCH)


def turned(points, degrees):
    """Points turned about the head-foot axis, as the beam turns with azimuth."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return (points @ turn.T).astype(np.float32)


@pytest.fixture(scope="module")
def ball():
    """A ball of radius 40 mm as a cloud; each point weighs its share of a cube."""
    centre = np.float32([20, -10, 5])

    def distance(points):
        return np.linalg.norm(points - centre, axis=1) - 40

    def tissue(points):
        return np.zeros(len(points), "f4"), np.ones(len(points), "f4")

    cloud = bones.sample(distance, tissue, centre - 45, centre + 45, PITCH)
    share = np.clip(cloud.depth / PITCH + 0.5, 0, 1)
    return cloud.points, (share * PITCH**3).astype(np.float32), centre


def test_a_cloud_of_a_ball_has_the_ball_s_volume_and_chords(ball):
    points, mass, centre = ball
    assert mass.sum() == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.005)
    camera = projector.aim(centre, 0, 0, 0, 120.0)
    image = projector.splat(camera, points, mass, 24)
    offset = (np.arange(24) + 0.5) * 5 - 60
    distance = np.hypot(*np.meshgrid(offset, offset)) / projector.MAGNIFICATION
    expected = 2 * np.sqrt(np.maximum(40**2 - distance**2, 0))
    within = distance < 34
    np.testing.assert_allclose(image[within], expected[within], rtol=0.06)
    assert np.abs(image[within] / expected[within] - 1).mean() < 0.02
    assert np.all(image[distance > 50] == 0)


def test_splatting_keeps_the_mass(ball):
    points, mass, _ = ball
    magnification = FRONT.project(points)[2]
    image = projector.splat(FRONT, points, mass, SIZE)
    area = (FRONT.field / SIZE) ** 2
    assert image.sum() * area == pytest.approx(
        (mass * magnification**2).sum(), rel=1e-4
    )


def test_turning_the_rays_is_turning_the_volume_back(ball):
    points, mass, _ = ball
    turned_camera = projector.aim([0.0, 0, 0], 35, 0, 0, 430.0)
    camera = projector.aim([0.0, 0, 0], 0, 0, 0, 430.0)
    first = projector.splat(turned_camera, points, mass, SIZE)
    second = projector.splat(camera, turned(points, -35), mass, SIZE)
    assert np.abs(first - second).max() < 0.01 * first.max()


def test_the_viewer_s_sides():
    landmarks = np.array([[86.0, 0, 0], [0, -50, 0], [0, 0, 90]])  # left, front, head
    views = {azimuth: projector.aim(np.zeros(3), azimuth, 0, 0, 400.0) for azimuth in
             (0, 90, -90)}  # fmt: skip
    u, v = zip(
        *(camera.project(landmarks)[:2] for camera in views.values()), strict=True
    )
    assert u[0][0] > 50  # AP: patient's left on the viewer's right
    assert u[1][1] < -40 < 40 < u[2][1]  # right lateral faces left, left faces right
    assert all(down[2] < -90 for down in v)


def test_both_hips_lateral_right_in_front_and_smaller():
    hips = bones.HIP * np.array([[-1, 1, 1], [1, 1, 1]])
    for i in range(50):
        camera, _ = positioning.frame("lateral", "both", archive.stream(3, i))
        u, _, magnification = camera.project(hips)
        assert u[1] - u[0] > 30 and magnification[1] > 1.1 * magnification[0]


def test_swapping_left_and_right_mirrors_the_ap_image(patient):
    uneven = dataclasses.replace(patient, prosthesis={"right": True, "left": False})
    swapped = dataclasses.replace(
        patient,
        prosthesis={"right": False, "left": True},
        implant={side: patient.implant[OTHER[side]] for side in SIDES},
    )
    first, second = look(uneven), look(swapped)
    for name in ("bone", "metal"):
        one, other = getattr(first, name), getattr(second, name)[:, ::-1]
        difference = np.abs(one - other).sum() / one.sum()
        assert difference < {"bone": 0.12, "metal": 0.001}[name]


@pytest.mark.parametrize("side", SIDES)
def test_femur_lies_on_its_side_in_an_ap_of_one_hip(patient, side):
    camera, legs = positioning.frame("AP", side, archive.stream(5, 0))
    bone = look(patient, camera, legs).bone[-SIZE // 5 :]
    halves = bone[:, : SIZE // 2].sum(), bone[:, SIZE // 2 :].sum()
    assert halves[side == "left"] > 2 * halves[side == "right"]


@pytest.mark.parametrize("side", SIDES)
def test_a_prosthesis_is_dense_at_its_hip(patient, side):
    metal = dataclasses.replace(patient, prosthesis={side: True, OTHER[side]: False})
    image = look(metal).metal
    u, v, _ = FRONT.project(bones.HIP[None] * [SIDES[side], 1, 1])
    column, row = (int((x[0] / 430 + 0.5) * SIZE) for x in (u, v))
    assert image[row, column] > 3
    there = image[:, SIZE // 2 :] if side == "left" else image[:, : SIZE // 2]
    assert there.sum() == image.sum()
    assert look(patient).metal.max() == 0


@pytest.mark.parametrize("view", archive.VIEWS)
@pytest.mark.parametrize("side", SIDES)
def test_not_in_view_is_true(view, side):
    for number in range(8):
        drawn = draw_patient(archive.stream(8, number))
        pictures = [
            archive.radiograph(
                dataclasses.replace(
                    drawn, prosthesis={side: False, OTHER[side]: metal}
                ),
                Shot(number, 0, view, side),
                32,
                archive.stream(9, number),
            ).pixels
            for metal in (False, True)
        ]
        np.testing.assert_array_equal(*pictures)


def test_fat_dims_the_beam(patient):
    bright = [
        detector.transmitted(look(dataclasses.replace(patient, bmi=bmi))).mean()
        for bmi in (20.0, 28.0, 36.0)
    ]
    assert bright[0] > bright[1] > bright[2] > 0


def test_age_thins_bone(patient):
    mass = [
        look(dataclasses.replace(patient, age=age)).bone.sum() for age in (30, 60, 90)
    ]
    assert mass[0] > mass[1] > mass[2] > 0.3 * mass[0]


def test_a_woman_s_ischia_stand_further_apart(patient):
    shape = np.zeros(8)
    tuberosities = np.float32([[57, 20, -70], [-57, 20, -70]])
    wide, narrow = (
        anatomy.shape_pelvis(
            tuberosities, dataclasses.replace(patient, sex=sex, shape=shape)
        )
        for sex in "FM"
    )
    assert np.ptp(wide[:, 0]) > np.ptp(narrow[:, 0]) + 10
    np.testing.assert_allclose(wide[0] * [-1, 1, 1], wide[1], atol=1e-4)


def test_tissues_have_their_grey(patient):
    """Air near 0, soft tissue 0.15 to 0.4, bone above it, metal and lead near 1."""
    metal = dataclasses.replace(patient, prosthesis={"right": True, "left": False})
    found = look(metal)
    lead = detector.marker("R", (False, False), SIZE, np.random.default_rng(0))
    exposure = detector.Exposure(1.0, 1.0, 1.0, 0.5, (0, 0, 0, 0))
    image = detector.display(found, exposure, lead, 430.0, np.random.default_rng(0))
    soft = (found.bone < 0.01) & (found.metal == 0) & (lead == 0)
    plain = (found.metal == 0) & (lead == 0)
    assert image[found.soft < 0.01].max(initial=0) < 0.05 or found.soft.min() > 0.01
    assert 0.15 < np.median(image[soft & (found.soft > 3)]) < 0.4
    assert 0.4 < np.median(image[plain & (found.bone > 0.5)]) < 0.8
    assert image[(found.metal > 6)].min() > 0.9 and image[lead == 1].min() > 0.9
