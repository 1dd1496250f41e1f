"""Averages kept on the way, from which `ema.reconstruct` makes any other width.

`ema/STEP.safetensors` holds all tracks of a step in float32, its names
WIDTH/PARAMETER; `ema/STEP.sha256`, written last, says that it is whole. `best/`
(`training.best`) is such a folder, too.
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

FOLDER = "ema"
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
    workdir: Path,
    step: int,
    tracks: Tracks,
    submit: Callable = lambda job: job(),
    *,
    into: str = FOLDER,
    said: Mapping[str, str] | None = None,
) -> None:
    """Write the tracks of one step, and what is `said` of them, into the folder `into`
    of a run; the same step again replaces it.

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
        submit(functools.partial(_write, workdir / into, step, named, said))


def _write(folder: Path, step: int, named: dict[str, np.ndarray], said) -> None:
    path = path_of(folder, step)
    pending = path.with_suffix(".tmp")
    try:
        folder.mkdir(exist_ok=True)
        path.with_suffix(".sha256").unlink(missing_ok=True)
        save_file(named, pending, said)
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
    for step in steps(workdir / FOLDER):
        path = path_of(workdir / FOLDER, step)
        if step > until or not whole(path):
            continue
        with safe_open(path, "numpy") as file:
            widths = {name.split("/", 1)[0] for name in file.keys()}
        for width in widths:
            found[step, float(width)] = functools.partial(read, path, width)
    return found


def steps(folder: Path) -> list[int]:
    """Steps that were written to the end, oldest first."""
    return sorted(int(listed.stem) for listed in folder.glob("*.sha256"))


def path_of(folder: Path, step: int) -> Path:
    return folder / f"{step:07d}.safetensors"


def whole(path: Path) -> bool:
    """Whether a file is, to the bit, what was written; told where it is not."""
    same = path.is_file() and sha256(path) == path.with_suffix(".sha256").read_text()
    if not same:
        logging.warning("%s is not as it was written and is left out", path)
    return same


def remove(path: Path) -> None:
    for part in (path.with_suffix(".sha256"), path):
        part.unlink(missing_ok=True)


def read(path: Path, width: str) -> dict[str, np.ndarray]:
    """The parameters of one width."""
    with safe_open(path, "numpy") as file:
        return {
            name.split("/", 1)[1]: file.get_tensor(name)
            for name in file.keys()
            if name.startswith(f"{width}/")
        }
