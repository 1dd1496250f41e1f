"""Augmentation that changes what is asked for together with the image.

A mirrored radiograph of a right hip shows a left one. What a mirror swaps is read off
the schema (`Mirror.of`): fields whose names differ in right and left alone
(prosthesis_right and prosthesis_left, whatever binary_per_side made), and values of a
field that differ so (side: right and left). All else, and "not known", stays. Not
seen by any schema: letters burned into the image, which a mirror reverses. numpy only.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from ddpm_jax.conditions.schema import Categorical, Conditions, Field, Schema

OPPOSITE = {"right": "left", "left": "right"}


@dataclasses.dataclass(frozen=True)
class Mirror:
    """What a left-right mirror does to conditions; doing it twice changes nothing.

    The new value of `field` is the old one of `partners[field]`, whose code c becomes
    `codes[field][c]` where the field is categorical.
    """

    partners: Mapping[str, str]
    codes: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, schema: Schema) -> "Mirror":
        """ValueError for a field or value with a side but without its opposite."""
        partners = {field.name: _partner(field, schema) for field in schema}
        codes = {f.name: _codes(f) for f in schema if isinstance(f, Categorical)}
        return cls(partners, codes)

    def conditions(self, cond: Mapping[str, np.ndarray]) -> Conditions:
        """Those of the mirrored images, of any shape."""
        return {
            name: self._value(name, cond[partner])
            for name, partner in self.partners.items()
        }

    def _value(self, name: str, old: np.ndarray) -> np.ndarray:
        return np.asarray(self.codes[name][old]) if name in self.codes else old

    def __str__(self) -> str:
        """What is swapped, in words; identifies no record."""
        pairs = [f"{a} and {b}" for a, b in self.partners.items() if a > b]
        kept = {
            n: np.flatnonzero(c != np.arange(len(c))) for n, c in self.codes.items()
        }
        sides = [f"the sides of {name}" for name, moved in kept.items() if moved.size]
        return ", ".join(pairs + sides) or "no condition"


def mirror(schema: Schema, image: np.ndarray, cond: Mapping) -> tuple:
    """(image, conditions) as if the patient had been mirrored: image [..., h, w]."""
    return image[..., ::-1], Mirror.of(schema).conditions(cond)


def opposite(text: str) -> str:
    """`text` with the words right and left exchanged, in the case they had."""

    def swap(match):
        word = match[0]
        other = OPPOSITE[word.lower()]
        cases = {word.upper(): other.upper(), word.capitalize(): other.capitalize()}
        return cases.get(word, other)

    return re.sub(r"(?i)(?<![a-z])(?:right|left)(?![a-z])", swap, text)


def _partner(field: Field, schema: Schema) -> str:
    name = opposite(field.name)
    if name == field.name:
        return name
    if name not in schema.names:
        raise ValueError(
            f"{field.name} without {name}, which a mirror makes of it; expected both "
            "fields or neither."
        )
    other = schema[name]
    if dataclasses.replace(other, name=field.name, title=field.title) != field:
        raise ValueError(
            f"{field.name} and {name} have different values, but a mirror exchanges "
            "them; expected the same."
        )
    return name


def _codes(field: Categorical) -> np.ndarray:
    """int32 [1 + values]: the code of the opposite of each code."""
    swapped = [opposite(value) for value in field.values]
    spelt = [value.lower() for value in field.values]
    for value, other in zip(field.values, swapped, strict=True):
        if other.lower() not in spelt:
            raise ValueError(
                f"{field.name} has the value {value!r} without {other!r}, which a "
                "mirror makes of it; expected both or neither."
            )
    codes = [0, *(1 + spelt.index(other.lower()) for other in swapped)]
    return np.array(codes, field.dtype)
