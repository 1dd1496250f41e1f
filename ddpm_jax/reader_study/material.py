"""The images that a study may draw from: a split of real shards, a synthetic folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image as Pil

from ddpm_jax.conditions.schema import Schema
from ddpm_jax.data import records

MANIFEST = "manifest.csv"
DEPTHS = {"L": 8, "I;16": 16, "I;16B": 16}
SUFFIXES = (".png", ".tif", ".tiff")
NOT_IMAGES = ("contact_sheet.png",)


class Candidate(NamedTuple):
    """One image: where it comes from, its conditions, and whom it must not be shown
    beside another image of."""

    index: int
    source: str
    row: Mapping[str, str | float | None]
    patient: int | None


@runtime_checkable
class Material(Protocol):
    """`read(i)` is uint16 [height, width] of `bits` bits."""

    height: int
    width: int
    bits: int
    candidates: Sequence[Candidate]

    def read(self, index: int) -> np.ndarray: ...


class RealShards:
    """A split of a data set of `data_prep.convert`."""

    def __init__(self, folder: str, split: str):
        manifest = records.check_counts(folder, split)
        self.schema: Schema = manifest.schema
        self.height, self.width = manifest.height, manifest.width
        self.bits = manifest.bits
        self.entries = records.Entries(folder, split)
        conditions, patients = records.read_conditions(folder, split, self.schema)
        rows = self.schema.decode(conditions)
        self.candidates = [
            Candidate(i, f"record {i} of {split}", row, int(patient))
            for i, (row, patient) in enumerate(zip(rows, patients, strict=True))
        ]

    def read(self, index: int) -> np.ndarray:
        entry = self.entries[index]
        codec = entry["codec"]
        codec = codec.decode() if isinstance(codec, bytes) else codec
        return records.decode_image(entry["image"], codec)


class SyntheticFolder:
    """Greyscale PNG or TIFF images, with the `manifest.csv` of `ddpm_jax.sample` where
    there is one. All of one size and depth."""

    def __init__(self, folder: str, schema: Schema | None = None):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"--synthetic {folder}: no such folder.")
        listed = self.folder / MANIFEST
        lines = _read_manifest(listed) if listed.is_file() else None
        files = [line["file"] for line in lines] if lines else _images(self.folder)
        self.labelled = lines is not None
        self.candidates = [
            Candidate(i, name, _row(line, schema, i + 2, listed), None)
            for i, (name, line) in enumerate(
                zip(files, lines or [{}] * len(files), strict=True)
            )
        ]
        shapes = {self._shape(name) for name in files}
        if len(shapes) > 1:
            raise ValueError(
                f"--synthetic {folder}: images of {_told(shapes)}; expected one size "
                "and depth."
            )
        self.height, self.width, self.bits = next(iter(shapes))

    def _shape(self, name: str) -> tuple[int, int, int]:
        with self._open(name) as image:
            return image.height, image.width, DEPTHS[image.mode]

    def _open(self, name: str):
        path = self.folder / name
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise ValueError(
                f"{path}: expected a PNG or TIFF that is there; lossy formats leave "
                "traces that real images lack."
            )
        try:
            image = Pil.open(path)
        except (OSError, Pil.DecompressionBombError) as error:
            raise ValueError(
                f"{path}: not readable ({type(error).__name__})."
            ) from None
        if image.mode not in DEPTHS:
            image.close()
            raise ValueError(
                f"{path}: mode {image.mode}; expected greyscale of 8 or 16 bits."
            )
        return image

    def read(self, index: int) -> np.ndarray:
        name = self.candidates[index].source
        with self._open(name) as image:
            try:
                return np.asarray(image, np.uint16)
            except (OSError, SyntaxError) as error:
                raise ValueError(
                    f"{self.folder / name}: not readable ({type(error).__name__})."
                ) from None


def _images(folder: Path) -> list[str]:
    found = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.name not in NOT_IMAGES
    )
    if not found:
        raise ValueError(f"--synthetic {folder}: no PNG or TIFF images.")
    return found


def _read_manifest(path: Path) -> list[dict]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no readable CSV in UTF-8 ({error}).") from None
    if not lines or "file" not in lines[0]:
        raise ValueError(f"{path}: expected a column `file` and a row an image.")
    names = [line["file"] for line in lines]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: a file is there twice.")
    return lines


def _row(line: Mapping, schema: Schema | None, number: int, path: Path) -> dict:
    if schema is None:
        return {}
    try:
        return schema.parse({name: line.get(name) for name in schema.names})
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None


def _told(shapes) -> str:
    return ", ".join(f"{w} x {h} px, {b} bits" for h, w, b in sorted(shapes))
