"""Films of a sampler: images coming out of the noise, or one condition changing.

`.gif`, `.mp4` (extra `[film]`), or `.png`, a strip of moments side by side.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pil
from tqdm import tqdm

from ddpm_jax import pictures
from ddpm_jax.conditions.schema import Field, Row, Schema
from ddpm_jax.reverse import Guidance, Moment
from ddpm_jax.sampler import Sampler

KINDS = (".gif", ".mp4", ".png")
MOST_IMAGES = 16
MOST_MOMENTS = 64
ON_A_STRIP = {"moments": 8, "values": 6}
FILM_VALUES = 26
FPS = 25
FRAME, HOLD, VALUE = 3.5, 1.5, 1.0
"""Seconds of all moments but the last, of the last, and of one categorical value."""


class Frame(NamedTuple):
    """A picture, and for how many seconds it is seen."""

    picture: Pil.Image
    seconds: float


def check(path: str | None, overwrite: bool = False) -> Path:
    """`path`, where a film can be written; ValueError where it cannot."""
    if path is None:
        raise ValueError("--film: needed with --sweep; e.g. --film sweep.gif.")
    given, path = path, Path(path)
    if kind(path) not in KINDS:
        raise ValueError(
            f"--film {given}: expected a name that ends in {', '.join(KINDS)}."
        )
    if path.is_dir():
        raise ValueError(f"--film {path}: a folder; expected a file.")
    if path.exists() and not overwrite:
        raise ValueError(f"--film {path}: exists; expected a new file or --overwrite.")
    place = next(each for each in path.absolute().parents if each.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        fault = "cannot be written to" if place.is_dir() else "not a folder"
        raise ValueError(f"--film {path}: {place}: {fault}; expected another place.")
    if kind(path) == ".mp4" and importlib.util.find_spec("av") is None:
        raise ValueError(
            f"--film {path}: mp4 needs `pip install av`; .gif and .png do not."
        )
    return path


def kind(path: Path) -> str:
    return path.suffix.lower()


def make(
    path: Path,
    sampler: Sampler,
    rows: Sequence[Row],
    seeds: Sequence[int],
    *,
    sweep: str | None = None,
    steps: int | None = None,
    guidance: Guidance | None = None,
) -> None:
    """Write the film of one image for each row and seed: of the reverse process, or of
    `sweep`, as `read_sweep` reads it. ValueError for more than 16 images."""
    if len(rows) > MOST_IMAGES:
        raise ValueError(f"{len(rows)} images: a film shows at most {MOST_IMAGES}.")
    strip = kind(path) == ".png"
    captions = [
        f"{sampler.schema.caption(row)}; seed {seed}"
        for row, seed in zip(rows, seeds, strict=True)
    ]
    if sweep is None:
        every = -(-sampler.reverse.course(steps).steps // MOST_MOMENTS)
        stream = sampler.stream(
            list(rows), seeds, steps=steps, guidance=guidance, every=every
        )
        moments = list(_counted(stream, sampler.reverse.course(steps).steps))
        draw = process_strip if strip else process_frames
        drawn = draw(moments, captions)
    else:
        count = ON_A_STRIP["values"] if strip else FILM_VALUES
        field, values = read_sweep(sweep, sampler.schema, count)
        options = {"steps": steps, "guidance": guidance}
        images = sweep_images(sampler, rows, seeds, field.name, values, **options)
        draw = sweep_strip if strip else sweep_frames
        others = [{k: v for k, v in row.items() if k != field.name} for row in rows]
        captions = [
            f"{sampler.schema.caption(row)}; seed {seed}"
            for row, seed in zip(others, seeds, strict=True)
        ]
        drawn = draw(images, field, values, captions)
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f".{path.stem}.pending{path.suffix}")
    try:
        drawn.save(pending) if strip else write(pending, drawn)
        os.replace(pending, path)
    finally:
        pending.unlink(missing_ok=True)


def _counted(stream: Iterator[Moment], steps: int) -> Iterator[Moment]:
    with tqdm(total=steps, desc="sampling", unit="step") as bar:
        for moment in stream:
            bar.update(moment.step - bar.n)
            yield moment


# ---- The reverse process ----


def shown(moment: Moment) -> np.ndarray:
    """z of a moment as uint16 [b, h, w]: z / (alpha + 2 sigma), so that pure noise is
    seen to two standard deviations and a clean image as it is."""
    alpha, sigma = (
        np.exp(-np.logaddexp(0, sign * moment.logsnr) / 2) for sign in (-1, 1)
    )
    z = np.asarray(moment.z) / (alpha + 2 * sigma)
    return np.round((np.clip(z, -1, 1) + 1) * 32767.5).astype(np.uint16)


def label(moment: Moment) -> str:
    guided = ", guided" if moment.guided else ""
    return (
        f"step {moment.step} of {moment.steps}, logsnr {moment.logsnr:.1f}{guided}"
    ).replace("-", "\N{MINUS SIGN}")


def process_frames(moments: Sequence[Moment], captions: Sequence[str]) -> list[Frame]:
    """z beside x_hat of every image, moment after moment."""
    count = len(captions)
    cell, columns = _layout(count, 2)
    frames = []
    for moment in moments:
        pairs = zip(shown(moment), moment.preview, strict=True)
        blocks = [[[pictures.tile(part, cell) for part in pair]] for pair in pairs]
        picture = pictures.sheet(
            blocks,
            captions,
            columns=columns,
            headings=("noisy: z", "clean, as predicted: x hat"),
            footer=(label(moment), moment.step / moment.steps),
        )
        frames.append(Frame(picture, HOLD if moment.done else FRAME / len(moments)))
    return frames


def process_strip(moments: Sequence[Moment], captions: Sequence[str]) -> Pil.Image:
    """For every image a row of z and a row of x_hat, at moments spread evenly."""
    count = min(ON_A_STRIP["moments"], len(moments))
    places = np.round(np.linspace(0, len(moments) - 1, count)).astype(int)
    chosen = [moments[place] for place in places]
    rows = [[shown(m) for m in chosen], [m.preview for m in chosen]]
    blocks = [
        [[pictures.tile(images[i], 128) for images in row] for row in rows]
        for i in range(len(captions))
    ]
    headings = [label(m).replace(", guided", "").replace(", ", "\n") for m in chosen]
    above = "upper row: noisy, z; lower row: clean, as predicted"
    captions = [f"{above}\n{caption}" for caption in captions]
    return pictures.sheet(blocks, captions, columns=1, headings=headings)


def _layout(count: int, across: int) -> tuple[int, int]:
    """(size of a tile in pixels, blocks in a row) for `count` blocks `across` wide."""
    cell = 320 if count == 1 else 192 if count <= 4 else 128
    return cell, min(count, max(1, round((count * 2.2 / across) ** 0.5)))


# ---- One condition changing ----


def read_sweep(text: str, schema: Schema, count: int) -> tuple[Field, list]:
    """(field, values) of `age=40:90`, `count` evenly spread, or of `age=40,60,90`.

    ValueError for what is neither, what the schema does not know, or a single value.
    """
    name, equals, given = text.partition("=")
    if not equals or not given:
        raise ValueError(f"--sweep {text}: expected e.g. age=40:90 or sex=F,M.")
    field = schema[name.strip()]
    if field.kind == "continuous" and ":" in given:
        low, high = map(field.parse, given.split(":", 1))
        if low is None or high is None:
            raise ValueError(f"--sweep {text}: expected two numbers, e.g. age=40:90.")
        values = [float(f"{v:.4g}") for v in np.linspace(low, high, count)]
    else:
        values = [field.parse(value) for value in given.split(",")]
    if len(values) < 2 or len(values) > FILM_VALUES:
        raise ValueError(f"--sweep {text}: expected 2 to {FILM_VALUES} values.")
    if len(set(values)) == 1:
        raise ValueError(
            f"--sweep {text}: all of it is {values[0]}; expected different values."
        )
    return field, values


def sweep_images(
    sampler: Sampler,
    rows: Sequence[Row],
    seeds: Sequence[int],
    name: str,
    values: Sequence,
    **options,
) -> np.ndarray:
    """uint16 [values, rows, h, w]: each row and seed at each value of the field."""
    images = []
    with tqdm(total=len(values), desc="sampling", unit="value") as bar:
        for value in values:
            asked = [dict(row) | {name: value} for row in rows]
            images.append(sampler.sample(asked, seeds, batch=len(seeds), **options))
            bar.update()
    return np.stack(images)


def sweep_frames(
    images: np.ndarray, field: Field, values: Sequence, captions: Sequence[str]
) -> list[Frame]:
    """All images at a value a frame, to the last value and back."""
    cell, columns = _layout(len(captions), 1)
    smooth = field.kind == "continuous" and len(values) > ON_A_STRIP["values"]
    frames = []
    for place, (value, made) in enumerate(zip(values, images, strict=True)):
        picture = pictures.sheet(
            [[[pictures.tile(image, cell)]] for image in made],
            captions,
            columns=columns,
            footer=(field.caption(value), place / (len(values) - 1)),
        )
        end = place in (0, len(values) - 1)
        seconds = (HOLD / 2 if end else FRAME / len(values)) if smooth else VALUE
        frames.append(Frame(picture, seconds))
    return frames + frames[-2:0:-1]


def sweep_strip(
    images: np.ndarray, field: Field, values: Sequence, captions: Sequence[str]
) -> Pil.Image:
    """A row for every image, a column for every value."""
    cell = min(320, max(160, 960 // len(values)))
    blocks = [
        [[pictures.tile(image, cell) for image in images[:, i]]]
        for i in range(len(captions))
    ]
    headings = [field.caption(value) for value in values]
    return pictures.sheet(blocks, captions, columns=1, headings=headings)


# ---- Files ----


def write(path: Path, frames: Sequence[Frame]) -> None:
    """A GIF that loops, or an MP4 (H.264) of 25 frames a second."""
    if kind(path) == ".gif":
        first, *rest = (frame.picture for frame in frames)
        first.save(
            path,
            save_all=True,
            append_images=rest,
            duration=[round(100 * frame.seconds) * 10 for frame in frames],
            loop=0,
        )
        return
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "16"})
        height, width = (side + side % 2 for side in frames[0].picture.size[::-1])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = Pil.new("L", (width, height), pictures.GROUND)
            picture.paste(frame.picture)
            image = av.VideoFrame.from_ndarray(np.asarray(picture), format="gray")
            for _ in range(max(1, round(frame.seconds * FPS))):
                image.pts = None
                container.mux(stream.encode(image))
        container.mux(stream.encode())
