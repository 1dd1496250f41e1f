"""The reverse process in pieces, and the one way to drive them.

The pieces come from a run (`build.reverse_parts`) or from an exported folder
(`sampler.load_sampler`); each is compiled once for a batch size, whatever the number of
steps, and takes one step or all of them. jax and numpy only.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ddpm_jax.conditions.numeric import whole

ROWS = 64
"""Tables are filled up to a multiple of this, so that they share one compilation."""

Guidance = float | Mapping[str, float]
"""One weight for all conditions together, or one for each field on its own."""


class Parts(NamedTuple):
    """Pure functions of a state (z, x_hat), each float32 [b, h, w, 1].

    start(seeds uint32 [b]): standard normal noise, and an x_hat of 0.
    plain(params, state, rows float32 [n, 5], first int32, stop int32, seeds, cond):
    the state after rows [first, stop) of a table (`samplers.Table`).
    guided(…, weight float32): the same, guided by all conditions together, at twice
    the cost.
    composed(…, weights {field: float32}): the same, guided field by field, at
    1 + len(weights) times the cost.
    finish(image): uint16 [b, h, w], -1 to 0 and 1 to 65535.
    """

    start: Callable
    plain: Callable
    guided: Callable
    composed: Callable
    finish: Callable


class Course(NamedTuple):
    """The evaluations of one number of steps: `rows` float32 [steps, 5] in the columns
    of `samplers.Table`, and the rows [first, stop) where guidance acts."""

    rows: np.ndarray
    guided: tuple[int, int]

    @property
    def steps(self) -> int:
        return len(self.rows)


class Moment(NamedTuple):
    """After `step` of `steps` evaluations: the noisy images `z` that the last of them
    saw, at `logsnr`, and the clean ones `x_hat` that it made of them, float32 [b, h, w]
    on the device; `preview` is x_hat as uint16 [b, h, w], and the image when `done`."""

    step: int
    steps: int
    logsnr: float
    guided: bool
    z: jax.Array
    x_hat: jax.Array
    preview: np.ndarray
    done: bool


class Reverse:
    """From seeds and encoded conditions to images, at once or step by step."""

    def __init__(
        self,
        parts: Parts,
        params: Mapping[str, jax.Array],
        course: Callable[[int | None], Course],
        shares: Mapping[str, float],
    ):
        """`course(steps)` is a table, the default's for None, or a ValueError;
        `shares`, if any, turn one guidance weight into one for each field."""
        self.params, self.course, self.shares = params, course, dict(shares)
        self.parts, self._parts = parts, Parts(*map(jax.jit, parts))

    def over(self, mesh: Mesh) -> "Reverse":
        """The same on all devices of `mesh`, whose one axis divides a batch: each runs
        the program of its part, so that an image has the bits that it has on one."""
        whole, split = PartitionSpec(), PartitionSpec(*mesh.axis_names)
        advance = (whole, split, whole, whole, whole, split, split)
        specs = Parts(
            start=(split,),
            plain=advance,
            guided=(*advance, whole),
            composed=(*advance, whole),
            finish=(split,),
        )
        parts = Parts(
            *(
                jax.shard_map(
                    part, mesh=mesh, in_specs=given, out_specs=split, check_vma=False
                )
                for part, given in zip(self.parts, specs, strict=True)
            )
        )
        params = jax.device_put(dict(self.params), NamedSharding(mesh, whole))
        return Reverse(parts, params, self.course, self.shares)

    def run(
        self, seeds, cond, guidance: Guidance, steps: int | None = None
    ) -> jax.Array:
        """uint16 [b, h, w] of uint32 [b] seeds, on the device, maybe not yet there."""
        course = self.course(steps)
        state = self._parts.start(seeds)
        state = self._advance(course, state, 0, course.steps, seeds, cond, guidance)
        return self._parts.finish(state[0])

    def stream(
        self,
        seeds,
        cond,
        guidance: Guidance,
        steps: int | None = None,
        every: int = 1,
    ) -> Iterator[Moment]:
        """A `Moment` after every `every` evaluations and after the last, whose preview
        has the bits of `run`."""
        every = whole("every", every, least=1)
        course = self.course(steps)
        return self._moments(course, seeds, cond, guidance, every)

    def _moments(self, course, seeds, cond, guidance, every):
        state, low = self._parts.start(seeds), 0
        while low < course.steps:
            stop = min(low + every, course.steps)
            asked = seeds, cond, guidance
            before = self._advance(course, state, low, stop - 1, *asked)
            state = self._advance(course, before, stop - 1, stop, *asked)
            preview = np.asarray(self._parts.finish(state[1]))
            yield Moment(
                stop,
                course.steps,
                float(course.rows[stop - 1, 0]),
                course.guided[0] < stop <= course.guided[1],
                before[0][..., 0],
                state[1][..., 0],
                preview,
                stop == course.steps,
            )
            low = stop

    def _advance(self, course, state, first, stop, seeds, cond, guidance):
        """The state after rows [first, stop), each part of them as it is guided."""
        rows = np.pad(course.rows, ((0, -course.steps % ROWS), (0, 0)))
        low, high = course.guided
        guide, weight = self._guide(guidance)
        parts = (
            (self._parts.plain, (), 0, low),
            (guide, weight, low, high),
            (self._parts.plain, (), high, course.steps),
        )
        for advance, weights, begin, end in parts:
            begin, end = max(begin, first), min(end, stop)
            if begin < end:
                bounds = np.int32(begin), np.int32(end)
                state = advance(
                    self.params, state, rows, *bounds, seeds, cond, *weights
                )
        return state

    def _guide(self, guidance: Guidance) -> tuple[Callable, tuple]:
        """The part that guides, and its weights; weight 1 is the plain model."""
        if isinstance(guidance, Mapping):
            weights = {name: np.float32(weight) for name, weight in guidance.items()}
            return self._parts.composed, (weights,)
        if self.shares:
            return self._guide(
                {n: guidance * share for n, share in self.shares.items()}
            )
        if guidance == 1:
            return self._parts.plain, ()
        return self._parts.guided, (np.float32(guidance),)
