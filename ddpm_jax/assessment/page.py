"""report.html: one file that opens from disk and asks for nothing, pictures first.

It shows synthetic images alone; real ones are in the private folder.
"""

import base64
import io
from collections.abc import Sequence
from importlib import resources

import jinja2
import numpy as np
from PIL import Image

from ddpm_jax.assessment import figures
from ddpm_jax.assessment.material import Material
from ddpm_jax.evaluation import features
from ddpm_jax.evaluation.images import Images

SHOWN, SIDE = 24, 256


def render(metrics: dict, material: Material) -> str:
    """The page of metrics.json's content."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    titles = {field.name: field.title for field in material.schema}
    environment.filters |= {"pct": percent, "fig": number, "share": share}
    environment.filters |= {"dec": decimals, "span": span}
    environment.filters["words"] = lambda name: titles.get(name, name)
    source = resources.files("ddpm_jax.assessment").joinpath("report.html.j2")
    template = environment.from_string(source.read_text())
    made, schema = material.synthetic, material.schema
    chosen = np.linspace(0, len(made) - 1, min(SHOWN, len(made))).astype(int)
    rows = schema.decode({n: v[chosen] for n, v in made.cond.items()})
    captions = [schema.caption(row) for row in rows]
    if not material.rows_are_shown:
        captions = [""] * len(rows)
    parts = metrics["parts"]
    return template.render(
        m=metrics,
        parts=parts,
        gallery=list(zip(pictures_of(made, chosen), captions, strict=True)),
        worst=_worst(parts.get("agreement"), made),
        figures=figures.of(parts, titles),
        private=material.store.private.name,
        shown=material.rows_are_shown,
        tiles=tiles(parts),
    )


def _worst(told: dict | None, made: Images) -> list[tuple[str, dict]]:
    """Images that agree least, where that is an agreement of this very set."""
    entries = [e for e in told["worst"] if e["image"] < len(made)] if told else []
    shown = pictures_of(made, [e["image"] for e in entries])
    return list(zip(shown, entries, strict=True))


def pictures_of(images: Images, index: Sequence[int] | np.ndarray) -> list[str]:
    """PNG of 8 bits as data URLs, none larger than `SIDE`; pixels of small ones stay
    as they are."""
    found = []
    for i in index:
        grey = features.to_bytes(images.read(int(i)), min(images.size, SIDE))
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        found.append(f"data:image/png;base64,{data}")
    return found


def tiles(parts: dict) -> list[tuple[str, str, str, str]]:
    """(part, what, figure, what to hold it against) of each part that there is."""
    found = []
    if told := parts.get("fidelity"):
        half = told["at_half"]
        found.append(
            (
                "fidelity",
                f"Fréchet distance, {half['images']} images",
                number(half["synthetic"]["mean"]),
                f"real against real {number(half['real']['mean'])}",
            )
        )
    if told := parts.get("manifold"):
        for name in ("precision", "recall"):
            against = percent(told["real"][name])
            figure = percent(told["all"][name])
            found.append(("manifold", name, figure, f"real against real {against}"))
    if told := parts.get("spectrum"):
        against = f"real against real {decimals(told['floor'])} dB"
        figure = f"{decimals(told['rms'])} dB"
        found.append(("spectrum", "spectral error", figure, against))
    if told := parts.get("agreement"):
        found.append(
            (
                "agreement",
                "all labels agree",
                percent(told["synthetic"]["all"]["share"]),
                f"held-out real {percent(told['real']['all']['share'])}",
            )
        )
    if told := parts.get("memorization"):
        against = f"of new real images at most {percent(told['expected_at_most'])}"
        figure = percent(told["flagged"]["share"])
        found.append(("memorization", "flagged as copies", figure, against))
    if told := parts.get("usefulness"):
        arms = told["arms"]
        found.append(
            (
                "usefulness",
                "all labels right, trained on real + synthetic",
                percent(arms["real + synthetic"]["all"]["share"]),
                f"trained on real alone {percent(arms['real']['all']['share'])}",
            )
        )
    return found


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def decimals(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def span(found: dict, digits: int = 2) -> str:
    """A figure with its interval."""
    if found["value"] is None or found["low"] is None:
        return decimals(found["value"], digits)
    low, high = (decimals(found[end], digits) for end in ("low", "high"))
    return f"{decimals(found['value'], digits)} ({low} to {high})"


def share(found: dict | None) -> str:
    """A proportion, or a mean of shares, with its interval."""
    value = found and found.get("share", found.get("value"))
    if value is None or found["low"] is None:
        return "–"
    low, high = f"{found['low']:.1%}".rstrip("%"), f"{found['high']:.1%}".rstrip("%")
    return f"{percent(value)} ({low}–{high})"


def table(metrics: dict) -> str:
    """The figures as aligned text."""
    figures = tiles(metrics["parts"])
    wide = max(len(what) for _, what, *_ in figures)
    lines = [f"{what:<{wide}}{one:>12}   {other}" for _, what, one, other in figures]
    if "agreement" in metrics["parts"]:
        lines += ["", f"{'field':<22}{'held-out real':>24}{'synthetic':>24}"]
        for name, real in metrics["real"].items():
            cells = share(real), share(metrics["synthetic"][name])
            lines.append(f"{name:<22}{cells[0]:>24}{cells[1]:>24}")
    return "\n".join(lines)
