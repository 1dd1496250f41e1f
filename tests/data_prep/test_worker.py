"""The child is limited, its word is checked, and its death costs one file."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep import child, picture, worker
from data_prep.codes import Rejected
from data_prep.worker import Reading, Worker
from tests.dicoms import noise, read, save

READING = Reading(32)


@pytest.fixture
def hostile():
    one = Worker(seconds=1, module="tests.data_prep.hostile_child")
    yield one
    one.close()


@pytest.fixture(scope="module")
def good():
    one = Worker()
    yield one
    one.close()


def ask(one: Worker, path, word: bytes | None = None):
    if word is not None:
        path.write_bytes(word)
    with path.open("rb") as file:
        return one.picture(file, READING)


@pytest.mark.parametrize(
    "word, code",
    [
        (b"segv", "CRASH"),
        (b"hang", "TIMEOUT"),
        (b"alarm", "TIMEOUT"),
        (b"kill", "OOM"),
        (b"memory", "OOM"),
        (b"noise", "CRASH"),
        (b"flood", "CRASH"),
        (b"lies", "CRASH"),
        (b"code", "CRASH"),
    ],
)
def test_whatever_a_file_does_costs_one_file(hostile, tmp_path, word, code):
    started = time.monotonic()
    with pytest.raises(Rejected, match=f"^{code}$"):
        ask(hostile, tmp_path / "bad", word)
    assert time.monotonic() - started < 30
    with pytest.raises(Rejected, match="^BLANK$"):
        ask(hostile, tmp_path / "good", b"good")


def test_child_gives_the_picture_of_this_process(good, tmp_path):
    path = save(tmp_path / "a.dcm", noise(1, (40, 30)), PixelSpacing=[0.2, 0.2])
    found, expected = ask(good, path), picture.fit(read(path), 32, 12)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert found._replace(pixels=0) == expected._replace(pixels=0)


def test_child_lives_within_its_limits(good, tmp_path):
    ask(good, save(tmp_path / "a.dcm", noise(1)))
    number = good._process.pid
    for limit, most in child.LIMITS.items():
        assert resource.prlimit(number, limit) == (most, most)
    environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0] for entry in environment if entry}
    assert names == {b"PYTHONPATH", b"OMP_NUM_THREADS", b"OPENBLAS_NUM_THREADS"}


def test_child_is_renewed(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "RECYCLE", 2)
    path, one, seen = save(tmp_path / "a.dcm", noise(1)), Worker(), []
    for _ in range(4):
        ask(one, path)
        seen.append(one._process.pid)
    one.close()
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_child_ends_with_its_parent(tmp_path):
    one = Worker()
    ask(one, save(tmp_path / "a.dcm", noise(1)))
    one._socket.close()
    assert one._process.wait(10) == 0
    one.close()


def test_child_that_does_not_start_is_one_clear_line(tmp_path):
    with pytest.raises(OSError, match="the decoding process does not start"):
        ask(Worker(module="tests.data_prep.nothing"), tmp_path / "a", b"good")


@pytest.mark.parametrize(
    "change",
    [
        {"flags": ["DOE^JANE"]},
        {"voi_source": "DOE^JANE"},
        {"box": [0, 0, 33, 32]},
        {"digest": "00"},
        {"original": [0, 1]},
    ],
)
def test_what_the_child_says_is_checked(tmp_path, change):
    found = picture.fit(read(save(tmp_path / "a.dcm", noise(1))), 32, 12)
    facts, data = picture.to_wire(found)
    assert picture.from_wire(facts, data, 32, 12).flags == found.flags
    with pytest.raises(ValueError):
        picture.from_wire(facts | change, data, 32, 12)
    with pytest.raises(ValueError):
        picture.from_wire(facts, data[:-2], 32, 12)
    with pytest.raises(ValueError):
        picture.from_wire(facts, b"\xff" * len(data), 32, 12)
