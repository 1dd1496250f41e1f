"""Show a study to its readers, in a browser.

    python -m ddpm_jax.reader_study serve --study study

Prints a link for each reader. Every answer is on disk before the next image is shown,
so the server may be stopped and started, and a browser closed, at any time. Needs
`pip install ddpm_jax[study]` and the --out folder of `design`, not the truth.
"""

import contextlib
import math
import socket
import time
from pathlib import Path

from absl import flags

from ddpm_jax import command_line
from ddpm_jax.reader_study import study
from ddpm_jax.reader_study.store import Store, answers_to

FLAGS = command_line.new_flags()
STUDY = flags.DEFINE_string("study", None, "Folder of `design`.", flag_values=FLAGS)
HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen at; another than this machine's own needs encryption in front.",
    flag_values=FLAGS,
)
PORT = flags.DEFINE_integer(
    "port",
    8710,
    "Port; 0 for any that is free.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
URL = flags.DEFINE_string(
    "url", None, "What readers reach it by, if another address.", flag_values=FLAGS
)


def main():
    command_line.require(FLAGS, "study")
    try:
        import uvicorn

        from ddpm_jax.reader_study.server import Announced, App
    except ImportError as error:
        raise ValueError(f"{error}: expected `pip install ddpm_jax[study]`.") from None
    content = study.load(STUDY.value)
    tokens = study.load_tokens(STUDY.value, content)
    store = Store(Path(STUDY.value) / study.ANSWERS)
    answers_to(content, store)
    totals = {reader: len(members) for reader, members in content.sequences.items()}

    def told(reader: str, place: int) -> None:
        if place % 10 == 0 or place == totals[reader]:
            tell(f"{reader}: {place} of {totals[reader]}")

    app = App(STUDY.value, content, tokens, store, told, Trouble(STUDY.value))
    interrupted = contextlib.suppress(KeyboardInterrupt)
    with contextlib.closing(listen(HOST.value, PORT.value)) as place, interrupted:
        config = uvicorn.Config(
            app.starlette(),
            access_log=False,  # addresses hold the tokens
            log_level="warning",
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        server = Announced(config)
        server.announce = lambda: say(place.getsockname(), store, tokens, totals)
        server.run(sockets=[place])
    tell("stopped; the same command goes on.")


class Trouble:
    """Tells what goes wrong, the same once a minute: pages try again each second."""

    def __init__(self, folder: str):
        self.folder, self.told_at = folder, {}

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        if now - self.told_at.get(line, -math.inf) > 60:
            self.told_at[line] = now
            tell(
                f"{self.folder}: {line}; readers wait, their pages try again, and no "
                "stored answer is lost."
            )


def tell(line: str) -> None:
    """Print it; a terminal that is gone stops no study."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ValueError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--host {host} --port {port}: {error}; expected a free port of an address "
            "of this machine."
        ) from None


def say(address, store: Store, tokens: dict, totals: dict) -> None:
    host, port = address[:2]
    shown = f"[{host}]" if ":" in host else host
    base = (URL.value or f"http://{shown}:{port}").rstrip("/")
    for reader, token in tokens.items():
        done = store.position(reader)
        tell(f"{reader}: {base}/r/{token}  ({done} of {totals[reader]} answered)")
    if host in ("0.0.0.0", "::") and not URL.value:
        tell(f"{host} is no address to open: give this machine's to --url.")
    if host not in ("127.0.0.1", "::1") and not (URL.value or "").startswith("https"):
        tell("not encrypted: whoever can listen on the way can read the links.")
    tell("Ctrl-C stops; nothing is lost.")


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
