"""Keys of a config: names that mean something, options, numbers in their range."""

import inspect
from collections.abc import Callable, Mapping

import numpy as np
from ml_collections import ConfigDict


def pick(table: Mapping, name, where: str):
    """table[name], or a ValueError that says what `where` may be."""
    if name not in table:
        allowed = ", ".join(map(str, sorted(table)))
        raise ValueError(f"{where} = {name!r}: expected one of {allowed}.")
    return table[name]


def call(function: Callable, options: Mapping, where: str, **given):
    """function(**options, **given), its keywords checked against its signature."""
    signed = function.__init__ if inspect.isclass(function) else function
    parameters = inspect.signature(signed).parameters
    allowed = sorted(set(parameters) - set(given) - {"self"})
    for name in options:
        if name not in allowed:
            raise ValueError(
                f"{where}.{name}: no such key; expected some of {', '.join(allowed)}."
            )
    needed = [n for n in allowed if parameters[n].default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in options]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}.")
    return function(**options, **given)


def named(options: ConfigDict, where: str) -> tuple[str, dict]:
    options = dict(options)
    if "name" not in options:
        raise ValueError(f"{where}.name: missing.")
    return options.pop("name"), options


def whole(where: str, value, low: int) -> None:
    """ValueError unless `value` is a whole number from `low`, or a tuple of them."""
    parts = value if isinstance(value, tuple | list) else (value,)
    if not parts or not all(isinstance(n, int) and n >= low for n in parts):
        raise ValueError(f"{where} = {value}: expected whole numbers from {low}.")


def within(where: str, value: float, low: float, high: float) -> None:
    """ValueError for a number out of [low, high]; NaN is out."""
    if not low <= value <= high:
        top = "or more" if high == np.inf else f"to {high:g}"
        raise ValueError(f"{where} = {value}: expected {low:g} {top}.")
