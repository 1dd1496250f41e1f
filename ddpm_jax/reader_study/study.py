"""The files of a study: what the server may know, and what only the analysis may.

    OUT/study.json       protocol, sequences, claims to judge, truth of practice images
    OUT/images/ID.gray   little-endian uint16, all of one length
    OUT/readers.json     reader -> token of the link
    OUT/answers.sqlite   made by the server
    OUT.private/         key.json (the truth) and the audit of the blinding

OUT alone is enough to serve.
"""

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

VERSION = 1
STUDY, READERS, IMAGES, ANSWERS, KEY = (
    *("study.json", "readers.json", "images", "answers.sqlite", "key.json"),
)
REAL_OR_SYNTHETIC, LABELS = PROTOCOLS = ("real_or_synthetic", "label_discrepancy")
SEAL = "sha256"
TRAINING, COUNTED, REPEAT = "training", "counted", "repeat"
REAL, SYNTHETIC = TRUTHS = ("real", "synthetic")
AGREES, DIFFERS, UNSURE = VERDICTS = ("agrees", "differs", "cannot tell")


@dataclasses.dataclass(frozen=True)
class Showing:
    """One image of a reader's sequence: `kind` is training, counted or repeat."""

    image: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Study:
    """All that a server needs. `fields` are (name, title) to be judged, `claims[id]`
    what is said of an image, field by field; `feedback[id]` the truth of a practice
    image: real or synthetic, or the field whose label is wrong ("" for none)."""

    protocol: str
    height: int
    width: int
    levels: int
    fields: tuple[tuple[str, str], ...]
    claims: Mapping[str, Mapping[str, str]]
    feedback: Mapping[str, str]
    sequences: Mapping[str, tuple[Showing, ...]]
    version: int = VERSION

    @property
    def images(self) -> list[str]:
        """All that some reader sees, by name."""
        shown = (one.image for members in self.sequences.values() for one in members)
        return sorted(set(shown))

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping) -> "Study":
        sequences = {
            reader: tuple(Showing(**one) for one in members)
            for reader, members in content["sequences"].items()
        }
        fields = tuple((name, title) for name, title in content["fields"])
        return cls(**(dict(content) | {"sequences": sequences, "fields": fields}))

    def check(self, image: str, answer: object, confidence: object) -> None:
        """ValueError unless the protocol allows this answer to this image."""
        if type(confidence) is not int or not 1 <= confidence <= 5:
            raise ValueError("confidence: expected a whole number from 1 to 5.")
        if self.protocol == REAL_OR_SYNTHETIC:
            if answer not in TRUTHS:
                raise ValueError(f"answer: expected one of {', '.join(TRUTHS)}.")
        elif not (
            isinstance(answer, dict)
            and set(answer) == set(self.claims[image])
            and all(verdict in VERDICTS for verdict in answer.values())
        ):
            raise ValueError(
                f"answer: expected one of {', '.join(VERDICTS)} for each field."
            )


@dataclasses.dataclass(frozen=True)
class Truth:
    """Of one image: real or synthetic, where it came from, and the field whose claim
    was made wrong on purpose ("" for none)."""

    truth: str
    source: str
    planted: str = ""


def write_private(path: Path, content: object) -> None:
    """JSON that its owner alone may read, whole or not there."""
    pending = path.with_name(f".{path.name}.partial")
    with open(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        json.dump(content, f, indent=1)
        f.write("\n")
    os.replace(pending, path)


def new_token() -> str:
    """192 bits from the operating system: a link that nobody can guess."""
    return secrets.token_urlsafe(24)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(content: Mapping) -> dict:
    """With the SHA-256 of all else, by which `load` sees that a file was edited."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    text = json.dumps(rest, sort_keys=True).encode()
    return rest | {SEAL: hashlib.sha256(text).hexdigest()}


def load(folder: str | Path) -> Study:
    """The study of a folder; ValueError where there is none, or not all of it."""
    content = _read(Path(folder) / STUDY)
    try:
        if content["version"] != VERSION:
            raise ValueError(
                f"{folder}: study version {content['version']!r}; this program reads "
                f"{VERSION}."
            )
        if seal(content)[SEAL] != content[SEAL]:
            raise ValueError(
                f"{Path(folder) / STUDY}: changed since it was designed; copy the "
                "folder of the design again."
            )
        study = Study.from_json(
            {name: value for name, value in content.items() if name != SEAL}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{Path(folder) / STUDY}: not a study ({type(error).__name__}); design it "
            "again."
        ) from None
    length = study.height * study.width * 2
    for image in study.images:
        path = image_path(folder, image)
        if not path.is_file() or path.stat().st_size != length:
            raise ValueError(
                f"{path}: missing or damaged; expected {length} bytes. Copy the "
                "folder of the design again."
            )
    return study


def load_tokens(folder: str | Path, study: Study) -> dict[str, str]:
    """Reader to token; ValueError unless every reader has one of their own."""
    path = Path(folder) / READERS
    tokens = _read(path)
    if (
        not isinstance(tokens, dict)
        or set(tokens) != set(study.sequences)
        or len(set(map(str, tokens.values()))) < len(tokens)
        or not all(isinstance(t, str) and len(t) >= 22 for t in tokens.values())
    ):
        raise ValueError(
            f"{path}: expected a token of 22 or more characters for each of "
            f"{', '.join(study.sequences)}."
        )
    return tokens


def load_key(folder: str | Path, private: str | Path) -> dict[str, Truth]:
    """The truth by image; ValueError unless it is that of this study."""
    path = Path(private) / KEY
    content = _read(path)
    try:
        truths = {image: Truth(**one) for image, one in content["truth"].items()}
        same = content["study_sha256"] == digest(Path(folder) / STUDY)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not the key of a study.") from None
    if not same:
        raise ValueError(
            f"{path}: the key of another study, or {Path(folder) / STUDY} was changed."
        )
    missing = [image for image in load(folder).images if image not in truths]
    wrong = [image for image, one in truths.items() if one.truth not in TRUTHS]
    if missing or wrong:
        raise ValueError(
            f"{path}: changed since it was designed ({len(missing)} images missing, "
            f"{len(wrong)} neither {' nor '.join(TRUTHS)})."
        )
    return truths


def image_path(folder: str | Path, image: str) -> Path:
    return Path(folder) / IMAGES / f"{image}.gray"


def private_folder(folder: str, given: str | None) -> Path:
    return Path(given) if given else Path(f"{str(folder).rstrip('/')}.private")


def _read(path: Path):
    if not path.is_file():
        raise ValueError(
            f"{path}: not there; expected what `python -m ddpm_jax.reader_study "
            "design` writes."
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: no readable JSON ({error}).") from None
