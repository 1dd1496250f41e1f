"""Tables, bars and plots of the report, as HTML and inline SVG without any script.

Every text passes `escape` on its way in; a `Markup` is text that did. A figure gets
the figures that are printed beside it and nothing else, so that no length, colour or
tooltip tells more than the page says.
"""

import html
import math
from collections.abc import Iterable, Sequence

THIN = "\N{NARROW NO-BREAK SPACE}"
HIDDEN = "hidden"


class Markup(str):
    """HTML that is safe to put into a page as it is."""


def escape(text: object) -> Markup:
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def join(parts: Iterable[object], by: str = "") -> Markup:
    return Markup(by.join(map(escape, parts)))


def tag(name: str, *inner: object, **attributes: object) -> Markup:
    """An element; `class_` is class, `aria_label` is aria-label, None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(inner)}</{name}>")


def number(value: int | float | None) -> Markup:
    """1234567 as 1 234 567; None is hidden."""
    if value is None:
        return tag("span", HIDDEN, class_="hidden")
    return escape(f"{value:,}".replace(",", THIN))


def share(part: int | None, whole: int) -> Markup:
    """A percentage with as many decimals as tell it from 0 and from 100."""
    if part is None:
        return number(None)
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return escape(f"<0.1{THIN}%")
    if 99.9 < percent < 100:
        return escape(f">99.9{THIN}%")
    return escape(f"{percent:.1f}{THIN}%")


def bar(part: int | None, most: int, kind: str = "plain") -> Markup:
    """A bar of length part / most; none for what is hidden."""
    if part is None:
        return tag("span", class_="bar hatched")
    width = f"--part: {part / most if most else 0:.4f}"
    return tag("span", class_=f"bar {kind}{'' if part else ' none'}", style=width)


def table(
    caption: object,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    foot: Sequence[object] = (),
    text: Sequence[int] = (0,),
    kind: str = "",
) -> Markup:
    """A table; the columns `text` are words, all others are numbers to the right."""

    def line(cells, name, scope=None):
        return tag(
            "tr",
            *(
                cell
                if isinstance(cell, Markup) and cell.startswith(("<td", "<th"))
                else tag(
                    "th" if scope or i == 0 else name,
                    cell,
                    scope=scope or ("row" if i == 0 else None),
                    class_=None if i in text else "number",
                )
                for i, cell in enumerate(cells)
            ),
        )

    parts = [
        tag("caption", caption),
        tag("thead", line(head, "th", "col")),
        tag("tbody", *(line(row, "td") for row in rows)),
    ]
    if foot:
        parts.append(tag("tfoot", line(foot, "td")))
    whole = tag("table", *parts, class_=kind or None)
    return tag("div", whole, class_="scroll")


def bars(
    caption: object,
    counts: Sequence[tuple[object, int]],
    whole: int,
    *,
    noun: str = "images",
) -> Markup:
    """Counts with their shares of `whole`, each with a bar against the largest."""
    most = max((count for _, count in counts), default=0)
    rows = [
        (name, number(count), share(count, whole), tag("td", bar(count, most)))
        for name, count in counts
    ]
    head = ("", noun, "share", Markup('<td class="wide"></td>'))
    return table(caption, head, rows, kind="bars")


def heat_cell(count: int | None, most: int) -> Markup:
    """A cell as dark as the root of its share of the largest; None is hidden."""
    if count is None:
        return tag("td", number(None), class_="number hatched")
    depth = math.sqrt(count / most) if most else 0
    kind = "number heat dark" if depth > 0.75 else "number heat"
    return tag("td", number(count), class_=kind, style=f"--depth: {depth:.3f}")


def heat(
    caption: object,
    corner: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int | None]]],
    totals: Sequence[int] = (),
) -> Markup:
    """A cross table, darker where there are more; None is a hidden cell.

    With `totals` of the columns, each row ends with its own total.
    """
    most = max((n for _, cells in rows for n in cells[: len(columns)] if n), default=0)
    lines = [
        (
            name,
            *(heat_cell(n, most) for n in cells[: len(columns)]),
            *map(number, cells[len(columns) :]),
        )
        for name, cells in rows
    ]
    head, foot = (corner, *columns), ()
    if totals:
        head, foot = (*head, "all"), ("all", *map(number, (*totals, sum(totals))))
    return table(caption, head, lines, foot=foot, kind="cross")


def stacked(label: str, parts: Sequence[tuple[str, int]]) -> Markup:
    """One bar of all parts, each at least a hair wide, with its legend."""
    whole = sum(count for _, count in parts)
    wide = {name: max(count / (whole or 1), 0.004) for name, count in parts if count}
    unit, left, pieces = 1000 / sum(wide.values()) if wide else 0, 0.0, []
    for name, count in parts:
        if count:
            width = unit * wide[name]
            title = tag("title", f"{name}: ", number(count))
            pieces.append(
                tag(
                    "rect",
                    title,
                    class_=f"fill-{name}",
                    x=f"{left:.2f}",
                    y=0,
                    width=f"{width:.2f}",
                    height=40,
                )
            )
            left += width
    picture = tag(
        "svg",
        *pieces,
        viewBox="0 0 1000 40",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="stacked",
    )
    return tag("figure", picture, _legend(parts, whole))


def _legend(parts, whole):
    entries = [
        (
            tag("i", class_=f"back-{name}"),
            name,
            tag("b", number(count)),
            tag("small", share(count, whole)),
        )
        for name, count in parts
    ]
    return tag("ul", *(tag("li", *entry) for entry in entries), class_="legend")


def _text(x, y, words, anchor="middle", kind="tick"):
    return tag(
        "text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind
    )


def _line(x1, y1, x2, y2, kind):
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag("line", class_=kind, **{k: f"{v:.1f}" for k, v in ends.items()})


def histogram(
    label: str, bins: Sequence[tuple[float, float, int]], step: float, unit: str
) -> Markup:
    """Bins (low, high, count), area as the count: a merged bin is wide and low."""
    width, height, base = 560, 214, 160
    low, high = min(b[0] for b in bins), max(b[1] for b in bins)
    low, high = low - step / 2, high + step / 2
    most = max(n * step / (b - a) for a, b, n in bins) or 1

    def across(value):
        return 10 + (width - 20) * (value - low) / (high - low)

    parts = []
    for a, b, n in bins:
        tall = (base - 14) * n * step / (b - a) / most
        title = tag("title", f"{a:g} to {b:g}: ", number(n))
        box = {"x": across(a) + 0.75, "y": base - tall, "height": tall}
        box["width"] = across(b) - across(a) - 1.5
        sizes = {k: f"{v:.1f}" for k, v in box.items()}
        parts.append(tag("rect", title, class_="fill-plain", rx=1.5, **sizes))
    parts.append(_line(10, base, width - 10, base, "axis"))
    every = step * max(2, math.ceil((high - low) / step / 10))
    for i in range(math.ceil(low / every), math.floor(high / every) + 1):
        parts.append(_text(across(i * every), base + 20, f"{i * every:g}"))
    parts.append(_text(width - 10, base + 46, unit, "end", "name"))
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=label
    )


def spectrum_plot(power: Sequence[float], low: float, high: float) -> Markup:
    """Power against cycles per image, both logarithmic, between the noise levels
    exp(-low) and exp(-high), which are the ends of a sampler's range."""
    left, right, top, base = 64, 700, 24, 372
    points = [(k, p) for k, p in enumerate(power, 1) if p > 0]
    ends = -high / math.log(10), -low / math.log(10)
    bottom, ceiling = math.floor(ends[0]), math.ceil(ends[1])
    decades = math.log10(max(len(power), 2))

    def across(k):
        return left + (right - left) * math.log10(k) / decades

    def up(exponent):
        return base - (base - top) * (exponent - bottom) / (ceiling - bottom)

    parts = []
    band = {"x": left, "y": f"{up(ends[1]):.1f}", "width": right - left}
    tall = f"{up(ends[0]) - up(ends[1]):.1f}"
    parts.append(tag("rect", class_="band", height=tall, **band))
    for exponent in range(bottom, ceiling + 1, max(1, (ceiling - bottom) // 8)):
        parts.append(_line(left, up(exponent), right, up(exponent), "grid"))
        small = tag("tspan", str(exponent).replace("-", "\N{MINUS SIGN}"), dy="-5")
        ten = join(("10", small))
        parts.append(_text(left - 8, up(exponent) + 5, ten, "end"))
    ticks = [m * 10**d for d in range(5) for m in (1, 2, 5)]
    for k in (k for k in ticks if k <= len(power)):
        parts.append(_line(across(k), base, across(k), base + 5, "axis"))
        parts.append(_text(across(k), base + 20, number(k)))
    for level, place, name in ((low, ends[1], "lowest"), (high, ends[0], "highest")):
        parts.append(_line(left, up(place), right, up(place), "limit"))
        below = 16 if name == "lowest" else -7
        words = f"noise at the {name} logSNR, {level:g}".replace("-", "\N{MINUS SIGN}")
        parts.append(_text(right - 8, up(place) + below, words, "end", "name"))
    line = " ".join(f"{across(k):.1f},{up(math.log10(p)):.1f}" for k, p in points)
    parts.append(tag("polyline", points=line, class_="curve"))
    parts.append(_line(left, base, right, base, "axis"))
    parts.append(_text(right, 412, "cycles per image", "end", "name"))
    parts.append(_text(left, 14, "power", "middle", "name"))
    label = f"Power spectrum; suggested logSNR range {low:g} to {high:g}"
    return tag("svg", *parts, viewBox="0 0 720 420", role="img", aria_label=label)
