"""What every test shares: shape checks, strict JAX, one tiny data set, one tiny run."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compile faster
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import jax  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

HOOK = install_import_hook(
    "ddpm_jax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)


pytest_plugins = ["tests.commands", "tests.browser"]


def pytest_configure():
    from absl import flags

    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files beside the checkout, or wherever DDPM_JAX_TEST_DATA says."""
    folder = os.environ.get("DDPM_JAX_TEST_DATA", ROOT.parent / "shared" / "data")
    if not Path(folder).is_dir():
        pytest.skip(f"no test data at {folder}; set DDPM_JAX_TEST_DATA")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """48 records of 16 px in two splits: brightness says the view, slope the side."""
    from tests.datasets import write_dataset

    return write_dataset(tmp_path_factory.mktemp("tiny_data"), size=16)


@pytest.fixture(scope="session")
def tiny_config(tiny_data):
    from configs import tiny

    config = tiny.get_config()
    config.data.folder = str(tiny_data)
    return config


@pytest.fixture(scope="session")
def tiny_run(tiny_config, tmp_path_factory) -> Path:
    """The folder of a finished run of configs/tiny.py."""
    from ddpm_jax.train import train

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(tiny_config, workdir)
    return workdir


@pytest.fixture(scope="session")
def tiny_export(tiny_run, tmp_path_factory) -> Path:
    """The exported sampler of `tiny_run`."""
    from ddpm_jax import runs
    from ddpm_jax.export import export

    folder = tmp_path_factory.mktemp("exports") / "tiny"
    export(runs.load(tiny_run), folder)
    return folder
