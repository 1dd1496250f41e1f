"""Folders as `ddpm_jax.sample` leaves them, of images that a test made."""

import csv

import numpy as np

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.evaluation import images
from ddpm_jax.outputs import png


def write(folder, pixels, rows):
    """`pixels` uint16 [n, h, w] and what was asked of each."""
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", *PELVIS.names])
        table.writeheader()
        for i, (image, row) in enumerate(zip(pixels, rows, strict=True)):
            (folder / f"{i:06d}.png").write_bytes(png.encode(image))
            table.writerow({"file": f"{i:06d}.png"} | row)
    return folder


def of_split(data, split):
    """(uint16 [n, h, w], rows) of a data set."""
    found = images.of_records(str(data), split, PELVIS, 10_000)
    return np.stack(list(found)), found.rows()
