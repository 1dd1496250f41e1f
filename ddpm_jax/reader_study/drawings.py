"""The pictures of a report, as SVG that stands in its page."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing

from ddpm_jax.reader_study import power
from ddpm_jax.reader_study.analysis import ALL, PARTS, Figure

COLOURS = ("#1f6fb4", "#c0632b", "#3c8d5a", "#8a5aa8", "#8f7a1e", "#4d5b66")


def svg(drawing: Drawing, label: str) -> str:
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    inner = text[text.index("<svg") :]
    return f'<figure role="img" aria-label="{label}">{inner}</figure>'


def plain(name: str) -> str:
    """As text of matplotlib, which reads $ as mathematics and leaves what begins with
    an underscore out of legends."""
    shown = name.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def _axes(width: float, height: float):
    drawing = Drawing(figsize=(width, height), layout="constrained")
    axes = drawing.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return drawing, axes


def forest(figures: Sequence[Figure]) -> str:
    """Accuracy with its Wilson interval, guessing and the paper as lines."""
    shown = [f for f in figures if f.what == "accuracy" and f.method != "exact"]
    drawing, axes = _axes(7.2, 0.8 + 0.45 * len(shown))
    for i, f in enumerate(shown):
        colour = "#222" if f.who == ALL else COLOURS[i % len(COLOURS)]
        axes.plot([100 * f.low, 100 * f.high], [i, i], color=colour, linewidth=2)
        axes.plot(100 * f.value, i, "s", color=colour)
    paper = 100 * power.PAPER_ACCURACY[0] / power.PAPER_ACCURACY[1]
    for value, name in ((50, "guessing"), (paper, "published")):
        axes.axvline(value, color="0.6", linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            name,
            *((value, 1), (3, 0)),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            color="0.4",
        )
    axes.set_yticks(range(len(shown)), [plain(f.who) for f in shown])
    axes.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6), xlabel="right answers, %")
    return svg(drawing, "Accuracy of each reader with its interval")


def roc_plot(curves: Mapping[str, np.ndarray]) -> str:
    drawing, axes = _axes(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=(0, (4, 3)))
    for (who, corners), colour in zip(curves.items(), COLOURS * 9, strict=False):
        axes.plot(*corners.T, marker="o", markersize=3, color=colour, label=plain(who))
    axes.set(
        xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01)
    )
    axes.set_aspect("equal")
    if curves:
        axes.legend(frameon=False, loc="lower right", fontsize=9)
    return svg(drawing, "ROC curve of each reader")


def learning(figures: Sequence[Figure]) -> str:
    """Accuracy by quarter, with Wilson intervals."""
    drawing, axes = _axes(7.2, 2.8)
    named = [f for f in figures if f.what.startswith("accuracy, quarter")]
    people = list(dict.fromkeys(f.who for f in named))
    for i, who in enumerate(people):
        own = [f for f in named if f.who == who and not math.isnan(f.value)]
        if not own:
            continue
        across = np.array([float(f.what[-1]) for f in own])
        across += 0.06 * (i - (len(people) - 1) / 2)
        value, low, high = (100 * np.array([f[k] for f in own]) for k in (2, 3, 4))
        axes.errorbar(
            *(across, value, [value - low, high - value]),
            marker="o",
            color=COLOURS[i % len(COLOURS)],
            label=plain(who),
        )
    axes.axhline(50, color="0.7", linewidth=1, linestyle=(0, (4, 3)))
    axes.set(ylim=(0, 102), ylabel="right answers, %", xlabel="quarter of the images")
    axes.set_xticks(range(1, PARTS + 1))
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower left")
    return svg(drawing, "Accuracy of each reader by quarter")
