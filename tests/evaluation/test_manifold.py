"""Precision, recall, density and coverage against a copy that only loops."""

import numpy as np
import pytest

from ddpm_jax.evaluation import manifold


def brute(real, synthetic, k):
    """The definitions of both papers, a point at a time."""

    def ball(points, i):
        others = sorted(np.linalg.norm(points[i] - p) for p in points)
        return others[k]  # the first is itself

    real_radii = [ball(real, i) for i in range(len(real))]
    synthetic_radii = [ball(synthetic, i) for i in range(len(synthetic))]
    within = np.zeros((len(real), len(synthetic)), bool)
    covered = within.copy()
    for i, x in enumerate(real):
        distances = np.linalg.norm(synthetic - x, axis=1)
        within[i] = distances <= real_radii[i]
        covered[i] = distances <= synthetic_radii
    return {
        "precision": within.any(0).mean(),
        "recall": covered.any(1).mean(),
        "density": within.sum() / (k * len(synthetic)),
        "coverage": within.any(1).mean(),
    }


def test_all_four_as_brute_force_on_500_points(monkeypatch):
    monkeypatch.setattr(manifold, "AT_ONCE", 64)  # several blocks
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(500, 6)), 0.8 * rng.normal(size=(400, 6)) + 0.3
    found = manifold.compare(real, synthetic).means()
    assert found == pytest.approx(brute(real, synthetic, manifold.K), abs=1e-12)
    assert all(0 < value < 2 for value in found.values())


def test_a_set_covers_itself():
    x = np.random.default_rng(0).normal(size=(200, 4))
    found = manifold.compare(x, x).means()
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_sets_apart_do_not():
    x = np.random.default_rng(0).normal(size=(200, 4))
    found = manifold.compare(x, x + 1000).means()
    assert set(found.values()) == {0.0}


def test_a_mode_that_is_missing_costs_recall_there_and_no_precision():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(300, 4)), rng.normal(size=(100, 4)) + 20
    found = manifold.compare(np.concatenate([one, other]), rng.normal(size=(300, 4)))
    assert found.recall[:300].mean() > 0.8 and found.recall[300:].mean() == 0
    assert found.coverage[300:].mean() == 0
    assert found.precision.mean() > 0.8


def test_one_outlier_moves_recall_more_than_coverage():
    """The flaw that coverage was made for (Naeem et al., 2020, section 3)."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 4))
    far = np.concatenate([rng.normal(size=(6, 4)) * 40, rng.normal(size=(300, 4)) + 9])
    found = manifold.compare(real, far).means()
    assert found["recall"] > 0.9 and found["coverage"] < 0.1


def test_too_few_images_are_refused():
    x = np.zeros((5, 2))
    with pytest.raises(ValueError, match="5 images: expected more than k = 5"):
        manifold.radii(x)


def test_same_figures_as_torch_fidelity():
    torch = pytest.importorskip("torch")
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(500, 6)), 0.8 * rng.normal(size=(400, 6)) + 0.3
    theirs = prc.prc_features_to_metric(
        torch.from_numpy(made),
        torch.from_numpy(real),
        prc_neighborhood=5,
        prc_batch_size=100,
        verbose=False,
        save_cpu_ram=False,
    )
    found = manifold.compare(real, made).means()
    for name in ("precision", "recall"):
        np.testing.assert_allclose(found[name], theirs[name], 1e-6)
