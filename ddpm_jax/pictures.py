"""Images to files: 16-bit PNG, sheets of tiles with captions, curves and bars."""

import functools
import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from ddpm_jax.conditions.comparison import Comparison

PAIR = ("#c3c8cf", "#1f6fb4")
"""Real, and what was made."""
GROUND, TEXT, FAINT = 24, 225, 80
GAP, LINE = 10, 15
Block = Sequence[Sequence[np.ndarray]]
"""Tiles that belong together, uint8 [h, w] of one size, in rows."""


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
    count = len(images)
    blocks = [[[tile(image, cell)]] for image in images]
    columns = columns or min(count, round(count**0.5 * 1.4))
    return sheet(blocks, captions, columns=columns)


def tile(image: np.ndarray, cell: int) -> np.ndarray:
    """uint16 [h, w] to uint8, its longer side enlarged by a whole factor to at most
    `cell` px, or averaged down to that."""
    height, width = image.shape
    scale = cell / max(height, width)
    scale = max(1, int(scale)) if scale >= 1 else scale
    small = Pil.fromarray((image >> 8).astype(np.uint8))
    resample = Pil.Resampling.NEAREST if scale >= 1 else Pil.Resampling.BOX
    return np.asarray(
        small.resize((round(width * scale), round(height * scale)), resample)
    )


def sheet(
    blocks: Sequence[Block],
    captions: Sequence[str],
    *,
    columns: int,
    headings: Sequence[str] = (),
    footer: tuple[str, float] | None = None,
) -> Pil.Image:
    """Blocks of one shape in rows, each over its caption; `headings` over the tiles of
    the first row of blocks; `footer`: a line of text, and how far its bar goes, 0 to 1.
    """
    rows = -(-len(blocks) // columns)
    down, across = len(blocks[0]), len(blocks[0][0])
    height, width = blocks[0][0][0].shape
    block_width = across * (width + GAP) - GAP
    block_height = down * (height + GAP) - GAP
    wrapped = [_wrap(text, max(12, block_width // 7)) for text in captions]
    heads = [_wrap(text, max(4, width // 7)) for text in headings]
    text_height = LINE * max(map(len, wrapped), default=0) + 8
    above = LINE * max(map(len, heads), default=0)
    below = 3 * LINE if footer else 0
    size = (
        columns * (block_width + GAP) + GAP,
        above + rows * (block_height + text_height + GAP) + GAP + below,
    )
    picture = Pil.new("L", size, color=GROUND)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size=11)
    write = functools.partial(draw.multiline_text, font=font, spacing=2)
    for index, (block, lines) in enumerate(zip(blocks, wrapped, strict=True)):
        left = GAP + index % columns * (block_width + GAP)
        top = above + GAP + index // columns * (block_height + text_height + GAP)
        for i, j in itertools.product(range(down), range(across)):
            where = (left + j * (width + GAP), top + i * (height + GAP))
            picture.paste(Pil.fromarray(block[i][j]), where)
            if i == 0 and index < columns and heads:
                at = (where[0], GAP // 2 + above - LINE * len(heads[j]))
                write(at, "\n".join(heads[j]), fill=TEXT)
        write((left, top + block_height + 4), "\n".join(lines), fill=TEXT)
    if footer:
        text, share = footer
        bar = (GAP, size[1] - below + LINE // 2, size[0] - GAP - 1)
        write((GAP, bar[1] + 8), text, fill=TEXT)
        draw.line((bar[0], bar[1], bar[2], bar[1]), fill=FAINT, width=3)
        reach = bar[0] + share * (bar[2] - bar[0])
        draw.line((bar[0], bar[1], reach, bar[1]), fill=TEXT, width=3)
    return picture


def _wrap(text: str, width: int) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, width)]


def loss_curve(path: Path, metrics: Sequence[dict], best: int | None = None) -> None:
    """Training loss and the error of v by noise level over steps, as one picture, and
    the Fréchet distance where it was measured, that of the `best` step marked."""
    measured = [entry for entry in metrics if "fd" in entry]
    panels = 3 if measured else 2
    figure = Figure(figsize=(4.5 * panels, 3.6), layout="constrained")
    left, right, *more = figure.subplots(1, panels)
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
    if measured:
        _distances(more[0], measured, best)
    for axes in (left, right, *more):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _distances(axes, measured: Sequence[dict], best: int | None) -> None:
    steps = [entry["step"] for entry in measured]
    found, real = ([entry[name] for entry in measured] for name in ("fd", "fd_real"))
    axes.plot(steps, found, color=PAIR[1], marker=".", label="synthetic")
    axes.plot(steps, real, color="0.5", linestyle="--", label="real")
    if best in steps:
        look = {"marker": "o", "markersize": 9, "fillstyle": "none", "color": "black"}
        value = found[steps.index(best)]
        label = f"best: {value:.3g} at step {best}"
        axes.plot([best], [value], linestyle="none", label=label, **look)
    axes.set(title="Fréchet distance to held-out images", xlabel="step", yscale="log")
    axes.legend(fontsize=7)


def comparison(
    path: Path,
    title: str,
    comparisons: Sequence[Comparison],
    names: tuple[str, str],
    cells: Sequence[tuple[str, int, str]] = (),
    heading: str = "",
) -> None:
    """Shares of the values, and the densities of the numbers, of two sets of rows.

    `names` are theirs; `cells` are (name, images, colour) of a last panel, if any,
    under `heading`.
    """
    bars = [one for one in comparisons if not one.moments]
    curves = [one for one in comparisons if one.moments]
    rows = [part[i : i + 3] for part in (bars, curves) for i in range(0, len(part), 3)]
    tall = [
        2.0 if row[0].moments else max(0.4 * max(len(c.lines), 2) for c in row)
        for row in rows
    ]
    tall += [0.19 * len(cells) + 0.1] if cells else []
    figure = Figure(figsize=(11, sum(tall) + 0.6 * len(tall) + 0.7))
    figure.set_layout_engine("constrained", h_pad=0.09, w_pad=0.09)
    grid = figure.add_gridspec(len(tall), 3, height_ratios=tall)
    for i, row in enumerate(rows):
        for j, one in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            (_densities if one.moments else _shares)(axes, one)
            _plain(axes, one.field.title)
    if cells:
        axes = figure.add_subplot(grid[-1, :2])
        _cell_bars(axes, cells)
        _plain(axes, heading)
    patches = [Patch(color=c, label=n) for c, n in zip(PAIR, names, strict=True)]
    figure.legend(handles=patches, loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=110, format="png")


def _plain(axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _shares(axes, one: Comparison) -> None:
    """Two bars a value, in per cent, the first value on top."""
    for place, colour, side in ((-0.2, PAIR[0], 1), (0.2, PAIR[1], 2)):
        shares = [100 * line[side] for line in one.lines]
        places = [i + place for i in range(len(shares))]
        bars = axes.barh(places, shares, height=0.38, color=colour)
        axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8, color="0.3")
    labels = ["\n".join(_wrap(line[0], 20)) for line in one.lines]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    if not one.lines:
        axes.text(0, 0, "known of too few", color="0.4")


def _densities(axes, one: Comparison) -> None:
    """Two histograms over the same bins, area 1 each; bins that are missing are 0."""
    for side, look in ((1, {"fill": True}), (2, {"linewidth": 1.8})):
        edges, heights = [one.edges[0][0]], []
        for (low, high), line in zip(one.edges, one.lines, strict=True):
            if low > edges[-1]:
                edges, heights = [*edges, low], [*heights, 0.0]
            edges.append(high)
            heights.append(line[side] / (high - low))
        axes.stairs(heights, edges, color=PAIR[side - 1], **look)
    sides = zip(one.moments, ("0.4", PAIR[1]), (0.99, 0.87), strict=False)
    for (mean, sd), colour, height in sides:
        words = f"{mean:.1f} ± {sd:.1f}"
        where = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(1.0, height, words, color=colour, fontsize=9, **where)
    axes.set_xlabel(one.field.unit)
    axes.set_yticks([])
    axes.margins(y=0.15)
    axes.spines["left"].set_visible(False)


def _cell_bars(axes, cells: Sequence[tuple[str, int, str]]) -> None:
    labels, counts, colours = zip(*cells, strict=True)
    bars = axes.barh(range(len(cells)), counts, color=colours, height=0.7)
    axes.bar_label(bars, padding=4, fontsize=8, color="0.3")
    axes.set_yticks(range(len(cells)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
