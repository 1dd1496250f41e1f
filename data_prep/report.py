"""The report of a data set: one HTML file that opens from disk and asks for nothing.

Counts of conditions are shown as far as `disclosure` lets them be; codes and technical
flags count files and are exact.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from data_prep.codes import ACTIONS, MEANINGS
from data_prep.disclosure import (
    NOT_COMPARED,
    about,
    confusion_table,
    protect,
    widen,
)
from data_prep.report_figures import (
    Markup,
    bars,
    escape,
    heat,
    heat_cell,
    histogram,
    join,
    number,
    share,
    spectrum_plot,
    stacked,
    table,
    tag,
)
from ddpm_jax.conditions.schema import Continuous
from ddpm_jax.conditions.small_cells import (
    LEAST,
    NOT_KNOWN,
    Axis,
    Key,
    bin_step,
    group,
    make_axis,
)
from ddpm_jax.data import records

MOST_PAIRS, MOST_LINES, MOST_CELLS = 12, 40, 400
SUMMARY = Markup("<summary>Counts by bin</summary>")
UNFORESEEN = "a code that this program does not know"
LEDGER = (
    "Every listed file ended with exactly one code. Files are counted here, not "
    "people, and the counts are exact."
)
NAMED = ("view", "side", "prosthesis_right", "prosthesis_left")
TOTALS = ("written", "duplicate", "excluded", "quarantined", "dead")


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that a report tells. `confusion[field][label, header]` counts images."""

    manifest: records.Manifest
    rows: Mapping[str, Sequence[Mapping[str, str | float | None]]]
    patients: Mapping[str, int]
    confusion: Mapping[str, Mapping[tuple, int]] = dataclasses.field(
        default_factory=dict
    )
    spectrum: Mapping | None = None


def render(facts: Facts) -> str:
    """The report as one HTML page."""
    manifest = facts.manifest
    rows = [row for split in facts.rows.values() for row in split]
    axes = {
        f.name: make_axis(f, [r.get(f.name) for r in rows]) for f in manifest.schema
    }
    sections = (
        ("ledger", "Where every file ended", _ledger(manifest.ledger)),
        ("fields", "Fields", _fields(axes, len(rows))),
        ("combinations", "Combinations of fields", _combinations(axes)),
        ("splits", "Splits", _splits(facts)),
        ("labels", "Labels and DICOM headers", _labels(facts, axes)),
        ("spectrum", "Power spectrum", _spectrum(facts.spectrum)),
        ("settings", "Settings and versions", _settings(manifest)),
    )
    links = [tag("a", title, href=f"#{name}") for name, title, _ in sections]
    body = [
        tag("section", tag("h2", title), content, id=name)
        for name, title, content in sections
    ]
    style = resources.files("data_prep").joinpath("report.css").read_text()
    name = escape(f"{manifest.name}: data set report")
    page = tag("div", _header(facts), tag("nav", *links), *body, class_="page")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{name}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{page}\n</body>\n</html>\n"
    )


def _header(facts: Facts) -> Markup:
    manifest, ledger = facts.manifest, facts.manifest.ledger
    people = list(facts.patients.values())
    told = None if any(0 < n < LEAST for n in people) else sum(people)
    tiles = (
        ("files listed", number(ledger["listed"])),
        ("images written", number(ledger["written"])),
        ("patients", number(told)),
        ("pixels", f"{manifest.height} × {manifest.width}"),
        ("stored as", f"{manifest.codec}, {manifest.bits} bits"),
        ("key id", manifest.settings.get("key_id", "not stated")),
    )
    boxes = [tag("div", tag("dt", a), tag("dd", b), class_="tile") for a, b in tiles]
    return tag(
        "header",
        tag("p", "Data set report", class_="eyebrow"),
        tag("h1", manifest.name),
        tag("dl", *boxes, class_="tiles"),
    )


def _ledger(ledger: Mapping) -> Markup:
    codes, listed = ledger["codes"], ledger["listed"]
    by_count = sorted(codes, key=lambda code: (-codes[code], code))
    order = sorted(by_count, key=lambda code: TOTALS.index(_action(code)))
    lines = [
        (
            _code(c),
            _dotted(_action(c)),
            MEANINGS.get(c, UNFORESEEN),
            number(codes[c]),
            share(codes[c], listed),
        )
        for c in order
    ]
    by_code = table(
        "Files by code",
        ("code", "action", "meaning", "files", "share"),
        lines,
        foot=("listed", "", "", number(listed), share(listed, listed)),
        text=(0, 1, 2),
    )
    lead = tag("p", LEDGER, class_="lead")
    flow = stacked("files by action", [(name, ledger[name]) for name in TOTALS])
    cards = []
    rejected = [(_code(c), codes[c]) for c in by_count if c != "WRITTEN"]
    if rejected:
        lost = sum(count for _, count in rejected)
        cards.append(bars("Rejected, by code", rejected, lost, noun="files"))
    if ledger["flags"]:
        cards.append(_flags(ledger["flags"]))
    return join((lead, flow, by_code, _cards(cards)))


def _flags(flags: Mapping[str, int]) -> Markup:
    rows = [
        (_code(flag), about(n) if flag.startswith("LABEL") else number(n))
        for flag, n in sorted(flags.items(), key=lambda item: (-item[1], item[0]))
    ]
    caption = join(("Flags of written images", _small("an image may carry several")))
    return table(caption, ("flag", "images"), rows)


def _action(code: str) -> str:
    return ACTIONS.get(code, "dead")


def _code(word: str) -> Markup:
    return tag("span", word, class_="code")


def _dotted(action: str) -> Markup:
    dot = tag("i", class_=f"dot back-{action}")
    return join((dot, tag("span", action, class_="action")))


def _small(*words: object) -> Markup:
    return tag("small", *words)


def _note(*words: object) -> Markup:
    return tag("p", *words, class_="note")


def _card(*parts: object) -> Markup:
    return tag("div", *parts, class_="card")


def _cards(parts: Iterable[Markup]) -> Markup:
    return tag("div", *map(_card, parts), class_="cards")


def _name(key: Key) -> str:
    return key[0] if len(key) == 1 else " or ".join(key)


def _fields(axes: Mapping[str, Axis], images: int) -> Markup:
    overview = [_known(axis, images) for axis in axes.values()]
    head = ("field", "known", "not known", "missing share")
    notes = tag(
        "p",
        f"Counts are of written images. A value with 1 to {LEAST - 1} images is "
        "counted together with others, joined by “or”, and the bins of a number are "
        "joined, so that no such count can be read or worked out. Where the missing "
        "share is a bound (≤), “not known” is one of the values counted together.",
        class_="lead",
    )
    overall = table("What is known", head, overview)
    figures = [_field(axis, images) for axis in axes.values()]
    return join((notes, overall, _cards(figures)))


def _known(axis: Axis, images: int) -> tuple:
    """Title, known, not known and missing share; bounds where these are hidden."""
    key = next(key for key in axis.counts if NOT_KNOWN in key)
    most = axis.counts[key]
    low, high = ("", "") if key == (NOT_KNOWN,) else ("≥ ", "≤ ")
    return (
        axis.field.title,
        join((low, number(images - most))),
        join((high, number(most))),
        join((high, share(most, images))),
    )


def _field(axis: Axis, images: int) -> Markup:
    field = axis.field
    unit = f" ({field.unit})" if getattr(field, "unit", "") else ""
    counts = [(_name(key), count) for key, count in axis.counts.items()]
    listed = bars(f"{field.title}{unit}", counts, images)
    if not axis.bins:
        return listed
    words = f"{field.title}{unit}; the area is the number of images"
    drawn = histogram(f"histogram of {field.title}", axis.bins, bin_step(field), words)
    return join((tag("h3", field.title), drawn, tag("details", SUMMARY, listed)))


def _combinations(axes: Mapping[str, Axis]) -> Markup:
    named, listed = _named(axes)
    parts = [_card(listed)] if named else []
    pairs = []
    if "age" in axes and "sex" in axes:
        pairs.append(("age", "sex"))
    rest = [name for name, axis in axes.items() if _plain(axis) and name not in named]
    anchor = next(iter(name for name, axis in axes.items() if _plain(axis)), None)
    pairs += [(anchor, name) for name in rest if name != anchor]
    for first, second in pairs[:MOST_PAIRS]:
        parts.append(_card(_cross(widen(axes[first]), widen(axes[second]))))
    lead = tag(
        "p",
        f"A cell of 1 to {LEAST - 1} images is hidden, and larger ones or zeros with "
        "it, so that the sums do not give it away: a hidden cell may hold any number.",
        class_="lead",
    )
    if len(pairs) > MOST_PAIRS:
        parts.append(_note(f"The first {MOST_PAIRS} of {len(pairs)} pairs are shown."))
    return join((lead, *(parts or [_note("No two fields to be shown together.")])))


def _plain(axis: Axis) -> bool:
    return not isinstance(axis.field, Continuous)


def _named(axes: Mapping[str, Axis]) -> tuple[list[str], Markup]:
    """The fields of NAMED that can be listed together, three at least, and the list."""
    names = [name for name in NAMED if name in axes and _plain(axes[name])]
    for k in range(len(names), 2, -1):
        chosen = [axes[name] for name in names[:k]]
        counts = Counter(zip(*(axis.keys for axis in chosen), strict=True))
        hidden = protect(counts) if len(counts) <= MOST_CELLS else None
        if hidden is not None:
            return names[:k], _list(chosen, counts, hidden)
    return [], Markup()


def _list(
    axes: Sequence[Axis], counts: Mapping[tuple, int], hidden: set[tuple]
) -> Markup:
    """The combinations of several fields, the most frequent first."""
    title = " × ".join(axis.field.title for axis in axes)
    shown = sorted((c for c in counts if c not in hidden), key=lambda c: -counts[c])
    shown = shown[:MOST_LINES]
    whole, most = sum(counts.values()), max(map(counts.get, shown), default=0)
    rows = [
        (*map(_name, cell), heat_cell(counts[cell], most), share(counts[cell], whole))
        for cell in shown
    ]
    rest = whole - sum(counts[cell] for cell in shown)
    told = "what is not listed has no images, or is counted in the last line"
    caption = join((title, _small(told)))
    head = (*(axis.field.title for axis in axes), "images", "share")
    blank = [""] * (len(axes) - 1)
    foot = ("all others", *blank, number(rest), share(rest, whole))
    words = range(len(axes))
    return table(caption, head, rows, foot=foot, text=words, kind="list")


def _withheld(title: str) -> Markup:
    return _note(tag("b", title), ": not shown, the small cells cannot be protected.")


def _cross(first: Axis, second: Axis) -> Markup:
    """A table of two fields, without rows and columns that hold nothing."""
    title = f"{first.field.title} × {second.field.title}"
    counts = Counter(zip(first.keys, second.keys, strict=True))
    hidden = protect(counts) if len(counts) <= MOST_CELLS else None
    if hidden is None:
        return _withheld(title)
    columns = [key for key, n in second.counts.items() if n]
    rows = [
        (
            _name(row),
            [*(None if (row, c) in hidden else counts[row, c] for c in columns), count],
        )
        for row, count in first.counts.items()
        if count
    ]
    totals = [second.counts[column] for column in columns]
    return heat(title, first.field.title, list(map(_name, columns)), rows, totals)


def _splits(facts: Facts) -> Markup:
    manifest = facts.manifest
    total = sum(map(manifest.count, manifest.splits))
    rows = []
    for split in manifest.splits:
        people = facts.patients.get(split, 0)
        told = None if 0 < people < LEAST else people
        count = manifest.count(split)
        rows.append((split, number(count), share(count, total), number(told)))
    lead = tag(
        "p",
        "Splits are drawn by patient: all images of a patient are in one split, and no "
        "patient is in two. ",
        tag("span", "python -m data_prep.verify", class_="code"),
        " checks this against the records.",
        class_="lead",
    )
    head = ("split", "images", "share", "patients")
    return join((lead, table("Images and patients by split", head, rows)))


def _labels(facts: Facts, axes: Mapping[str, Axis]) -> Markup:
    labels = facts.manifest.ledger["labels"]
    rows = [
        ("rows of the label table", number(labels.get("rows", 0))),
        ("rows without an image here", number(labels.get("without_image", 0))),
    ]
    parts = [table("The label table", ("", "rows"), rows)]
    conflicts = [
        (
            axes[n].field.title if n in axes else n,
            about(c["compared"]),
            about(c["conflicts"]),
        )
        for n, c in labels.get("conflicts", {}).items()
    ]
    if conflicts:
        caption = join(("Conflicts", _small("to the nearest 20; the table wins")))
        head = ("field", "compared", "in conflict")
        parts.append(table(caption, head, conflicts))
    for name, pairs in facts.confusion.items():
        parts.append(_confusion(name, pairs, axes.get(name)))
    words = "Where table and DICOM header disagree, the table wins and a flag tells."
    lead = tag("p", words, class_="lead")
    return join((lead, _cards(parts)))


def _confusion(name: str, pairs: Mapping[tuple, int], axis: Axis | None) -> Markup:
    title = axis.field.title if axis else name
    if axis is not None and not _plain(axis):
        return _differences(title, pairs)
    found = confusion_table(pairs, axis)
    headers = {header for row in found.values() for header in row}
    columns = sorted(headers, key=_unknown_last)
    rows = [
        (_name(label), [found[label][column] for column in columns])
        for label in sorted(found, key=_unknown_last)
        if any(n != 0 for n in found[label].values())
    ]
    caption = join((title, _small("label table down, DICOM header across")))
    return heat(caption, "label", list(map(_name, columns)), rows)


def _unknown_last(key: Key) -> tuple:
    return NOT_COMPARED in key, NOT_KNOWN in key, key


def _differences(title: str, pairs: Mapping[tuple, int]) -> Markup:
    """Numbers: how far the header is from the label, over all labels together."""
    found = Counter()
    for (_, distance), count in pairs.items():
        found[distance] += count
    keys, whole = group(found), sum(found.values())
    sums = dict.fromkeys(keys.values(), 0)
    for value, key in keys.items():
        sums[key] += found[value]
    counts = [(_name(key), count) for key, count in sums.items()]
    return bars(f"{title}: header against label", counts, whole)


def _spectrum(spectrum: Mapping | None) -> Markup:
    if not spectrum:
        return _note("Not measured.")
    low, high = spectrum["logsnr_low"], spectrum["logsnr_high"]
    span = f"{low:g} to {high:g}".replace("-", "\N{MINUS SIGN}")
    words = tag(
        "p",
        "The mean power of ",
        number(spectrum["images"]),
        f" images of {spectrum['size']} × {spectrum['size']} in each ring of the "
        "orthonormal Fourier transform; white noise of variance 1 has power 1. The "
        "suggested range of a sampler is ",
        tag("b", f"logSNR {span}"),
        ": from the least to the largest −ln of the power, 4 further at both ends.",
    )
    plot = spectrum_plot(spectrum["power"], low, high)
    return join((words, tag("figure", plot, class_="plot")))


def _settings(manifest: records.Manifest) -> Markup:
    lines = [
        (tag("span", name, class_="code"), value)
        for name, value in sorted(_flatten(manifest.settings))
    ]
    return table("Settings", ("setting", "value"), lines, text=(0, 1))


def _flatten(settings: Mapping, above: str = "") -> Iterable[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
