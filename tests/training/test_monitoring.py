"""What a run leaves behind to look at, read back by the programs that will."""

import errno
import json
import os
import subprocess
import sys
import time
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from clu import metrics
from PIL import Image

from ddpm_jax import bands
from ddpm_jax.training import monitoring
from ddpm_jax.training import step as steps


@pytest.fixture(scope="module")
def events(tiny_run):
    """The run's TensorBoard events, read by TensorBoard's own reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own, on import
        from tensorboard.backend.event_processing import event_accumulator

        reader = event_accumulator.EventAccumulator(str(tiny_run))
        reader.Reload()
    return reader


def test_scalars_reach_tensorboard(events, tiny_run):
    lines = monitoring.read_metrics(tiny_run)
    assert {"loss", "grad_norm"} <= set(events.Tags()["scalars"])
    scalars = {event.step: event.value for event in events.Scalars("loss")}
    assert scalars == {
        line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in lines
    }
    assert sorted(scalars) == [1, 2, 3, 4]


def test_images_and_texts_reach_tensorboard(events, tiny_run):
    assert events.Tags()["images"] == ["samples"]
    (shown,) = events.Images("samples")
    with Image.open(tiny_run / "samples" / "step_0000004.png") as sheet:
        assert shown.step == 4 and (shown.width, shown.height) == sheet.size
    texts = events.Tags()["tensors"]
    assert any("parameters" in tag for tag in texts)
    assert any("config" in tag for tag in texts)


def test_metrics_jsonl(tiny_run):
    lines = (tiny_run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        assert np.isfinite(list(entry.values())).all()
        assert any(name.startswith("v_mse/logsnr_") for name in entry)
        assert set(bands.names(16, 16)) <= set(entry)
    assert "images_per_second" not in entries[0]  # that step was compiled
    assert all(entry["images_per_second"] > 0 for entry in entries[1:])


def test_loss_curve(tiny_run):
    with Image.open(tiny_run / "loss.png") as picture:
        assert picture.width > 500 and np.ptp(np.asarray(picture.convert("L"))) > 200


def test_metrics_of_a_resumed_run_are_in_order(tmp_path):
    """A step that was logged twice counts once, as last written."""
    writer = monitoring.JsonLines(tmp_path / "metrics.jsonl", after=0)
    for step, loss in [(1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5), (3, 3.5)]:
        writer.write_scalars(step, {"loss": np.float32(loss)})
    writer.close()
    read = monitoring.read_metrics(tmp_path)
    assert [(e["step"], e["loss"]) for e in read] == [(1, 5.0), (2, 4.5), (3, 3.5)]
    assert [e["step"] for e in monitoring.read_metrics(tmp_path, before=2)] == [1, 2]


def test_averages_survive_a_checkpoint_bit_for_bit():
    """Nine steps at once, and four, JSON, and five more."""
    values = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    masks = np.arange(27).reshape(9, 3) % 4 > 1

    def measured(i):
        average = metrics.Average.from_model_output
        masked = average(jnp.asarray(values[i]), mask=jnp.asarray(masks[i]))
        return {"all": average(jnp.asarray(values[i])), "some": masked}

    whole = cut = None
    for i in range(9):
        whole = steps.merge(whole, measured(i))
        cut = steps.merge(cut, measured(i))
        if i == 3:
            cut = monitoring.unpack(json.loads(json.dumps(monitoring.pack(cut))))
    assert monitoring.pack(cut) == monitoring.pack(whole)
    assert monitoring.compute(cut) == monitoring.compute(whole)
    assert monitoring.unpack(monitoring.pack(None)) is None


def test_tensorboard_forgets_what_is_made_again(tmp_path):
    """A run killed at step 9 goes on from step 5: each step is shown once."""
    for after, numbers, value in [(0, range(1, 10), 1.0), (5, range(6, 12), 2.0)]:
        writer = monitoring.make_writer(tmp_path, after)
        for number in numbers:
            writer.write_scalars(number, {"loss": value})
        writer.close()
        time.sleep(1.1)  # event files are named, and read in order, by the second
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own, on import
        from tensorboard.backend.event_processing import event_accumulator

        reader = event_accumulator.EventAccumulator(str(tmp_path))
        reader.Reload()
    shown = [(event.step, event.value) for event in reader.Scalars("loss")]
    expected = [(n, 1.0) for n in range(1, 6)] + [(n, 2.0) for n in range(6, 12)]
    assert shown == expected
    assert [e["step"] for e in monitoring.read_metrics(tmp_path)] == [*range(1, 12)]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = monitoring.JsonLines(path, after=0)
    path.mkdir()
    with pytest.raises(OSError) as raised:
        writer.write_scalars(1, {"loss": 1.0})
    assert str(raised.value).startswith(f"{path}: not written (Is a directory); the")


@pytest.mark.parametrize("method", ["write_event", "flush", "close"])
def test_events_that_cannot_be_written_end_the_run(tmp_path, monkeypatch, method):
    """And not a thread that the run would then wait for."""

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = monitoring.make_writer(tmp_path, after=0)
    monkeypatch.setattr(monitoring.EventsWriter, method, full)
    with pytest.raises(OSError, match="events: not written .No space left on device"):
        writer.write_scalars(1, {"loss": 1.0})
        writer.flush()
        writer.close()
    monkeypatch.undo()
    writer.close()


def test_metrics_where_there_are_none(tmp_path):
    assert monitoring.read_metrics(tmp_path) == []


def test_training_imports_no_tensorflow():
    code = (
        "import sys, ddpm_jax.train\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
