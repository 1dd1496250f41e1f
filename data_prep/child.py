"""The process that parses and decodes: limited, without a path, a key or a name.

`python -m data_prep.child FD SECONDS` answers requests on the socket FD until it is
closed. Each comes with an open file and leaves with a header or a picture; what a
hostile file can do ends with this process.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys

LENGTH = struct.Struct(">Q")
MOST_MESSAGE = 1 << 16
MEMORY = 3 << 30
LIMITS = {
    resource.RLIMIT_AS: MEMORY,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 32,
}
LONGEST = 256
"""Most characters of a header value: no attribute that is read here is longer."""


def main() -> None:
    for limit, most in LIMITS.items():
        resource.setrlimit(limit, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    seconds = int(sys.argv[2])
    from data_prep import dicom, images, picture  # noqa: F401  (before `ready`)

    connection.sendall(b"ready")
    while request := receive(connection):
        message, number = request
        with os.fdopen(number, "rb") as file:
            _watch(seconds)
            said, payload = answer(message, file)
            signal.alarm(0)
        send(connection, said, payload)
        if said.get("code") == "OOM":
            return


def _watch(seconds: int) -> None:
    """Ends this process, also inside a codec, when one file takes too long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, hard))
    signal.alarm(seconds + 1)


def receive(connection: socket.socket) -> tuple[dict, int] | None:
    """(a request, the descriptor of its file); None when the parent has gone."""
    head, numbers, _, _ = socket.recv_fds(connection, LENGTH.size, 1)
    if not head:
        return None
    length = LENGTH.unpack(head + exactly(connection, LENGTH.size - len(head)))[0]
    return json.loads(exactly(connection, min(length, MOST_MESSAGE))), numbers[0]


def send(connection: socket.socket, said: dict, payload: bytes) -> None:
    message = json.dumps(said).encode()
    connection.sendall(LENGTH.pack(len(message)) + message + LENGTH.pack(len(payload)))
    connection.sendall(payload)


def exactly(connection: socket.socket, count: int) -> bytearray:
    """`count` bytes; EOFError where the other side ends before."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        read = connection.recv_into(view)
        if not read:
            raise EOFError
        view = view[read:]
    return data


def answer(request: dict, file) -> tuple[dict, bytes]:
    """What is said of one file: {"header"}, {"picture"} or {"code"}."""
    from data_prep.codes import Rejected

    try:
        return _read(request, file)
    except Rejected as rejected:
        return {"code": rejected.code}, b""
    except MemoryError:
        return {"code": "OOM"}, b""
    except Exception:  # one file must not end the run, whatever is in it
        return {"code": "CRASH"}, b""


def _read(request, file):
    from data_prep import dicom, images, picture
    from data_prep.codes import Rejected

    accept = dicom.Accept(tuple(request["sop_classes"]), request["grey_rgb"])
    if request["kind"] == "header":
        header = dicom.scan(file, accept)._asdict()
        return {"header": {k: v[:LONGEST] for k, v in header.items()}}, b""
    if request["source"] == "images":
        radiograph = images.read(
            file,
            bits=request["image_bits"] or None,
            inverted=request["inverted"],
            accept_grey_rgb=accept.grey_rgb,
        )
    else:
        radiograph = dicom.read(file, accept)
    if request["ocr"]:
        from data_prep import burned_in

        if burned_in.has_text(radiograph.image):
            raise Rejected("PHI_SUSPECT")
    facts, pixels = picture.to_wire(
        picture.fit(radiograph, request["size"], request["bits"])
    )
    return {"picture": facts}, pixels


if __name__ == "__main__":
    main()
