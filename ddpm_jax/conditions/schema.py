"""What an image is conditioned on: named fields in which "not known" is a value.

A *row* is a mapping from field name to a plain value (str, float or None = not
known); an absent field is not known. *Conditions* are the same in arrays, one of
shape [b] per field: int32 codes with 0 = not known for a categorical field, float32
with NaN = not known for a continuous one. Standard library and numpy only.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ddpm_jax.conditions.numeric import finite, shown

VERSION = 1
"""Of `Schema.to_json` and of the codes: a change that makes old ones mean something
else raises it, and folders of another version are refused."""

UNKNOWN = ("", "unknown", "not known")
ANSWERS = ("yes", "no", "true", "false", "present", "absent", "none")

Row = Mapping[str, object]
Conditions = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of `values`; code 0 is "not known", code i is `values[i - 1]`."""

    name: str
    values: tuple[str, ...]
    title: str

    kind = "categorical"
    dtype = np.int32
    unknown = 0

    def __post_init__(self):
        spelt = [value.strip().lower() for value in map(str, self.values)]
        if not spelt or len(set(spelt)) < len(spelt) or set(spelt) & set(UNKNOWN):
            raise ValueError(
                f"{self.name}: values = {self.values!r}: expected one or more, of "
                f"different spelling, and none of {', '.join(map(repr, UNKNOWN))}."
            )
        if any(value != str(value).strip() for value in self.values):
            raise ValueError(
                f"{self.name}: values = {self.values!r}: expected strings without "
                "space around them."
            )

    def parse(self, value) -> str | None:
        """The canonical spelling of `value`; None, '' and 'unknown' are not known.

        Raises ValueError, naming what is allowed, for anything else.
        """
        text = "" if value is None else str(value).strip().lower()
        if text in UNKNOWN:
            return None
        for known in self.values:
            if text == known.lower():
                return known
        allowed = ", ".join(self.values)
        raise ValueError(
            f"{self.name} = {shown(value)}: expected one of {allowed}, or nothing for "
            "not known."
        )

    def stands_alone(self, value: str) -> bool:
        """Whether `value` says what it is about: lateral does; yes, 2, other do not."""
        answers = any(known.lower() in ANSWERS for known in self.values)
        wordless = not any(map(str.isalpha, value))
        return not (answers or wordless or value.lower() == "other")

    def encode(self, value) -> int:
        known = self.parse(value)
        return 0 if known is None else 1 + self.values.index(known)

    def decode(self, code) -> str | None:
        return self.values[int(code) - 1] if code else None

    def caption(self, value) -> str:
        if value is None:
            return f"{self.title} not known"
        return value if self.stands_alone(value) else f"{self.title}: {value}"


@dataclasses.dataclass(frozen=True)
class Continuous:
    """A number in [low, high] in `unit`; NaN is "not known".

    `mean` and `std` standardise it for the network: constants of the schema, so that
    a model and its exported sampler agree without seeing a data set.
    """

    name: str
    unit: str
    low: float
    high: float
    mean: float
    std: float
    title: str

    kind = "continuous"
    dtype = np.float32
    unknown = math.nan

    def __post_init__(self):
        numbers = (self.low, self.high, self.mean, self.std)
        if not (all(map(math.isfinite, numbers)) and self.low < self.high):
            raise ValueError(
                f"{self.name}: low = {self.low!r}, high = {self.high!r}, mean = "
                f"{self.mean!r}: expected finite numbers with low < high."
            )
        if self.std <= 0:
            raise ValueError(
                f"{self.name}: std = {self.std!r}: expected a number above 0."
            )

    def parse(self, value) -> float | None:
        """`value` as a float; None, '', 'unknown' and NaN are not known.

        Raises ValueError for what is no number or lies outside [low, high].
        """
        text = "" if value is None else str(value).strip().lower()
        if text in (*UNKNOWN, "nan"):
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        if not self.low <= number <= self.high:
            unit = f" {self.unit}" if self.unit else ""
            raise ValueError(
                f"{self.name} = {shown(value)}: expected a number from {self.low:g} to "
                f"{self.high:g}{unit}, or nothing for not known."
            )
        return number

    def encode(self, value) -> float:
        number = self.parse(value)
        return math.nan if number is None else number

    def decode(self, number) -> float | None:
        if math.isnan(number):
            return None
        return float(f"{number:.6g}")  # float32's digits: 30.9, not 30.899999618

    def caption(self, value) -> str:
        if value is None:
            return f"{self.title} not known"
        return " ".join(filter(None, (self.title, f"{value:g}", self.unit)))


Field = Categorical | Continuous
KINDS = {kind.kind: kind for kind in (Categorical, Continuous)}


def _field(entry: object) -> Field:
    """One field of a schema's JSON, each value of its type."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"schema field {shown(entry)}: expected an object with kind.")
    entry = dict(entry)
    kind, label = entry.pop("kind", None), f"schema field {shown(entry.get('name'))}"
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"schema field kind = {shown(kind)}: expected one of "
            f"{', '.join(sorted(KINDS))}."
        )
    expected = [part.name for part in dataclasses.fields(KINDS[kind])]
    if set(entry) != set(expected):
        names = ", ".join(shown(name)[1:-1] for name in list(entry)[:20])
        raise ValueError(f"{label} has {names}: expected kind, {', '.join(expected)}.")
    for key, value in entry.items():
        if key in ("name", "title", "unit"):
            if not isinstance(value, str) or (key != "unit" and not value):
                raise ValueError(f"{label}: {key} = {shown(value)}: expected a word.")
        elif key == "values":
            words = isinstance(value, list | tuple) and value
            if not words or not all(isinstance(word, str) for word in value):
                raise ValueError(
                    f"{label}: values = {shown(value)}: expected a list of words."
                )
            entry[key] = tuple(value)
        else:
            finite(f"{label}: {key}", value)
    try:
        return KINDS[kind](**entry)
    except ValueError as error:
        raise ValueError(f"schema field {error}") from None


@dataclasses.dataclass(frozen=True)
class Schema:
    """The ordered fields of a data set, a model or an exported sampler."""

    fields: tuple[Field, ...]

    def __post_init__(self):
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                f"schema fields = {', '.join(self.names)}: expected each name once."
            )

    def __iter__(self):
        return iter(self.fields)

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise ValueError(
            f"field {shown(name)} is not in the schema: expected one of "
            f"{', '.join(self.names)}."
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def select(self, names: Sequence[str]) -> "Schema":
        """The schema of `names`, in the order of this schema."""
        chosen = {self[name].name for name in names}
        return Schema(tuple(field for field in self if field.name in chosen))

    def parse(self, row: Row) -> dict[str, str | float | None]:
        """A full row of canonical values; fields that `row` lacks are not known."""
        for name in row:
            self[name]
        return {field.name: field.parse(row.get(field.name)) for field in self}

    def encode(self, rows: Sequence[Row]) -> Conditions:
        """Rows to conditions, one array of shape [len(rows)] per field."""
        parsed = [self.parse(row) for row in rows]
        return {
            field.name: np.array(
                [field.encode(row[field.name]) for row in parsed], field.dtype
            )
            for field in self
        }

    def decode(self, conditions: Mapping[str, np.ndarray]) -> list[dict]:
        """Conditions to full rows; the inverse of `encode`."""
        columns = {
            field.name: [field.decode(x) for x in np.asarray(conditions[field.name])]
            for field in self
        }
        if not columns:
            return []
        return [
            dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]

    def coarse(self, row: Row) -> dict:
        """`row` with numbers rounded to 5: what a picture may say of a real patient."""
        full = self.parse(row)
        numbers = {f.name for f in self if f.kind == "continuous"}
        return {
            name: 5.0 * round(value / 5)
            if name in numbers and value is not None
            else value
            for name, value in full.items()
        }

    def unknown(self, count: int) -> Conditions:
        """Conditions in which nothing is known: guidance's null."""
        return {
            field.name: np.full(count, field.unknown, field.dtype) for field in self
        }

    def caption(self, row: Row) -> str:
        """What is known of `row` in one line, for a person."""
        known = {name: v for name, v in self.parse(row).items() if v is not None}
        words = [self[name].caption(value) for name, value in known.items()]
        return ", ".join(words) or "nothing stated"

    def to_json(self) -> list[dict]:
        return [{"kind": f.kind} | dataclasses.asdict(f) for f in self]

    @classmethod
    def from_json(cls, entries: object) -> "Schema":
        """The inverse of `to_json`; ValueError for what `to_json` cannot have made."""
        if not isinstance(entries, list | tuple):
            raise ValueError(f"schema = {shown(entries)}: expected a list of fields.")
        return cls(tuple(map(_field, entries)))

    def __str__(self) -> str:
        return json.dumps(self.to_json())
