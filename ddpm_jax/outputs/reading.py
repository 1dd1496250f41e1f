"""Images of `python -m ddpm_jax.sample`, read back with what was asked of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records
from ddpm_jax.outputs import folder, png, requests, table


class Made(NamedTuple):
    """`rows[i]` and `files[i]` are of image i; `model_sha256` is that of the one model
    that made all of them, or None."""

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
        if file.suffix not in folder.SUFFIXES.values() or not file.is_file():
            raise ValueError(
                f"{made.path}, {where}: no such image; expected a PNG or DICOM file "
                "of the folder."
            )
    models = requests.models_of(made)
    return Made(
        rows,
        files,
        models.pop() if len(models) == 1 else None,
        records.file_digest(place / folder.MANIFEST),
    )


def read(file: Path) -> np.ndarray:
    """uint16 [h, w]."""
    if file.suffix == ".png":
        return png.decode(file.read_bytes())
    return pydicom.dcmread(file).pixel_array
