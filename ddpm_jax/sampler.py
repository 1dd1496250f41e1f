"""A sampler for Python: from a run, or from a folder that needs no training code.

    import ddpm_jax
    sampler = ddpm_jax.load_sampler("exported")
    images = sampler.sample("AP pelvis, both hips, 67-year-old woman", seeds=range(8))

jax, numpy, safetensors and flatbuffers are all that this needs.
docs/exported_sampler.md says what the folder holds and what is promised of it.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ddpm_jax import exported
from ddpm_jax.conditions.numeric import check_seeds, finite, shown, whole
from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Conditions, Row, Schema
from ddpm_jax.reverse import Course, Guidance, Moment, Reverse

BATCH = 8
MOST_BATCH = 2**16

Request = str | Row
REQUESTS = "a prompt, a row {field: value}, or a sequence of them, one a seed"


class Sampler:
    """Conditions and seeds to radiographs; `schema` says what can be asked.

    `size` of the images in pixels; `guidance` and `steps` are the defaults,
    `step_counts` what `steps` may be, None for any; `description` is that of an
    exported folder, else empty.
    """

    def __init__(
        self,
        schema: Schema,
        size: int,
        guidance: float,
        reverse: Reverse,
        step_counts: tuple[int, ...] | None = None,
        description: Mapping | None = None,
    ):
        self.schema, self.size, self.guidance = schema, size, guidance
        self.reverse, self.step_counts = reverse, step_counts
        self.steps = reverse.course(None).steps
        self.fields = tuple(reverse.shares or schema.names)
        self.description = description or {}

    def over(self, mesh: jax.sharding.Mesh) -> "Sampler":
        """The same on all devices of a mesh (`Reverse.over`)."""
        return Sampler(
            self.schema,
            self.size,
            self.guidance,
            self.reverse.over(mesh),
            self.step_counts,
            self.description,
        )

    @property
    def params(self) -> Mapping[str, jax.Array]:
        return self.reverse.params

    def sample(
        self,
        request: Request | Sequence[Request],
        seeds: Sequence[int] | np.ndarray = range(1),
        *,
        steps: int | None = None,
        guidance: Guidance | None = None,
        batch: int = BATCH,
    ) -> np.ndarray:
        """uint16 [len(seeds), height, width], 0 black to 65535 white.

        `request` is one prompt or row for all seeds, or one for each. Image i depends
        on its request and seed alone, and on `steps` and `guidance`: a weight for all
        conditions together, or {field: weight}, where a field without one is left
        open. ValueError for what the model does not know.
        """
        seeds, cond = self._asked(request, seeds)
        run = functools.partial(self.run, guidance=guidance, steps=steps)
        return np.concatenate(list(in_batches(run, seeds, cond, batch)))

    def stream(
        self,
        request: Request | Sequence[Request],
        seeds: Sequence[int] | np.ndarray = range(1),
        *,
        steps: int | None = None,
        guidance: Guidance | None = None,
        every: int = 1,
    ) -> Iterator[Moment]:
        """The images while they come out of the noise: a `Moment` after every `every`
        steps and after the last, all seeds in one batch.

        The last preview is what `sample` makes with `batch=len(seeds)`, to the bit.
        ValueError as from `sample`, at once.
        """
        seeds, cond = self._asked(request, seeds)
        guidance = self.check_guidance(guidance)
        steps = self._check_steps(steps)
        return self.reverse.stream(seeds, cond, guidance, steps, every)

    def run(
        self,
        seeds: np.ndarray,
        cond: Conditions,
        guidance: Guidance | None = None,
        steps: int | None = None,
    ) -> jax.Array:
        """uint16 [b, height, width], on the device, of uint32 [b] seeds and encoded
        conditions."""
        guidance, steps = self.check_guidance(guidance), self._check_steps(steps)
        return self.reverse.run(seeds, cond, guidance, steps)

    def check_guidance(self, guidance: Guidance | None) -> Guidance:
        """`guidance` with a weight for each field, or the default for None; ValueError
        for weights that are not finite, or of fields that have none, or for no weight
        at all."""
        if guidance is None:
            return self.guidance
        if not isinstance(guidance, Mapping):
            return finite("guidance", guidance)
        if not guidance:
            raise ValueError(
                "guidance = {}: would leave all open; expected a number, or a weight "
                f"for some of {', '.join(self.fields)}."
            )
        for name in guidance:
            if name not in self.fields:
                raise ValueError(
                    f"guidance of {shown(name)}: expected some of "
                    f"{', '.join(self.fields)}."
                )
        return {
            name: finite(f"guidance of {name}", guidance.get(name, 0.0))
            for name in self.fields
        }

    def _check_steps(self, steps: int | None) -> int | None:
        return None if steps is None else whole("steps", steps, least=1)

    def _asked(self, request, seeds) -> tuple[np.ndarray, Conditions]:
        seeds = check_seeds(seeds)
        return seeds, self.schema.encode(resolve(request, self.schema, len(seeds)))


def load_sampler(folder: str | Path) -> Sampler:
    """The sampler in an exported folder, verified; ValueError where that fails
    (`exported.read`)."""
    found = exported.read(folder)
    reverse = Reverse(
        found.parts,
        {name: jax.numpy.asarray(value) for name, value in found.params.items()},
        functools.partial(_course, found.courses, found.description["steps"]),
        found.description["shares"],
    )
    return Sampler(
        found.schema,
        found.description["height"],
        float(found.description["guidance"]),
        reverse,
        tuple(sorted(found.courses)),
        found.description,
    )


def _course(courses: Mapping[int, Course], default: int, steps: int | None) -> Course:
    steps = default if steps is None else steps
    if steps not in courses:
        allowed = ", ".join(map(str, sorted(courses)))
        raise ValueError(f"steps = {shown(steps)}: this sampler has {allowed}.")
    return courses[steps]


def resolve(
    request: Request | Sequence[Request], schema: Schema, count: int
) -> list[dict]:
    """One full row per image from a prompt, a row, or a sequence of `count` of them."""
    if isinstance(request, str | Mapping):
        return [_row(request, schema)] * count
    if isinstance(request, bytes) or not isinstance(request, Sequence):
        raise ValueError(f"request = {shown(request)}: expected {REQUESTS}.")
    if len(request) != count:
        raise ValueError(
            f"{len(request)} requests for {count} seeds: expected one for all, or one "
            "each."
        )
    return [_row(one, schema) for one in request]


def _row(request: Request, schema: Schema) -> dict:
    if isinstance(request, str):
        return parse_prompt(request, schema).row
    if not isinstance(request, Mapping):
        raise ValueError(f"request {shown(request)}: expected {REQUESTS}.")
    return schema.parse(request)


def in_batches(
    run: Callable, seeds: np.ndarray, cond: Conditions, batch: int
) -> Iterator[np.ndarray]:
    """run(seeds, cond) over parts of exactly `batch`, the last one filled up and cut.

    One size compiles once, and an image has the same bits in any company; another
    size can move a pixel by one of 65536 levels, since sums are rounded in another
    order.
    """
    batch = whole("batch", batch, least=1, most=MOST_BATCH)
    for start in range(0, len(seeds), batch):
        index = np.minimum(np.arange(start, start + batch), len(seeds) - 1)
        part = {name: value[index] for name, value in cond.items()}
        yield np.asarray(run(seeds[index], part))[: len(seeds) - start]
