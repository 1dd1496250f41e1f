"""Samplers exported by older versions still load and make what they made.

What loads and how its images are shaped is held strictly. Their pixels may be rounded
otherwise by another jax or another processor: by 64 of 65536 levels, a quarter of what
an 8-bit screen can show.
"""

from pathlib import Path

import numpy as np
import pytest

from ddpm_jax.sampler import load_sampler
from tests.artifact import made_of

FOLDERS = sorted((Path(__file__).parent / "data" / "artifacts").iterdir())
TOLERANCE = 64


def test_there_is_one():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_older_export_makes_what_it_made(folder):
    sampler = load_sampler(folder)
    assert sampler.step_counts == (4, 8) and sampler.size == 16
    expected = np.load(folder / "images.npy")
    found = made_of(sampler)
    assert found.dtype == expected.dtype == np.uint16
    assert found.shape == expected.shape == (3, 3, 16, 16)
    assert np.abs(found.astype(int) - expected).max() <= TOLERANCE
    # The requests differ by far more than that.
    apart = np.abs(np.diff(expected.astype(int), axis=0)).max((1, 2, 3))
    assert (apart > 10 * TOLERANCE).all()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_artifacts_stay_small(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
