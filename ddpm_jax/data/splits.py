"""Which split a patient is in: a hash of the patient's key, so never two."""

import hashlib
import re
from collections.abc import Iterable, Mapping


def split_draw(patient_key: bytes) -> float:
    """A number in [0, 1) that is the patient's own; a keyed hash makes it
    unguessable."""
    digest = hashlib.sha256(b"split|" + patient_key).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


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
