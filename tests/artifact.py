"""Make the exported sampler that later versions of jax must still run.

    python -m tests.artifact --out tests/data/artifacts/jax_X.Y.Z

Trains a minute on the records of tests/datasets.py, exports, and keeps what it made of
`REQUESTS` as images.npy. Run it with a new jax, keep the older folders:
tests/test_artifacts.py holds every one of them to what it was.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from configs import tiny
from ddpm_jax import command_line, runs
from ddpm_jax.export import export
from ddpm_jax.sampler import Sampler, load_sampler
from ddpm_jax.train import train
from tests.datasets import write_dataset

FLAGS = command_line.new_flags()
OUT = flags.DEFINE_string("out", None, "The folder to make.", flag_values=FLAGS)

REQUESTS = (
    {},
    {"steps": 8, "guidance": 1.0},
    {"steps": 8, "guidance": {"view": 2.0, "age": 1.0}},
)


def made_of(sampler: Sampler) -> np.ndarray:
    """uint16 [requests, 3, 16, 16]."""
    rows = [{"view": "AP", "side": "left", "age": 67}, {"view": "oblique"}, {}]
    images = [sampler.sample(rows, range(3), batch=3, **asked) for asked in REQUESTS]
    return np.stack(images)


def small_config(data: Path):
    config = tiny.get_config()
    config.data.folder = str(data)
    config.data.batch = 32
    config.conditioning.fields = ("view", "side", "age")
    config.model.channels = (8, 16)
    config.model.heads = 1
    config.model.emb = 16
    config.optimizer.warmup = 20
    config.train.steps = 600
    config.train.log_every = 100
    config.train.save_every = config.train.sample_every = 600
    return config


def main():
    command_line.require(FLAGS, "out")
    out = Path(OUT.value)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_dataset(data, size=16, counts=(("train", 512), ("test", 16)))
        train(small_config(data), Path(folder) / "run")
        out.parent.mkdir(parents=True, exist_ok=True)
        export(runs.load(Path(folder) / "run"), out, [4, 8])
    np.save(out / "images.npy", made_of(load_sampler(out)))
    print(f"made {out}, {sum(f.stat().st_size for f in out.iterdir()):,} bytes")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
