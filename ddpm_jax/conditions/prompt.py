"""From English to conditions: what a prompt states, or one line on why it is refused.

The lexicon turns spans of tokens into terms, `RULES` turn spans of terms into phrases,
and a reading covers the tokens with phrases. The reading with the fewest unread
tokens, then the fewest statements on fields that the schema lacks, then the fewest
phrases is the meaning. Unread tokens are refused, and so are two best readings that
state different things.

    phrase  = value | name [is] value | value name | name [is] unknown | unknown name
            | name [is] number [unit] | number unit | number sex | sex [of] number
            | finding | no finding | filler
    finding = the name of a yes-no field | side finding | finding [on the] side

Yes-no fields x_right and x_left make the finding x. Without a side it is meant on the
one side in view; with both in view, or no side stated, only its absence has a meaning.
What lies on the side out of view is "not in view" and can be nothing else.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from ddpm_jax.conditions.lexicon import Term, lexicon, side_of, tokenize, value_of
from ddpm_jax.conditions.schema import Categorical, Schema

RULES = (
    *("filler", "bare", "finding", "no denial"),
    *("name link? value", "value name", "name link? unknown", "unknown name"),
    *("amount link? number unit?", "number unit", "number sex", "sex link? number"),
)
LONGEST = 2000
"""Characters of a prompt: twenty times what the pelvis's fields take."""

SIDED = ("name", "finding", "denial")
SILENT = ("filler", "no", "name", "link", "amount", "unit")
"""Terms that carry no value."""

BESIDE = {"right": ("right",), "left": ("left",), "both": ("right", "left")}
OPPOSITE = {"right": "left", "left": "right"}

Statement = tuple[str, object]
Said = tuple[str, str, object]
"""A phrase as written, the field that it speaks of, and the value."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """`row` is full and canonical; `understood` tells which phrase led to what."""

    row: dict[str, str | float | None]
    understood: tuple[Said, ...]

    def describe(self) -> str:
        """What was understood, in one line."""
        stated = [f"{_show(name, v)} ({_quote(ph)})" for ph, name, v in self.understood]
        return ", ".join(stated) or "nothing stated"


class Reading(NamedTuple):
    """Tokens so far as statements, each with its span, and the tokens not read."""

    cost: tuple[int, ...] = (0, 0, 0, 0)
    stated: tuple[Statement, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    unread: tuple[tuple[int, int], ...] = ()


def parse_prompt(text: str, schema: Schema) -> Prompt:
    """What `text` states of the fields of `schema`; what it leaves out is not known.

    Raises ValueError, in one line, for words that cannot be read or have two readings,
    for fields not in the schema, contradictions and values out of range, and for more
    than `LONGEST` characters.
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"prompt of {len(text)} characters: expected {LONGEST} at most."
        )
    tokens = tokenize(text)
    readings = _read(tuple(token.group().lower() for token in tokens), schema)

    def written(start, end):
        return text[tokens[start].start() : tokens[end - 1].end()]

    best = readings[0]
    if best.unread:
        unread = _some([_quote(written(*span)) for span in best.unread])
        raise ValueError(f"prompt: cannot read {unread}; {_allowed(schema)}.")
    if len(readings) > 1:
        one, other = (_some([_show(*s) for s in r.stated]) for r in readings)
        raise ValueError(
            f"prompt: {_quote(text)} can mean {one} or {other}; separate its phrases "
            "by commas, or say field=value."
        )
    said = [
        (written(*span), name, value)
        for span, (name, value) in zip(best.spans, best.stated, strict=True)
    ]
    understood = _with_hidden_side(_with_sides(said, schema), schema)
    return Prompt(
        schema.parse({name: value for _, name, value in understood}), tuple(understood)
    )


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _some(parts: list[str], most: int = 6) -> str:
    """The first of `parts`, each once."""
    different = list(dict.fromkeys(parts))
    rest = len(different) - most
    return ", ".join(different[:most]) + (f" and {rest} more" if rest > 0 else "")


def _show(name: str, value) -> str:
    known = f"{value:g}" if isinstance(value, float) else value
    return f"{name.removesuffix('_*')} = {'not known' if value is None else known}"


def _allowed(schema: Schema) -> str:
    """What each field can be."""
    lines = []
    for field in schema:
        if isinstance(field, Categorical):
            lines.append(f"{field.name} can be {', '.join(field.values)}")
        else:
            scale = f"{field.low:g} to {field.high:g} {field.unit}".rstrip()
            lines.append(f"{field.name} can be a number from {scale}")
    return "; ".join(lines)


def _match(pattern: list[str], at: int, chart) -> Iterator[tuple[int, list[Term]]]:
    """Every way to read `pattern` from token `at`: its end and its terms."""
    if not pattern:
        yield at, []
        return
    head, *rest = pattern
    if head.endswith("?"):
        yield from _match(rest, at, chart)
    for end, term in chart[at]:
        if term.kind == head.rstrip("?"):
            for stop, terms in _match(rest, end, chart):
                yield stop, [term, *terms]


def _chart(tokens: tuple[str, ...], schema: Schema) -> list[list[tuple[int, Term]]]:
    """For each position the terms that start there, with their ends."""
    phrases = lexicon(schema)
    longest = max(map(len, phrases))
    chart = [[] for _ in range(len(tokens) + 1)]
    for at, token in enumerate(tokens):
        if token.lstrip("-")[:1].isdecimal():
            chart[at].append((at + 1, Term("number", (), token)))
        for end in range(at + 1, min(at + longest, len(tokens)) + 1):
            chart[at] += [(end, term) for term in phrases.get(tokens[at:end], ())]
    for at, terms in enumerate(chart):
        sided = [
            (end, _beside(parts))
            for kind in SIDED
            for pattern in (["side", kind], [kind, "link?", "side"])
            for end, parts in _match(pattern, at, chart)
        ]
        terms += [(end, term) for end, term in sided if term]
    return chart


def _beside(parts: list[Term]) -> Term | None:
    """A finding x_* and a side: the term of x_right, x_left or both."""
    side = next(part.value for part in parts if part.kind == "side")
    term = next(part for part in parts if part.kind in SIDED)
    if not term.fields[0].endswith("_*"):
        return None
    fields = tuple(term.fields[0].replace("*", one) for one in BESIDE[side])
    return term._replace(fields=fields)


def _statements(terms: list[Term]) -> tuple[Statement, ...] | None:
    """What a phrase states; None if its terms speak of different fields."""
    values = {term.kind: term.value for term in terms if term.kind not in SILENT}
    if "sex" in values:
        return ("age", values["number"]), ("sex", values["sex"])
    fields = [term.fields for term in terms if term.fields]
    if len({names[0] for names in fields}) > 1:
        return None
    names = max(fields, key=len, default=())
    return tuple((name, value) for name in names for value in values.values())


def _phrases(at: int, chart, known: set[str]):
    """Every phrase that starts at `at`: its end, what it states and what it costs."""
    for rule in RULES:
        for end, terms in _match(rule.split(), at, chart):
            stated = _statements(terms)
            if stated is not None:
                foreign = sum(name not in known for name, _ in stated)
                yield end, stated, (0, foreign, 1, rule == "filler")


def _read(tokens: tuple[str, ...], schema: Schema) -> list[Reading]:
    """The best reading, and one more if another as good states something else."""
    chart = _chart(tokens, schema)
    known = {*schema.names}
    known |= {f"{name.removesuffix('_right')}_*" for name in known}
    known |= {f"{name.removesuffix('_left')}_*" for name in known}
    best = [[Reading()]] + [[] for _ in tokens]
    for at in range(len(tokens)):
        phrases = list(_phrases(at, chart, known))
        for before in best[at]:
            _keep(best[at + 1], _skip(before, at))
            for end, stated, cost in phrases:
                after = before._replace(
                    cost=tuple(map(sum, zip(before.cost, cost, strict=True))),
                    stated=before.stated + stated,
                    spans=before.spans + ((at, end),) * len(stated),
                )
                _keep(best[end], after)
    return best[-1]


def _skip(reading: Reading, at: int) -> Reading:
    """`reading` with token `at` unread."""
    unread = reading.unread
    if unread and unread[-1][1] == at:
        unread = (*unread[:-1], (unread[-1][0], at + 1))
    else:
        unread = (*unread, (at, at + 1))
    return reading._replace(
        cost=(reading.cost[0] + 1, *reading.cost[1:]), unread=unread
    )


def _keep(readings: list[Reading], new: Reading) -> None:
    """Add `new` if it is better than `readings`, or as good and of another meaning."""
    if not readings or new.cost < readings[0].cost:
        readings[:] = [new]
    elif new.cost == readings[0].cost and len(readings) < 2:
        if all(new.stated != other.stated for other in readings):
            readings.append(new)


def _with_sides(said: list[Said], schema: Schema) -> list[Said]:
    """What was said in canonical values, each x_* on the sides that it is meant for."""
    side = next((side_of(value) for _, name, value in said if name == "side"), None)
    understood, stated = [], {}
    for phrase, name, value in said:
        names = [name]
        if name.endswith("_*"):
            names = [name.replace("*", one) for one in BESIDE[side or "both"]]
        for name in names:
            if name not in schema.names:
                raise ValueError(
                    f"prompt: {_quote(phrase)}: this model is not conditioned on "
                    f"{name}: it knows {', '.join(schema.names) or 'nothing'}."
                )
        if len(names) > 1 and value == value_of(schema[names[0]], "yes"):
            raise ValueError(
                f"prompt: {_quote(phrase)} is on which side? Say right, left or "
                "bilateral with it."
            )
        for name in names:
            known = schema[name].parse(value)
            before, earlier = stated.setdefault(name, (known, phrase))
            if known != before:
                raise ValueError(
                    f"prompt: {_quote(earlier)} and {_quote(phrase)} contradict each "
                    f"other: {_show(name, before)} or {_show(name, known)}."
                )
            understood.append((phrase, name, known))
    return understood


def _with_hidden_side(understood: list[Said], schema: Schema) -> list[Said]:
    """Of a single side in view, x_left or x_right of the other is not in view."""
    views = [(phrase, side_of(v)) for phrase, name, v in understood if name == "side"]
    if not views or views[0][1] not in OPPOSITE:
        return understood
    phrase, side = views[0]
    hidden = []
    for field in schema:
        if not field.name.endswith(f"_{OPPOSITE[side]}"):
            continue
        not_in_view = value_of(field, "not in view")
        stated = [entry for entry in understood if entry[1] == field.name]
        if not stated and not_in_view:
            hidden.append((phrase, field.name, not_in_view))
        for other, _, value in stated:
            if value not in (None, not_in_view):
                raise ValueError(
                    f"prompt: {_quote(other)} cannot be seen in {_quote(phrase)}, a "
                    f"view of the {side} side only; ask for both sides."
                )
    return understood + hidden
