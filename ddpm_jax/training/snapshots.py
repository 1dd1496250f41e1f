"""Averages kept on the way, from which `ema.reconstruct` makes any other width.

`ema/STEP.safetensors` holds all tracks of a step in float32, its names
WIDTH/PARAMETER; `ema/STEP.sha256`, written last, says that it is whole.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from absl import logging
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ddpm_jax.ema import Tracks
from ddpm_jax.training import distributed, sharding
from ddpm_jax.training.background import reason
from ddpm_jax.training.checkpoint import sha256

Readers = dict[tuple[int, float], Callable[[], dict]]


class Lazy(Mapping):
    """(step, width) to parameters, read each time that they are asked for."""

    def __init__(self, readers: Readers):
        self._readers = readers

    def __getitem__(self, key: tuple[int, float]) -> dict:
        return self._readers[key]()

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def save(
    workdir: Path, step: int, tracks: Tracks, submit: Callable = lambda job: job()
) -> None:
    """Write the tracks of one step; the same step again replaces it.

    Every process must call it; process 0 writes, in a job that `submit` gets. The
    tracks may be donated when it returns. OSError where they cannot be written.
    """
    tracks = sharding.to_host(tracks)
    if distributed.leads():
        named = {
            f"{width}/{name}": value
            for width, params in tracks.items()
            for name, value in params.items()
        }
        submit(functools.partial(_write, workdir / "ema", step, named))


def _write(folder: Path, step: int, named: dict[str, np.ndarray]) -> None:
    path = folder / f"{step:07d}.safetensors"
    pending = path.with_suffix(".tmp")
    try:
        folder.mkdir(exist_ok=True)
        path.with_suffix(".sha256").unlink(missing_ok=True)
        save_file(named, pending)
        digest = sha256(pending)
        os.replace(pending, path)
        pending.write_text(digest)
        os.replace(pending, path.with_suffix(".sha256"))
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path}: average not written ({reason(error)}); make room for it, then "
            "run the same command again."
        ) from error


def readers(workdir: Path, until: int) -> Readers:
    """How to read each average kept up to step `until`; damaged files are reported."""
    found: Readers = {}
    for listed in sorted((workdir / "ema").glob("*.sha256")):
        step, path = int(listed.stem), listed.with_suffix(".safetensors")
        if step > until:
            continue
        if not path.is_file() or sha256(path) != listed.read_text():
            logging.warning("%s is not as it was written and is left out", path)
            continue
        with safe_open(path, "numpy") as file:
            widths = {name.split("/", 1)[0] for name in file.keys()}
        for width in widths:
            found[step, float(width)] = functools.partial(_read, path, width)
    return found


def _read(path: Path, width: str) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        return {
            name.split("/", 1)[1]: file.get_tensor(name)
            for name in file.keys()
            if name.startswith(f"{width}/")
        }
