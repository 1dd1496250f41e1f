"""Averages kept on the way, from which `ema.reconstruct` makes any other width.

`ema/STEP.safetensors` holds all tracks of a step in float32, its names
WIDTH/PARAMETER; `ema/STEP.sha256`, written last, says that it is whole.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from absl import logging
from safetensors import safe_open
from safetensors.numpy import save_file

from ddpm_jax.ema import Tracks
from ddpm_jax.training import distributed, sharding

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


def save(workdir: Path, step: int, tracks: Tracks) -> None:
    """Write the tracks of one step; the same step again replaces it.

    Every process must call it; process 0 writes.
    """
    tracks = sharding.to_host(tracks)
    if not distributed.leads():
        return
    folder = workdir / "ema"
    folder.mkdir(exist_ok=True)
    path = folder / f"{step:07d}.safetensors"
    pending = path.with_suffix(".tmp")
    path.with_suffix(".sha256").unlink(missing_ok=True)
    named = {
        f"{width}/{name}": value
        for width, params in tracks.items()
        for name, value in params.items()
    }
    save_file(named, pending)
    digest = _sha256(pending)
    os.replace(pending, path)
    pending.write_text(digest)
    os.replace(pending, path.with_suffix(".sha256"))


def readers(workdir: Path, until: int) -> Readers:
    """How to read each average kept up to step `until`; damaged files are reported."""
    found: Readers = {}
    for listed in sorted((workdir / "ema").glob("*.sha256")):
        step, path = int(listed.stem), listed.with_suffix(".safetensors")
        if step > until:
            continue
        if not path.is_file() or _sha256(path) != listed.read_text():
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
