"""The exported sampler where nothing is installed but the four packages it needs."""

import importlib.metadata
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from ddpm_jax.sampler import load_sampler
from tests.test_artifacts import FOLDERS, TOLERANCE

PACKAGES = ("jax", "numpy", "safetensors", "flatbuffers")
CODE = """
import importlib.metadata, sys
import numpy as np
import ddpm_jax
sampler = ddpm_jax.load_sampler(sys.argv[1])
images = sampler.sample("AP, 67-year-old", seeds=range(2), steps=8)
moments = list(sampler.stream("AP, 67-year-old", seeds=range(2), steps=8, every=3))
assert [m.step for m in moments] == [3, 6, 8]
assert np.abs(moments[-1].preview.astype(int) - images).max() <= 1
np.save(sys.argv[2], images)
print(*sorted(d.metadata["Name"].lower() for d in importlib.metadata.distributions()))
"""


@pytest.mark.slow
def test_four_packages_are_enough(tmp_path):
    """jax brings its own needs; nothing else of this project's is there."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    install = [python, "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"no packages to install here: {done.stderr.strip()[-200:]}")
    only = tmp_path / "source"
    only.mkdir()
    (only / "ddpm_jax").symlink_to(Path(__file__).parents[1] / "ddpm_jax")
    out = tmp_path / "images.npy"
    run = subprocess.run(
        [python, "-c", CODE, FOLDERS[-1], out],
        env={"PYTHONPATH": str(only), "PATH": os.environ["PATH"]}
        | {"JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    brought = {"jaxlib", "ml_dtypes", "opt_einsum", "scipy", "pip", "setuptools"}
    assert set(run.stdout.split()) - brought == set(PACKAGES)
    images = np.load(out)
    assert images.shape == (2, 16, 16) and images.dtype == np.uint16
    here = load_sampler(FOLDERS[-1]).sample("AP, 67-year-old", range(2), steps=8)
    assert np.abs(images.astype(int) - here).max() <= TOLERANCE
