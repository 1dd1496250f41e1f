"""The sampler that comes with the package: small, whole, and where it comes from."""

import pytest

from ddpm_jax.demo.__main__ import SHIPPED
from ddpm_jax.sampler import load_sampler

MOST = 6 * 2**20


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this copy of the package holds none")
def test_the_sampler_of_the_package():
    files = list(SHIPPED.iterdir())
    assert sum(file.stat().st_size for file in files) <= MOST
    loaded = load_sampler(SHIPPED)
    assert loaded.size == 64 and "phantom" in (SHIPPED / "card.md").read_text()
    images = loaded.sample("AP pelvis, both hips", seeds=range(2))
    assert (images[0] != images[1]).any()
