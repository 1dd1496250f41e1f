"""Checkpoints of a run: training state and data position in one, with checksums.

Orbax writes and restores; a flipped bit would restore silently, so every file of a
checkpoint is listed with its sha256 in `checksums/STEP.json`, written last. A step
without that list was interrupted while saving.
"""

import hashlib
import json
import os
import time
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging

from ddpm_jax.training import distributed
from ddpm_jax.types import Params


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
        options = {"max_to_keep": keep + 1, "cleanup_tmp_directories": True}
        if read_only:
            options = {"read_only": True, "save_interval_steps": 0, "create": False}
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # orbax warns that reading is read-only
        self.manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False, **options
            ),
        )
        logging.set_verbosity(verbosity)

    def save(self, step: int, state, data_state: dict) -> None:
        """Write one checkpoint and its checksums; older ones go only after that."""
        saved = self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state._asdict()),
                data=ocp.args.JsonSave(data_state),
            ),
        )
        self.manager.wait_until_finished()
        if not saved:
            raise ValueError(f"{self.folder}: a later checkpoint than {step} is there.")
        if distributed.leads():
            sums = checksums(self.folder / str(step))
            pending = self.lists / f"{step}.json.tmp"
            pending.write_text(json.dumps(sums, indent=1))
            os.replace(pending, self.lists / f"{step}.json")
        distributed.wait(f"checksums of {step}")
        for old in self.steps()[: -self.keep]:
            self.manager.delete(old)
            if distributed.leads():
                (self.lists / f"{old}.json").unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Steps that were saved to the end, oldest first."""
        return sorted(s for s in self.manager.all_steps() if self._list(s).exists())

    def latest(self) -> int | None:
        """The newest step whose files are all as written; damaged ones are reported.

        None where nothing was saved; ValueError where all that was saved is damaged,
        or where checkpoints and checksums do not belong together.
        """
        steps = self.steps()
        unlisted = set(self.manager.all_steps()) - set(steps)
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
        """Move checkpoints later than step `after`, damaged ones, to `damaged/`."""
        for step in self.manager.all_steps():
            if step > after:
                aside = self.folder.parent / "damaged" / f"{step}_{time.time_ns()}"
                aside.parent.mkdir(exist_ok=True)
                os.replace(self.folder / str(step), aside)
                self._list(step).unlink(missing_ok=True)
                logging.warning("checkpoint %d is set aside in %s", step, aside)
        self.manager.reload()

    def restore(self, step: int, state):
        """(state, data_state) as saved; `state` gives shapes, dtypes and shardings."""
        restored = self.manager.restore(
            step,
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

    def __exit__(self, *raised) -> None:
        self.manager.close()

    def _list(self, step) -> Path:
        return self.lists / f"{step}.json"


def checksums(folder: Path) -> dict[str, str]:
    """sha256 by relative path of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _sha256(path.read_bytes())
        for path in files
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _abstract(tree):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
    )
