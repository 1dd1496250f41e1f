"""The Fréchet distance while a model trains: its figures, and what is kept by them."""

import contextlib
import itertools
import json
import signal
import time

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from ddpm_jax import build, command_line, runs, sources, train, validation
from ddpm_jax.data import records
from ddpm_jax.evaluation import labeller
from ddpm_jax.evaluation.frechet import Moments, frechet_distance
from ddpm_jax.training import best, monitoring, sharding
from tests.datasets import write_dataset

PAUSE = 3.0
"""Seconds that each distance takes longer here: far more than a step."""


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    write_dataset(folder, size=16, counts=(("train", 64), ("validation", 32)))
    config = tiny_config.copy_and_resolve_references()
    config.data.folder = str(folder)
    config.ema.widths = (0.05, 0.10)
    config.ema.snapshot_every = 1
    config.train.update(steps=12, save_every=4, log_every=3, keep=2)
    config.evaluation.update(every=2, count=24, epochs=6)
    return config


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """12 steps, the distance measured at every second one."""
    workdir = tmp_path_factory.mktemp("runs") / "measured"
    measure = validation.Distance.__call__

    def slow(*args):
        time.sleep(PAUSE)
        return measure(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.Distance, "__call__", slow)
        train.train(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def distance(config, run):
    """As the run has it, over one device."""
    return make_distance(config, run)


def make_distance(config, workdir):
    schema = build.condition_schema(config)
    manifest = records.load_manifest(config.data.folder)
    net = build.model(config, schema)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    return validation.Distance(config, schema, net, manifest.schema, workdir, mesh)


def rows_of(cond):
    """Different rows; what is not known as -1, which is itself."""
    columns = (np.nan_to_num(cond[name], nan=-1).tolist() for name in sorted(cond))
    return set(zip(*columns, strict=True))


def measured(workdir):
    return {
        line["step"]: line["fd"]
        for line in monitoring.read_metrics(workdir)
        if "fd" in line
    }


def test_the_best_is_where_the_distance_is_least(run):
    found = measured(run)
    assert list(found) == [2, 4, 6, 8, 10, 12]
    chosen = best.newest(run).measured
    assert (chosen.step, chosen.fd) == min(found.items(), key=lambda item: item[1])
    assert chosen.images == 24


def test_its_parameters_are_those_of_its_step(run):
    chosen = runs.load(run, checkpoint="best")
    kept = load_file(run / "ema" / f"{chosen.step:07d}.safetensors")
    for width in ("0.05", "0.1"):
        params = runs.load(run, width, "best").params
        for name, value in params.items():
            np.testing.assert_array_equal(value, kept[f"{width}/{name}"])
    assert chosen.measured == best.newest(run).measured
    assert runs.load(run).measured is None and runs.load(run).step == 12
    assert runs.load(run, "0.075", "best").step == chosen.step


def test_one_line_of_metrics_a_step_and_no_time_of_it_in_a_step(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["step"] for entry in entries] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert all(np.isfinite(entry["loss"]) for entry in entries)
    assert len({entry["fd_real"] for entry in entries if "fd" in entry}) == 1
    taken = [entry["step_seconds"] for entry in entries if "step_seconds" in entry]
    assert len(taken) >= 5 and max(taken) < PAUSE / 2


def test_the_distance_is_that_of_the_images_that_the_model_samples(
    config, run, distance
):
    """Made anew by what `sample` uses, from the step that is the best."""
    source = sources.from_run(str(run), checkpoint="best")
    seeds, cond = (
        jax.tree.map(lambda *parts: np.concatenate(parts)[:24], *column)
        for column in zip(*distance.asked, strict=True)
    )
    held_out, _ = records.read_conditions(
        config.data.folder, "validation", source.schema
    )
    assert rows_of(cond) < rows_of(held_out)
    assert len(set(seeds.tolist())) == 24
    images = np.asarray(source.run(seeds, cond, source.guidance))
    found = Moments.of(distance.reference.labeller.outputs(images)[1])
    expected = frechet_distance(found, distance.reference.moments)
    assert expected == pytest.approx(best.newest(run).measured.fd, rel=1e-3)


def test_real_images_are_nearer_than_those_of_a_model_that_learnt_little(run):
    assert best.newest(run).measured.fd_real < min(measured(run).values()) / 2


def test_killed_and_gone_on_with_it_is_the_same(config, run, tmp_path, monkeypatch):
    """Ended by SIGTERM after step 3, and by a failure of step 7, which has no
    checkpoint of what was measured at 6; the labeller learns once."""
    stops, trained, step = {3}, [], itertools.count(4)
    learn, begin = labeller.train, monitoring.Clock.waiting

    @contextlib.contextmanager
    def stop_signal():
        yield lambda number: signal.SIGTERM if number in stops else 0

    def counting(*args, **options):
        trained.append(None)
        return learn(*args, **options)

    def failing(clock, newest):
        if next(step) == 7:
            raise OSError("a kill")
        return begin(clock, newest)

    monkeypatch.setattr(train.distributed, "stop_signal", stop_signal)
    monkeypatch.setattr(labeller, "train", counting)
    with pytest.raises(command_line.Preempted):
        train.train(config, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="a kill"):
        patch.setattr(monitoring.Clock, "waiting", failing)
        train.train(config, tmp_path)
    assert list(measured(tmp_path)) == [2, 4, 6]
    train.train(config, tmp_path)
    assert len(trained) == 1
    assert measured(tmp_path) == measured(run)
    ours, theirs = (best.newest(folder) for folder in (tmp_path, run))
    assert ours.measured == theirs.measured
    assert ours.path.read_bytes() == theirs.path.read_bytes()


def test_a_distance_of_something_else_is_no_rival(config, run, distance, tmp_path):
    """Of another phase, say: 0 there is not better than what is found here."""
    tracks = {"0.1": runs.load(run, "0.1").params}
    (tmp_path / "fd").symlink_to(run / "fd")
    for how, step in (("another", 2), (distance.how, 1)):
        best.save(tmp_path, best.Measured(1, 0.0, 0.0, 24, how), tracks)
        found = make_distance(config, tmp_path)(2, tracks)
        assert found["fd"] == measured(run)[12]
        assert best.newest(tmp_path).measured.step == step
        best.set_aside(tmp_path, after=0)
    assert found["fd_real"] == distance.reference.floor


def test_everything_is_compiled_once(run, distance, monkeypatch, tmp_path):
    monkeypatch.setattr(distance, "workdir", tmp_path)
    tracks = {"0.1": runs.load(run, "0.1").params}
    read = distance.reference.labeller._apply
    values = []
    for step in (1, 2):
        values.append((distance(step, tracks)["fd"], read._cache_size()))
    assert values[0] == values[1]
    assert distance.run._cache_size() == 1


def test_nothing_is_kept_of_a_single_image(run):
    (path,) = (run / "fd").glob("reference-*.npz")
    with np.load(path) as kept:
        shapes = {name: kept[name].shape for name in kept}
    d = 4 * labeller.WIDTH
    assert shapes == {"count": (), "total": (d,), "outer": (d, d), "floor": ()}


def test_what_was_kept_and_is_damaged_is_named(config, run, tmp_path):
    (tmp_path / "fd").mkdir()
    for path in (run / "fd").iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "fd" / path.name).write_bytes(data)
    with pytest.raises(ValueError, match="labeller-.*npz: not readable arrays; rem"):
        make_distance(config, tmp_path)


def test_the_picture_shows_it(run, tiny_run):
    sizes = []
    for folder in (run, tiny_run):
        with Image.open(folder / "loss.png") as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == 1.5 * sizes[1][0] and sizes[0][1] == sizes[1][1]


def test_the_best_is_sampled_and_exported(command, run, tmp_path):
    images, sampler = tmp_path / "images", tmp_path / "sampler"
    chosen = ("--checkpoint=best", f"--workdir={run}")
    result = command("sample", *chosen, f"--out={images}", "--prompt=AP")
    assert result.status == 0, result.err
    result = command("export", *chosen, f"--out={sampler}")
    assert result.status == 0, result.err
    expected = best.newest(run).measured
    assert f"exported the best, {expected}, to {sampler}; start with" in result.out
    said = json.loads((sampler / "sampler.json").read_text())
    model = sources.model_hash(runs.load(run, checkpoint="best").params)
    assert (said["trained_steps"], said["model_sha256"]) == (expected.step, model)
    assert said["best"] == {"fd": expected.fd, "fd_real": expected.fd_real} | {
        "images": 24
    }
    card = (sampler / "card.md").read_text()
    assert (
        f"{expected.step} steps" in card and f"images, {expected.fd:.3g} of 24" in card
    )
    assert model in (images / "manifest.csv").read_text()


def test_a_run_that_measures_nothing_has_none_of_it(command, tiny_run, tmp_path):
    assert not {"fd", "best"} & {path.name for path in tiny_run.iterdir()}
    assert measured(tiny_run) == {}
    result = command(
        "sample",
        *(f"--workdir={tiny_run}", f"--out={tmp_path / 'x'}", "--prompt=AP"),
        "--checkpoint=best",
    )
    assert result.status == 1 and not (tmp_path / "x").exists()
    assert f"error: {tiny_run}: no best model is kept there" in result.err
    assert "expected --checkpoint latest." in result.err


def test_what_is_no_run_has_no_best(command, tiny_export, tiny_data, tmp_path):
    out = f"--out={tmp_path / 'x'}"
    for name, arguments in {
        "sample": ("--prompt=AP", f"--sampler={tiny_export}"),
        "evaluate": (f"--real={tiny_data}", f"--synthetic={tiny_data}"),
    }.items():
        result = command(name, *arguments, out, "--checkpoint=best")
        assert result.status == 1 and "error: --checkpoint best: " in result.err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"every": -1}, "config.evaluation.every = -1: expected 0 or more"),
        ({"count": 19}, "config.evaluation.count = 19: expected 20 or more"),
        ({"epochs": 0}, "config.evaluation.epochs = 0: expected 1 or more"),
        (
            {"split": "test"},
            "config.evaluation.split = 'test': expected one of train, validation.",
        ),
        (
            {"split": "train"},
            "config.evaluation.split = 'train': the model learns from it; expected",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_first(config, tmp_path, changes, message):
    changed = config.copy_and_resolve_references()
    changed.evaluation.update(changes)
    with pytest.raises(ValueError, match=message):
        train.train(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_splits_that_are_too_small(config, tmp_path):
    counts = (("train", 64), ("validation", 19))
    changed = config.copy_and_resolve_references()
    changed.data.folder = str(write_dataset(tmp_path, size=16, counts=counts))
    with pytest.raises(ValueError, match="split 'validation' holds 19 images; expect"):
        train.train(changed, tmp_path / "run")
    changed.evaluation.every = 0
    validation.check(changed, records.load_manifest(changed.data.folder))


def test_a_damaged_shard_of_the_held_out_split_is_found_first(config, tmp_path):
    counts = (("train", 32), ("validation", 20))
    changed = config.copy_and_resolve_references()
    changed.data.folder = str(write_dataset(tmp_path, size=16, counts=counts))
    (path,) = tmp_path.glob("*validation*")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="validation.* is not what the manifest says"):
        train.train(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_too_small_for_a_labeller(config, tmp_path):
    changed = config.copy_and_resolve_references()
    changed.phases = ({"until": 2, "image_size": 8},)
    with pytest.raises(ValueError, match=r"phases\[0\]: .* images of 8 px, but its"):
        train.train(changed, tmp_path / "run")


def test_configs_of_before(config):
    older = config.copy_and_resolve_references()
    with older.unlocked():
        del older.evaluation
    assert validation.every(older) == 0
    validation.check(older, records.load_manifest(config.data.folder))
