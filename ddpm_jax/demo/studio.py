"""The sampler behind the page: compiled once, one batch size, a bounded memory.

Every request is filled up to `batch` images, so that nothing is compiled while people
wait and an image has the bits that `Sampler.sample` gives it with this `batch`.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ddpm_jax.demo.asking import Setting
from ddpm_jax.reverse import Moment
from ddpm_jax.sampler import Sampler

KEPT = 64 * 2**20
"""Bytes of finished images that a download finds without sampling them again."""

PREVIEWS = 8
"""Moments that are shown of one image, at most."""


class View(NamedTuple):
    """uint16 [n, h, w] images, the first `ready` of them finished; `share` of the work
    is done, 0 to 1."""

    images: np.ndarray
    ready: int
    share: float

    @property
    def done(self) -> bool:
        return self.ready == len(self.images)


class Studio:
    """Settings and seeds to images, batch by batch."""

    def __init__(self, sampler: Sampler, batch: int):
        self.sampler, self.batch = sampler, batch
        self._kept: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.model_sha256 = sampler.description["model_sha256"]

    def warm_up(self) -> float:
        """Compile what a request needs; seconds that a finished program took then."""
        schema, sampler = self.sampler.schema, self.sampler
        setting = Setting(schema.parse({}), sampler.guidance, sampler.steps)
        for guidance in (1.0, sampler.guidance, sampler.guidance):
            started = time.monotonic()
            for _ in self._moments(setting._replace(guidance=guidance), range(1), 1):
                pass
        return time.monotonic() - started

    def watch(self, setting: Setting, seeds: Sequence[int]) -> Iterator[View]:
        """The images coming out of the noise; those not begun are black."""
        size = self.sampler.size
        images = np.zeros((len(seeds), size, size), np.uint16)
        every = -(-setting.steps // PREVIEWS)
        for start in range(0, len(seeds), self.batch):
            part = seeds[start : start + self.batch]
            for moment in self._moments(setting, part, every):
                images = images.copy()
                images[start : start + len(part)] = moment.preview[: len(part)]
                ready = start + len(part) if moment.done else start
                done = start + len(part) * moment.step / moment.steps
                yield View(images, ready, done / len(seeds))
        self._keep(_key(setting, seeds), images)

    def images(self, setting: Setting, seeds: Sequence[int]) -> np.ndarray:
        """uint16 [n, h, w]: those of the last `View`, made again where forgotten."""
        with self._lock:
            found = self._kept.get(_key(setting, seeds))
        if found is not None:
            return found
        return list(self.watch(setting, seeds))[-1].images

    def _moments(self, setting, seeds, every) -> Iterator[Moment]:
        filled = [*seeds] + [seeds[-1]] * (self.batch - len(seeds))
        return self.sampler.stream(
            setting.row,
            filled,
            steps=setting.steps,
            guidance=setting.guidance,
            every=every,
        )

    def _keep(self, key: tuple, images: np.ndarray) -> None:
        with self._lock:
            self._kept[key] = images
            self._kept.move_to_end(key)
            while sum(kept.nbytes for kept in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)


def _key(setting: Setting, seeds) -> tuple:
    row = tuple(sorted(setting.row.items()))
    return row, setting.guidance, setting.steps, tuple(seeds)
