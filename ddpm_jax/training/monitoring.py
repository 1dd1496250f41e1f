"""What a person sees of a run: TensorBoard, metrics.jsonl, a progress bar."""

import json
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm


class EventWriter:
    """`clu.metric_writers.SummaryWriter` over tensorboardX, not TensorFlow."""

    def __init__(self, logdir: str):
        self._events = SummaryWriter(logdir)

    def write_scalars(self, step, scalars):
        for name, value in scalars.items():
            self._events.add_scalar(name, float(value), step)

    def write_images(self, step, images):
        for name, value in images.items():
            form = "HWC" if value.ndim == 3 else "NHWC"
            self._events.add_images(name, value, step, dataformats=form)

    def write_texts(self, step, texts):
        for name, value in texts.items():
            self._events.add_text(name, value, step)

    def write_hparams(self, hparams):
        self._events.add_text(
            "config", json.dumps(dict(hparams), indent=1, default=str)
        )

    def flush(self):
        self._events.flush()

    def close(self):
        self._events.close()


def _without_tensorflow():
    """`clu.metric_writers` imports TensorFlow through this one module only."""
    name = "clu.metric_writers.tf.summary_writer"
    module = types.ModuleType(name)
    module.SummaryWriter = EventWriter
    sys.modules.setdefault(name, module)


_without_tensorflow()

from clu import metric_writers, parameter_overview  # noqa: E402

from ddpm_jax.data.records import Manifest  # noqa: E402
from ddpm_jax.training import distributed, weights_and_biases  # noqa: E402


class JsonLines:
    """One line of `metrics.jsonl` per step logged, for scripts."""

    def __init__(self, path: Path):
        cut = path.exists() and not path.read_bytes().endswith(b"\n")
        self._file = open(path, "a")  # noqa: SIM115 - closed by close()
        self._file.write("\n" if cut else "")

    def write_scalars(self, step, scalars):
        values = {name: float(value) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()

    def write_images(self, step, images):
        pass

    def write_texts(self, step, texts):
        pass

    def write_hparams(self, hparams):
        pass

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


def make_writer(folder: Path, project: str = "") -> metric_writers.MultiWriter:
    """TensorBoard events and metrics.jsonl under `folder`, by process 0 alone; scalars
    to Weights & Biases as well where a `project` is named."""
    if not distributed.leads():
        return metric_writers.MultiWriter([])
    remote = [weights_and_biases.WeightsAndBiases(project, folder)] if project else []
    events = metric_writers.SummaryWriter(str(folder))
    lines = JsonLines(folder / "metrics.jsonl")
    return metric_writers.MultiWriter([events, lines, *remote])


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
    """Images per second between two calls of `rate`; `batch` images a step.

    `mfu_per_rate` is the MFU at one image a second, None where no peak is known.
    """

    def __init__(self, batch: int, mfu_per_rate: float | None = None):
        self.batch, self.since, self.step = batch, None, None
        self.mfu_per_rate = mfu_per_rate

    def rate(self, step: int) -> dict[str, float]:
        """Empty at the first call, which would time the compilation."""
        now, before = time.perf_counter(), (self.since, self.step)
        self.since, self.step = now, step
        if before[0] is None or step == before[1]:
            return {}
        seconds = (now - before[0]) / (step - before[1])
        rate = self.batch / seconds
        known = self.mfu_per_rate is not None
        mfu = {"mfu": rate * self.mfu_per_rate} if known else {}
        return {"images_per_second": rate} | mfu


def compute(averages: Mapping) -> dict[str, float]:
    """Host values of the averages that saw an example."""
    seen = {name: mean for name, mean in averages.items() if mean.count > 0}
    return {name: float(mean.compute()) for name, mean in seen.items()}
