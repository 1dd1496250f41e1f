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

from ddpm_jax import bands, runs
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
    names = {name for line in lines for name in line} - {"step"}
    assert {"loss", "grad_norm", "images_per_second"} <= names
    assert set(bands.names(16, 16)) <= names
    assert any(name.startswith("v_mse/logsnr_") for name in names)
    assert names == set(events.Tags()["scalars"])
    for name in names:
        scalars = {event.step: event.value for event in events.Scalars(name)}
        assert scalars == {
            line["step"]: pytest.approx(line[name], rel=1e-6)
            for line in lines
            if name in line
        }
    assert len(events.Scalars("loss")) == 4


def test_images_and_texts_reach_tensorboard(events, tiny_run):
    assert events.Tags()["images"] == ["samples"]
    (shown,) = events.Images("samples")
    with Image.open(tiny_run / "samples" / "step_0000004.png") as sheet:
        assert shown.step == 4 and (shown.width, shown.height) == sheet.size
    texts = {
        name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0]
        for name in ("parameters", "config")
    }
    count = sum(p.size for p in runs.load(tiny_run).params.values())
    assert f"Total: {count:,}" in texts["parameters"].decode()
    assert '"image_size": 16' in texts["config"].decode()


def test_metrics_jsonl(tiny_run):
    lines = (tiny_run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    for entry in entries:
        assert np.isfinite(list(entry.values())).all()
        assert any(name.startswith("v_mse/logsnr_") for name in entry)
        assert set(bands.names(16, 16)) <= set(entry)
    assert "images_per_second" not in entries[0]  # that step was compiled
    for entry in entries[1:]:
        assert entry["images_per_second"] * entry["step_seconds"] == pytest.approx(8)
        assert 0 <= entry["data_wait_share"] < 1


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


class Device:
    """What `Clock` asks of an array: whether the device has made it by `until`."""

    def __init__(self, time, until):
        self.time, self.until = time, until

    def is_ready(self):
        return self.time[0] >= self.until


def test_a_wait_counts_where_the_device_has_run_dry():
    time = [0.0]
    clock = monitoring.Clock(batch=6, now=lambda: time[0])

    def step(wait, busy_until):
        with clock.waiting(Device(time, busy_until)):
            time[0] += wait
        time[0] += 1.0

    step(wait=7.0, busy_until=0.0)
    assert clock.rate(1) == {}
    step(wait=2.0, busy_until=8.0)  # out of work when it began
    step(wait=2.0, busy_until=12.5)  # out of work when it ended
    step(wait=2.0, busy_until=99.0)  # the loop is ahead of the device
    assert clock.rate(4) == {
        "images_per_second": 2.0,
        "step_seconds": 3.0,
        "data_wait_share": pytest.approx(4 / 9),
    }
    step(wait=0.0, busy_until=99.0)
    assert clock.rate(5)["data_wait_share"] == 0.0


def test_saving_is_no_part_of_a_step():
    time = [0.0]
    clock = monitoring.Clock(batch=1, now=lambda: time[0])
    clock.rate(1)
    time[0] += 100
    clock.restart(1)
    time[0] += 4
    assert clock.rate(3)["step_seconds"] == 2.0
    assert clock.rate(3) == {}


def test_starvation_is_said_now_and_then(capsys):
    time = [0.0]
    say = monitoring.Starvation(workers=3, now=lambda: time[0])
    said = []
    for time[0], share in [(0, 0.9), (61, 0.1), (70, 0.21), (71, 0.9), (671, 0.5)]:
        say(7, {"data_wait_share": share})
        said.append(capsys.readouterr().err)
    assert [bool(line) for line in said] == [False, False, True, False, True]
    assert said[2].startswith("step 7: 21% of the time goes into waiting for data;")
    assert "config.data.workers = 3: try more" in said[2]
    say(8, {})
