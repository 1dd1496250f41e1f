"""The command: its flags, its refusals, and that it serves and ends."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from ddpm_jax.demo import __main__ as demo
from tests.test_command_line import assert_refused

NAME = "ddpm_jax.demo.__main__"


@pytest.fixture
def refused(command, monkeypatch):
    """The command, should it get as far as serving, fails the test."""
    monkeypatch.setattr(demo, "show", lambda *_: pytest.fail("served"))
    monkeypatch.delenv(demo.AUTH, raising=False)

    def run(*arguments):
        return command(NAME, *arguments)

    return run


def test_help(command):
    status, out, err = command(NAME, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(demo.__doc__.strip())
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "flags, status, parts",
    [
        (["--sampler=nowhere"], 1, ["nowhere", "checksums.json"]),
        (["--auth=me"], 1, ["--auth: expected user:password"]),
        (["--auth=:secret"], 1, ["--auth: expected user:password"]),
        (["--auth=a:b", "--auth_file=x"], 1, ["expected one of --auth, --auth_file"]),
        (["--auth_file=nowhere"], 1, ["nowhere"]),
        (["--port=0"], 2, ["port"]),
        (["--queue=0"], 2, ["queue"]),
        (["--most_images=1000"], 2, ["most_images"]),
    ],
)
def test_refusals(refused, flags, status, parts):
    result = refused(*flags)
    assert_refused(result, status, *parts)
    assert "secret" not in result.err


def test_users_of_a_file_and_of_the_environment(command, monkeypatch, tmp_path):
    path = tmp_path / "users"
    path.write_text("ada:x:y\n\nbob:z\n")
    monkeypatch.delenv(demo.AUTH, raising=False)
    found = []
    monkeypatch.setattr(demo, "show", lambda *given: found.append(given[-1]))
    monkeypatch.setattr(demo.samplers, "load_sampler", lambda folder: None)
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    sampler = f"--sampler={tmp_path}"
    assert command(NAME, sampler, f"--auth_file={path}").status == 0
    assert command(NAME, sampler).status == 0
    monkeypatch.setenv(demo.AUTH, "eve:w")
    assert command(NAME, sampler).status == 0
    assert found == [[("ada", "x:y"), ("bob", "z")], None, [("eve", "w")]]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_this_machine_and_ends(tiny_export, ending, tmp_path):
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--sampler={tiny_export}", f"--port={port}", "--batch=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ddpm_jax.demo", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        lines = iter(process.stdout.readline, "")
        assert any(f"open http://127.0.0.1:{port}" in line for line in lines)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert page.status == 200
        taken = subprocess.run(
            [sys.executable, "-m", "ddpm_jax.demo", *flags],
            capture_output=True,
            text=True,
        )
        assert taken.returncode == 1 and f"--port {port}: cannot" in taken.stderr
        assert taken.stderr.count("\n") == 1
        process.send_signal(ending)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""
        assert list(tmp_path.glob("ddpm_jax_demo_*")) == []
    finally:
        process.kill()
        process.communicate()
