"""The loss of a run on images that it was trained on and on others."""

import jax
import jax.numpy as jnp
import numpy as np

from ddpm_jax import build, process, runs
from ddpm_jax.assessment.progress import bar
from ddpm_jax.evaluation import labeller
from ddpm_jax.evaluation.images import Images

LOGSNR = (-2.0, 0.0, 2.0, 4.0)
"""Noise levels, from shape to detail."""
MOST, BATCH = 1000, 16


def scores(
    workdir: str, members: Images, others: Images, checkpoint: str = "latest"
) -> dict[str, np.ndarray]:
    """Minus the mean error of v over noise levels, the same noise for every image."""
    run = runs.load(workdir, checkpoint=checkpoint)
    size = run.config.image_size
    denoise = build.denoiser(run.config, run.network, run.params)
    eps = jax.random.normal(jax.random.key(0), (len(LOGSNR), size, size, 1))

    @jax.jit
    def error(x, cond):
        found = []
        for logsnr, noise in zip(LOGSNR, eps, strict=True):
            level = jnp.full(len(x), logsnr)
            noisy = process.corrupt(x, jnp.broadcast_to(noise, x.shape), level)
            off = jnp.mean((x - denoise(noisy, level, cond)) ** 2, axis=(1, 2, 3))
            found.append(off * (1 + jnp.exp(level)))
        return jnp.mean(jnp.stack(found), axis=0)

    result = {}
    for name, images in (("members", members), ("others", others)):
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(images))[:MOST]
        part = images.take(chosen)
        with bar(len(part), f"loss of {name}", "image") as told:
            result[name] = -np.concatenate(
                [
                    _errors(part, start, size, run, error, told)
                    for start in _starts(part)
                ]
            )
    return result


def _starts(images: Images) -> range:
    return range(0, len(images), BATCH)


def _errors(images, start, size, run, error, told) -> np.ndarray:
    """Of a batch, filled up with its last image."""
    stop = min(start + BATCH, len(images))
    index = [min(i, stop - 1) for i in range(start, start + BATCH)]
    pixels = labeller.shrink(np.stack([images.read(i) for i in index]), size)
    cond = {f.name: images.cond[f.name][index] for f in run.schema}
    found = np.asarray(error(labeller.to_input(pixels), cond))
    told.update(stop - start)
    return found[: stop - start]
