"""Header against label table: the table wins, and how often they disagree is told."""

import re
from collections import Counter
from collections.abc import Mapping

from data_prep.dicom import Header

SEX = {"F": "F", "M": "M", "O": "other"}
SIDE = {"R": "right", "L": "left", "B": "both"}
LATERAL = ("LL", "RL", "LLD", "RLD", "LATERAL", "LAT", "ML", "LM")
OBLIQUE = ("LLO", "RLO", "LPO", "RPO", "LAO", "RAO", "OBLIQUE", "OBL")
VIEW = (
    {"AP": "AP"} | dict.fromkeys(LATERAL, "lateral") | dict.fromkeys(OBLIQUE, "oblique")
)
AGE_UNITS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


class Tally:
    """Per field, how many files could be compared and how many disagreed.

    `confusion` counts (label, header) of every file that could be compared. For age
    these are the label's decade and where the header lies, in years from the label.
    """

    def __init__(self):
        self.compared, self.disagreed = Counter(), Counter()
        self.confusion: dict[str, Counter[tuple[str, str]]] = {}

    def add(self, header: Header, row: Mapping) -> bool:
        """Whether the header of one file contradicts its label row."""
        stated = said_by_header(header)
        conflict = False
        for name, value in stated.items():
            label = row.get(name)
            if value is None or label is None:
                continue
            differs = abs(label - value) > 1 if name == "age" else label != value
            self.compared[name] += 1
            self.disagreed[name] += differs
            cell = _ages(label, value) if name == "age" else (label, value)
            self.confusion.setdefault(name, Counter())[cell] += 1
            conflict |= differs
        return conflict

    def check(self, most: float) -> None:
        """ValueError where more than a share `most` of a field's files disagree: then
        the table probably belongs to other images."""
        for name, count in self.disagreed.items():
            if count > most * self.compared[name]:
                raise ValueError(
                    f"LABEL_CONFLICT: column {name} contradicts the DICOM header in "
                    f"{count} of {self.compared[name]} files: expected at most "
                    f"{most:.0%} (--max_conflict)."
                )

    def to_json(self) -> dict:
        return {
            name: {"compared": count, "conflicts": self.disagreed[name]}
            for name, count in sorted(self.compared.items())
        }


def _ages(label, header):
    """(decade, difference in years); from 90 on one class, as in the shards."""
    low = int(label // 10 * 10)
    decade = f"{low} to {low + 9}" if low < 90 else "90 and over"
    years = header - label
    if abs(years) <= 1:
        return decade, "within 1"
    distance = "1 to 10" if abs(years) <= 10 else "over 10"
    return decade, f"{distance} {'above' if years > 0 else 'below'}"


def said_by_header(header: Header) -> dict:
    """Conditions as the header states them; None where it does not."""
    age = re.fullmatch(r"(\d{1,3})([DWMY])", header.age)
    return {
        "sex": SEX.get(header.sex),
        "age": int(age[1]) * AGE_UNITS[age[2]] if age else None,
        "view": VIEW.get(header.view),
        "side": SIDE.get(header.laterality),
    }
