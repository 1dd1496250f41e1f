"""One training in several resolutions: continuation, order of examples, refusals."""

import contextlib
import json
import re
import signal

import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import pelvis_1024, tiny
from ddpm_jax import build, command_line, runs, train
from ddpm_jax.data import pipeline, records
from ddpm_jax.training import monitoring, phases
from tests.datasets import write_dataset


def progressive(config, *entries, steps=6):
    config = ml_collections.ConfigDict(config.to_dict())
    config.phases = tuple(entries)
    config.train.update(steps=steps, save_every=100, log_every=1, sample_every=100)
    with config.ignore_type():
        config.sampler.update(low=None, high=None)
    return config


FIRST = {"until": 2, "image_size": 8, "data.batch": 16}


@pytest.fixture(scope="module")
def whole(tiny_config, tmp_path_factory):
    """2 steps of 16 images of 8 px, then 4 of 8 images of 16 px."""
    workdir = tmp_path_factory.mktemp("progressive")
    train.train(progressive(tiny_config, FIRST), workdir)
    return workdir


def test_phases_cover_the_training_without_gaps():
    config = progressive(
        pelvis_1024.get_config(),
        {"until": 20, "image_size": 256},
        {"until": 50, "image_size": 512, "data.batch": 256},
        steps=70,
    )
    found = phases.of(config)
    assert [(p.first, p.last) for p in found] == [(1, 20), (21, 50), (51, 70)]
    assert [p.config.image_size for p in found] == [256, 512, 1024]
    assert [p.config.data.batch for p in found] == [512, 256, 512]
    assert [p.position for p in found] == [0, 20 * 512, 20 * 512 + 30 * 256]
    assert all("phases" not in p.config for p in found)


def test_no_phases_are_one():
    config = tiny.get_config()
    (only,) = phases.of(config)
    assert (only.first, only.last, only.position) == (1, config.train.steps, 0)
    assert only.config.to_dict() | {"phases": ()} == config.to_dict()


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 33)), max_size=4),
    st.integers(1, 200),
)
@settings(deadline=None)
def test_any_step_is_of_one_phase_and_no_example_is_seen_twice(lengths, steps):
    ends = np.cumsum([length for length, _ in lengths]).tolist()
    entries = [
        {"until": end, "data.batch": batch}
        for end, (_, batch) in zip(ends, lengths, strict=True)
    ]
    config = progressive(tiny.get_config(), *entries, steps=steps)
    found = phases.of(config)
    assert found[0].first == 1 and found[-1].last == steps
    assert [p.last for p in found[:-1]] == [end for end in ends if end < steps]
    for before, after in zip(found[:-1], found[1:], strict=True):
        assert after.first == before.last + 1
        stopped = before.position + (before.last - before.first + 1) * (
            before.config.data.batch
        )
        assert 0 <= after.position - stopped < after.config.data.batch
    for step in range(1, steps + 1):
        (mine,) = (p for p in found if p.first <= step <= p.last)
        assert phases.at(config, step).to_dict() == mine.config.to_dict()


@pytest.fixture
def stop_after(monkeypatch):
    """SIGTERM after the steps that are added to it."""
    stops = set()

    @contextlib.contextmanager
    def stop_signal():
        yield lambda number: signal.SIGTERM if number in stops else 0

    monkeypatch.setattr(train.distributed, "stop_signal", stop_signal)
    return stops


def test_stopped_in_any_phase_it_ends_in_the_same_bits(
    whole, tiny_config, tmp_path, stop_after
):
    """After step 1, at the boundary, and in the second phase."""
    stop_after |= {1, 2, 3}
    for _ in stop_after:
        with pytest.raises(command_line.Preempted):
            train.train(progressive(tiny_config, FIRST), tmp_path)
    train.train(progressive(tiny_config, FIRST), tmp_path)
    assert_same(tmp_path, whole)
    assert [line["step"] for line in monitoring.read_metrics(whole)] == [*range(1, 7)]


def test_a_small_run_grows(whole, tiny_config, tmp_path, stop_after):
    """A run of 8 px, stopped after 2 steps, goes on at 16 px as if it had been planned:
    to the bit, and sampled at the size that it has reached."""
    stop_after |= {2}
    small = progressive(tiny_config)
    small.image_size, small.data.batch = 8, 16
    with pytest.raises(command_line.Preempted):
        train.train(small, tmp_path)
    assert runs.load(tmp_path).config.image_size == 8
    train.train(progressive(tiny_config, FIRST), tmp_path)
    assert runs.load(tmp_path).config.image_size == 16
    assert_same(tmp_path, whole)


def assert_same(folder, other):
    """The same parameters, to the bit, and the same losses."""
    ours, theirs = runs.load(folder).params, runs.load(other).params
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (
        [line["loss"] for line in monitoring.read_metrics(one)]
        for one in (folder, other)
    )
    assert ours == theirs


def test_the_run_keeps_the_range_of_each_phase(whole):
    saved = json.loads((whole / "config.json").read_text())
    (entry,) = saved["phases"]
    shift = entry["sampler.low"] - saved["sampler"]["low"]
    assert shift == pytest.approx(2 * np.log(2))


def test_images_are_means_of_the_stored_ones(tiny_config):
    schema = build.condition_schema(tiny_config)
    small = ml_collections.ConfigDict(tiny_config.to_dict())
    small.image_size = 4
    whole, pooled = (
        next(pipeline.train_iterator(config, schema)) for config in (tiny_config, small)
    )
    means = whole["image"].reshape(-1, 4, 4, 4, 4).mean((2, 4))
    np.testing.assert_array_equal(pooled["image"], np.floor(means + 0.5))
    assert np.array_equal(whole["record_id"], pooled["record_id"])


def test_the_range_of_a_smaller_image_starts_lower(tiny_config):
    """Means over k x k pixels of an image keep 1 / k^2 of its power."""
    manifest = records.load_manifest(tiny_config.data.folder)
    found = []
    for size in (16, 4):
        config = pelvis_1024.get_config()
        config.image_size = size
        build.resolve_sampler(config, manifest)
        found.append((config.sampler.low, config.sampler.high))
    assert found[1][0] - found[0][0] == pytest.approx(2 * np.log(4))
    assert found[1][1] == found[0][1]


def test_a_damaged_checkpoint_costs_a_phase_of_its_own_data_set_nothing(
    tiny_config, tmp_path
):
    """Back before the boundary: the data set of then is the run's again, and what is
    sampled there names it."""
    small = write_dataset(tmp_path, size=8)
    folder, save = tmp_path / "run", {"save_every": 1, "keep": 3}
    config = progressive(
        tiny_config, FIRST | {"data.folder": str(small), "image_size": 8}, steps=3
    )
    config.train.update(save)
    train.train(config, folder)
    ended = runs.load(folder)
    for step in (2, 3):
        flip_a_byte(folder / "checkpoints" / str(step))
    first, last = (
        records.load_manifest(name).fingerprint()
        for name in (small, tiny_config.data.folder)
    )
    assert ended.data["fingerprint"] == last
    assert runs.load(folder).data["fingerprint"] == first
    train.train(config, folder)
    again = runs.load(folder)
    assert again.step == 3 and again.data == ended.data
    assert all(np.array_equal(again.params[n], ended.params[n]) for n in ended.params)
    assert [one["after"] for one in again.data["data_sets"]] == [0, 2]


def test_a_trace_of_steps_that_never_came_is_told(tiny_config, tmp_path, capsys):
    config = progressive(tiny_config, FIRST, steps=3)
    train.train(config, tmp_path, profile="4:5")
    assert "nothing traced: not at steps 4 to 5\n" in capsys.readouterr().out


def flip_a_byte(checkpoint):
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_the_past_is_not_changed(whole, tiny_config):
    """The batch of an earlier phase says where the next one goes on in the data."""
    config = progressive(tiny_config, FIRST | {"data.batch": 24}, steps=8)
    with pytest.raises(ValueError, match=r"config.data.batch: 16 -> 24 \(step 2\)"):
        train.train(config, whole)
    earlier = progressive(tiny_config, FIRST | {"until": 1}, steps=8)
    with pytest.raises(ValueError, match=r"config.data.batch: 16 -> 8 \(step 2\)"):
        train.train(earlier, whole)


@pytest.mark.parametrize(
    "entries, message",
    [
        ([{"image_size": 8}], "config.phases[0]: until = None: expected its last step"),
        ([{"until": 0}], "config.phases[0]: until = 0: expected a step after 0"),
        (
            [{"until": 3}, {"until": 3}],
            "config.phases[1]: until = 3: expected a step after 3",
        ),
        ([7], "config.phases[0] = 7: expected {'until': step, ...}"),
        (
            [{"until": 3, "model.emb": 64}],
            "config.phases[0]: 'model.emb' is not to be changed by a phase; expected",
        ),
        ([{"until": 3, "image_size": "8"}], "config.phases[0]: "),
        (
            [{"until": 3, "image_size": 12}],
            "config.phases[0]: config.image_size = 12: the data set",
        ),
        ([{"until": 3, "image_size": 5}], "expected multiples of 4"),
        (
            [{"until": 1, "image_size": 8}, {"until": 3, "data.batch": 0}],
            "config.phases[1]: config.data.batch = 0: expected a positive multiple",
        ),
        (
            [{"until": 3, "image_size": None}],
            "config.phases[0]: image_size = None: expected a value",
        ),
    ],
)
def test_phases_that_cannot_be(tiny_config, tmp_path, entries, message):
    config = progressive(tiny_config, *entries)
    with pytest.raises(ValueError, match=re.escape(message)):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_of_one_size_is_refused(tiny_config, tmp_path):
    config = progressive(tiny_config, {"until": 3, "image_size": 8})
    with config.unlocked():
        config.model = {
            "name": "unet",
            "channels": (16, 16),
            "blocks": 1,
            "attention": 8,
            "heads": 2,
            "emb": 16,
        }
    with pytest.raises(ValueError, match=r"phases\[0\]: its parameters have other sha"):
        train.train(config, tmp_path)


def test_what_was_trained_is_not_changed_later(whole, tiny_config):
    changed = progressive(tiny_config, steps=6)
    changed.image_size = 8
    with pytest.raises(ValueError, match="config.image_size: 16 -> 8"):
        train.train(changed, whole)
    later = progressive(tiny_config, FIRST | {"until": 6}, steps=8)
    with pytest.raises(ValueError, match="config.data.batch: 8 -> 16"):
        train.train(later, whole)
