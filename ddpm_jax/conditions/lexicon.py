"""The words of a prompt: which spans of tokens name a field, a value, a side or a unit.

The tables are data, in alternatives written as a prompt would have them; every
schema adds the names, titles, values and units of its own fields.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.conditions.schema import Categorical, Continuous, Field, Schema

Words = tuple[str, ...]


def _each(*choices: str) -> str:
    """Every sequence of one alternative (a|b) from each choice."""
    alternatives = (choice.split("|") for choice in choices)
    return "|".join(" ".join(words) for words in itertools.product(*alternatives))


SIDES = {
    "right": _each("right|rt|rt.|r", "|hip|side|sided"),
    "left": _each("left|lt|lt.|l", "|hip|side|sided"),
    "both": _each("both|bilateral|right and left|left and right", "|hips|sides")
    + "|bilateral hip|bilateral pelvis|whole pelvis",
}
IMPLANTS = "prosthesis|prostheses|implant|implants|arthroplasty|arthroplasties"
IMPLANTS = _each("|hip|total hip", IMPLANTS + "|replacement|replacements")

SYNONYMS = {
    "": (
        "yes|present|true",
        "no|absent|none|false",
        "not in view|not in the view|not visible|not shown|out of view|outside view",
        "years|year|yrs|yr|y",
        "kg/m2|kg/m^2|kg per m2",
    ),
    "view": (
        "view|projection",
        "AP|A-P|A.P.|anteroposterior|antero-posterior|frontal",
        "PA|P-A|P.A.|posteroanterior|postero-anterior|frontal",
        "lateral|lat|cross-table|cross-table lateral|frog-leg lateral|Lauenstein",
        "oblique|Judet|iliac oblique|obturator oblique|Judet oblique",
    ),
    "side": ("side|laterality", *SIDES.values()),
    "prosthesis": (IMPLANTS + "|THA|THAs|THR|THRs|hemiarthroplasty",),
    "sex": (
        "sex|gender",
        "F|female|woman|lady|she|her|yoF",
        "M|male|man|gentleman|he|his|yoM",
    ),
    "age": ("age|aged", "years|years old|year old|yo|y/o|y.o.|years of age"),
    "bmi": ("BMI|body mass index",),
}
"""Groups of words that mean the same: for every field, and for the field of a name.

A group counts where the field has one of its words as its name, a value or its unit.
"""

AMOUNTS = {
    ("age", "years"): {
        **{25: "twenties|20s", 35: "thirties|30s", 45: "forties|40s"},
        **{55: "fifties|50s", 65: "sixties|60s", 75: "seventies|70s"},
        **{85: "eighties|80s", 95: "nineties|90s"},
    },
    ("bmi", "kg/m2"): {
        17: "underweight",
        22: "normal weight|normal BMI",
        27.5: "overweight",
        32.5: "obese|obesity|" + _each("class 1|class I", "obesity"),
        37.5: _each("class 2|class II", "obesity"),
        42.5: "morbidly obese|morbid obesity|" + _each("class 3|class III", "obesity"),
    },
}
"""Words for amounts of a (field, unit): the middle of the decade; about the middle of
the WHO's class of body mass index (bounds 18.5, 25, 30, 35, 40; obese is class I)."""

ABSENCES = {"prosthesis": _each("native", "|hip|hips")}
"""Words that deny a finding by themselves."""

CLOSED = {
    "no": "no|without|without any|w/o|no evidence of|no signs of",
    "unknown": "unknown|not known|not stated",
    "link": "=|" + _each("is|of|on|in|is on|is in", "|the"),
    "filler": ",|;|.|a|an|the|of|in|and|with|has|is|for|showing|s/p|status post|patient"
    "|hip|hips|hip joint|hip joints|pelvis|pelvic|view|projection|image|film|picture"
    "|radiograph|x-ray|xray|nothing stated",
}
"""Words that no schema changes, by kind of term."""

PLAIN = str.maketrans("²³−–—‐‑:", "23-----=")
TOKEN = re.compile(
    r"(?:(?<![\w)\]-])-)?\d+(?:\.\d+)?(?:e[+-]?\d+)?"  # -5, but no minus in 60-70
    r"|[^\W\d_]+|[^\w\s()\[\]\"'/-]",
    re.IGNORECASE,
)


class Term(NamedTuple):
    """What a span of tokens can be; a field x_* is x_right or x_left, side unsaid."""

    kind: str
    fields: tuple[str, ...] = ()
    value: object = None


def tokenize(text: str) -> list[re.Match]:
    """Numbers, words and marks, where they stand in `text`.

    Space, hyphens, slashes, brackets, quotes and underscores only separate.
    """
    return list(TOKEN.finditer(text.translate(PLAIN)))


def words(text: str) -> Words:
    return tuple(token.group().lower() for token in tokenize(text))


@functools.lru_cache
def _alternatives(text: str) -> tuple[Words, ...]:
    return tuple(words(alternative) for alternative in text.split("|"))


def _spellings(owner: str, word: str) -> set[Words]:
    """`word` and its synonyms for the field named `owner`."""
    groups = map(_alternatives, SYNONYMS[""] + SYNONYMS.get(owner, ()))
    return {words(word)}.union(*(group for group in groups if words(word) in group))


def value_of(field: Field, word: str) -> str | None:
    """The value of `field` that means `word`, such as its "yes", or None."""
    for value in field.values if isinstance(field, Categorical) else ():
        if words(word) in _spellings(field.name, value):
            return value
    return None


def side_of(value: str | None) -> str | None:
    """right, left or both, however a schema spells it."""
    spelt = words(value or "")
    return next((s for s in SIDES if spelt in _alternatives(SIDES[s])), None)


def _units(field: Field) -> set[Words]:
    return _spellings(field.name, getattr(field, "unit", ""))


def _pairs(fields: list[Field]) -> Iterator[Field]:
    """Of each pair of yes-no fields x_right and x_left the field x_*."""
    polar = {f.name: f for f in fields if value_of(f, "yes") and value_of(f, "no")}
    for name, field in polar.items():
        stem = name.removesuffix("_right")
        if stem != name and f"{stem}_left" in polar:
            yield dataclasses.replace(field, name=f"{stem}_*", title=stem)


def _categorical_terms(field: Categorical, owner: str) -> Iterator[tuple[Words, Term]]:
    own = {words(value): value for value in field.values}
    for value in field.values:
        for word in _spellings(owner, value):
            if own.get(word, value) != value:
                continue
            yield word, Term("value", (field.name,), value)
            if field.stands_alone(value):
                yield word, Term("bare", (field.name,), value)
            if owner == "sex":
                yield word, Term("sex", (), value)


def _continuous_terms(field: Continuous, owner: str) -> Iterator[tuple[Words, Term]]:
    units = _units(field)
    for unit in units:
        yield unit, Term("unit", (field.name,))
    for (name, unit), amounts in AMOUNTS.items():
        if name == owner and words(unit) in units:
            for amount, text in amounts.items():
                for word in _alternatives(text):
                    yield word, Term("bare", (field.name,), float(amount))
                    yield word, Term("value", (field.name,), float(amount))


def _field_terms(field: Field) -> Iterator[tuple[Words, Term]]:
    """The words that name `field`, its values, amounts and units."""
    owner = field.name.removesuffix("_*")
    kinds = {"name": None}
    if isinstance(field, Continuous):
        yield from _continuous_terms(field, owner)
        kinds["amount"] = None
    else:
        yield from _categorical_terms(field, owner)
        yes, no = value_of(field, "yes"), value_of(field, "no")
        if yes and no:
            kinds |= {"finding": yes, "denial": no}
            for word in _alternatives(ABSENCES.get(owner, "")):
                yield word, Term("finding", (field.name,), no)
    for name in _spellings(owner, owner) | _spellings(owner, field.title):
        for kind, value in kinds.items():
            yield name, Term(kind, (field.name,), value)


@functools.lru_cache(maxsize=16)
def lexicon(schema: Schema) -> dict[Words, tuple[Term, ...]]:
    """What each span of tokens can be, for prompts about `schema`.

    Fields of the preset that the schema lacks are in it, to be refused by name.
    """
    fields = [*schema, *(field for field in PELVIS if field.name not in schema.names)]
    entries = [e for f in (*fields, *_pairs(fields)) for e in _field_terms(f)]
    if not any(f.name == "age" and ("years",) in _units(f) for f in fields):
        entries = [(word, term) for word, term in entries if term.kind != "sex"]
    for kind, text in CLOSED.items():
        entries += [(word, Term(kind)) for word in _alternatives(text)]
    for side, text in SIDES.items():
        entries += [(word, Term("side", (), side)) for word in _alternatives(text)]
    terms: dict[Words, dict[Term, None]] = {}
    for word, term in entries:
        terms.setdefault(word, {})[term] = None
    terms.pop((), None)
    return {word: tuple(kinds) for word, kinds in terms.items()}
