"""The exported sampler against the one it came from."""

import jax
import numpy as np

from ddpm_jax import build, runs
from ddpm_jax.sampler import load_sampler

ROW = {"view": "AP", "side": "both", "age": 67}


def test_exported_equals_jitted(tiny_run, tiny_export):
    run = runs.load(tiny_run)
    seeds = np.arange(5, dtype=np.uint32)
    sample = jax.jit(build.sampler(run.config, run.network, run.schema))
    cond = run.schema.encode([ROW] * 5)
    expected = sample(run.params, seeds, cond, run.config.sampler.guidance)
    found = load_sampler(tiny_export).sample(ROW, seeds, batch=5)
    assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 1
