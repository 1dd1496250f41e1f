"""Label agreement: does an image show what was asked of it?

A classifier trained on real radiographs reads the labels of synthetic ones; its error
on held-out real radiographs bounds what the figure can mean.
"""

from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.evaluation.statistics import proportion
from ddpm_jax.models.classifier import Classifier
from ddpm_jax.models.functional import network


def to_input(images: np.ndarray, bits: int) -> np.ndarray:
    """Integers [b, h, w] of `bits` bits to float32 [b, h, w, 1] in [-1, 1]."""
    return images[..., None].astype(np.float32) * (2 / (2**bits - 1)) - 1


def train_classifier(
    images: np.ndarray,
    cond: Mapping[str, np.ndarray],
    schema: Schema,
    *,
    epochs: int = 6,
    batch: int = 64,
    width: int = 24,
    seed: int = 0,
    report: Callable[[float], None] = lambda loss: None,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function from images to codes {field: int32 [b]}, trained on `images`.

    `images` float32 [n, s, s, 1] in [-1, 1]; `cond` their codes, 0 = not known, which
    do not count. One code for each categorical field of `schema`. `report` gets the
    mean loss of each epoch.
    """
    size = images.shape[1]
    net = network(lambda rngs: Classifier(schema, size=size, width=width, rngs=rngs))
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    params = net.init(init_key)
    total = epochs * max(1, len(images) // batch)
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, total), weight_decay=1e-2)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, x, codes, key):
        loss, grads = jax.value_and_grad(
            lambda p: cross_entropy(net.apply(p, _augment(key, x), key), codes)
        )(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    codes = {name: cond[name] for name in schema.names if name in _heads(schema)}
    for epoch in range(epochs):
        losses = []
        for index in _shuffled(len(images), batch, seed + epoch):
            part = {name: value[index] for name, value in codes.items()}
            key = jax.random.fold_in(noise_key, epoch * total + len(losses))
            params, opt_state, loss = step(params, opt_state, images[index], part, key)
            losses.append(loss)
        report(float(np.mean(losses)))

    logits = jax.jit(lambda x: net.apply(params, x))

    def predict(x):
        parts = [logits(x[i : i + 256]) for i in range(0, len(x), 256)]
        return {
            name: 1 + np.concatenate([np.argmax(p[name], axis=-1) for p in parts])
            for name in codes
        }

    return predict


def cross_entropy(logits, codes):
    """Mean over fields of the mean cross-entropy where the code is known."""
    values = []
    for name, code in codes.items():
        loss = optax.softmax_cross_entropy_with_integer_labels(
            logits[name], jnp.maximum(code - 1, 0)
        )
        known = code > 0
        values.append(jnp.sum(loss * known) / jnp.maximum(jnp.sum(known), 1))
    return jnp.mean(jnp.stack(values))


def agreement(
    found: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], names
) -> dict[str, dict]:
    """Share of images whose found code is the asked one, by field, with its interval.

    Images of which a field was not asked (code 0) do not count there; "all" counts an
    image where every asked field of `names` agrees.
    """
    result = {}
    every = np.ones(len(next(iter(asked.values()))), bool)
    for name in names:
        known = asked[name] > 0
        right = found[name] == asked[name]
        result[name] = proportion(int(right[known].sum()), int(known.sum()))
        every &= right | ~known
    result["all"] = proportion(int(every.sum()), len(every))
    return result


def _heads(schema: Schema) -> set[str]:
    return {field.name for field in schema if field.kind == "categorical"}


def _augment(key, x):
    """Noise and exposure, so that the classifier reads anatomy and not the detector."""
    noise_key, gain_key, offset_key = jax.random.split(key, 3)
    shape = (len(x), 1, 1, 1)
    gain = 1 + 0.1 * jax.random.normal(gain_key, shape)
    offset = 0.05 * jax.random.normal(offset_key, shape)
    return gain * x + offset + 0.03 * jax.random.normal(noise_key, x.shape)


def _shuffled(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    for start in range(0, max(1, count - batch + 1), batch):
        yield order[start : start + batch]
