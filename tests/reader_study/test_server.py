"""What the server says, what it keeps to itself, and what it survives."""

import json
import random
import re
import secrets
import shutil
import sqlite3
import threading
import time
from urllib.parse import urljoin

import numpy as np
import pytest

from ddpm_jax.evaluation.statistics import auc
from ddpm_jax.reader_study import serve as serve_command
from ddpm_jax.reader_study import study
from ddpm_jax.reader_study.store import Store
from tests.reader_study.conftest import FORMS, Client, Process, serving
from tests.reader_study.test_store import answer
from tests.test_command_line import assert_refused

SAID = ("real", "synthetic")
SCRIPTS = ("page.css", "page.js", "viewer.js")


def say(folder, position, reader="anna"):
    """Some answer to a position, of the form that the protocol asks for."""
    made = study.load(folder)
    if made.protocol == FORMS[0]:
        return SAID[position % 2]
    image = made.sequences[reader][position].image
    return dict.fromkeys(made.claims[image], study.AGREES)


@pytest.mark.parametrize("protocol", FORMS)
def test_replies_hold_nothing_of_the_truth(fresh_study, protocol):
    """The whole study read without the private folder; every byte of every reply but
    pixels searched. Replies to different images differ in pixels and place alone."""
    folder = fresh_study(protocol)
    truth = study.load_key(folder, f"{folder}.private")
    shutil.rmtree(f"{folder}.private")
    sequence = study.load(folder).sequences["anna"]
    practice = 2
    told, shapes, lengths = [], set(), set()
    with serving(folder) as clients:
        anna = clients["anna"]
        files = [anna.get(), *(anna.ask("GET", f"/{name}") for name in SCRIPTS)]
        assert {status for status, _, _ in files} == {200}
        for position in range(len(sequence)):
            state, image = anna.get("/state"), anna.get(f"/image/{position}")
            reply = anna.answer(position, say(folder, position))
            for status, headers, _ in (state, image, reply):
                assert status == 200
                fixed = {k: v for k, v in headers.items() if k.lower() != "date"}
                lengths.add((image[1]["content-length"], len(image[2])))
                fixed.pop("content-length")
                shapes.add(tuple(sorted(fixed.items())))
            if position >= practice:
                told += [state[2], reply[2], json.dumps(image[1]).encode()]
    assert len(lengths) == 1 and len(shapes) == 2  # JSON and pixels
    assert {k for t in told for k in json.loads(t)} <= {
        *("protocol", "width", "height", "levels", "position", "total", "practice"),
        *("claims", "stored", "content-length", "date", "content-type"),
        *(name.lower() for name in dict(next(iter(shapes)))),
    }
    served = b"".join(told).replace(protocol.encode(), b"")
    for word in (b"real", b"synthetic", b"planted", b"repeat", b"counted", b"feedback"):
        assert word not in served
    everything = served + b"".join(part[2] + str(part[1]).encode() for part in files)
    for image, one in truth.items():
        assert image.encode() not in everything
        assert one.source.encode() not in everything


def test_the_page_may_lie_below_a_path(fresh_study):
    """Behind a proxy at https://host/study: nothing is asked for outside of it."""
    with serving(fresh_study()) as clients:
        page = clients["anna"].get()[2].decode()
    asked = [a for a in re.findall(r'(?:href|src)="([^"]+)"', page) if a != "data:,"]
    place = "https://host/study/r/token"
    assert [urljoin(place, a) for a in asked] == [
        f"https://host/study/{name}" for name in ("page.css", "viewer.js", "page.js")
    ]


def test_pixels_are_those_of_the_study(fresh_study):
    folder = fresh_study()
    made = study.load(folder)
    with serving(folder) as clients:
        data = clients["ben"].get("/image/0")[2]
    image = np.frombuffer(data, "<u2").reshape(made.height, made.width)
    file = study.image_path(folder, made.sequences["ben"][0].image)
    assert file.read_bytes() == data and image.max() < made.levels


def test_time_does_not_tell(fresh_study):
    """The least of 8 times of each image's reply ranks real and synthetic alike, as far
    as 15 of each can say (4 sigma); a reply that took longer for one would not."""
    folder = fresh_study()
    truth = study.load_key(folder, f"{folder}.private")
    times, positive = [], []
    with serving(folder) as clients:
        anna = clients["anna"]
        for position, one in enumerate(study.load(folder).sequences["anna"]):
            taken = []
            for _ in range(8):
                start = time.perf_counter()
                anna.get(f"/image/{position}")
                taken.append(time.perf_counter() - start)
            times.append(min(taken))
            positive.append(truth[one.image].truth == study.SYNTHETIC)
            anna.answer(position, "real")
    assert 0.07 < auc(np.array(times), np.array(positive)) < 0.93


def test_no_way_back_and_none_ahead(fresh_study):
    with serving(fresh_study()) as clients:
        anna = clients["anna"]
        assert anna.get("/image/1")[0] == 404
        assert anna.answer(0, "real")[0] == 200
        assert anna.get("/image/0")[0] == 404
        assert anna.get("/image/1")[0] == 200
        assert anna.answer(2, "real")[0] == 400
        assert anna.state()["position"] == 1


def test_practice_is_told_and_nothing_else(fresh_study):
    folder = fresh_study()
    made = study.load(folder)
    with serving(folder) as clients:
        for position in range(4):
            reply = json.loads(clients["anna"].answer(position, "real")[2])
            image = made.sequences["anna"][position].image
            assert reply.get("feedback") == (
                made.feedback[image] if position < 2 else None
            )
            again = json.loads(clients["anna"].answer(position, "synthetic")[2])
            assert again == reply | {"stored": False}
    assert {a.answer for a in Store(folder / study.ANSWERS).answers()} == {"real"}


def test_double_clicks_and_two_tabs_count_once(fresh_study):
    folder = fresh_study()
    with serving(folder) as clients:
        for position in range(6):
            together = threading.Barrier(4)

            def send(said, together=together, position=position):
                together.wait()
                assert clients["anna"].answer(position, said)[0] == 200

            threads = [threading.Thread(target=send, args=(s,)) for s in SAID * 2]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert clients["anna"].state()["position"] == 6
        assert clients["ben"].state()["position"] == 0
    answers = Store(folder / study.ANSWERS).answers()
    assert [a.position for a in answers] == list(range(6))


def test_a_token_cannot_be_guessed_or_bent(fresh_study):
    """Whatever is not a link is answered alike, to the byte."""
    folder = fresh_study()
    tokens = json.loads((folder / study.READERS).read_text())
    assert all(len(t) == 32 for t in tokens.values())  # 192 bits
    known = tokens["anna"]
    wrong = [
        *("", "anna", "0", known[:-1], known + "A", known.swapcase(), known + "%00"),
        *("..%2f..%2fstudy.json", "%2e%2e", "*", secrets.token_urlsafe(24)),
    ]
    paths = [f"/r/{t}{rest}" for t in wrong for rest in ("", "/state", "/image/0")]
    paths += ["/", "/study.json", "/images/", "/page.html", "/page.py", "/r", "/docs"]
    paths += [f"/r/{known}/image/-1", f"/r/{known}/image/x", f"/r/{known}/other"]
    with serving(folder) as clients:
        anna = clients["anna"]
        seen = set()
        for path in paths:
            status, headers, body = anna.ask("GET", path)
            headers.pop("date")
            seen.add((status, tuple(sorted(headers.items())), body))
        assert len(seen) == 1 and next(iter(seen))[0] == 404
        body = {"position": 0, "answer": "real", "confidence": 1, "seconds": 1}
        assert anna.ask("POST", f"/r/{wrong[-1]}/answer", body)[0] == 404
        assert anna.ask("POST", f"/r/{known}/state", body)[0] == 404
        assert anna.state()["position"] == 0


GOOD = {"position": 0, "answer": "real", "confidence": 3, "seconds": 1}


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 8000, 400),
        (b" " * 9000, 413),
        (GOOD | {"answer": "maybe"}, 400),
        (GOOD | {"answer": {"view": "agrees"}}, 400),
        (GOOD | {"confidence": 6}, 400),
        (GOOD | {"confidence": True}, 400),
        (GOOD | {"confidence": "3"}, 400),
        (GOOD | {"position": -1}, 400),
        (GOOD | {"position": 0.0}, 400),
        (GOOD | {"position": 10**9}, 400),
        (GOOD | {"seconds": -1}, 400),
        (GOOD | {"seconds": 10**400}, 400),
        (json.dumps(GOOD).replace('"seconds": 1', '"seconds": NaN').encode(), 400),
        ({k: v for k, v in GOOD.items() if k != "seconds"}, 400),
    ],
)
def test_what_is_no_answer_is_not_stored(fresh_study, body, status):
    folder = fresh_study()
    with serving(folder) as clients:
        token = clients["anna"].token
        assert clients["anna"].ask("POST", f"/r/{token}/answer", body)[0] == status
        assert clients["anna"].state()["position"] == 0
    assert Store(folder / study.ANSWERS).answers() == []


def test_every_claim_is_to_be_judged(fresh_study):
    folder = fresh_study(FORMS[1])
    with serving(folder) as clients:
        whole = say(folder, 0)
        part = dict(list(whole.items())[1:])
        other = whole | {"weight": study.AGREES}
        wrong = whole | dict.fromkeys(list(whole)[:1], "perhaps")
        for said in (part, other, wrong, "real"):
            assert clients["anna"].answer(0, said)[0] == 400
        assert clients["anna"].answer(0, whole)[0] == 200


def test_a_locked_file_is_waited_for(fresh_study):
    """503 while somebody else holds it, nothing half stored, then once."""
    folder = fresh_study()
    with serving(folder, wait=0.05) as clients:
        anna = clients["anna"]
        other = sqlite3.connect(folder / study.ANSWERS, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, headers, _ = anna.answer(0, "real")
        assert status == 503 and headers["retry-after"] == "1"
        assert anna.get("/image/0")[0] == 503
        other.execute("ROLLBACK")
        other.close()
        assert anna.answer(0, "real")[0] == 200
    assert len(Store(folder / study.ANSWERS).answers()) == 1


@pytest.mark.parametrize("gone", ["the image", "the answers", "all"])
def test_what_is_taken_away_is_told_and_waited_for(fresh_study, gone):
    """One line for whoever serves, 503 for who reads; nothing is begun anew in its
    place, and once it is back, all goes on."""
    folder, lines = fresh_study(), []
    what = {
        "the image": folder / study.IMAGES,
        "the answers": folder / study.ANSWERS,
        "all": folder,
    }[gone]
    away = folder.with_name("away")
    with serving(folder, trouble=lines.append) as clients:
        anna = clients["anna"]
        assert anna.answer(0, "real")[0] == 200
        what.rename(away)
        for _ in range(2):
            assert anna.get("/image/1")[0] == 503
        assert not what.exists() and len(lines) == 2
        away.rename(what)
        assert anna.get("/image/1")[0] == 200
        assert anna.answer(1, "real")[0] == 200
    assert [a.position for a in Store(folder / study.ANSWERS).answers()] == [0, 1]


def test_trouble_is_told_once_a_minute(capsys):
    trouble = serve_command.Trouble("study")
    for line in ("locked", "locked", "full", "locked"):
        trouble(line)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in told] == ["study: locked", "study: full"]


def test_a_server_killed_at_random_loses_and_doubles_nothing(fresh_study):
    """A reader who retries, as the page does, and a server that is killed again and
    again: the answers in the end are those that were given."""
    folder = fresh_study()
    moments, given, port = random.Random(1), {}, 0
    total = len(study.load(folder).sequences["anna"])
    server = Process(folder)
    port, link = server.port, server.links["anna"]
    anna = Client(port, link.rsplit("/", 1)[1])
    killer_done = threading.Event()

    def killer():
        nonlocal server
        for _ in range(3):
            time.sleep(moments.uniform(0.02, 0.25))
            server.end(kill=True)
            server = Process(folder, port)
        killer_done.set()

    thread = threading.Thread(target=killer)
    thread.start()
    for position in range(total):
        given[position] = SAID[moments.randrange(2)]
        while True:
            try:
                status, _, _ = anna.answer(position, given[position])
            except OSError:
                time.sleep(0.02)
                continue
            assert status == 200
            break
        time.sleep(0.05)
    thread.join()
    assert killer_done.is_set()
    assert server.links["anna"] == link  # the same link goes on
    assert server.end() == 0
    answers = Store(folder / study.ANSWERS).answers()
    assert {a.position: a.answer for a in answers} == given
    assert len(answers) == total


# ---- the command ----


@pytest.fixture
def serve(command):
    return lambda *flags: command("ddpm_jax.reader_study.serve", *flags)


def test_serve_prints_links_and_where_readers_are(fresh_study):
    folder = fresh_study()
    for expected in ("0 of 30", "1 of 30"):
        server = Process(folder)
        text = "".join(server.lines)
        assert server.end() == 0
        assert re.search(
            rf"anna: http://127\.0\.0\.1:\d+/r/\S{{32}}  \({expected}", text
        )
        made = study.load(folder).sequences["anna"][0]
        if expected.startswith("0"):
            one = answer(0)._replace(image=made.image, kind=made.kind)
            Store(folder / study.ANSWERS).add(one)


def break_it(folder, how):
    made = json.loads((folder / study.STUDY).read_text())
    image = next((folder / study.IMAGES).iterdir())
    if how == "image gone":
        image.unlink()
    elif how == "image cut":
        image.write_bytes(image.read_bytes()[:-1])
    elif how == "no json":
        (folder / study.STUDY).write_text("{")
    elif how == "version":
        (folder / study.STUDY).write_text(json.dumps(made | {"version": 9}))
    elif how == "edited":
        text = (folder / study.STUDY).read_text()
        (folder / study.STUDY).write_text(text.replace('"counted"', '"training"', 1))
    elif how == "no study":
        (folder / study.STUDY).write_text("[]")
    elif how == "short token":
        (folder / study.READERS).write_text('{"anna": "1", "ben": "2"}')
    elif how == "reader gone":
        (folder / study.READERS).write_text(json.dumps({"anna": "x" * 32}))
    elif how == "answers of another":
        Store(folder / study.ANSWERS).add(answer(0))
    elif how == "damaged":
        damage(folder)
    else:
        (folder / study.ANSWERS).write_text("this is no database" * 99)


def damage(folder):
    """A file of answers whose first page is whole and whose others are not."""
    store = Store(folder / study.ANSWERS)
    for position in range(30):
        store.add(answer(position))
    content = store.path.read_bytes()
    assert len(content) > 2 * 4096
    store.path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


@pytest.mark.parametrize(
    "how, parts",
    [
        ("image gone", ["missing or damaged", "expected 392 bytes"]),
        ("image cut", ["missing or damaged", "expected 392 bytes"]),
        ("no json", ["study.json", "no readable JSON"]),
        ("version", ["version 9", "reads 1"]),
        ("no study", ["not a study", "design it again"]),
        ("short token", ["readers.json", "22 or more characters"]),
        ("reader gone", ["readers.json", "anna, ben"]),
        ("edited", ["study.json", "changed since it was designed"]),
        ("answers", ["answers.sqlite", "cannot be used for answers"]),
        ("answers of another", ["answers.sqlite", "answers of another study"]),
        ("damaged", ["answers.sqlite", "cannot be used for answers", "damaged"]),
    ],
)
def test_folders_that_cannot_be_served(serve, fresh_study, how, parts):
    folder = fresh_study()
    break_it(folder, how)
    assert_refused(serve(f"--study={folder}", "--port=0"), 1, *parts)


def test_addresses_that_cannot_be_had(serve, fresh_study):
    folder = fresh_study()
    assert_refused(serve(), 1, "--study")
    assert_refused(serve(f"--study={folder}/none"), 1, "study.json", "design")
    with serving(folder) as clients:
        port = clients["anna"].port
        result = serve(f"--study={folder}", f"--port={port}")
        assert_refused(result, 1, f"--port {port}", "expected a free port")
    result = serve(f"--study={folder}", "--host=no.such.host.invalid")
    assert_refused(result, 1, "--host no.such.host.invalid")
