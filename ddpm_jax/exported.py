"""The exported folder: its files, and how they are read back.

docs/exported_sampler.md says what each file holds and what is promised of it. jax,
numpy, safetensors and flatbuffers are all that this needs.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import export
from safetensors.numpy import load as load_safetensors

from ddpm_jax import description
from ddpm_jax.conditions import schema as conditions
from ddpm_jax.conditions.numeric import shown
from ddpm_jax.conditions.schema import Schema
from ddpm_jax.reverse import Course, Parts

FORMAT = 2
DESCRIPTION, CARD, CHECKSUMS = "sampler.json", "card.md", "checksums.json"
WEIGHTS, TABLES = "weights.safetensors", "tables.safetensors"
PROGRAMS = tuple(f"{part}.jax" for part in Parts._fields)
NEEDED = (DESCRIPTION, WEIGHTS, TABLES, *PROGRAMS)
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
    stated = json.loads(content[DESCRIPTION])
    described = folder / DESCRIPTION
    schema = description.check(described, stated)
    guided = stated["guided"]
    try:
        tables = load_safetensors(content[TABLES])
        params = load_safetensors(content[WEIGHTS])
        programs = Parts(*(_program(name, content[name]) for name in PROGRAMS))
    except Exception as error:  # verified bytes that this jax cannot read
        versions = stated.get("versions")
        made = versions.get("jax") if isinstance(versions, Mapping) else None
        raise ValueError(
            f"{folder}: cannot be read under jax {jax.__version__} ({error}); it was "
            f"made under jax {shown(made)}. Export it again."
        ) from None
    description.check_tables(folder / TABLES, described, tables, guided)
    description.check_programs(
        described, folder / WEIGHTS, stated, schema, params, programs
    )
    courses = {int(n): Course(rows, tuple(guided[n])) for n, rows in tables.items()}
    parts = Parts(*(program.call for program in programs))
    return Exported(stated, schema, parts, params, courses)


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
    stated = _mapping(folder / DESCRIPTION, data)
    versions = (
        ("sampler format", stated.get("format"), FORMAT),
        ("schema version", stated.get("schema_version"), conditions.VERSION),
    )
    for what, found, expected in versions:
        if found != expected:
            raise ValueError(
                f"{folder}: {what} {shown(found)}, but this program reads {expected}; "
                "export it again."
            )


def _program(name: str, data: bytes) -> export.Exported:
    program = export.deserialize(bytearray(data))
    calls = re.findall(r'custom_call @"?([^\s"(]+)', program.mlir_module())
    foreign = sorted(set(calls) - CALLS)
    if foreign:
        raise ValueError(f"{name} calls {', '.join(foreign)}")
    return program


def read_json(path: Path) -> Mapping:
    """A JSON object; ValueError where the file holds none."""
    return _mapping(path, path.read_bytes())


def _mapping(path: Path, data: bytes) -> Mapping:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
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
