"""Numbers as callers and files give them, by type and range; and seeds.

A bool or a text is no number, and 7.0 is not whole; scalars of numpy and jax are what
they hold. Standard library and numpy only.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Set

import numpy as np

MOST_SEED = 2**32 - 1
LARGEST = float(np.finfo(np.float32).max)


def whole(where: str, value: object, least: int = 0, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`; ValueError for anything else."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        bounds = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{where} = {shown(value)}: expected a whole number {bounds}.")
    return number


def finite(where: str, value: object) -> float:
    """`value` as a float; ValueError where it is none, or not finite as float32."""
    if not isinstance(value, bool | np.bool_ | str | bytes):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if abs(number) <= LARGEST:
            return number
    raise ValueError(f"{where} = {shown(value)}: expected a finite number.")


def check_seeds(seeds: Iterable) -> np.ndarray:
    """uint32 [b] of whole numbers from 0 to 2^32 - 1, at least one; ValueError for
    anything else."""
    single = not isinstance(seeds, Iterable) or getattr(seeds, "ndim", 1) == 0
    if single or isinstance(seeds, str | bytes | Mapping | Set):
        raise ValueError(
            f"seeds = {shown(seeds)}: expected a sequence of whole numbers from 0 to "
            f"{MOST_SEED}, e.g. range(8)."
        )
    values = [whole("seed", seed, most=MOST_SEED) for seed in seeds]
    if not values:
        raise ValueError("seeds: expected at least one.")
    return np.array(values, np.uint32)


def shown(value: object) -> str:
    """`value` in a line that says what is wrong with it: on one line, and short."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # of more digits than Python writes
        text = "a very large number"
    return text if len(text) <= 40 else f"{text[:37]}..."
