"""Batches: what the shards hold, in one order, whoever decodes them."""

import json

import grain
import numpy as np
import pytest
from grain.experimental import ElasticIterator

from configs import tiny
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import augment, pipeline, records

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


def config_of(folder, **options):
    config = tiny.get_config()
    config.data.folder = str(folder)
    config.data.update(options)
    return config


def shares(config, start, count, hosts=1):
    """Batches of every host, its share of the global order beginning at `start`."""
    whole = pipeline.train_dataset(config, PELVIS)
    dataset = pipeline.Contiguous(whole, config.data.batch, hosts)
    found = []
    for host in range(hosts):
        options = grain.sharding.ShardOptions(host, hosts)
        iterator = ElasticIterator(dataset, config.data.batch, options)
        iterator.set_state(json.loads(json.dumps({"global_next_index": start})))
        found.append([next(iterator) for _ in range(count)])
        iterator.close()
    return found


def flat(batches) -> dict:
    cond = [batch["cond"] for batch in batches]
    joined = {name: np.concatenate([c[name] for c in cond]) for name in cond[0]}
    return joined | {"image": np.concatenate([batch["image"] for batch in batches])}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


DRAWN = {"flip": 0.5, "balance": ("view", "side"), "balance_power": 0.8}
EACH = [{}, {"flip": 0.5}, {k: DRAWN[k] for k in ("balance", "balance_power")}, DRAWN]


@pytest.mark.parametrize("options", EACH)
def test_continued_and_shared_batches_are_the_same(tiny_data, options):
    """5 + 5 batches are 10, over the end of a pass; two hosts have those of one."""
    config = config_of(tiny_data, **options)
    whole = flat(shares(config, 0, 10)[0])
    parts = shares(config, 0, 5)[0] + shares(config, 40, 5)[0]
    assert_same(whole, flat(parts))
    hosts = shares(config, 0, 10, hosts=2)
    assert_same(
        whole, flat([half for pair in zip(*hosts, strict=True) for half in pair])
    )


def test_no_flip_and_power_0_are_the_plain_batches(tiny_data):
    """`plain` is written out: what came before there were flips and balance."""
    source = records.open_split(tiny_data, "train")
    plain = grain.MapDataset.source(source).seed(0).shuffle().repeat()
    views = [int(plain[i]["view"]) for i in range(80)]
    stored = [records.decode_image(plain[i]["image"], "png") for i in range(80)]
    for options in ({"flip": 0.0}, {"balance": ("view",), "balance_power": 0.0}):
        found = flat(shares(config_of(tiny_data, **options), 0, 10)[0])
        assert found["view"].tolist() == views
        np.testing.assert_array_equal(found["image"], np.stack(stored))


def test_flips_mirror_the_same_records_in_the_same_places(tiny_data):
    plain = flat(shares(config_of(tiny_data), 0, 10)[0])
    images, cond = plain.pop("image"), plain
    mirrored_images, mirrored = augment.mirror(PELVIS, images, cond)
    everywhere = flat(shares(config_of(tiny_data, flip=1.0), 0, 10)[0])
    assert_same(everywhere, mirrored | {"image": mirrored_images})
    some = flat(shares(config_of(tiny_data, flip=0.5), 0, 10)[0])
    flipped = (some["image"] == mirrored_images).all(axis=(1, 2))
    assert 20 < flipped.sum() < 60
    chosen = np.where(flipped[:, None, None], mirrored_images, images)
    np.testing.assert_array_equal(some["image"], chosen)
    for name in PELVIS.names:
        expected = np.where(flipped, mirrored[name], cond[name])
        np.testing.assert_array_equal(some[name], expected, err_msg=name)


def test_balanced_batches_and_what_is_said_of_them(tiny_data):
    """32 records a pass; the views and "not known" of 4 cells come 8 times each."""
    lines = []
    config = config_of(tiny_data, balance=("view",), batch=32)
    dataset = pipeline.train_dataset(config, PELVIS, lines.append)
    for epoch in range(2):
        views = [int(dataset[32 * epoch + i]["cond"]["view"]) for i in range(32)]
        assert np.bincount(views).tolist() == [8] * 4
    assert len(lines) == 1 and lines[0].startswith("balanced over view with power 1: 4")


def test_codes_are_those_of_the_records(tiny_data):
    names = ["sex", "view"]
    codes = records.read_codes(tiny_data, "train", names)
    source = records.open_split(tiny_data, "train")
    for name in names:
        assert codes[name].tolist() == [int(example[name]) for example in source]


def test_entries_are_the_examples_of_tfds(tiny_data):
    source = records.open_split(tiny_data, "test")
    entries = records.Entries(tiny_data, "test")
    assert len(entries) == len(source)
    for i in (0, 15):
        for name, value in source[i].items():
            np.testing.assert_array_equal(entries[i][name], value, err_msg=name)
    with pytest.raises(KeyError, match="other"):
        entries[0]["other"]


def test_mirrored_image_decodes_mirrored():
    image = encoded(IMAGE)
    np.testing.assert_array_equal(np.asarray(image.mirror()), IMAGE[:, ::-1])
    np.testing.assert_array_equal(np.asarray(image.mirror().mirror()), IMAGE)


def test_workers_make_the_same_batches_in_memory_of_our_own(tiny_data):
    """Shared memory that JAX still holds at exit would be left over."""
    found = []
    for workers in (0, 2):
        config = config_of(tiny_data, workers=workers, **DRAWN)
        iterator = pipeline.train_iterator(config, PELVIS)
        batches = pipeline.prefetch(iterator, put=lambda batch: batch)
        drawn = [next(batches) for _ in range(6)]
        iterator.close()
        for batch, _ in drawn:
            arrays = [batch["image"], *batch["cond"].values()]
            assert all(type(a) is np.ndarray and a.base is None for a in arrays)
            assert set(batch) == {"image", "cond"}  # no id goes to a device
        found.append(drawn)
    for (one, before), (other, after) in zip(*found, strict=True):
        assert before[1:] == after[1:]
        np.testing.assert_array_equal(before.record_ids, after.record_ids)
        assert_same(flat([one]), flat([other]))
