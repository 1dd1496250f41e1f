"""Images of the studio: the sampler's own, watched, kept, in bounded memory."""

import numpy as np
import pytest

from ddpm_jax.demo import studio as studios
from ddpm_jax.demo import viewer
from ddpm_jax.demo.asking import Setting


@pytest.fixture
def setting(studio):
    row = studio.sampler.schema.parse({"view": "AP", "age": 60})
    return Setting(row, 2.5, 8)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_images_are_those_of_the_sampler_to_the_bit(studio, setting, count):
    seeds = range(7, 7 + count)
    expected = studio.sampler.sample(
        setting.row, seeds, steps=8, guidance=2.5, batch=studio.batch
    )
    views = list(studio.watch(setting, seeds))
    np.testing.assert_array_equal(views[-1].images, expected)
    np.testing.assert_array_equal(studio.images(setting, seeds), expected)


def test_views_get_nearer_and_end_done(studio, setting):
    views = list(studio.watch(setting, range(3)))
    shares = [view.share for view in views]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert [view.done for view in views] == [False] * (len(views) - 1) + [True]
    assert len(views) <= 2 * studios.PREVIEWS
    first, last = views[0].images[0], views[-1].images[0]
    assert (first != last).any() and not views[0].images[2].any()


def test_kept_images_are_bounded(studio, setting, monkeypatch):
    size = studio.sampler.size
    monkeypatch.setattr(studios, "KEPT", 3 * 2 * size * size)
    for seed in range(6):
        studio.images(setting, [seed])
    kept = sum(images.nbytes for images in studio._kept.values())
    assert kept <= studios.KEPT and len(studio._kept) == 3


def test_a_browser_gets_all_16_bits():
    import base64

    import imagecodecs

    image = np.random.default_rng(0).integers(0, 2**16, (5, 7)).astype(np.uint16)
    header, content = viewer.data_uri(image).split(",")
    red, green, _ = np.moveaxis(imagecodecs.png_decode(base64.b64decode(content)), 2, 0)
    assert header == "data:image/png;base64"
    np.testing.assert_array_equal(red.astype(int) * 256 + green, image)


def test_large_previews_are_small():
    assert viewer.smaller(np.full((1024, 1024), 65535, np.uint16)).shape == (256, 256)
