"""Checkpoints of a run: training state and data position in one, with checksums.

Orbax copies the state to the host and writes it in the background, into a folder that
is renamed when it is whole. A flipped bit would restore silently, so every file of a
checkpoint is then listed with its sha256 in `checksums/STEP.json`. A step without that
list was interrupted while saving; an older checkpoint goes only once it is there.
"""

import functools
import hashlib
import json
import logging as standard_logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging

from ddpm_jax.training import distributed
from ddpm_jax.training.background import Background, reason
from ddpm_jax.types import Params

ITEMS = ("state", "data")
UNWRITABLE = (OSError, RuntimeError, ValueError)
"""What Orbax and TensorStore raise where the disk does not take what they write."""


class Checkpoints:
    """The checkpoints under `folder`, the newest `keep` of them.

    With `read_only` nothing is made, cleaned or deleted: a run that is being trained
    can be sampled from. ValueError where there is nothing to read.
    """

    def __init__(self, folder: str | Path, keep: int = 2, *, read_only: bool = False):
        self.folder = Path(folder).absolute() / "checkpoints"
        self.lists = Path(folder).absolute() / "checksums"
        self.keep = keep
        if read_only and not self.folder.is_dir():
            raise ValueError(f"{folder}: no finished checkpoint yet; train it first.")
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lists.mkdir(exist_ok=True)
        _say_errors_once()
        self.orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._background = Background()
        self._saving: Future | None = None

    def save(self, step: int, state, data_state: dict) -> None:
        """Begin to write one checkpoint; returns when `state` may be donated.

        Waits for the checkpoint before, should the disk be that slow. OSError, here
        or from a later `check`, `save` or `finish`, where it cannot be written.
        """
        if self._saving is not None:
            self._saving.result()
        if any(other >= step for other in self._written()):
            raise ValueError(f"{self.folder}: a later checkpoint than {step} is there.")
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=ocp.args.JsonSave(data_state),
        )
        try:
            self.orbax.save(self.folder / str(step), args=items)
        except UNWRITABLE as error:
            raise self._unwritable(step, error) from error
        self._saving = self.submit(functools.partial(self._complete, step))

    def submit(self, job: Callable[[], None]) -> Future:
        """Run `job()` in the background, before any checkpoint saved later counts."""
        return self._background.submit(job)

    def check(self) -> None:
        """Raise what a save has failed with meanwhile; waits for nothing."""
        self._background.check()

    def finish(self) -> None:
        """Wait until all that was saved is verified; every process must call it."""
        self._background.finish()
        distributed.wait("checkpoints are verified")

    def steps(self) -> list[int]:
        """Steps that were saved to the end, oldest first."""
        return [step for step in self._written() if self._list(step).exists()]

    def latest(self) -> int | None:
        """The newest step whose files are all as written; damaged ones are reported.

        None where nothing was saved; ValueError where all that was saved is damaged,
        or where checkpoints and checksums do not belong together.
        """
        steps = self.steps()
        unlisted = set(self._written()) - set(steps)
        orphans = [p.name for p in self.lists.glob("*.json")] if not steps else []
        if orphans or (len(unlisted) > 1 and not steps):
            raise ValueError(
                f"{self.folder.parent}: checkpoints/ and checksums/ do not belong "
                "together; put back what is missing, or use another --workdir."
            )
        for step in reversed(steps):
            fault = self.fault(step)
            if fault is None:
                return step
            logging.warning("%s", fault)
        if steps:
            raise ValueError(
                f"{self.folder}: every checkpoint is damaged; "
                f"{self.fault(steps[-1])}; start again with an empty --workdir."
            )
        return None

    def start(self) -> int:
        """The step to go on from, 0 where nothing was saved, as process 0 finds it."""
        return distributed.agree((distributed.leads() and self.latest()) or 0)

    def fault(self, step: int) -> str | None:
        """What is wrong with the files of a checkpoint, None where nothing is."""
        try:
            expected = dict(json.loads(self._list(step).read_text()))
            found = checksums(self.folder / str(step))
        except (OSError, TypeError, ValueError):
            return f"checkpoint {step}: its files or checksums cannot be read"
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                return f"checkpoint {step} lacks the file {name}"
            if expected.get(name) != found[name]:
                return f"checkpoint {step}: the file {name} is not as it was written"
        return None

    def set_aside(self, after: int) -> None:
        """Move checkpoints later than step `after`, damaged or never finished ones, to
        `damaged/`, and remove what was half written; every process must call it."""
        if distributed.leads():
            for step in self._written():
                if step > after:
                    self._set_aside(step)
            for half in self.folder.glob(f"*{ocp.path.atomicity.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(half)
                step = half.name.partition(".")[0]
                logging.warning("checkpoint %s was half written and is removed", step)
        distributed.wait("damaged checkpoints are set aside")

    def restore(self, step: int, state):
        """(state, data_state) as saved; `state` gives shapes, dtypes and shardings."""
        restored = self.orbax.restore(
            self.folder / str(step),
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(_abstract(state._asdict())),
                data=ocp.args.JsonRestore(),
            ),
        )
        return type(state)(**restored["state"]), restored["data"]

    def restore_ema(self, step: int, width: str, like) -> Params:
        """The averaged parameters of one width alone, shaped and placed as `like`."""
        wanted = {"ema": {width: _abstract(like)}}
        reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        restored = reader.restore(
            self.folder / str(step) / "state",
            args=ocp.args.PyTreeRestore(
                wanted,
                restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                partial_restore=True,
            ),
        )
        return restored["ema"][width]

    def __enter__(self):
        return self

    def __exit__(self, kind, raised, traceback) -> None:
        """Wait for what is being saved, whatever ends the run."""
        try:
            self._background.finish()
        except OSError as error:
            if raised is None:
                raise
            if not any(error is told for told in _chain(raised)):
                logging.warning("%s", error)
        finally:
            self._background.close()
            self.orbax.close()

    def _complete(self, step: int) -> None:
        """Wait for Orbax, list what is on disk, then let older checkpoints go."""
        try:
            self.orbax.wait_until_finished()
            if distributed.leads():
                self._write_list(step)
                self._delete_older()
        except UNWRITABLE as error:
            raise self._unwritable(step, error) from error

    def _write_list(self, step: int) -> None:
        folder = self.folder / str(step)
        for item in ITEMS:
            if not (folder / item).is_dir():
                raise OSError(f"{folder / item}: No such file or directory")
        flush(folder)
        pending = self.lists / f"{step}.json.tmp"
        pending.write_text(json.dumps(checksums(folder), indent=1))
        _sync(pending)
        os.replace(pending, self._list(step))
        _sync(self.lists)

    def _delete_older(self) -> None:
        """All before the newest `keep` finished ones, and as many damaged ones."""
        finished = self.steps()
        if len(finished) > self.keep:
            for old in self._written():
                if old < finished[-self.keep]:
                    self._list(old).unlink(missing_ok=True)
                    shutil.rmtree(self.folder / str(old))
        damaged = [*(self.folder.parent / "damaged").glob("*_*")]
        damaged.sort(key=lambda path: int(path.name.split("_")[-1]))
        for old in damaged[: -self.keep]:
            shutil.rmtree(old)

    def _set_aside(self, step: int) -> None:
        aside = self.folder.parent / "damaged" / f"{step}_{time.time_ns()}"
        aside.parent.mkdir(exist_ok=True)
        how = "" if self._list(step).exists() else ", whose checksums are missing,"
        os.replace(self.folder / str(step), aside)
        self._list(step).unlink(missing_ok=True)
        logging.warning("checkpoint %d%s is set aside in %s", step, how, aside)

    def _unwritable(self, step: int, error: Exception) -> OSError:
        finished = self.steps()
        left = f"checkpoint {finished[-1]} is intact" if finished else "none is there"
        return OSError(
            f"{self.folder / str(step)}: checkpoint not written ({reason(error)}); "
            f"{left}. Make room for it or repair the folder, then run the same command "
            "again."
        )

    def _written(self) -> list[int]:
        """Steps with a folder of their own, finished or not, oldest first."""
        names = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(path.name) for path in names if path.name.isdigit())

    def _list(self, step) -> Path:
        return self.lists / f"{step}.json"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, the one that was handled when it was raised, and so on."""
    while error is not None:
        yield error
        error = error.__context__


def checksums(folder: Path) -> dict[str, str]:
    """sha256 by relative path of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(folder: Path) -> None:
    """Have all below `folder`, and its name, on the disk: a power cut may follow."""
    for path in (*folder.rglob("*"), folder, folder.parent):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _say_errors_once() -> None:
    """What Orbax's threads say of a failed save goes: `check` or `finish` raises it."""
    for logger in (logging.get_absl_logger(), standard_logging.getLogger("asyncio")):
        logger.addFilter(_not_of_orbax)
    if sys.unraisablehook is not _hook:
        global _hook_before
        _hook_before, sys.unraisablehook = sys.unraisablehook, _hook


_hook_before = sys.unraisablehook


def _not_of_orbax(record: standard_logging.LogRecord) -> bool:
    orbax = "orbax" in Path(record.pathname).parts or (
        record.name == "asyncio" and "orbax" in record.getMessage()
    )
    return not orbax or record.levelno < standard_logging.ERROR


def _hook(unraisable) -> None:
    """But for TensorStore's later writes, which find Orbax's event loop closed."""
    trace = unraisable.exc_traceback
    if trace is None or trace.tb_frame.f_code.co_name != "call_soon_threadsafe":
        _hook_before(unraisable)


def _abstract(tree):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
    )
