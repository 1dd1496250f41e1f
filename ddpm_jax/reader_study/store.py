"""The answers, in SQLite: each is on disk before the reader sees the next image.

WAL with synchronous = FULL, so that neither a killed process nor a power cut loses a
stored answer. One answer to a position, the first; nothing is ever changed.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ddpm_jax.reader_study.study import STUDY, Showing, Study

TABLES = """
CREATE TABLE IF NOT EXISTS shown (
  reader TEXT NOT NULL, position INTEGER NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (reader, position)
) STRICT;
CREATE TABLE IF NOT EXISTS answers (
  reader TEXT NOT NULL, position INTEGER NOT NULL, image TEXT NOT NULL,
  kind TEXT NOT NULL, answer TEXT NOT NULL, confidence INTEGER NOT NULL,
  seconds REAL NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (reader, position)
) STRICT;
CREATE TRIGGER IF NOT EXISTS kept BEFORE UPDATE ON answers
  BEGIN SELECT RAISE(ABORT, 'an answer is not changed'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON answers
  BEGIN SELECT RAISE(ABORT, 'an answer is not deleted'); END;
"""


class Busy(Exception):
    """The file is locked, full, gone or damaged; nothing was stored. A lock ends
    by itself."""


class Answer(NamedTuple):
    """One answer: `seconds` while the image was visible, as the browser counts;
    `time` when it was stored and `shown` when the image was first asked for, both in
    seconds since 1970 by the server's clock."""

    reader: str
    position: int
    image: str
    kind: str
    answer: str | dict
    confidence: int
    seconds: float
    time: float
    shown: float | None = None


class Store:
    """The answers of one study; safe from several threads and processes at once."""

    def __init__(self, path: str | Path, wait: float = 5.0):
        self.path, self.wait = Path(path).absolute(), wait
        try:
            with self._open("rwc") as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(TABLES)
                damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if damage != "ok":
                    raise Busy("damaged")
        except (sqlite3.DatabaseError, Busy) as error:
            raise ValueError(
                f"{path}: cannot be used for answers ({error}); expected a SQLite "
                "file of this program, on a local disk, in a folder open to writing."
            ) from None

    def position(self, reader: str) -> int:
        """How many images the reader has answered: the place of the next one."""
        with self._open() as connection:
            return _position(connection, reader)

    def show(self, reader: str, position: int) -> None:
        """Note when an image was first asked for."""
        with self._open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO shown VALUES (?, ?, ?)",
                (reader, position, time.time()),
            )

    def add(self, answer: Answer) -> bool:
        """Store it and return True; False where the position has one already, which
        then stands. ValueError for a position that is not yet to be answered."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            place = _position(connection, answer.reader)
            if answer.position > place:
                connection.execute("ROLLBACK")
                raise ValueError(f"position {answer.position}: expected {place}.")
            if answer.position == place:
                text = json.dumps(answer.answer, sort_keys=True)
                row = answer._replace(answer=text)[:-1]
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO answers VALUES ({marks})", row)
            connection.execute("COMMIT")
        return answer.position == place

    def answers(self) -> list[Answer]:
        """All answers, by reader and position."""
        query = (
            "SELECT a.*, s.time FROM answers a LEFT JOIN shown s USING (reader, "
            "position) ORDER BY reader, position"
        )
        with self._open() as connection:
            rows = [Answer(*row) for row in connection.execute(query)]
        return [row._replace(answer=json.loads(row.answer)) for row in rows]

    @contextlib.contextmanager
    def _open(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A connection of its own; Busy where the file cannot be used just now. Only
        `rwc` makes one: in place of a file that was moved away, none is begun anew."""
        address = f"{self.path.as_uri()}?mode={mode}"
        try:
            connection = sqlite3.connect(
                address, timeout=self.wait, isolation_level=None, uri=True
            )
            with contextlib.closing(connection):
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.DatabaseError as error:
            raise Busy(str(error)) from None


def _position(connection: sqlite3.Connection, reader: str) -> int:
    query = "SELECT count(*) FROM answers WHERE reader = ?"
    return connection.execute(query, (reader,)).fetchone()[0]


def answers_to(study: Study, store: Store) -> list[Answer]:
    """All answers; ValueError where they cannot be read, or one is of another study."""
    try:
        found = store.answers()
    except Busy as error:
        raise ValueError(f"{store.path}: cannot be read now ({error}).") from None
    for one in found:
        sequence = study.sequences.get(one.reader, ())
        if not (
            one.position < len(sequence)
            and sequence[one.position] == Showing(one.image, one.kind)
        ):
            raise ValueError(
                f"{store.path}: answers of another study than the {STUDY} beside it."
            )
    return found
