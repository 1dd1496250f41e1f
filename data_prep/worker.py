"""The supervisor of one child: asks it about files, and outlives whatever they do."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_prep import picture
from data_prep.child import LENGTH, MOST_MESSAGE, exactly
from data_prep.codes import ACTIONS, Rejected
from data_prep.dicom import Header, open_regular
from data_prep.picture import Picture

SECONDS = 60
START_SECONDS = 120
RECYCLE = 2000
HERE = threading.local()


class Reading(NamedTuple):
    """How files are read: all that a child is told beside the open file.

    `source` is dicom or images; `image_bits` the significant bits of images, 0 for
    all of their type.
    """

    size: int
    bits: int = 12
    source: str = "dicom"
    sop_classes: tuple[str, ...] = ()
    grey_rgb: bool = False
    ocr: bool = False
    image_bits: int = 0
    inverted: bool = False


class _Died(Exception):
    """The child ended while it had a file; the code says how."""


class Worker:
    """One child at a time, made when first needed, renewed every RECYCLE files."""

    def __init__(self, seconds: int = SECONDS, module: str = "data_prep.child"):
        self.seconds, self.module = seconds, module
        self._process = self._socket = None
        self._asked = 0

    def header(self, file: BinaryIO, reading: Reading) -> Header:
        """Raises Rejected."""
        said, _ = self._twice(file, {"kind": "header"} | reading._asdict())
        try:
            fields = {name: str(said["header"][name]) for name in Header._fields}
        except (KeyError, TypeError):
            raise Rejected("CRASH") from None
        return Header(**fields)

    def picture(self, file: BinaryIO, reading: Reading) -> Picture:
        """Raises Rejected."""
        said, data = self._twice(file, {"kind": "picture"} | reading._asdict())
        try:
            facts = said["picture"]
            return picture.from_wire(facts, data, reading.size, reading.bits)
        except (KeyError, TypeError, ValueError):
            raise Rejected("CRASH") from None

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()
        self._process = None

    def __del__(self):
        self.close()

    def _twice(self, file, request):
        """A file that ends its child is tried once more in a fresh one, alone."""
        try:
            said, data = self._ask(file, request)
        except _Died:
            try:
                said, data = self._ask(file, request)
            except _Died as died:
                raise Rejected(str(died)) from None
        code = said.get("code")
        if code is not None:
            raise Rejected(code if code in ACTIONS else "CRASH")
        return said, data

    def _ask(self, file, request):
        if self._process is None or self._asked >= RECYCLE:
            self.close()
            self._start()
        self._asked += 1
        message = json.dumps(request).encode()
        until = time.monotonic() + self.seconds
        try:
            self._socket.settimeout(self.seconds)
            parcel = LENGTH.pack(len(message)) + message
            socket.send_fds(self._socket, [parcel], [file.fileno()])
            said = json.loads(self._receive(until, MOST_MESSAGE))
            data = self._receive(until, 2 * request["size"] ** 2)
            if not isinstance(said, dict):
                raise ValueError
            if said.get("code") == "OOM":
                raise MemoryError
        except (TimeoutError, OSError, EOFError, ValueError, MemoryError) as error:
            code = self._cause(error)
            self.close()
            raise _Died(code) from None
        return said, data

    def _receive(self, until, most):
        self._socket.settimeout(max(until - time.monotonic(), 0.001))
        length = LENGTH.unpack(exactly(self._socket, LENGTH.size))[0]
        if length > most:
            raise ValueError
        self._socket.settimeout(max(until - time.monotonic(), 0.001))
        return bytes(exactly(self._socket, length))

    def _cause(self, error):
        if isinstance(error, MemoryError):
            return "OOM"
        if isinstance(error, TimeoutError):
            return "TIMEOUT"
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "CRASH"
        return {-14: "TIMEOUT", -24: "TIMEOUT", -9: "OOM"}.get(status, "CRASH")

    def _start(self):
        """The child inherits one socket and no environment but where to import from;
        one thread each, since every thread's stack counts against its memory."""
        ours, theirs = socket.socketpair()
        number = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, str(number), str(self.seconds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[number],
            start_new_session=True,
            cwd="/",
            env={
                "PYTHONPATH": os.pathsep.join(_import_paths()),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        theirs.close()
        self._socket, self._asked = ours, 0
        ours.settimeout(START_SECONDS)
        try:
            exactly(ours, len(b"ready"))
        except (EOFError, OSError):
            self.close()
            raise OSError(
                "the decoding process does not start; expected `python -m "
                f"{self.module}` to run under 3 GiB of address space."
            ) from None


def _import_paths() -> Sequence[str]:
    root = str(Path(__file__).parents[1])
    return [root, *(path for path in map(os.path.abspath, sys.path) if path != root)]


def mine() -> Worker:
    """This thread's worker."""
    if not hasattr(HERE, "worker"):
        HERE.worker = Worker()
    return HERE.worker


def scan(path: Path, root: Path, reading: Reading) -> Header:
    """The header of a file below `root`; of an image file, one that says nothing.
    Raises Rejected."""
    with open_regular(path, root) as file:
        if reading.source == "images":
            return Header("", "", "", "", "", "")
        return mine().header(file, reading)


def read(path: Path, root: Path, reading: Reading) -> Picture:
    """The picture of a file below `root`. Raises Rejected."""
    with open_regular(path, root) as file:
        return mine().picture(file, reading)
