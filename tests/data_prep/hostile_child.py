"""A child that behaves as the file tells it to: `python -m tests.data_prep...`."""

import ctypes
import os
import signal
import socket
import sys
import time

from data_prep.child import LENGTH, receive, send

BIG = LENGTH.pack(1 << 40)


def act(connection: socket.socket, word: bytes) -> None:
    if word == b"segv":
        ctypes.string_at(0)
    if word == b"hang":
        time.sleep(600)
    if word == b"alarm":
        signal.raise_signal(signal.SIGALRM)
    if word == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"memory":
        send(connection, {"code": "OOM"}, b"")
    if word == b"noise":
        connection.sendall(b"\xff" * 64)
    if word == b"flood":
        connection.sendall(BIG)
    if word == b"lies":
        send(connection, {"picture": {"patient": "DOE^JANE"}}, b"")
    if word == b"code":
        send(connection, {"code": "DOE^JANE"}, b"")
    if word == b"good":
        send(connection, {"code": "BLANK"}, b"")


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.sendall(b"ready")
    while request := receive(connection):
        with os.fdopen(request[1], "rb") as file:
            file.seek(0)
            word = file.read()
        act(connection, word)


if __name__ == "__main__":
    main()
