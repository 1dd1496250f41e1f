"""Images of `python -m ddpm_jax.sample`, read back with what was asked of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import pydicom

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records
from ddpm_jax.outputs import folder, requests, table

UNREADABLE = (
    *(imagecodecs.PngError, pydicom.errors.InvalidDicomError),
    *(AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError),
)
"""What imagecodecs and pydicom say of a file that is damaged."""


class Made(NamedTuple):
    """`rows[i]` and `files[i]` are of image i; `model_sha256` is that of the one model
    that made all of them, or None; `identity` changes with every byte of them."""

    rows: list[dict]
    files: list[Path]
    model_sha256: str | None
    identity: str


def open_folder(path: str, schema: Schema) -> Made:
    """ValueError where there is no manifest.csv of PNG or DICOM files, or one of them
    is missing."""
    place = Path(path)
    if not (place / folder.MANIFEST).is_file():
        raise ValueError(
            f"{path}: no {folder.MANIFEST} here; expected the finished --out folder of "
            "`python -m ddpm_jax.sample`."
        )
    made = table.read_table(str(place / folder.MANIFEST))
    rows = [row for row, _, _ in requests.read_rows(made, schema)]
    names = [cells.get("file", "") for _, cells in made.lines]
    files = [place / name for name in names]
    for (where, _), file in zip(made.lines, files, strict=True):
        inside = file.resolve().parent == place.resolve()
        known = file.suffix in folder.SUFFIXES.values()
        if not (known and inside and file.is_file()):
            raise ValueError(
                f"{made.path}, {where}: no such image; expected a PNG or DICOM file "
                "of the folder."
            )
    models = requests.models_of(made)
    return Made(
        rows,
        files,
        models.pop() if len(models) == 1 else None,
        _identity([place / folder.MANIFEST, *files]),
    )


def _identity(files: Sequence[Path]) -> str:
    digests = "".join(records.file_digest(file) for file in files)
    return hashlib.sha256(digests.encode()).hexdigest()


def read(file: Path, size: int) -> np.ndarray:
    """uint16 [size, size]; ValueError of anything else."""
    try:
        if file.suffix == ".png":
            image = np.asarray(imagecodecs.png_decode(file.read_bytes()))
        else:
            image = pydicom.dcmread(file).pixel_array
    except UNREADABLE as error:
        raise ValueError(
            f"{file}: no readable image ({type(error).__name__}); make it again."
        ) from None
    if image.dtype != np.uint16 or image.ndim != 2:
        raise ValueError(
            f"{file}: {image.dtype} of shape {image.shape}; expected one channel of 16 "
            "bits, as `python -m ddpm_jax.sample` writes."
        )
    if image.shape != (size, size):
        raise ValueError(
            f"{file}: {image.shape[1]} x {image.shape[0]} px; expected {size} x "
            f"{size}, as --real has."
        )
    return image
