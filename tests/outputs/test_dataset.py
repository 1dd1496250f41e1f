"""Records: what the model draws is a data set that a model and a lab's tools take."""

from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from configs import tiny
from data_prep import verify
from ddpm_jax import build
from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.data import pipeline, records
from ddpm_jax.outputs import dataset
from ddpm_jax.outputs.requests import Asked, Model
from ddpm_jax.train import train

MODEL = Model("ab", 2.0, 16)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["view,sex,age,seed", *(f"AP,F,{20 + i},{i % 7}" for i in range(60))]
    (folder / "cohort.csv").write_text("\n".join([*rows, rows[1]]) + "\n")
    return folder


ARGUMENTS = ("--format=png,records", "--records_per_shard=20")


@pytest.fixture
def sampled(command, tiny_export, cohort):
    """The folder of the cohort's images; what is finished is not made again."""
    result = command(
        "sample",
        *(f"--sampler={tiny_export}", f"--conditions={cohort / 'cohort.csv'}"),
        *(f"--out={cohort / 'out'}", "--splits=train=0.7,test=0.3", *ARGUMENTS),
    )
    assert result.status == 0, result.err
    return cohort / "out"


def test_records_are_what_training_reads(sampled, cohort):
    """The whole way: sampled, verified by `data_prep.verify`, trained on."""
    folder = sampled / "records"
    manifest = records.load_manifest(folder)
    assert list(verify.faults(folder)) == []
    assert manifest.settings["synthetic"] is True
    assert (manifest.bits, manifest.height) == (16, 16)
    counts = {split: manifest.count(split) for split in manifest.splits}
    assert sum(counts.values()) == 61 and min(counts.values()) > 5
    assert max(s.records for members in manifest.splits.values() for s in members) <= 20
    config = tiny.get_config()
    config.data.folder = str(folder)
    config.train.steps = config.train.save_every = config.train.sample_every = 2
    train(config, cohort / "run")
    assert (cohort / "run" / "loss.png").exists()
    # a sampler's range follows from the spectrum of the synthetic images
    with config.unlocked():
        config.sampler.low = None
    build.resolve_sampler(config, manifest)
    assert config.sampler.low == manifest.statistics["spectrum"]["logsnr_low"]


def test_records_hold_the_pixels_and_rows_of_the_pngs(sampled):
    folder, seen = sampled, {}
    for split in ("train", "test"):
        batch = pipeline.read_all(str(folder / "records"), split, PELVIS)
        for image, row in zip(
            batch["image"], PELVIS.decode(batch["cond"]), strict=True
        ):
            seen.setdefault(row["age"], []).append(image)
    assert len(seen) == 60 and len(seen[20.0]) == 2  # one row was asked for twice
    for age, images in seen.items():
        with Image.open(folder / f"{int(age) - 20:06d}.png") as shown:
            for image in images:
                np.testing.assert_array_equal(image, np.asarray(shown))


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=40),
    st.integers(1, 9),
    st.sampled_from([{"train": 1.0}, {"a": 0.5, "b": 0.5}]),
)
def test_every_image_is_in_one_shard(seeds, per_shard, shares):
    asked = [Asked({}, seed, "") for seed in seeds]
    ids = dataset.ids(asked, MODEL)
    planned = dataset.plan(ids, shares, per_shard)
    assert sorted(i for shard in planned for i in shard.rows) == list(range(len(seeds)))
    assert all(1 <= len(shard.rows) <= per_shard for shard in planned)
    assert len({one.record for one in ids}) == len(ids)
    split_of = {i: shard.split for shard in planned for i in shard.rows}
    first = {}
    for index, seed in enumerate(seeds):
        assert split_of[first.setdefault(seed, index)] == split_of[index]
        assert ids[first[seed]].subject == ids[index].subject


def test_a_shard_that_is_not_whole_leaves_nothing(tmp_path):
    ids = dataset.ids([Asked(PELVIS.parse({}), seed, "") for seed in range(3)], MODEL)
    (shard,) = dataset.plan(ids, {"train": 1.0}, 9)
    image = np.arange(64, dtype=np.uint16).reshape(8, 8)

    def entry(index):
        made = Future()
        made.set_result(dataset.entry(image, PELVIS.parse({}), ids[index], PELVIS))
        return made

    with dataset.Shards(tmp_path, [shard]) as collected:
        for index in (0, 1):
            collected.append(index, entry(index))
        assert not dataset.finished(tmp_path, shard)
    assert list(tmp_path.iterdir()) == []
    with dataset.Shards(tmp_path, [shard]) as collected:
        for index in range(3):
            collected.append(index, entry(index))
    assert dataset.finished(tmp_path, shard)
    np.testing.assert_array_equal(dataset.read(tmp_path, shard, 1), image)
