"""Answers: each once, none lost, whatever happens to the process."""

import random
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from ddpm_jax.reader_study.store import Answer, Busy, Store


def answer(position: int, said="real", reader: str = "anna") -> Answer:
    return Answer(reader, position, "0123", "counted", said, 3, 1.5, time.time())


def test_what_goes_in_comes_out(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    store.show("anna", 0)
    said = {"view": "agrees", "age": "cannot tell"}
    assert store.add(answer(0, said)) and store.add(answer(0, "real", "ben"))
    first, second = Store(tmp_path / "a.sqlite").answers()
    assert first._replace(time=0, shown=None) == answer(0, said)._replace(time=0)
    assert first.shown <= first.time and second.shown is None
    assert (store.position("anna"), store.position("carl")) == (1, 0)


def test_the_first_answer_stands_and_none_is_skipped(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    assert store.add(answer(0, "real"))
    assert not store.add(answer(0, "synthetic"))
    with pytest.raises(ValueError, match="position 2: expected 1"):
        store.add(answer(2))
    assert [a.answer for a in store.answers()] == ["real"]


def test_nothing_stored_can_be_changed(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    store.add(answer(0))
    connection = sqlite3.connect(tmp_path / "a.sqlite")
    for change in ("UPDATE answers SET answer = 'x'", "DELETE FROM answers"):
        with pytest.raises(sqlite3.IntegrityError, match="not (changed|deleted)"):
            connection.execute(change)
    connection.close()


def test_many_at_once_store_one(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    stored = []
    for position in range(5):
        together = threading.Barrier(8)

        def send(said, together=together, position=position):
            together.wait()
            stored.append((position, store.add(answer(position, said))))

        threads = [threading.Thread(target=send, args=(f"{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(p for p, new in stored if new) == [0, 1, 2, 3, 4]
    assert [a.position for a in store.answers()] == [0, 1, 2, 3, 4]


def test_a_locked_file_is_busy_and_then_works(tmp_path):
    store = Store(tmp_path / "a.sqlite", wait=0.05)
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked"):
        store.add(answer(0))
    assert store.position("anna") == 0  # WAL: reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert store.add(answer(0))


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 9, None])
def test_a_file_that_is_no_database(tmp_path, content):
    path = tmp_path / "a.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be used for answers"):
        Store(path)


WRITER = """
import sys, time
from ddpm_jax.reader_study.store import Answer, Store
store = Store(sys.argv[1])
for position in range(store.position("anna"), 100_000):
    store.add(Answer("anna", position, "0", "counted", "real", 3, 1.0, time.time()))
    print(position, flush=True)
"""


def test_a_killed_writer_loses_and_doubles_nothing(tmp_path):
    """kill -9 at random moments: what was confirmed is there, in order and once."""
    path, moments, confirmed = tmp_path / "a.sqlite", random.Random(0), -1
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        first = int(process.stdout.readline())
        assert first > confirmed
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        rest = [line for line in process.stdout.read().split("\n")[:-1] if line]
        process.stdout.close()
        process.wait()
        confirmed = int(rest[-1]) if rest else first
        found = [a.position for a in Store(path).answers()]
        assert found == list(range(len(found)))
        assert confirmed + 1 <= len(found) <= confirmed + 2
