"""An exported sampler: a folder that jax, numpy, safetensors and flatbuffers can run.

    import ddpm_jax
    sampler = ddpm_jax.load_sampler("exported")
    images = sampler.sample("AP pelvis, both hips, 67-year-old woman", seeds=range(8))

The folder holds `sampler.json` (schema, sizes, defaults), `program.jax` (StableHLO
by `jax.export`), `weights.safetensors`, `card.md` and `checksums.json`. Loading runs
no code from it but that program.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.numpy import load as load_safetensors

from ddpm_jax.conditions.prompt import parse_prompt
from ddpm_jax.conditions.schema import Conditions, Row, Schema

FORMAT = 1
DESCRIPTION, PROGRAM, WEIGHTS = "sampler.json", "program.jax", "weights.safetensors"
CARD, CHECKSUMS = "card.md", "checksums.json"
MOST_SEED = 2**32 - 1
BATCH = 8

Request = str | Row


class Sampler:
    """Conditions and seeds to radiographs; `schema` says what can be asked."""

    def __init__(self, description: Mapping, program: export.Exported, params: Mapping):
        self.description = description
        self.schema = Schema.from_json(description["schema"])
        self.guidance = float(description["guidance"])
        self.params = {name: jax.numpy.asarray(value) for name, value in params.items()}
        self._program = jax.jit(program.call)

    def sample(
        self,
        request: Request | Sequence[Request],
        seeds: Sequence[int] | np.ndarray = range(1),
        *,
        guidance: float | None = None,
        batch: int = BATCH,
    ) -> np.ndarray:
        """uint16 [len(seeds), height, width], 0 black to 65535 white.

        `request` is one prompt or row for all seeds, or one for each. Image i depends
        on its request and seed alone. ValueError for what the model does not know.
        """
        seeds = check_seeds(seeds)
        rows = resolve(request, self.schema, len(seeds))
        weight = check_guidance(self.guidance if guidance is None else guidance)
        run = functools.partial(self.run, guidance=weight)
        return np.concatenate(
            list(in_batches(run, seeds, self.schema.encode(rows), batch))
        )

    def run(self, seeds: np.ndarray, cond: Conditions, guidance: float) -> np.ndarray:
        """uint16 [b, height, width] of uint32 [b] seeds and encoded conditions."""
        images = self._program(self.params, seeds, cond, np.float32(guidance))
        return np.asarray(images)


def load_sampler(folder: str | Path) -> Sampler:
    """The sampler in `folder`, its checksums verified.

    ValueError where a file is missing, damaged, or of another format version.
    """
    folder = Path(folder)
    if not (folder / CHECKSUMS).is_file():
        raise ValueError(
            f"{folder}: no {CHECKSUMS} here; expected the --out folder of "
            "`python -m ddpm_jax.export`."
        )
    sums = _read_json(folder / CHECKSUMS)
    content = {name: _verified(folder / name, sums) for name in sorted(sums)}
    missing = {DESCRIPTION, PROGRAM, WEIGHTS} - content.keys()
    if missing:
        raise ValueError(
            f"{folder / CHECKSUMS}: lists no {', '.join(sorted(missing))}."
        )
    description = json.loads(content[DESCRIPTION])
    if description.get("format") != FORMAT:
        raise ValueError(
            f"{folder}: sampler format {description.get('format')!r}, but this program "
            f"reads format {FORMAT}; export it again."
        )
    program = export.deserialize(bytearray(content[PROGRAM]))
    return Sampler(description, program, load_safetensors(content[WEIGHTS]))


def resolve(
    request: Request | Sequence[Request], schema: Schema, count: int
) -> list[dict]:
    """One full row per image from a prompt, a row, or a sequence of `count` of them."""
    if isinstance(request, str | Mapping):
        return [_row(request, schema)] * count
    if len(request) != count:
        raise ValueError(
            f"{len(request)} requests for {count} seeds: expected one for all, or one "
            "each."
        )
    return [_row(one, schema) for one in request]


def _row(request: Request, schema: Schema) -> dict:
    if isinstance(request, str):
        return parse_prompt(request, schema).row
    return schema.parse(request)


def check_seeds(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """uint32 [b]; ValueError outside 0 to 2^32 - 1."""
    values = [int(seed) for seed in seeds]
    if not values:
        raise ValueError("seeds: expected at least one.")
    for seed in values:
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"seed {seed}: expected 0 to {MOST_SEED}.")
    return np.array(values, np.uint32)


def check_guidance(weight: float) -> float:
    """`weight`; ValueError where it is not finite."""
    if not math.isfinite(weight):
        raise ValueError(f"guidance = {weight}: expected a finite number.")
    return float(weight)


def in_batches(
    run: Callable, seeds: np.ndarray, cond: Conditions, batch: int
) -> Iterator[np.ndarray]:
    """run(seeds, cond) over parts of exactly `batch`, the last one filled up and cut.

    One size compiles once, and an image has the same bits in any company; another
    size can move a pixel by one of 65536 levels, since sums are rounded in another
    order.
    """
    if batch < 1:
        raise ValueError(f"batch = {batch}: expected 1 or more.")
    for start in range(0, len(seeds), batch):
        index = np.minimum(np.arange(start, start + batch), len(seeds) - 1)
        part = {name: value[index] for name, value in cond.items()}
        yield np.asarray(run(seeds[index], part))[: len(seeds) - start]


def _read_json(path: Path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path}: not readable JSON; export it again.") from None


def _verified(path: Path, sums: Mapping[str, str]) -> bytes:
    if path.name not in sums or not path.is_file():
        raise ValueError(f"{path}: missing; export it again.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sums[path.name]:
        raise ValueError(f"{path}: not as it was exported (sha256 differs).")
    return data
