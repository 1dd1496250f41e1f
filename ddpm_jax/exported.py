"""The exported folder: its files, and how they are read back.

docs/exported_sampler.md says what each file holds and what is promised of it. jax,
numpy, safetensors and flatbuffers are all that this needs.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import export
from safetensors.numpy import load as load_safetensors

from ddpm_jax.conditions import schema as conditions
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reverse import Course, Parts

FORMAT = 2
DESCRIPTION, CARD, CHECKSUMS = "sampler.json", "card.md", "checksums.json"
WEIGHTS, TABLES = "weights.safetensors", "tables.safetensors"
PROGRAMS = tuple(f"{part}.jax" for part in Parts._fields)
NEEDED = (DESCRIPTION, WEIGHTS, TABLES, *PROGRAMS)
STATED = ("schema", "height", "guidance", "steps", "guided", "shares")
CALLS = {"shape_assertion"}
"""What a program may call beyond StableHLO: jax's own check of sizes."""


class Exported(NamedTuple):
    """What a folder holds; `courses` by their number of steps."""

    description: Mapping
    schema: Schema
    parts: Parts
    params: Mapping[str, np.ndarray]
    courses: Mapping[int, Course]


def read(folder: str | Path) -> Exported:
    """The content of `folder`, its checksums verified.

    Nothing from the folder is run but its StableHLO programs, and none that calls out
    of StableHLO. ValueError where a file is missing, damaged, or of another version.
    """
    folder = Path(folder)
    content = _read_files(folder)
    description = json.loads(content[DESCRIPTION])
    try:
        schema = Schema.from_json(description["schema"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / DESCRIPTION}: {error}") from None
    try:
        guided = description["guided"]
        courses = {
            int(steps): Course(rows, tuple(guided[steps]))
            for steps, rows in load_safetensors(content[TABLES]).items()
        }
        params = load_safetensors(content[WEIGHTS])
        parts = Parts(*(_program(name, content[name]) for name in PROGRAMS))
    except Exception as error:  # verified bytes that this jax cannot read
        made = description.get("versions", {}).get("jax")
        raise ValueError(
            f"{folder}: cannot be read under jax {jax.__version__} ({error}); it was "
            f"made under jax {made}. Export it again."
        ) from None
    return Exported(description, schema, parts, params, courses)


def _read_files(folder: Path) -> dict[str, bytes]:
    """The files of an exported folder by name, each as its checksum says."""
    if not (folder / CHECKSUMS).is_file():
        raise ValueError(
            f"{folder}: no {CHECKSUMS} here; expected the --out folder of "
            "`python -m ddpm_jax.export`."
        )
    sums = read_json(folder / CHECKSUMS)
    content = {name: _verified(folder / name, sums) for name in sorted(sums)}
    if DESCRIPTION in content:  # another version has other files
        _check_description(folder, content[DESCRIPTION])
    missing = set(NEEDED) - content.keys()
    if missing:
        raise ValueError(
            f"{folder / CHECKSUMS}: lists no {', '.join(sorted(missing))}."
        )
    return content


def _check_description(folder: Path, data: bytes) -> None:
    """ValueError for another version of the folder or of the schema."""
    description = _mapping(folder / DESCRIPTION, data)
    versions = (
        ("sampler format", description.get("format"), FORMAT),
        ("schema version", description.get("schema_version"), conditions.VERSION),
    )
    for what, found, expected in versions:
        if found != expected:
            raise ValueError(
                f"{folder}: {what} {found!r}, but this program reads {expected}; "
                "export it again."
            )
    missing = sorted(set(STATED) - description.keys())
    if missing:
        raise ValueError(f"{folder / DESCRIPTION}: states no {', '.join(missing)}.")


def _program(name: str, data: bytes) -> Callable:
    program = export.deserialize(bytearray(data))
    calls = re.findall(r'custom_call @"?([^\s"(]+)', program.mlir_module())
    foreign = sorted(set(calls) - CALLS)
    if foreign:
        raise ValueError(f"{name} calls {', '.join(foreign)}")
    return program.call


def read_json(path: Path) -> Mapping:
    """A JSON object; ValueError where the file holds none."""
    return _mapping(path, path.read_bytes())


def _mapping(path: Path, data: bytes) -> Mapping:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: not readable JSON; export it again.")
    return found


def _verified(path: Path, sums: Mapping[str, str]) -> bytes:
    if path.name not in sums or not path.is_file():
        raise ValueError(f"{path}: missing; export it again.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sums[path.name]:
        raise ValueError(f"{path}: not as it was exported (sha256 differs).")
    return data
