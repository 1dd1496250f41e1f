"""Figures of a report, as SVG."""

import io
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ddpm_jax.pictures import PAIR

LOOK = {
    "svg.hashsalt": "ddpm_jax",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}
REAL, MADE = "#7d8791", PAIR[1]
LIGHT = {"recall": "#b9d3ea", "coverage": "#dfe4e8"}
WIDE = 10.0


def of(parts: dict, titles: Mapping[str, str]) -> dict[str, Markup]:
    """By name, those of the parts that there are; `titles` are those of the fields."""
    found = {}
    with rc_context(LOOK):
        for name, draw in DRAWN.items():
            if name in parts:
                found[name] = _svg(draw(parts[name], titles), name)
    return found


def _svg(figure: Figure, name: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    label = (
        f'<svg role="img" aria-label="figure of {name}; its numbers are in the text"'
    )
    return Markup(text[text.index("<svg") :].replace("<svg", label, 1))


def _figure(width: float, height: float, columns: int):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def fidelity(told: dict, titles: Mapping[str, str]) -> Figure:
    figure, (axes,) = _figure(WIDE, 3, 1)
    curve = told["curve"]
    inverse = [1 / n for n in curve["sizes"]]
    axes.errorbar(
        *(inverse, curve["distances"], curve["std"]),
        fmt="o-",
        color=MADE,
        label="synthetic",
        capsize=3,
    )
    axes.plot(0, curve["limit"], "D", color=MADE, mfc="none", label="extrapolated")
    axes.plot([0, inverse[-1]], [curve["limit"], curve["distances"][-1]], ":", c=MADE)
    half = told["at_half"]
    spread = half["real"]["std"]
    axes.errorbar(
        1 / half["images"],
        half["real"]["mean"],
        spread,
        fmt="s",
        color=REAL,
        label="real against real",
        capsize=3,
    )
    ticks = sorted({curve["sizes"][0], half["images"], curve["sizes"][-1]})
    axes.set_xticks([0, *(1 / n for n in ticks)], ["∞", *map(str, ticks)])
    axes.set(title="Fréchet distance by number of images", ylim=(0, None))
    axes.set_xlabel("images (scale of 1/N)")
    axes.legend(frameon=False)
    return figure


def manifold(told: dict, titles: Mapping[str, str]) -> Figure:
    groups = told["groups"]
    figure, (axes,) = _figure(WIDE, 1 + 0.24 * max(len(groups), 2), 1)
    lines = [told["all"], *groups]
    names = [f"{titles[g['field']]}: {g['name']} ({g['real']})" for g in groups]
    names.insert(0, "all")
    places = np.arange(len(lines))
    for name, shape, shift in (("recall", "o", -0.15), ("coverage", "D", 0.15)):
        for place, one in zip(places, lines, strict=True):
            ends = list(one["intervals"][name].values())
            axes.plot(ends, [place + shift] * 2, color=LIGHT[name], lw=2.5)
        values = [one[name] for one in lines]
        ink = {"color": MADE, "ms": 5, "mfc": "none" if shape == "D" else MADE}
        axes.plot(values, places + shift, shape, label=name, **ink)
    for name, style in (("recall", "-"), ("coverage", "--")):
        at = told["real"][name]
        axes.axvline(at, color=REAL, lw=1, ls=style, label=f"{name} of real")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(title="How much of each subgroup is reached", xlim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def spectrum(told: dict, titles: Mapping[str, str]) -> Figure:
    figure, (left, right) = _figure(WIDE, 3, 2)
    rings = np.arange(1, len(told["power"]["real"]) + 1) / told["crop"]
    left.loglog(rings, told["power"]["real"], color=REAL, label="held-out real")
    left.loglog(rings, told["power"]["synthetic"], color=MADE, label="synthetic")
    left.set(title="Power", xlabel="cycles per pixel")
    left.xaxis.set_minor_formatter(NullFormatter())
    left.legend(frameon=False)
    error = told["error"]
    places = np.arange(len(error["error"]))
    off = [
        np.maximum(np.subtract(error["error"], error["low"]), 0),
        np.maximum(np.subtract(error["high"], error["error"]), 0),
    ]
    right.bar(places, error["error"], yerr=off, color=MADE, width=0.7, capsize=3)
    right.axhline(0, color="black", lw=0.8)
    ends = zip(error["edges"], error["edges"][1:], strict=False)
    names = [f"{low:.3g}–{high:.3g}" for low, high in ends]
    right.set_xticks(places, names, rotation=30, ha="right")
    right.set(title="Synthetic less real, dB", xlabel="cycles per pixel")
    return figure


def agreement(told: dict, titles: Mapping[str, str]) -> Figure:
    """Two confusion tables a categorical field, of held-out real and of synthetic
    images."""
    fields = told["fields"]
    names = [n for n, f in fields["synthetic"].items() if "confusion" in f]
    rows = -(-len(names) // 2)
    figure = Figure(figsize=(WIDE, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False).reshape(-1, 2)
    for axes in grid[len(names) :].ravel():
        axes.set_axis_off()
    for (left, right), name in zip(grid, names, strict=False):
        _confusion(left, fields["real"][name])
        _confusion(right, fields["synthetic"][name])
        left.set(title=f"{titles[name]}:\nreal", ylabel="labelled", xlabel="read")
        right.set(title=f"{titles[name]}:\nsynthetic", ylabel="asked", xlabel="read")
    return figure


def _confusion(axes, field: dict) -> None:
    """Counts, coloured by the share of their row."""
    counts = np.array(field["confusion"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    for (i, j), count in np.ndenumerate(counts):
        ink = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, str(count), ha="center", va="center", color=ink)
    values = [value.replace(" or ", "\nor ") for value in field["values"]]
    axes.set_xticks(range(len(counts)), values, rotation=30, ha="right")
    axes.set_yticks(range(len(counts)), values)


def memorization(told: dict, titles: Mapping[str, str]) -> Figure:
    figure, (axes,) = _figure(WIDE, 2.8, 1)
    ratios = told["ratios"]
    top = max(1.2, *(np.quantile(v, 0.99) for v in ratios.values()))
    edges = np.linspace(0, top, 49)
    axes.hist(
        ratios["held_out"], edges, density=True, color=REAL, alpha=0.5, label="held-out"
    )
    axes.hist(
        *(ratios["synthetic"], edges),
        density=True,
        histtype="step",
        color=MADE,
        lw=1.8,
        label="synthetic",
    )
    axes.axvline(told["threshold"], color="#b5483a", lw=1.2, label="threshold")
    axes.set(title="Distance to the nearest training image, calibrated", yticks=[])
    axes.set_xlabel("ratio to the distances around that image")
    axes.legend(frameon=False)
    return figure


def usefulness(told: dict, titles: Mapping[str, str]) -> Figure:
    arms = list(told["arms"].items())[1:]
    names = [(g["field"], g["name"], g["images"]) for g in arms[0][1]["groups"]]
    labels = [
        f"all ({told['test']})",
        *(f"{titles[f]}: {n} ({c})" for f, n, c in names),
    ]
    figure, panels = _figure(WIDE, 1.1 + 0.24 * len(labels), len(arms))
    for k, (axes, (arm, found)) in enumerate(zip(panels, arms, strict=True)):
        parts = [found["difference"], *(g["difference"] for g in found["groups"])]
        for i, d in enumerate(parts):
            if d["low"] is not None:
                ends = [100 * d["low"], 100 * d["high"]]
                axes.plot(ends, [i, i], color=MADE, lw=1.5)
            if d["value"] is not None:
                axes.plot(100 * d["value"], i, "o", color=MADE)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(labels)), labels if k == 0 else [])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set(title=arm, xlabel="points against real alone")
    return figure


DRAWN = {
    "fidelity": fidelity,
    "manifold": manifold,
    "spectrum": spectrum,
    "agreement": agreement,
    "memorization": memorization,
    "usefulness": usefulness,
}
