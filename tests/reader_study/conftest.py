"""A tiny reader study: 16 px, and a server in a thread or in a process."""

import contextlib
import csv
import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image as Pil

from ddpm_jax.conditions.presets import PELVIS
from ddpm_jax.reader_study import study
from ddpm_jax.reader_study.store import Store
from tests.datasets import draw, random_row, write_dataset

FORMS = ("real_or_synthetic", "label_discrepancy")


def write_synthetic(folder: Path, count: int, *, size: int = 16, seed: int = 7) -> Path:
    """16-bit images of the same kind as `write_dataset` makes, with their manifest."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "seed", *PELVIS.names, "prompt"])
        writer.writeheader()
        for i in range(count):
            row = random_row(rng)
            low = rng.integers(16, size=(size, size))
            image = draw(row, size, rng) * 16 + low.astype(np.uint16)
            Pil.fromarray(image.astype(np.uint16)).save(folder / f"{i:06d}.png")
            writer.writerow({"file": f"{i:06d}.png", "seed": i} | row)
    return folder


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "shards"
    folder.mkdir()
    return write_dataset(folder, size=16, counts=(("train", 2), ("test", 90)))


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("readers") / "synthetic", 90)


def arguments(protocol: str, real: Path, synthetic: Path, out: Path) -> list[str]:
    """A small study, as flags of `design`."""
    return [
        *(f"--protocol={protocol}", f"--real={real}", f"--synthetic={synthetic}"),
        *(f"--out={out}", "--readers=anna,ben", "--match=view", "--count=12"),
        *("--training=2", "--repeats=4", "--planted=3", "--seed=5"),
    ]


@pytest.fixture(scope="session")
def designed(real, synthetic, tmp_path_factory) -> Path:
    """A folder with a study of each protocol, made by the command as a process."""
    folder = tmp_path_factory.mktemp("designed")
    for protocol in FORMS:
        flags = arguments(protocol, real, synthetic, folder / protocol)
        made = subprocess.run(
            [sys.executable, "-m", "ddpm_jax.reader_study", "design", *flags],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def fresh_study(designed, tmp_path):
    """fresh_study(protocol) is a copy of the study, and one of its private folder."""

    def copy(protocol: str = FORMS[0]) -> Path:
        out = tmp_path / protocol
        shutil.copytree(designed / protocol, out)
        shutil.copytree(designed / f"{protocol}.private", f"{out}.private")
        return out

    return copy


class Client:
    """A reader without a browser."""

    def __init__(self, port: int, token: str):
        self.port, self.token = port, token

    def ask(self, method: str, path: str, body=None, headers=()):
        """(status, headers, bytes) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, dict(headers))
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()

    def get(self, path: str = ""):
        return self.ask("GET", f"/r/{self.token}{path}")

    def state(self) -> dict:
        return json.loads(self.get("/state")[2])

    def answer(self, position: int, answer, confidence=3, seconds=1.5):
        body = {"position": position, "answer": answer, "confidence": confidence}
        body["seconds"] = seconds
        return self.ask("POST", f"/r/{self.token}/answer", body)


@contextlib.contextmanager
def serving(folder: Path, wait: float = 5.0, trouble=print):
    """The server of a study in a thread: reader -> Client."""
    import uvicorn

    from ddpm_jax.reader_study.serve import listen
    from ddpm_jax.reader_study.server import App

    content = study.load(folder)
    tokens = study.load_tokens(folder, content)
    store = Store(folder / study.ANSWERS, wait)
    app = App(folder, content, tokens, store, trouble=trouble)
    server = uvicorn.Server(
        uvicorn.Config(app.starlette(), log_level="error", server_header=False)
    )
    with contextlib.closing(listen("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            port = place.getsockname()[1]
            yield {who: Client(port, token) for who, token in tokens.items()}
        finally:
            server.should_exit = True
            thread.join(20)


class Process:
    """`serve` as a process that may be killed."""

    running: ClassVar[list["Process"]] = []

    def __init__(self, folder: Path, port: int = 0):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ddpm_jax.reader_study", "serve"),
                *(f"--study={folder}", f"--port={port}"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(self)
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if "Ctrl-C" in line:
                break
        self.links = dict(re.findall(r"([\w-]+): (http\S+)", "".join(self.lines)))
        self.port = int(re.search(r":(\d+)/r/", "".join(self.lines)).group(1))

    def end(self, kill: bool = False) -> int:
        """Stop it as Ctrl-C does, or at once; its exit status."""
        if kill:
            self.process.kill()
        else:
            self.process.send_signal(2)
        self.running.remove(self)
        self.lines.append(self.process.stdout.read())
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture(autouse=True)
def no_server_is_left():
    """A test that fails ends what it has started: the next one is not to pay for it."""
    yield
    for process in list(Process.running):
        process.end(kill=True)
