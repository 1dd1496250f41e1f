"""Fréchet and kernel distances: laws, closed forms, and torch-fidelity's numbers."""

import numpy as np
import pytest

from ddpm_jax.evaluation import frechet, kernel
from ddpm_jax.evaluation.frechet import Moments


@pytest.fixture(scope="module")
def features():
    """Two sets [600, 12] and [500, 12], the second moved and wider."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12)) / 3
    return rng.normal(size=(600, 12)) @ mix, 1.3 * rng.normal(size=(500, 12)) @ mix + 1


def gaussian(mean, covariance):
    """Moments that have these exactly."""
    count = 1000
    mean = np.asarray(mean, float)
    outer = (count - 1) * np.asarray(covariance, float) + count * np.outer(mean, mean)
    return Moments(count, count * mean, outer)


def test_distance_to_itself_is_zero(features):
    a, b = features
    assert frechet.distance(a, a) < 1e-9
    assert frechet.distance(a, a[::-1]) < 1e-9
    assert frechet.distance(a, b) > 1


def test_distance_is_symmetric_and_unmoved_by_rotation(features):
    a, b = features
    there = frechet.distance(a, b)
    np.testing.assert_allclose(frechet.distance(b, a), there, 1e-9)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    np.testing.assert_allclose(frechet.distance(a @ turn, b @ turn), there, 1e-9)
    np.testing.assert_allclose(frechet.distance(3 * a, 3 * b), 9 * there, 1e-9)


def test_closed_form_of_diagonal_gaussians():
    """|m|² + Σ (s - t)² of standard deviations s and t."""
    s, t = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
    a, b = gaussian([0, 0, 0], np.diag(s**2)), gaussian([1, 2, -2], np.diag(t**2))
    expected = 9 + ((s - t) ** 2).sum()
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected, 1e-9)


def test_closed_form_of_commuting_gaussians():
    """Covariances with common axes: the root is along them."""
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    s, t = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 1, 5])
    a = gaussian(np.zeros(4), axes * s**2 @ axes.T)
    b = gaussian(np.zeros(4), axes * t**2 @ axes.T)
    found = frechet.frechet_distance(a, b)
    np.testing.assert_allclose(found, ((s - t) ** 2).sum(), 1e-9)


def test_moments_of_parts_add_up(features):
    a, b = features
    parts = Moments.of(a[:100]) + Moments.of(a[100:])
    np.testing.assert_allclose(parts.mean, a.mean(0), 1e-12)
    np.testing.assert_allclose(parts.covariance, np.cov(a.T), 1e-9, 1e-12)
    there = frechet.frechet_distance(parts, Moments.of(b))
    np.testing.assert_allclose(there, frechet.distance(a, b), 1e-9)


def test_one_image_has_no_distance(features):
    with pytest.raises(ValueError, match="1 images: expected 2 or more"):
        frechet.distance(features[0][:1], features[1])


def test_distance_of_few_is_too_large_and_the_limit_is_not():
    """Of one distribution, the distance is all bias, about 1/N."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(60_000, 16))
    curve = frechet.against_size(rng.normal(size=(2000, 16)), reference, rng)
    assert curve.sizes[0] == 500 and curve.sizes[-1] == 2000
    assert 3 < curve.distances[0] / curve.distances[-1] < 5
    assert abs(curve.limit) < curve.distances[-1] / 3


def test_floor_is_the_distance_of_halves():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 16))
    apart = frechet.distance(rng.normal(size=(1000, 16)), rng.normal(size=(1000, 16)))
    np.testing.assert_allclose(frechet.floor(x, rng), apart, 0.25)


def test_squared_mmd_by_the_definition(features):
    a, b = features[0][:20], features[1][:30]

    def k(x, y):
        return (x @ y / 12 + 1) ** 3

    def within(s):
        pairs = [k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]
        return np.mean(pairs)

    expected = within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b])
    np.testing.assert_allclose(kernel.squared_mmd(a, b), expected, 1e-10)


def test_squared_mmd_is_unbiased():
    """Of one distribution, the mean over draws is 0 within its own error."""
    rng = np.random.default_rng(0)
    draws = [
        kernel.squared_mmd(rng.normal(size=(20, 4)), rng.normal(size=(30, 4)))
        for _ in range(400)
    ]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    assert min(draws) < 0


def test_kid_of_all_there_are_is_the_squared_mmd(features):
    a, b = features[0][:50], features[1][:50]
    found = kernel.kid(a, b, subsets=3)
    np.testing.assert_allclose(found.mean, kernel.squared_mmd(a, b), 1e-9)
    assert found.std < 1e-9


def test_same_figures_as_torch_fidelity(features):
    """On the same features, to 1e-6 (extra `[eval]`)."""
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = (np.asarray(x, np.float32) for x in features)
    tensors = [torch.from_numpy(x) for x in (a, b)]
    theirs = fid.fid_statistics_to_metric(
        *(fid.fid_features_to_statistics(x) for x in tensors), False
    )
    expected = theirs["frechet_inception_distance"]
    np.testing.assert_allclose(frechet.distance(a, b), expected, 1e-6)
    options = {"kid_subsets": 10, "kid_subset_size": 200, "verbose": False}
    theirs = kid.kid_features_to_metric(*tensors, **options)
    ours = kernel.kid(a, b, subsets=10, size=200)
    expected = theirs["kernel_inception_distance_mean"]
    np.testing.assert_allclose(ours.mean, expected, 1e-6)
    expected = theirs["kernel_inception_distance_std"]
    np.testing.assert_allclose(ours.std, expected, 1e-6)
