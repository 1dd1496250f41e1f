"""A step that went wrong, kept so that it can be run again: `WORKDIR/repro/step_N/`.

`params.safetensors` holds the parameters that the step was given, `config.json` the
run's config, `step.json` the rest of `Repro`. docs/training.md shows how to use it.
"""

import json
import os
import shutil
from collections import deque
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import load_file, save_file

from ddpm_jax.data.pipeline import Read
from ddpm_jax.training import distributed, sharding
from ddpm_jax.training.guards import Fault
from ddpm_jax.types import Key, Params

MOST_STEPS = 1000
"""Steps between two looks at the device, at most: what is remembered is bounded."""

MOST_IDS = 4
"""Record ids in an error; all are in step.json."""


class Repro(NamedTuple):
    """`key` is what the loss was given, `data_state` the data iterator's position just
    before the batch, `record_ids` hexadecimal, in the order of the batch."""

    step: int
    config: ml_collections.ConfigDict
    params: Params
    key: Key
    data_state: dict
    record_ids: list[str]
    loss: float
    grad_norm: float


class Watch:
    """Which records every step has read since the host last looked at the device."""

    def __init__(self, workdir: Path, config, key: Key):
        self.folder, self.config, self.key = workdir / "repro", config, key
        self.reads: deque[tuple[int, Read]] = deque(maxlen=MOST_STEPS)

    def note(self, step: int, read: Read) -> None:
        self.reads.append((step, read))

    @property
    def full(self) -> bool:
        return len(self.reads) == MOST_STEPS

    def check(self, fault: Fault, params: Params) -> None:
        """Wait for the device; ValueError, and a repro, where a step went wrong.

        Every process must call it after the same step; `params` are those of the
        guarded state.
        """
        step = int(fault.step)
        if not step:
            self.reads.clear()
            return
        read = dict(self.reads)[step]
        found = Repro(
            step=step,
            config=self.config,
            params=sharding.to_host(params),
            key=jax.random.fold_in(self.key, step - 1),
            data_state=read.before,
            record_ids=[row.tobytes().hex() for row in _gathered(read.record_ids)],
            loss=float(fault.loss),
            grad_norm=float(fault.grad_norm),
        )
        folder = self.folder / f"step_{step:07d}"
        if distributed.leads():
            save(found, folder)
        distributed.wait(f"repro of {step}")
        raise ValueError(message(found, folder))


def message(found: Repro, folder: Path) -> str:
    name, value = ("grad_norm", found.grad_norm)
    if not np.isfinite(found.loss):
        name, value = ("loss", found.loss)
    shown, more = found.record_ids[:MOST_IDS], len(found.record_ids) - MOST_IDS
    rest = f" and {more} more" if more > 0 else ""
    return (
        f"{name} is {value} at step {found.step}, whose update was not made; records "
        f"{', '.join(shown)}{rest}; {folder} holds what it takes to run it again; try "
        "a smaller config.optimizer.learning_rate."
    )


def save(found: Repro, folder: Path) -> None:
    """Write the folder, whole or not at all; one of the same name is replaced."""
    pending = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(pending, ignore_errors=True)
    pending.mkdir(parents=True)
    save_file(dict(found.params), pending / "params.safetensors")
    rest = found._asdict()
    del rest["params"], rest["config"]
    rest["key"] = np.asarray(jax.random.key_data(found.key)).tolist()
    rest |= {name: str(rest[name]) for name in ("loss", "grad_norm")}  # NaN is no JSON
    _write(pending / "step.json", rest)
    _write(pending / "config.json", found.config.to_dict())
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(pending, folder)


def load(folder: str | Path) -> Repro:
    """What `save` wrote; ValueError where it is not there or not readable."""
    folder = Path(folder)
    try:
        rest = json.loads((folder / "step.json").read_text())
        config = json.loads((folder / "config.json").read_text())
        rest["key"] = jax.random.wrap_key_data(np.array(rest["key"], np.uint32))
        rest |= {name: float(rest[name]) for name in ("loss", "grad_norm")}
        params = load_file(folder / "params.safetensors")
        return Repro(config=ml_collections.ConfigDict(config), params=params, **rest)
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder}: no {Path(error.filename).name} here; expected a folder "
            "WORKDIR/repro/step_N."
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder}: not as training wrote it ({type(error).__name__})."
        ) from None


def _gathered(ids: np.ndarray) -> np.ndarray:
    """[b, 16] of the global batch, from each process's part."""
    if jax.process_count() == 1:
        return ids
    return np.asarray(multihost_utils.process_allgather(ids, tiled=True))


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
