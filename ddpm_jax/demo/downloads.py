"""Images of the page as files: 16-bit PNG or DICOM, several in one ZIP."""

import collections
import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.demo.asking import Setting
from ddpm_jax.outputs import dicom, png
from ddpm_jax.outputs.requests import Asked, Model, identity

FORMATS = {"png": ".png", "dicom": ".dcm"}
KEPT = 16
"""Folders of files that a server has; each request makes one, and Gradio copies it."""

MADE: collections.deque[Path] = collections.deque()


class Item(NamedTuple):
    """One image and all that it follows from."""

    image: np.ndarray
    setting: Setting
    seed: int


def check_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"format = {name!r}: expected one of {', '.join(FORMATS)}.")
    return name


def files(
    items: Sequence[Item], kind: str, schema: Schema, model_sha256: str
) -> list[tuple[str, bytes]]:
    """(name, content) of each image; the same image has the same name."""
    made = []
    for item in items:
        model = Model(model_sha256, item.setting.guidance, item.setting.steps)
        asked = Asked(item.setting.row, item.seed, item.setting.prompt)
        if kind == "png":
            content = png.encode(item.image)
        else:
            content = dicom.encode(item.image, asked, dicom.Header(schema, model))
        key = identity(asked, model).hex()[:12]
        made.append((f"synthetic_{key}_seed_{item.seed}{FORMATS[kind]}", content))
    return made


def write(items: Sequence[Item], kind: str, schema: Schema, model_sha256: str) -> Path:
    """One file, or a ZIP of several with a manifest.csv, in a new temporary folder."""
    check_format(kind)
    if len(items) == 1:
        return write_each(items, kind, schema, model_sha256)[0]
    made = files(items, kind, schema, model_sha256)
    path = _folder() / f"synthetic_{kind}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.csv", manifest(items, made, schema, model_sha256))
        for name, content in dict(made).items():
            archive.writestr(name, content)
    return path


def write_each(
    items: Sequence[Item], kind: str, schema: Schema, model_sha256: str
) -> list[Path]:
    """One file an image, in a new temporary folder."""
    folder, paths = _folder(), []
    for name, content in files(items, kind, schema, model_sha256):
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    return paths


def _folder() -> Path:
    """A new one; the oldest goes."""
    MADE.append(Path(tempfile.mkdtemp(prefix="ddpm_jax_demo_")))
    while len(MADE) > KEPT:
        shutil.rmtree(MADE.popleft(), ignore_errors=True)
    return MADE[-1]


def manifest(items, made, schema: Schema, model_sha256: str) -> str:
    """What `ddpm_jax.sample --conditions` reads, one row an image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    made_with = ("guidance", "steps", "model_sha256")
    writer.writerow(["file", "seed", *schema.names, "prompt", *made_with])
    for item, (name, _) in zip(items, made, strict=True):
        values = ["" if v is None else v for v in item.setting.row.values()]
        setting = item.setting
        how = (f"{setting.guidance:g}", setting.steps, model_sha256)
        writer.writerow([name, item.seed, *values, setting.prompt, *how])
    return text.getvalue()
