"""No patient is in two splits."""

from collections.abc import Iterable, Mapping


def check_disjoint(patients: Mapping[str, Iterable[str]]) -> None:
    """ValueError SPLIT_LEAK where a patient is in two splits."""
    seen = {}
    for split, keys in patients.items():
        for key in set(keys):
            other = seen.setdefault(key, split)
            if other != split:
                raise ValueError(
                    f"SPLIT_LEAK: a patient is in {other} and in {split}; expected "
                    "each in one split."
                )
