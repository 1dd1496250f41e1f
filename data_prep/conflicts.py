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
    """Per field, how many files could be compared and how many disagreed."""

    def __init__(self):
        self.compared, self.disagreed = Counter(), Counter()

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


def said_by_header(header: Header) -> dict:
    """Conditions as the header states them; None where it does not."""
    age = re.fullmatch(r"(\d{1,3})([DWMY])", header.age)
    return {
        "sex": SEX.get(header.sex),
        "age": int(age[1]) * AGE_UNITS[age[2]] if age else None,
        "view": VIEW.get(header.view),
        "side": SIDE.get(header.laterality),
    }
