"""A served page of the tiny sampler, and a browser to use it."""

import socket
import tempfile
import threading

import pytest


@pytest.fixture(scope="session", autouse=True)
def downloads_of_the_session(tmp_path_factory):
    """Files to download go where pytest tidies up."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("downloads"))
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("GRADIO_TEMP_DIR", folder)
        yield


@pytest.fixture(scope="session")
def studio(tiny_export):
    from ddpm_jax.demo.studio import Studio
    from ddpm_jax.sampler import load_sampler

    return Studio(load_sampler(tiny_export), batch=2)


@pytest.fixture(scope="session")
def limit(studio):
    from ddpm_jax.demo import asking

    return asking.limits(studio.sampler, 4)


@pytest.fixture(scope="session")
def serve(studio, limit):
    """serve(queue=…, users=…) is the address of a page; all are closed at the end."""
    pytest.importorskip("gradio")
    from ddpm_jax.demo import app, serving

    opened = []

    def start(**options):
        blocks = app.build(studio, limit)
        opened.append(blocks)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return serving.serve(blocks, "127.0.0.1", port, **({"queue": 20} | options))

    yield start
    for blocks in opened:
        blocks.close(verbose=False)


@pytest.fixture(scope="session")
def address(serve):
    return serve()


@pytest.fixture
def full(serve, studio, monkeypatch):
    """The address of a page where one request is sampled and another waits; they go on
    at the end."""
    httpx = pytest.importorskip("httpx")
    begun, go_on, images = threading.Event(), threading.Event(), studio.images

    def waiting(*asked):
        begun.set()
        go_on.wait(60)
        return images(*asked)

    monkeypatch.setattr(studio, "images", waiting)
    address = serve(queue=1)
    asked = {"data": ["AP", {}, 0, 1, 2.0, 8, "png"]}
    for _ in range(2):
        assert httpx.post(f"{address}gradio_api/call/sample", json=asked).is_success
        assert begun.wait(60)
    yield address
    go_on.set()
