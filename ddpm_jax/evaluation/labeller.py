"""A network that reads the labels of radiographs, trained on real ones.

It says whether an image shows what was asked, and its penultimate layer is the default
feature space of an evaluation: it was trained to see what the labels are about.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import pipeline
from ddpm_jax.evaluation.images import Images
from ddpm_jax.models.classifier import Classifier
from ddpm_jax.models.functional import network

LARGEST = 256
"""Pixels of a side from which on images are shrunk, by means, to this."""
BATCH, WIDTH = 64, 24


class Reading(NamedTuple):
    """What was read of n images: `probabilities` [n, k] a categorical field, `numbers`
    [n] in the unit of a continuous one, `features` [n, d]."""

    probabilities: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    features: np.ndarray

    def codes(self) -> dict[str, np.ndarray]:
        """The likeliest value of each categorical field, 1 or more."""
        return {n: 1 + p.argmax(1) for n, p in self.probabilities.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Labeller:
    schema: Schema
    size: int
    width: int
    params: Mapping[str, np.ndarray]

    @property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.params):
            digest.update(name.encode() + np.asarray(self.params[name]).tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _apply(self) -> Callable:
        return jax.jit(_network(self.schema, self.size, self.width).apply)

    def outputs(self, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the heads say of uint16 [b, s, s] by field, and the features [b, d]."""
        x = to_input(shrink(images, self.size))
        read, features = jax.device_get(self._apply(self.params, _filled(x)))
        return {name: out[: len(x)] for name, out in read.items()}, features[: len(x)]

    def read(
        self, images: Images, advance: Callable[[int], object] = lambda n: None
    ) -> Reading:
        """Of all images; `advance` is told how many more are read."""
        read, features = [], []
        for part in images.batches():
            outputs, found = self.outputs(part)
            read.append(outputs)
            features.append(found)
            advance(len(part))
        probabilities, numbers = {}, {}
        for field in self.schema:
            out = np.concatenate([one[field.name] for one in read])
            if field.kind == "categorical":
                probabilities[field.name] = np.asarray(jax.nn.softmax(out, -1))
            else:
                numbers[field.name] = out[:, 0] * field.std + field.mean
        return Reading(probabilities, numbers, np.concatenate(features))


def _filled(x: np.ndarray) -> np.ndarray:
    """[b, ...] with b a power of 2, so that few sizes are compiled."""
    count = 1 << (len(x) - 1).bit_length()
    return np.concatenate([x, np.repeat(x[-1:], count - len(x), axis=0)])


def _network(schema: Schema, size: int, width: int):
    return network(lambda rngs: Classifier(schema, size=size, width=width, rngs=rngs))


def input_size(size: int) -> int:
    """Of what the network sees of images of `size` px."""
    whole = size > LARGEST and size % LARGEST == 0
    return LARGEST if whole else size


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """uint16 [b, s, s] to [b, size, size], means over whole pixels."""
    side = images.shape[1] // size
    if side == 1:
        return images
    return np.stack([pipeline.mean_pool(image, side) for image in images])


def to_input(images: np.ndarray, bits: int = 16) -> np.ndarray:
    """Integers [b, h, w] of `bits` bits to float32 [b, h, w, 1] in [-1, 1]."""
    return images[..., None].astype(np.float32) * (2 / (2**bits - 1)) - 1


EPOCHS, LEAST_STEPS = 6, 1000


def steps_of(epochs: int | None, count: int, batch: int = BATCH) -> int:
    """Steps of `epochs` over `count` images; by default `EPOCHS` of them, or where that
    is fewer `LEAST_STEPS`: what is rare in a small set is not learnt in less."""
    of_one = max(1, count // batch)
    if epochs is None:
        return max(EPOCHS * of_one, LEAST_STEPS)
    return epochs * of_one


def train(
    images: Images,
    schema: Schema,
    *,
    steps: int,
    batch: int = BATCH,
    width: int = WIDTH,
    seed: int = 0,
    report: Callable[[float], object] = lambda loss: None,
) -> Labeller:
    """A labeller of the fields of `schema`, trained for `steps` batches of `images`.

    What is not known of an image does not count. `report` gets the loss of each step.
    """
    size = input_size(images.size)
    net = _network(schema, size, width)
    x = np.concatenate([shrink(part, size) for part in images.batches()])
    cond = {field.name: images.cond[field.name] for field in schema}
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    params = net.init(init_key)
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, x, cond, key):
        x = augment(key, x)
        loss, grads = jax.value_and_grad(
            lambda p: error(net.apply(p, x, key)[0], cond, schema)
        )(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    for i, index in zip(range(steps), _shuffled(len(x), batch, seed), strict=False):
        part = {name: values[index] for name, values in cond.items()}
        key = jax.random.fold_in(noise_key, i)
        params, opt_state, loss = step(params, opt_state, to_input(x[index]), part, key)
        report(float(loss))
    return Labeller(schema, size, width, jax.device_get(params))


def error(read, cond, schema: Schema):
    """Mean over fields of the mean error where the field is known: cross-entropy, or
    half the squared error of the standardised number."""
    values = []
    for field in schema:
        out, asked = read[field.name], cond[field.name]
        if field.kind == "categorical":
            known = asked > 0
            code = jnp.maximum(asked - 1, 0)
            loss = optax.softmax_cross_entropy_with_integer_labels(out, code)
        else:
            known = ~jnp.isnan(asked)
            target = (jnp.where(known, asked, field.mean) - field.mean) / field.std
            loss = (out[:, 0] - target) ** 2 / 2
        values.append(jnp.sum(loss * known) / jnp.maximum(jnp.sum(known), 1))
    return jnp.mean(jnp.stack(values))


def augment(key, x):
    """Noise and exposure, so that anatomy is read and not the detector."""
    noise_key, gain_key, offset_key = jax.random.split(key, 3)
    shape = (len(x), 1, 1, 1)
    gain = 1 + 0.1 * jax.random.normal(gain_key, shape)
    offset = 0.05 * jax.random.normal(offset_key, shape)
    return gain * x + offset + 0.03 * jax.random.normal(noise_key, x.shape)


def _shuffled(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Endless; batches of one permutation after another, all of one size."""
    size = min(batch, count)
    epoch = 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]
        epoch += 1
