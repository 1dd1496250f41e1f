r"""A page that samples: fields or a prompt in, images out, as they denoise.

    python -m ddpm_jax.demo --sampler exported

opens it for this machine alone, at http://127.0.0.1:7860. Without --sampler it shows a
small model of phantoms that comes with the package. Needs `pip install ddpm_jax[demo]`.
"""

import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

from absl import flags

from ddpm_jax import command_line
from ddpm_jax import sampler as samplers

SHIPPED = Path(__file__).parent / "sampler"
AUTH = "DDPM_JAX_DEMO_AUTH"
LOCAL = ("127.0.0.1", "localhost", "::1")

FLAGS = command_line.new_flags()
SAMPLER = flags.DEFINE_string(
    "sampler",
    None,
    "The folder of an exported sampler; default: the one that comes with the package.",
    flag_values=FLAGS,
)
HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen at; 0.0.0.0 opens the page to the network.",
    flag_values=FLAGS,
)
PORT = flags.DEFINE_integer(
    "port",
    7860,
    "Port to listen at.",
    lower_bound=1,
    upper_bound=65535,
    flag_values=FLAGS,
)
AUTH_FLAG = flags.DEFINE_string(
    "auth",
    None,
    "user:password that the page and its API ask for. Others on this machine can read "
    f"it in the list of processes: {AUTH}, or --auth_file, hides it.",
    flag_values=FLAGS,
)
AUTH_FILE = flags.DEFINE_string(
    "auth_file", None, "A file with user:password on each line.", flag_values=FLAGS
)
QUEUE = flags.DEFINE_integer(
    "queue",
    20,
    "Requests that may wait; more are told to come back.",
    lower_bound=1,
    flag_values=FLAGS,
)
MOST_IMAGES = flags.DEFINE_integer(
    "most_images",
    8,
    "Images that one request may ask for, of each setting.",
    lower_bound=1,
    upper_bound=64,
    flag_values=FLAGS,
)
BATCH = flags.DEFINE_integer(
    "batch",
    samplers.BATCH,
    "Images that are computed together; 1 is quickest for single images of a large "
    "model on few cores.",
    lower_bound=1,
    upper_bound=64,
    flag_values=FLAGS,
)


def users() -> list[tuple[str, str]] | None:
    """(user, password) of --auth, --auth_file or the environment; None for anybody."""
    given = [AUTH_FLAG.value, AUTH_FILE.value, os.environ.get(AUTH)]
    if sum(map(bool, given)) > 1:
        raise ValueError(f"expected one of --auth, --auth_file and {AUTH}.")
    if AUTH_FILE.value:
        lines = Path(AUTH_FILE.value).read_text().splitlines()
        named = [(f"--auth_file {AUTH_FILE.value}", line) for line in lines if line]
        if not named:
            raise ValueError(f"--auth_file {AUTH_FILE.value}: no user:password in it.")
    elif AUTH_FLAG.value is not None:
        named = [("--auth", AUTH_FLAG.value)]
    elif AUTH in os.environ:
        named = [(AUTH, os.environ[AUTH])]
    else:
        return None
    return [_user(where, text) for where, text in named]


def _user(where: str, text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError(f"{where}: expected user:password.")
    return user, password


def main():
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page needs `pip install ddpm_jax[demo]`.")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    allowed, folder = users(), SAMPLER.value or SHIPPED
    if not SAMPLER.value and not SHIPPED.is_dir():
        raise ValueError("--sampler: needed; this copy of the package holds none.")
    loaded = samplers.load_sampler(folder)
    with tempfile.TemporaryDirectory(prefix="ddpm_jax_demo_") as files:
        before, tempfile.tempdir = tempfile.tempdir, files
        os.environ["GRADIO_TEMP_DIR"] = files
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            show(loaded, folder, allowed)
        finally:
            tempfile.tempdir = before


def show(loaded: samplers.Sampler, folder, allowed) -> None:
    """Compile, then serve until Ctrl-C or SIGTERM."""
    from ddpm_jax.demo import serving

    print(f"compiling {folder} for batches of {BATCH.value} ...", flush=True)
    blocks, seconds = serving.prepare(loaded, BATCH.value, MOST_IMAGES.value)
    print(f"ready; {BATCH.value} images take {seconds:.2f} s")
    if HOST.value not in LOCAL and allowed is None:
        print(
            f"--host {HOST.value} without --auth: whoever reaches this machine can "
            "sample.",
            file=sys.stderr,
        )
    serving.serve(
        blocks, HOST.value, PORT.value, queue=QUEUE.value, users=allowed, wait=True
    )


if __name__ == "__main__":
    command_line.run(main, __doc__, FLAGS)
