"""The page on a port."""

import contextlib
import time
from collections.abc import Callable

import gradio as gr
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from ddpm_jax.demo import app, asking
from ddpm_jax.demo.studio import Studio
from ddpm_jax.sampler import Sampler

MOST_SESSIONS = 200
"""Visitors whose last request is remembered for downloads."""

DARK = (
    "<script>addEventListener('DOMContentLoaded', "
    "() => document.body.classList.add('dark'))</script>"
)


def theme() -> gr.themes.Base:
    """Fonts of the machine: the page loads nothing from elsewhere."""
    fonts = ("system-ui", "Segoe UI", "Roboto", "sans-serif")
    return gr.themes.Base(
        primary_hue="sky",
        neutral_hue="slate",
        font=list(fonts),
        font_mono=["ui-monospace", "monospace"],
        spacing_size="sm",
        radius_size="md",
    )


def refusing(queue: int) -> Callable:
    """What is said where `queue` requests wait already: Gradio's status 503.

    The page shows what is said with any status but 503, and a text of its own there.
    """

    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if str(detail).startswith("Queue is full"):
            waiting = "1 request waits" if queue == 1 else f"{queue} requests wait"
            detail = f"busy: {waiting} already; try again in a minute."
        in_browser = request.headers.get("user-agent", "").startswith("Mozilla")
        status = 429 if in_browser else error.status_code
        return JSONResponse({"detail": detail}, status, {"Retry-After": "60"})

    return refuse


def prepare(sampler: Sampler, batch: int, most_images: int) -> tuple[gr.Blocks, float]:
    """The page of a sampler that is compiled, and the seconds of one batch."""
    studio = Studio(sampler, batch)
    seconds = studio.warm_up()
    return app.build(studio, asking.limits(sampler, most_images)), seconds


def serve(
    blocks: gr.Blocks,
    host: str,
    port: int,
    *,
    queue: int,
    users: list[tuple[str, str]] | None = None,
    wait: bool = False,
) -> str:
    """Serve the page, until interrupted if `wait`; its address. `queue` requests may
    wait. ValueError where `host` or `port` cannot be listened at."""
    blocks.queue(max_size=queue, default_concurrency_limit=1, api_open=False)
    options = dict(
        server_name=host,
        server_port=port,
        auth=users,
        auth_message="Synthetic images. Not for diagnosis." if users else None,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=1024,
        state_session_capacity=MOST_SESSIONS,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        app_kwargs={"exception_handlers": {503: refusing(queue)}},
        theme=theme(),
        css=app.asset("page.css"),
        head=DARK,
    )
    try:
        _, address, _ = blocks.launch(**options)
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port}: cannot listen there ({error})."
        ) from None
    if wait:
        print(f"open {address} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        blocks.close(verbose=False)
    return address
