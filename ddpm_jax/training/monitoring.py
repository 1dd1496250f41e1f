"""What a person sees of a run: TensorBoard, metrics.jsonl, a progress bar."""

import contextlib
import json
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm


class EventWriter:
    """`clu.metric_writers.SummaryWriter` over tensorboardX, not TensorFlow.

    Events are written where they are made: tensorboardX's own thread would die of a
    full disk and leave the run waiting for it.
    """

    def __init__(self, logdir: str, after: int):
        """TensorBoard hides what earlier files say of steps later than `after`."""
        prefix, suffix = os.path.join(logdir, "events"), f".{os.getpid()}"
        self._logdir = logdir
        with _named(f"{logdir}: events"):
            self._file = EventsWriter(prefix, suffix)
        self._add(after + 1, session_log=SessionLog(status=SessionLog.START))

    def write_scalars(self, step, scalars):
        for name, value in scalars.items():
            self._add(step, summary=summary.scalar(name, float(value)))

    def write_images(self, step, images):
        for name, value in images.items():
            form = "HWC" if value.ndim == 3 else "NHWC"
            self._add(step, summary=summary.image(name, value, dataformats=form))

    def write_texts(self, step, texts):
        for name, value in texts.items():
            self._add(step, summary=summary.text(name, value))

    def write_hparams(self, hparams):
        said = json.dumps(dict(hparams), indent=1, default=str)
        self.write_texts(0, {"config": said})

    def flush(self):
        with _named(f"{self._logdir}: events"):
            self._file.flush()

    def close(self):
        with _named(f"{self._logdir}: events"):
            self._file.close()

    def _add(self, step, **what):
        with _named(f"{self._logdir}: events"):
            self._file.write_event(Event(wall_time=time.time(), step=int(step), **what))


@contextlib.contextmanager
def _named(what: str):
    """An OSError that says what was not written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{what}: not written ({error.strerror}); the last checkpoint is intact. "
            "Make room, then run the same command again."
        ) from error


def _without_tensorflow():
    """`clu.metric_writers` imports TensorFlow through this one module only."""
    name = "clu.metric_writers.tf.summary_writer"
    module = types.ModuleType(name)
    module.SummaryWriter = EventWriter
    sys.modules.setdefault(name, module)


_without_tensorflow()

from clu import metric_writers, metrics, parameter_overview  # noqa: E402

from ddpm_jax.data.records import Manifest  # noqa: E402
from ddpm_jax.training import distributed, weights_and_biases  # noqa: E402

Writer = metric_writers.MultiWriter


class JsonLines:
    """One line of `metrics.jsonl` per step logged, for scripts.

    Lines of steps later than `after`, which will be made again, and a line that a kill
    cut short are dropped first.
    """

    def __init__(self, path: Path, after: int):
        self._path = path
        if path.exists():
            lines = map(json.dumps, read_metrics(path.parent, after))
            pending = path.with_suffix(".tmp")
            pending.write_text("".join(f"{line}\n" for line in lines))
            os.replace(pending, path)

    def write_scalars(self, step, scalars):
        values = {name: float(value) for name, value in scalars.items()}
        with _named(str(self._path)), open(self._path, "a") as file:
            file.write(json.dumps({"step": step} | values) + "\n")

    def write_images(self, step, images):
        pass

    def write_texts(self, step, texts):
        pass

    def write_hparams(self, hparams):
        pass

    def flush(self):
        pass

    def close(self):
        pass


def make_writer(folder: Path, after: int, project: str = "") -> Writer:
    """TensorBoard events and metrics.jsonl under `folder`, by process 0 alone; scalars
    to Weights & Biases as well where a `project` is named.

    What they say of steps later than `after`, where the run goes on, no longer counts.
    """
    if not distributed.leads():
        return Writer([])
    remote = [weights_and_biases.WeightsAndBiases(project, folder)] if project else []
    events = EventWriter(str(folder), after)
    lines = JsonLines(folder / "metrics.jsonl", after)
    return Writer([events, lines, *remote])


def overview(params) -> str:
    """Names, shapes and sizes of all parameters, as Markdown."""
    table = parameter_overview.get_parameter_overview(params, include_stats=False)
    return f"```\n{table}\n```"


def announce(config, manifest: Manifest, params, devices: int, start: int) -> None:
    """One line for a person who has just started a run."""
    count = sum(p.size for p in params.values())
    say(
        f"training on {manifest.count(config.data.split)} radiographs of "
        f"{config.image_size} px: {count / 1e6:.2f}M parameters, {devices} device(s), "
        f"from step {start} to {config.train.steps}"
    )


def say(line: str) -> None:
    """Print it once, however many processes there are."""
    if distributed.leads():
        print(line, flush=True)


def read_metrics(folder: Path, before: int | None = None) -> list[dict]:
    """The lines of metrics.jsonl, one a step (the last written), in order of step."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    by_step = {entry["step"]: entry for entry in map(_entry, lines) if entry}
    steps = sorted(s for s in by_step if before is None or s <= before)
    return [by_step[step] for step in steps]


def _entry(line: str) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:  # a line that a kill cut short
        return None


def progress(total: int, start: int):
    """A bar over `total` steps of which `start` are done: rate and time left."""
    return tqdm(
        total=total,
        initial=start,
        desc="training",
        unit="step",
        dynamic_ncols=True,
        disable=not distributed.leads(),
    )


class Clock:
    """What a step takes, and how much of it is waiting for data, between two calls of
    `rate`; `batch` images a step, `mfu_per_rate` the MFU at one image a second, None
    where no peak is known.

    The loop runs ahead of the device, so the time in `next(batches)` is in itself no
    loss. A wait counts where the device has nothing left to do at its end. That bounds
    the device's idle time from above: it may have been busy at the beginning. Asking
    whether it is busy waits for nothing.
    """

    def __init__(
        self,
        batch: int,
        mfu_per_rate: float | None = None,
        now: Callable[[], float] = time.perf_counter,
    ):
        self.batch, self.mfu_per_rate, self.now = batch, mfu_per_rate, now
        self.since, self.step, self.waited = None, None, 0.0

    @contextlib.contextmanager
    def waiting(self, newest):
        """Around a wait for data; the device makes `newest`, a jax.Array, last."""
        start = self.now()
        yield
        if newest.is_ready():
            self.waited += self.now() - start

    def rate(self, step: int) -> dict[str, float]:
        """Empty at the first call, which would time the compilation."""
        now, before, waited = self.now(), (self.since, self.step), self.waited
        self.restart(step)
        if before[0] is None or step == before[1]:
            return {}
        spent = now - before[0]
        seconds = spent / (step - before[1])
        rate = self.batch / seconds
        known = self.mfu_per_rate is not None
        mfu = {"mfu": rate * self.mfu_per_rate} if known else {}
        return mfu | {
            "images_per_second": rate,
            "step_seconds": seconds,
            "data_wait_share": waited / spent,
        }

    def restart(self, step: int) -> None:
        """Leave out what came since the last call of `rate`, such as saving."""
        self.since, self.step, self.waited = self.now(), step, 0.0


class Starvation:
    """Says on stderr that the device waits for data: not in the first minute, when
    nothing is read ahead, and then every ten minutes at most."""

    SHARE, FIRST, THEN = 0.2, 60.0, 600.0

    def __init__(self, workers: int, now: Callable[[], float] = time.monotonic):
        self.workers, self.now, self.next = workers, now, now() + self.FIRST

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        share = scalars.get("data_wait_share", 0.0)
        if share <= self.SHARE or self.now() < self.next:
            return
        self.next = self.now() + self.THEN
        tqdm.write(
            f"step {step}: {share:.0%} of the time goes into waiting for data; "
            f"config.data.workers = {self.workers}: try more ({os.cpu_count()} cores "
            "here).",
            file=sys.stderr,
        )


def compute(averages: Mapping) -> dict[str, float]:
    """Host values of the averages that saw an example."""
    seen = {name: mean for name, mean in averages.items() if mean.count > 0}
    return {name: float(mean.compute()) for name, mean in seen.items()}


def pack(averages: Mapping | None) -> dict[str, list]:
    """Averages that no line holds yet as exact JSON: {name: [total, count]}."""
    return {
        name: [np.asarray(mean.total).item(), np.asarray(mean.count).item()]
        for name, mean in (averages or {}).items()
    }


def unpack(saved: Mapping[str, list]) -> dict[str, metrics.Average] | None:
    """The averages that `pack` was given."""
    averages = {
        name: metrics.Average(total=np.float32(total), count=np.int32(count))
        for name, (total, count) in saved.items()
    }
    return averages or None
