"""Shutter, aspect, resizing: where pixels end up."""

import numpy as np
import pytest

from data_prep import geometry
from tests.dicoms import dataset, noise


def header(**tags):
    return dataset(noise(0), **tags)


def test_same_size_is_the_same_image():
    image = np.random.default_rng(0).random((64, 64), np.float32)
    np.testing.assert_array_equal(geometry.fit(image, 64).image, image)


@pytest.mark.parametrize(
    "shape, box",
    [
        ((200, 100), (0, 16, 64, 48)),
        ((100, 200), (16, 0, 48, 64)),
        ((100, 33), (0, 21, 64, 42)),
        ((64, 63), (0, 0, 64, 63)),
        ((3, 500), (31, 0, 32, 64)),
        ((7, 7), (0, 0, 64, 64)),
    ],
)
def test_content_box_is_exact(shape, box):
    fitted = geometry.fit(np.ones(shape, np.float32), 64)
    top, left, bottom, right = fitted.box
    assert fitted.box == box
    np.testing.assert_allclose(fitted.image[top:bottom, left:right], 1, atol=1e-5)
    assert fitted.image.sum() == pytest.approx((bottom - top) * (right - left))


def test_stripes_beyond_the_resolution_become_grey():
    """4 px on, 4 px off, shrunk 16 times: anything but the mean is an alias."""
    stripes = np.tile(np.repeat([0.0, 1.0], 4), 128).astype(np.float32)
    fitted = geometry.fit(np.tile(stripes, (1024, 1)), 64)
    np.testing.assert_allclose(fitted.image[:, 2:-2], 0.5, atol=0.02)


def test_mean_is_kept():
    image = np.random.default_rng(1).random((640, 640), np.float32)
    assert geometry.fit(image, 32).image.mean() == pytest.approx(image.mean(), abs=1e-3)


def test_values_stay_in_range():
    image = (np.random.default_rng(2).random((100, 100)) > 0.5).astype(np.float32)
    found = geometry.fit(image, 70).image
    assert found.min() >= 0 and found.max() <= 1


def test_circle_is_round_whatever_the_pixel_aspect():
    row, column = np.mgrid[:100, :200]
    squashed = ((2 * (row - 49.5)) ** 2 + (column - 99.5) ** 2 < 60**2).astype(float)
    ratio = geometry.aspect(header(PixelAspectRatio=[2, 1]))
    found = geometry.fit(squashed, 200, ratio)
    assert found.box == (0, 0, 200, 200)
    tall, wide = (np.ptp(np.nonzero(found.image > 0.5)[axis]) for axis in (0, 1))
    assert abs(tall - wide) <= 2 and tall == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    "tags, expected",
    [
        ({}, 1),
        ({"PixelAspectRatio": [1, 2]}, 0.5),
        ({"PixelSpacing": [0.3, 0.2]}, 1.5),
        ({"PixelSpacing": [0.2, 0.20001]}, 1),
        ({"PixelAspectRatio": [0, 1]}, 1),
        ({"PixelAspectRatio": [1000, 1]}, 1),
    ],
)
def test_aspect(tags, expected):
    assert geometry.aspect(header(**tags)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "tags, expected",
    [
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3)),
        ({"PixelSpacing": [0, 0]}, (np.nan, np.nan)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.1, 0.1]}, (0.1, 0.1)),
        ({"PixelSpacing": [-1, 1]}, (np.nan, np.nan)),
        ({}, (np.nan, np.nan)),
    ],
)
def test_spacing(tags, expected):
    np.testing.assert_array_equal(geometry.spacing(header(**tags)), expected)


def test_no_shutter():
    assert geometry.shutter(header(), (8, 8)) is None
    assert geometry.shutter(header(ShutterShape="CIRCULAR"), (8, 8)) is None


def test_rectangle_counts_from_one():
    found = geometry.shutter(
        header(
            ShutterShape="RECTANGULAR",
            ShutterLeftVerticalEdge=2,
            ShutterRightVerticalEdge=3,
            ShutterUpperHorizontalEdge=4,
            ShutterLowerHorizontalEdge=4,
        ),
        (6, 6),
    )
    assert np.argwhere(found).tolist() == [[3, 1], [3, 2]]


def test_polygon_counts_from_one():
    found = geometry.shutter(
        header(
            ShutterShape="POLYGONAL",
            VerticesOfThePolygonalShutter=[2, 2, 2, 5, 5, 5, 5, 2],
        ),
        (8, 8),
    )
    expected = np.zeros((8, 8), bool)
    expected[1:5, 1:5] = True
    np.testing.assert_array_equal(found, expected)
