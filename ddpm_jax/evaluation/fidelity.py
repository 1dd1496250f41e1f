"""How near the synthetic images are to held-out real ones, in one feature space."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ddpm_jax.evaluation import frechet, groups, kernel, manifold, statistics

SEEDS = 3
DRAWS, MOST = 50, 1000
"""Kernel distances of subgroups: draws, and images of one draw at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Features [n, d] of held-out real images and [m, d] of synthetic ones."""

    real: np.ndarray
    synthetic: np.ndarray


Subgroups = Sequence[tuple[groups.Group, groups.Group]]


def distances(pair: Pair, subgroups: Subgroups = ()) -> dict:
    """Fréchet and kernel distances, the first against the number of images, and beside
    real against real at the same number, with `SEEDS` draws; and of each subgroup the
    kernel distance."""
    rng = np.random.default_rng(0)
    halves = []
    for _ in range(SEEDS):
        order = rng.permutation(len(pair.real))
        n = min(len(order) // 2, len(pair.synthetic))
        one, other = order[:n], order[-n:]
        drawn = rng.choice(len(pair.synthetic), n, replace=False)
        halves.append(
            (
                frechet.distance(pair.real[one], pair.real[other]),
                frechet.distance(pair.synthetic[drawn], pair.real[other]),
            )
        )
    real, synthetic = np.array(halves).T
    return {
        "images": {"real": len(pair.real), "synthetic": len(pair.synthetic)},
        "features": pair.real.shape[1],
        "frechet": frechet.distance(pair.synthetic, pair.real),
        "curve": frechet.against_size(pair.synthetic, pair.real, rng),
        "at_half": {
            "images": n,
            "real": {"mean": real.mean(), "std": real.std(ddof=1)},
            "synthetic": {"mean": synthetic.mean(), "std": synthetic.std(ddof=1)},
        },
        "kid": _kid(pair.synthetic, pair.real),
        "kid_real": _kid(*np.array_split(rng.permutation(pair.real), 2)),
        "groups": [
            {
                "field": real.field,
                "name": real.name,
                "real": real.count,
                "synthetic": made.count,
                **_kernel_distances(pair.real[real.mask], pair.synthetic[made.mask]),
            }
            for real, made in subgroups
        ],
    }


def _kid(a: np.ndarray, b: np.ndarray) -> dict:
    """Over 100 subsets of 1000 images, as is usual, or of half of the smaller set: of
    all of it, the subsets would be one and their deviation nothing."""
    size = min(MOST, max(min(len(a), len(b)) // 2, 2))
    return kernel.kid(a, b, size=size)._asdict() | {"subset": size}


def _kernel_distances(real: np.ndarray, synthetic: np.ndarray) -> dict:
    """Means and deviations over `DRAWS` of n synthetic against n real images, and of n
    real ones against n others. A Fréchet distance of fewer images than features is its
    own bias; a kernel distance has none at any number."""
    n = min(len(real) // 2, len(synthetic), MOST)
    rng = np.random.default_rng(0)
    if n < 2:
        return {"kid_images": n, "kid": None, "kid_real": None}
    found = []
    for _ in range(DRAWS):
        order = rng.permutation(len(real))
        one, other = real[order[:n]], real[order[-n:]]
        made = synthetic[rng.choice(len(synthetic), n, replace=False)]
        pairs = (made, other), (one, other)
        found.append([kernel.squared_mmd(*both) for both in pairs])
    made, floor = (
        kernel.Kid(float(v.mean()), float(v.std(ddof=1))) for v in np.transpose(found)
    )
    return {"kid_images": n, "kid": made, "kid_real": floor}


def manifolds(pair: Pair, subgroups: Subgroups) -> dict:
    """Precision, recall, density and coverage, of all and of each subgroup: recall and
    coverage of its real images, precision and density of its synthetic ones."""
    found = manifold.compare(pair.real, pair.synthetic)
    halves = np.array_split(
        np.random.default_rng(0).permutation(len(pair.real)), 2
    )  # what real images reach among themselves
    floor = manifold.compare(*(pair.real[half] for half in halves))
    every = (np.full(len(part), True) for part in (pair.real, pair.synthetic))
    return {
        "k": manifold.K,
        "all": _figures(found, *every),
        "real": floor.means(),
        "groups": [
            {
                "field": real.field,
                "name": real.name,
                "real": real.count,
                "synthetic": made.count,
            }
            | _figures(found, real.mask, made.mask)
            for real, made in subgroups
        ],
    }


def _figures(
    found: manifold.Manifold, real: np.ndarray, made: np.ndarray
) -> dict[str, object]:
    """Means over the images of two masks; `intervals` of the shares are Wilson's, of
    other images looked at, the two manifolds staying what they are."""
    masks = {"recall": real, "coverage": real, "precision": made, "density": made}
    parts = {name: getattr(found, name)[mask] for name, mask in masks.items()}
    result: dict[str, object] = {name: _mean(part) for name, part in parts.items()}
    result["intervals"] = {
        name: statistics.wilson(int(part.sum()), len(part))
        for name, part in parts.items()
        if name != "density"
    }
    return result


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
