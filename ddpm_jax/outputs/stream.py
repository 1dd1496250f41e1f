"""Rows to images on all devices of this process, one batch ahead of what is read.

Every device runs the same program on `batch` images, whatever the number of devices:
an image has the same bits on one and on eight.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ddpm_jax.conditions.schema import Conditions
from ddpm_jax.outputs.requests import Asked
from ddpm_jax.sources import Source

AHEAD = 2
"""Batches on the device: one that computes and one that waits behind it."""


@dataclasses.dataclass
class Clock:
    """Seconds of one process: until the first batch was on its way (compilation is in
    them), in which the devices computed, and of the whole."""

    began: float = dataclasses.field(default_factory=time.perf_counter)
    start: float = 0.0
    device: float = 0.0
    images: int = 0
    _free: float = 0.0

    def sent(self) -> float:
        now = time.perf_counter()
        self.start = self.start or now - self.began
        return now

    def done(self, sent: float, ended: float, images: int) -> None:
        """A batch that was sent at `sent` was done at `ended`: the device had it since
        then, or since it was through with the one before."""
        self.device += ended - max(sent, self._free)
        self._free = ended
        self.images += images

    def report(self) -> str:
        whole = time.perf_counter() - self.began
        after = max(whole - self.start, 1e-9)
        return (
            f"{self.images} images in {whole:.1f} s: {self.start:.1f} s to start, then "
            f"{self.images / after:.1f} images/s; the device computed for "
            f"{self.device:.1f} s of {after:.1f} s ({self.device / after:.0%})"
        )


def spread(
    source: Source, guidance: float, batch: int, devices: Sequence | None = None
) -> tuple[int, Callable]:
    """(b, start): start(seeds [b], conditions [b]) is uint16 [b, h, w], perhaps not
    computed yet; b is `batch` for each of the devices of this process."""
    devices = jax.local_devices() if devices is None else devices
    if len(devices) == 1:
        return batch, lambda *asked: source.run(*asked, guidance)
    mesh = Mesh(np.array(devices), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    spread_out = source.sampler.over(mesh)

    def start(*asked):
        placed = jax.device_put(asked, split)
        return spread_out.run(*placed, guidance, source.steps)

    return batch * len(devices), start


def stream(
    source: Source,
    asked: Sequence[Asked],
    indices: Sequence[int],
    start: Callable,
    batch: int,
    clock: Clock,
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """(indices, uint16 [len(indices), h, w]) of all `indices` into `asked`, in order.

    A batch is sent before the one before it is fetched. The last is filled up and cut.
    """
    waiting = deque()
    with ThreadPoolExecutor(1) as watch:  # it sees the end of a batch when it comes
        for begin in range(0, len(indices), batch):
            part = indices[begin : begin + batch]
            images = start(*_encode(source, asked, part, batch))
            waiting.append((part, clock.sent(), watch.submit(_ended, images)))
            if len(waiting) == AHEAD:
                yield _fetch(*waiting.popleft(), clock)
        while waiting:
            yield _fetch(*waiting.popleft(), clock)


def _encode(source, asked, part, batch) -> tuple[np.ndarray, Conditions]:
    full = [asked[part[min(i, len(part) - 1)]] for i in range(batch)]
    seeds = np.array([one.seed for one in full], np.uint32)
    return seeds, source.schema.encode([one.row for one in full])


def _ended(images):
    return jax.block_until_ready(images), time.perf_counter()


def _fetch(part, sent, made, clock):
    images, ended = made.result()
    clock.done(sent, ended, len(part))
    return part, np.asarray(images)[: len(part)]
