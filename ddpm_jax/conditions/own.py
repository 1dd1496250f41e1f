"""A lab's own fields, declared as data: in a config, or in a file for conversion.

    {"kind": "categorical", "name": "kl_right", "values": (0, 1, 2, 3, 4)}
    {"kind": "binary_per_side", "name": "osteophytes"}
    {"kind": "continuous", "name": "joint_space", "unit": "mm",
     "low": 0, "high": 10, "mean": 4, "std": 1}

`title`, what a caption or prompt calls the field, is the name in words by default.
binary_per_side makes two fields, NAME_right and NAME_left, each no or yes. Standard
library and numpy only.
"""

import re
from collections.abc import Mapping, Sequence

from ddpm_jax.conditions.schema import Categorical, Continuous, Field, Schema

NAME = re.compile(r"[a-z][a-z0-9_]*")
NUMBERS = ("low", "high", "mean", "std")
NEEDED = {
    "categorical": ("values",),
    "binary_per_side": (),
    "continuous": ("unit", *NUMBERS),
}
TAKEN = (
    *("file", "patient_id", "sop_instance_uid", "prompt", "seed", "model_sha256"),
    *("record_id", "patient_key", "image", "codec", "bits", "height", "width", "flags"),
    *("content_box", "original_rows", "original_columns", "spacing_mm"),
    *("voi_source", "inverted", "output_hash"),
)
"""Names of what label tables, records and lists of images hold beside conditions."""


def extend(preset: Schema, entries: object, where: str) -> Schema:
    """`preset` with the fields that `entries` declare after its own.

    ValueError, in one line that starts with `where`, for a declaration that cannot be
    read or a name that is there already.
    """
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
        raise ValueError(
            f"{where}: expected a list of fields, each with kind and name."
        )
    fields = list(preset)
    for number, entry in enumerate(entries, start=1):
        try:
            added = _declared(entry)
            for field in added:
                if field.name in (*TAKEN, *(before.name for before in fields)):
                    raise ValueError("this name is taken; expected another.")
        except ValueError as error:
            raise ValueError(f"{where}, {_label(entry, number)}: {error}") from None
        fields += added
    return Schema(tuple(fields))


def _label(entry, number: int) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f"field {number}" + (f" ({name})" if isinstance(name, str) else "")


def _declared(entry) -> list[Field]:
    """The field, or for binary_per_side the two, of one declaration."""
    if not isinstance(entry, Mapping):
        raise ValueError("expected a plain dict with kind and name.")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in NEEDED:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(NEEDED)}.")
    needed = ("kind", "name", *NEEDED[kind])
    missing = [key for key in needed if key not in entry]
    extra = [str(key) for key in entry if key not in (*needed, "title")]
    if missing or extra:
        fault = f"no {missing[0]}" if missing else f"key {extra[0]!r}"
        raise ValueError(f"{fault}: expected {', '.join(needed)}, and title if wanted.")
    name = entry["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"name = {name!r}: expected lower-case letters, digits and _, a letter "
            "first."
        )
    title = entry.get("title", name.replace("_", " "))
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title = {title!r}: expected words.")
    return _fields(kind, name, title, entry)


def _fields(kind: str, name: str, title: str, entry: Mapping) -> list[Field]:
    if kind == "categorical":
        return [Categorical(name, _values(entry["values"]), title)]
    if kind == "binary_per_side":
        return [
            Categorical(f"{name}_{side}", ("no", "yes"), f"{side} {title}")
            for side in ("right", "left")
        ]
    unit = entry["unit"]
    if not isinstance(unit, str):
        raise ValueError(f"unit = {unit!r}: expected a word, or '' for none.")
    numbers = {key: _number(key, entry[key]) for key in NUMBERS}
    return [Continuous(name, unit, title=title, **numbers)]


def _values(values) -> tuple[str, ...]:
    """Whole numbers are spelt out; yes without quotation marks is no string in YAML."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"values = {values!r}: expected a list.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"values = {value!r}: expected words or whole numbers.")
    return tuple(map(str, values))


def _number(key: str, value) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"{key}: expected a number, not {value!r:.40}.") from None
