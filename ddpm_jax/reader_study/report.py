"""The figures of a study as one HTML page that opens from disk, and as CSV."""

import csv
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from ddpm_jax.reader_study import drawings, power
from ddpm_jax.reader_study.analysis import AT_MOST, GUESSING, Figure
from ddpm_jax.reader_study.store import Answer
from ddpm_jax.reader_study.study import COUNTED, LABELS, REPEAT, Study, Truth

MINUS = "\N{MINUS SIGN}"


class Section(NamedTuple):
    """A heading, a sentence, and what of the figures stands below it."""

    title: str
    lead: str
    wanted: Callable[[Figure], bool]
    drawing: str = ""


def render(
    study: Study, figures: Sequence[Figure], answers: Sequence[Answer], curves: Mapping
) -> str:
    """The report as one HTML page without scripts."""
    labels = study.protocol == LABELS
    title = "Label discrepancy" if labels else "Real or synthetic"
    sections = label_sections() if labels else truth_sections(figures, curves)
    body = [_section(one, figures) for one in sections]
    style = resources.files("ddpm_jax.reader_study") / "page" / "report.css"
    counted, again = (sum(a.kind == k for a in answers) for k in (COUNTED, REPEAT))
    readers = len({a.reader for a in answers})
    repeated = f" and {again} to repeated images" if again else ""
    lead = (
        f"{readers} reader{'s' * (readers > 1)}, {counted} answers that count{repeated}"
        f". Intervals are of 95 %.{unfinished(study, answers)}"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>Reader study: {title}</title>\n<style>\n{style.read_text()}</style>\n"
        f'</head><body><div class="page"><header><p class="eyebrow">Reader study</p>'
        f"<h1>{title}</h1><p>{lead}</p></header>\n{tiles(labels, figures)}\n"
        + "\n".join(filter(None, body))
        + "\n</div></body></html>\n"
    )


def unfinished(study: Study, answers: Sequence[Answer]) -> str:
    """Who has not answered all, for the head of the page."""
    missing = [
        f"{html.escape(who)} {done} of {len(members)}"
        for who, members in study.sequences.items()
        if (done := sum(a.reader == who for a in answers)) < len(members)
    ]
    return f" <strong>Not finished: {', '.join(missing)}.</strong>" if missing else ""


def verdict(who: str, figures: Sequence[Figure]) -> str:
    """Whether the reader was told from guessing, in words; of a single reader only."""
    for f in figures:
        if f.who == who and f.what == GUESSING and not math.isnan(f.value):
            apart = "differs" if f.value < 0.05 else "does not differ"
            said = f"{apart} from guessing, p {chance(f.value)}"
            return f"<p>{html.escape(said)}</p>"
    return ""


def chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def tiles(labels: bool, figures: Sequence[Figure]) -> str:
    """One big figure a reader, and the paper's."""
    wanted = "discrepancy: any field" if labels else "accuracy"
    seen = {f.who: f for f in figures if f.what == wanted and f.method != "exact"}
    exact = {f.who: f for f in figures if f.what == wanted and f.method == "exact"}
    shown = [(who, (exact if labels else seen).get(who, f)) for who, f in seen.items()]
    paper = power.PAPER_DISCREPANCY if labels else power.PAPER_ACCURACY
    boxes = [
        f"<div><dt>{html.escape(who)}</dt><dd>{percent(f.value)}</dd>"
        f"<p>{f.count} of {f.total}; {interval(f, percent)}</p>"
        f"{verdict(who, figures)}</div>"
        for who, f in shown
    ]
    boxes.append(
        f'<div class="paper"><dt>published study</dt>'
        f"<dd>{percent(paper[0] / paper[1])}</dd><p>{paper[0]} of {paper[1]}</p></div>"
    )
    what = "images with a wrong label" if labels else "right answers"
    return f'<dl class="tiles" aria-label="{what}">{"".join(boxes)}</dl>'


def truth_sections(figures: Sequence[Figure], curves: Mapping) -> list[Section]:
    agreed = ("kappa", "same answer")
    return [
        Section(
            "Accuracy",
            "Synthetic is what is to be detected: sensitivity is the share of "
            "synthetic images that were called so, specificity that of real ones "
            "called real. A criterion above 0 leans to real. The difference to the "
            "published study takes its 200 answers as independent.",
            lambda f: (
                f.what.startswith(("accuracy", "sensitivity", "specificity"))
                and "quarter" not in f.what
                or f.what in (GUESSING, "d'", "criterion c")
            ),
            drawings.forest(figures),
        ),
        Section(
            "Confidence",
            f"Answers in order from 5 certainly real ({MINUS}5) to 5 certainly "
            "synthetic (5); 0.5 is guessing.",
            lambda f: f.what.startswith("AUC"),
            drawings.roc_plot(curves),
        ),
        Section(
            "Agreement",
            "Beyond chance: 0 is chance, 1 is always. Between readers, and of a reader "
            "with the answer to the same image shown again, which counts nowhere else.",
            lambda f: any(word in f.what for word in agreed),
        ),
        Section(
            "Over time",
            "By quarter of the images read; the trend is the Cochran-Armitage test. "
            "Seconds are those that the image was visible.",
            lambda f: any(w in f.what for w in ("quarter", "trend", "seconds")),
            drawings.learning(figures),
        ),
    ]


def label_sections() -> list[Section]:
    return [
        Section(
            "Discrepancies",
            "Of the labels that could be told from the image, the share that readers "
            "say is wrong. “At most” is a one-sided bound: where none was found it is "
            "1 − 0.05^(1/n), which the rule of three calls 3/n. Planted errors are not "
            "among them.",
            lambda f: f.what.startswith("discrepancy"),
        ),
        Section(
            "Planted errors",
            "Labels made wrong on purpose: a bound above means little from a reader "
            "who misses these.",
            lambda f: f.what.startswith("planted"),
        ),
        Section(
            "Could not be told",
            "The share of images in which the reader could not tell.",
            lambda f: f.what.startswith("cannot tell"),
        ),
        Section(
            "Agreement",
            "Beyond chance; nothing is stated where everybody said the same always.",
            lambda f: "kappa" in f.what or "same answer" in f.what,
        ),
        Section("Time", "Of visible images.", lambda f: "seconds" in f.what),
    ]


def _section(one: Section, figures: Sequence[Figure]) -> str:
    shown = [f for f in figures if one.wanted(f)]
    if not shown:
        return ""
    return (
        f"<section><h2>{one.title}</h2><p class='lead'>{html.escape(one.lead)}</p>"
        f"{one.drawing}{table(shown)}</section>"
    )


def table(figures: Sequence[Figure]) -> str:
    """A line for each thing that is told, a column for each who it is told of."""
    people = list(dict.fromkeys(f.who for f in figures))
    lines: dict[str, dict[str, list[Figure]]] = {}
    for f in figures:
        by_person = lines.setdefault(f.what.removesuffix(AT_MOST), {})
        by_person.setdefault(f.who, []).append(f)
    head = "".join(f"<th>{html.escape(who)}</th>" for who in people)
    rows = [
        f"<tr><th>{html.escape(what)}</th>"
        + "".join(f"<td>{cell(found.get(who, ()))}</td>" for who in people)
        + "</tr>"
        for what, found in lines.items()
    ]
    return (
        f"<div class='scroll'><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell(figures: Sequence[Figure]) -> str:
    """The value once, what it counts, and each interval with its method."""
    if not figures:
        return ""
    first = figures[0]
    counted = first.count is not None
    counts = f" <span>{first.count} of {first.total}</span>" if counted else ""
    lines = [f"{_form(first)(first.value)}{counts}"]
    for f in figures:
        if f.what.endswith(AT_MOST):
            lines.append(f"<small>at most {percent(f.value)} ({f.method})</small>")
        elif not math.isnan(f.low):
            lines.append(f"<small>{interval(f, _form(f))} ({f.method})</small>")
    return "".join(lines)


def _form(f: Figure) -> Callable[[float], str]:
    if f.what.startswith("accuracy minus"):
        return points
    if f.what == GUESSING or f.what.endswith(", p"):
        return lambda p: "–" if math.isnan(p) else chance(p).removeprefix("= ")
    if f.what.startswith("seconds"):
        return lambda s: f"{s:.1f}"
    return percent if f.count is not None else number


def interval(f: Figure, form: Callable[[float], str]) -> str:
    if math.isnan(f.low):
        return "–"
    if form is percent:
        return f"{100 * f.low:.1f} to {percent(f.high)}"
    return f"{form(f.low)} to {form(f.high)}"


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def points(value: float) -> str:
    text = "–" if math.isnan(value) else f"{100 * value:+.1f}"
    return text.replace("-", MINUS)


def number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


# ---- CSV ----


def write_figures(path: Path, figures: Iterable[Figure]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("reader", *Figure._fields[1:]))
        for one in figures:
            writer.writerow([_plain(value) for value in one])


def write_answers(
    path: Path, answers: Iterable[Answer], truth: Mapping[str, Truth]
) -> None:
    """A line an answer; one of each field where fields were judged."""
    columns = (
        *("reader", "position", "image", "kind", "truth", "planted", "field"),
        *("answer", "confidence", "seconds", "stored_at", "first_shown_at"),
    )
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for a in answers:
            known = truth[a.image]
            said = a.answer if isinstance(a.answer, dict) else {"": a.answer}
            for field, answer in said.items():
                writer.writerow(
                    [
                        *(a.reader, a.position, a.image, a.kind),
                        *(known.truth, known.planted, field, answer),
                        *(a.confidence, f"{a.seconds:.3f}", f"{a.time:.3f}"),
                        "" if a.shown is None else f"{a.shown:.3f}",
                    ]
                )


def _plain(value) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else value
