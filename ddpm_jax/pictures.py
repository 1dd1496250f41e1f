"""Images to files: 16-bit PNG, contact sheets with captions, the loss curve."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont


def write_png16(path: Path, image: np.ndarray) -> None:
    """One uint16 [h, w] image as 16-bit greyscale PNG."""
    Pil.fromarray(image).save(path)


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    columns: int | None = None,
    cell: int = 224,
) -> Pil.Image:
    """uint16 [b, h, w] images in rows, enlarged to about `cell` px, caption below.

    Small images are enlarged by whole factors without smoothing, so that what is seen
    is what the model made.
    """
    count, height, width = images.shape
    columns = columns or min(count, round(count**0.5 * 1.4))
    rows = -(-count // columns)
    scale = cell / max(height, width)
    scale = max(1, int(scale)) if scale >= 1 else scale
    size = (round(width * scale), round(height * scale))
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size=11)
    wrapped = [_wrap(text, max(12, size[0] // 7)) for text in captions]
    text_height = 15 * max(map(len, wrapped), default=0) + 8
    gap = 10
    sheet = Pil.new(
        "L",
        (columns * (size[0] + gap) + gap, rows * (size[1] + text_height + gap) + gap),
        color=24,
    )
    draw = ImageDraw.Draw(sheet)
    for index, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        left = gap + index % columns * (size[0] + gap)
        top = gap + index // columns * (size[1] + text_height + gap)
        tile = Pil.fromarray((image >> 8).astype(np.uint8))
        resample = Pil.Resampling.NEAREST if scale >= 1 else Pil.Resampling.BOX
        sheet.paste(tile.resize(size, resample), (left, top))
        draw.multiline_text(
            (left, top + size[1] + 4), "\n".join(lines), fill=225, font=font, spacing=2
        )
    return sheet


def _wrap(text: str, width: int) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, width)]


def loss_curve(path: Path, metrics: Sequence[dict]) -> None:
    """Training loss and the error of v by noise level over steps, as one picture."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [entry["step"] for entry in metrics]
    left.plot(steps, [entry["loss"] for entry in metrics], color="black")
    left.set(title="training loss", xlabel="step", yscale="log")
    names = {name for entry in metrics for name in entry if "/logsnr_" in name}
    bands = {name: name.split("/logsnr_")[1].split("_to_") for name in names}
    for name, band in sorted(bands.items(), key=lambda item: float(item[1][0])):
        points = [(e["step"], e[name]) for e in metrics if name in e]
        right.plot(*zip(*points, strict=True), label=" to ".join(band))
    right.set(title="error of v by noise level", xlabel="step", yscale="log")
    right.legend(title="logsnr", fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
