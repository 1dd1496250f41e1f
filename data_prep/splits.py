"""Which split a patient is in: a keyed hash of the patient, so never two."""

import re
from collections.abc import Iterable, Mapping

from data_prep.deidentify import split_draw


def parse_splits(entries: Iterable[str]) -> dict[str, float]:
    """{"train": 0.8, …} from "train=0.8", …: shares above 0 that add up to 1."""
    shares = {}
    for entry in entries:
        name, _, share = entry.partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in shares:
            raise ValueError(
                f"--splits: {entry!r}: expected name=share, each name once, in small "
                "letters, digits and _."
            )
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = 0
        if not 0 < shares[name] <= 1:
            raise ValueError(
                f"--splits: {entry!r}: expected a share above 0 and at most 1."
            )
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(
            f"--splits: the shares add up to {sum(shares.values()):g}: expected 1."
        )
    return shares


def split_of(patient_key: bytes, shares: Mapping[str, float]) -> str:
    """The split of a patient; each holds its share of patients in expectation."""
    draw, upper = split_draw(patient_key), 0.0
    for name, share in shares.items():
        upper += share
        if draw < upper:
            return name
    return name


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
