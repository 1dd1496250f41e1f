"""Batches: what the shards hold, in one order, whoever decodes them."""

import numpy as np
import pytest

from configs import tiny
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import pipeline, records

IMAGE = np.arange(35, dtype=np.uint16).reshape(5, 7)


def encoded(image, codec="htj2k", bits=16) -> pipeline.Encoded:
    data = records.encode_image(image, codec, bits)
    return pipeline.Encoded(data, codec, image.shape)


@pytest.mark.parametrize("codec", records.CODECS)
@pytest.mark.parametrize("bits", [8, 16])
def test_stack_decodes(codec, bits):
    images = [(IMAGE + i) % 255 for i in range(3)]
    parts = [encoded(image, codec, bits) for image in images]
    np.testing.assert_array_equal(np.stack(parts), np.stack(images))
    out = np.zeros((3, 5, 7), np.uint16)
    assert np.stack(parts, out=out) is out
    np.testing.assert_array_equal(out, np.stack(images))
    np.testing.assert_array_equal(np.asarray(parts[1]), images[1])


def test_images_of_other_sizes_are_no_batch():
    with pytest.raises(ValueError, match="shape"):
        np.stack([encoded(IMAGE), encoded(np.zeros((6, 6), np.uint16))])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_records(tiny_data, workers):
    config = tiny.get_config()
    config.data.folder, config.data.workers = str(tiny_data), workers
    config.data.batch = 16
    iterator = pipeline.train_iterator(config, PELVIS)
    batches = [next(iterator) for _ in range(2)]
    iterator.close()
    found = np.concatenate([np.asarray(b["image"]) for b in batches])
    source = records.open_split(tiny_data, "train")
    stored = [records.decode_image(e["image"], "png") for e in source]
    order = [next(i for i, s in enumerate(stored) if (s == x).all()) for x in found]
    assert found.dtype == np.uint16 and sorted(order) == list(range(len(source)))
    views = np.concatenate([np.asarray(b["cond"]["view"]) for b in batches])
    assert [source[i]["view"] for i in order] == views.tolist()
