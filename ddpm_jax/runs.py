"""A run folder: everything that sampling, exporting and evaluating need of a run.

`config.json` as trained, `data.json` (schema, bits, identity of the data set),
`checkpoints/`, `checksums/`, `ema/`, `best/`, `fd/`, `metrics.jsonl`, TensorBoard
events, `samples/`.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path

import jax
import ml_collections

from ddpm_jax import build
from ddpm_jax import ema as averages
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data.records import Manifest
from ddpm_jax.models.functional import Network
from ddpm_jax.training import best, distributed, phases, snapshots
from ddpm_jax.training.checkpoint import Checkpoints
from ddpm_jax.types import Params

MAY_CHANGE = (
    *("train.", "sampler.", "data.folder", "data.workers", "data.verify"),
    *("ema.snapshot_every", "model.attention_kernel", "evaluation."),
)
"""Keys that may differ between a run and its continuation."""

LATER = {
    "optimizer.skip_above": 0.0,
    "data.flip": 0.0,
    "data.balance": [],
    "data.balance_power": 1.0,
    "model.attention_kernel": "auto",
}
"""Keys that a run of an older version lacks, and what it did."""

CHECKPOINTS = ("latest", "best")
"""What of a run can be asked for."""

DATA_SET = ("name", "fingerprint", "records")
"""What data.json says of a data set itself."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model as found in its folder; `step` is that of its parameters,
    `measured` what was found of them where they are the best."""

    config: ml_collections.ConfigDict
    schema: Schema
    data: dict
    network: Network
    params: Params
    step: int
    ema: str
    measured: best.Measured | None = None


def begin(
    folder: Path, config, schema: Schema, manifest: Manifest, step: int = 0
) -> None:
    """Write config.json and data.json, or check that they say the same of what the run
    there has done until `step`; its coming phases may be others.

    Every process must call it; process 0 writes. data.json is that of the data set from
    `step` on; its `data_sets` are all since the first step, each with the step after
    which it came.
    """
    this = {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint(),
        "records": {split: manifest.count(split) for split in manifest.splits},
    }
    before = []
    if (folder / "config.json").exists():
        before = _data_sets(_read(folder, "data.json"))
        _check_same(folder, config, this, before, step)
    elif (folder / "checkpoints").is_dir() and any((folder / "checkpoints").iterdir()):
        raise ValueError(
            f"{folder}: has checkpoints but no config.json to compare with; expected "
            "both, or another --workdir."
        )
    data_sets = [one for one in before if one["after"] < step]
    if not data_sets or data_sets[-1]["fingerprint"] != this["fingerprint"]:
        data_sets.append({"after": step} | this)
    data = {"schema": schema.to_json(), "bits": manifest.bits} | this
    distributed.wait(f"config and data of step {step} are checked")
    if distributed.leads():
        _write(folder / "data.json", data | {"data_sets": data_sets})
        _write(folder / "config.json", config.to_dict())


def load(folder: str | Path, ema: str | None = None, checkpoint: str = "latest") -> Run:
    """The newest checkpoint of a run, or the best model (`training.best`), averaged
    with the width `ema` (config's own).

    A width that was not trained is reconstructed (`ddpm_jax.ema.reconstruct`) from
    the checkpoints there are and the averages kept on the way.
    """
    folder = Path(folder)
    config, data = _read(folder, "config.json"), _read(folder, "data.json")
    kept = _best(folder) if checkpoint == "best" else None
    step = kept.measured.step if kept else _latest(folder)
    try:
        config = phases.at(ml_collections.ConfigDict(config), step)
        data |= _used(_data_sets(data), step)
        schema = Schema.from_json(data["schema"])
        net = build.model(config, schema)
        widths = build.ema_rates(config)
        width = _width(config.sampler.ema if ema is None else ema)
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{folder}: config.json or data.json is not as training wrote it "
            f"({type(error).__name__}); restore it or train again."
        ) from None
    if config.ema.name != "power" or ema is None:
        build.pick(widths, width, "--ema" if ema else "config.sampler.ema")
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = {
        name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=here)
        for name, s in shapes.items()
    }
    if kept and width in widths:
        params = jax.device_put(kept.read(width), here)
        return Run(config, schema, data, net, params, step, width, kept.measured)
    with Checkpoints(folder, read_only=True) as checkpoints:
        if width in widths:
            params = checkpoints.restore_ema(step, width, like)
        else:
            readers = _readers(folder, checkpoints, step, widths, like)
            for one in widths if kept else ():
                readers[step, float(one)] = functools.partial(kept.read, one)
            stored = snapshots.Lazy(readers)
            params = averages.reconstruct(stored, step, float(width))
            params = jax.device_put(params, here)
    measured = kept.measured if kept else None
    return Run(config, schema, data, net, params, step, width, measured)


def _latest(folder: Path) -> int:
    with Checkpoints(folder, read_only=True) as checkpoints:
        step = checkpoints.latest()
    if step is None:
        raise ValueError(f"{folder}: no finished checkpoint yet; train it first.")
    return step


def _best(folder: Path) -> best.Best:
    found = best.newest(folder)
    if found is None:
        raise ValueError(
            f"{folder}: no best model is kept there, as config.evaluation.every says "
            "how often one is looked for; expected --checkpoint latest."
        )
    return found


def _width(text) -> str:
    """A width as tracks are named: 0.1 for 0.10."""
    try:
        return f"{float(text):g}"
    except ValueError:
        raise ValueError(f"--ema = {text!r}: expected a number, e.g. 0.075.") from None


def _readers(folder, checkpoints, until, widths, like) -> snapshots.Readers:
    """How to read every whole average of the run up to step `until`."""
    readers = snapshots.readers(folder, until)
    for step in checkpoints.steps():
        if step <= until and checkpoints.fault(step) is None:
            for width in widths:
                read = functools.partial(checkpoints.restore_ema, step, width, like)
                readers[step, float(width)] = read
    return readers


def _check_same(folder, config, data, data_sets, step):
    then = ml_collections.ConfigDict(_read(folder, "config.json"))
    differing = []
    for past in (step, *sorted(_ends(then, step) | _ends(config, step))):
        differing = differing or _differing(
            phases.at(then, past), phases.at(config, past), past if past < step else 0
        )
    boundary = any(phase.last == step for phase in phases.of(config)[:-1])
    same_data = _used(data_sets, step)["fingerprint"] == data["fingerprint"]
    if not (same_data or boundary):
        differing.append("its data set")
    if differing:
        raise ValueError(
            f"{folder}: the run there differs in {'; '.join(differing)}; expected the "
            "same, or another --workdir."
        )


def _ends(config, before: int) -> set[int]:
    """Last steps of the phases that ended before step `before`."""
    return {phase.last for phase in phases.of(config) if phase.last < before}


def _differing(then, now, past: int) -> list[str]:
    """Keys that must be the same and are not, at step `past` where not 0."""
    before = LATER | _flat(then.to_dict())
    now = _flat(json.loads(json.dumps(now.to_dict())))
    when = f" (step {past})" if past else ""
    return [
        f"config.{key}: {before.get(key)!r} -> {now.get(key)!r}{when}"
        for key in sorted(before.keys() | now.keys())
        if (before.get(key) or None) != (now.get(key) or None)  # a key that is new
        and not key.startswith(MAY_CHANGE)
    ]


def _data_sets(data: dict) -> list[dict]:
    """What data.json says of the data sets of a run, in order; older runs had one."""
    return data.get("data_sets") or [{"after": 0} | {k: data[k] for k in DATA_SET}]


def _used(data_sets: list[dict], step: int) -> dict:
    """The one of which step `step` was made."""
    used = [one for one in data_sets if one["after"] < max(step, 1)][-1]
    return {key: used[key] for key in DATA_SET}


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read(folder: Path, name: str) -> dict:
    path = folder / name
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {name} here; expected the --workdir of "
            "`python -m ddpm_jax.train`."
        )
    try:
        content = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path}: not readable JSON.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object.")
    return content


def _write(path: Path, content: dict) -> None:
    pending = path.with_suffix(".tmp")
    pending.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(pending, path)
