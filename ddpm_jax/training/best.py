"""The best model so far by a figure that is measured while it trains: `WORKDIR/best`.

`best/STEP.safetensors` holds the averages of a step as `snapshots` writes them, and
what was measured; the newest that is whole is the best. An older one stays while a
checkpoint from before its successor does: a run that goes on from there finds what was
the best there.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from safetensors import safe_open

from ddpm_jax.training import snapshots
from ddpm_jax.training.checkpoint import flush

FOLDER = "best"


class Measured(NamedTuple):
    """Of the images made at `step`: their Fréchet distance `fd` to held-out real ones,
    `fd_real` of other real images to the same, and how many `images` were made.

    `how` identifies all that a distance depends on but the model: two with the same
    can be compared.
    """

    step: int
    fd: float
    fd_real: float
    images: int
    how: str

    def __str__(self) -> str:
        return (
            f"step {self.step}, of Fréchet distance {self.fd:.3g} (real images: "
            f"{self.fd_real:.3g})"
        )


class Best(NamedTuple):
    measured: Measured
    path: Path

    def read(self, width: str) -> dict[str, np.ndarray]:
        """The average of a width that was trained, float32 on the host."""
        return snapshots.read(self.path, width)


def save(workdir: Path, measured: Measured, tracks, submit=lambda job: job()) -> None:
    """Keep the averages of a step, as `snapshots.save` does."""
    said = {"measured": json.dumps(measured._asdict())}
    options = {"into": FOLDER, "said": said}
    snapshots.save(workdir, measured.step, tracks, submit, **options)


def newest(workdir: str | Path) -> Best | None:
    """The best model there is, None where there is none that is whole."""
    folder = Path(workdir) / FOLDER
    for step in reversed(snapshots.steps(folder)):
        path = snapshots.path_of(folder, step)
        if snapshots.whole(path):
            with safe_open(path, "numpy") as file:
                said = json.loads(file.metadata()["measured"])
            return Best(Measured(**said), path)
    return None


def drop_older(workdir: Path, checkpoints: list[int]) -> None:
    """Let go of what was no longer the best at the oldest of the steps `checkpoints`,
    once its successor is verified on the disk."""
    folder, oldest = workdir / FOLDER, min(checkpoints, default=0)
    before = [step for step in snapshots.steps(folder) if step <= oldest]
    if len(before) < 2:
        return
    flush(folder)
    if snapshots.whole(snapshots.path_of(folder, before[-1])):
        for step in before[:-1]:
            snapshots.remove(snapshots.path_of(folder, step))


def set_aside(workdir: Path, after: int) -> None:
    """Remove what is of steps later than `after`, which will be measured again, and
    what was half written; process 0 alone."""
    folder = workdir / FOLDER
    for path in folder.glob("*.safetensors"):
        if int(path.stem) > after:
            snapshots.remove(path)
            logging.info("%s is measured again and removed", path)
        elif not path.with_suffix(".sha256").exists():
            path.unlink()
    for half in folder.glob("*.tmp"):
        half.unlink()
