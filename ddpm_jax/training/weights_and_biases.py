"""Scalars to Weights & Biases, where `config.train.wandb` names a project.

What leaves the machine: the scalars of metrics.jsonl, and the config without its data
and its conditions. No image (a model may have learned one by heart), no label, no
record id, no path, no console output, no code, no name of the machine.
"""

import importlib.util
import secrets
from pathlib import Path

KEPT_HERE = ("data", "conditioning", "evaluation")
"""Parts of the config that name folders, splits and a lab's own fields."""

NOTHING_ELSE = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "host": "",
    "program": "ddpm_jax.train",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Settings of the client that keep back what it would collect by itself."""


def check(config) -> None:
    """ValueError where a project is named and the package is not there."""
    project = config.train.get("wandb", "")
    found = importlib.util.find_spec("wandb") if project else None
    if project and (found is None or found.origin is None):
        raise ValueError(
            f"config.train.wandb = {project!r}: needs Weights & Biases; expected "
            "`pip install wandb`, or ''."
        )


class WeightsAndBiases:
    """A writer as `monitoring.JsonLines`; a run that goes on is one run there, too."""

    def __init__(self, project: str, folder: Path):
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                id=_identity(folder),
                resume="allow",
                dir=str(folder),
                settings=wandb.Settings(**NOTHING_ELSE),
            )
        except wandb.Error as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"config.train.wandb = {project!r}: {said}; expected `wandb login`, or "
                "WANDB_MODE=offline in the environment."
            ) from None

    def write_scalars(self, step, scalars):
        values = {name: float(value) for name, value in scalars.items()}
        self._run.log(values, step=step)

    def write_images(self, step, images):
        pass

    def write_texts(self, step, texts):
        pass

    def write_hparams(self, hparams):
        sent = {name: part for name, part in hparams.items() if name not in KEPT_HERE}
        self._run.config.update(sent)

    def flush(self):
        pass

    def close(self):
        self._run.finish()


def _identity(folder: Path) -> str:
    """Random, and the same for every start of a run."""
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text()
