"""The web server of a study: a page, the reader's place, one image, one answer.

It has no truth but that of practice images. Images are sent as bare grey levels, all of
one length, under addresses that hold nothing but the reader's token and place: no file
name, date, compression or cache tag is there to tell them apart.
"""

import json
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ddpm_jax.reader_study.store import Answer, Busy, Store
from ddpm_jax.reader_study.study import LABELS, TRAINING, Study, image_path

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HTML = "page.html"
PAGE = {
    HTML: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
}
MOST_BYTES = 8192
"""Of an answer's body."""
MOST_SECONDS = 1e9


class App:
    """`told(reader, place)` is called when an answer was stored, `trouble(line)` when
    neither an answer nor an image could be had."""

    def __init__(
        self,
        folder: str | Path,
        study: Study,
        tokens: Mapping[str, str],
        store: Store,
        told: Callable[[str, int], None] = lambda reader, place: None,
        trouble: Callable[[str], None] = lambda line: None,
    ):
        self.folder, self.study, self.store = folder, study, store
        self.told, self.trouble = told, trouble
        self.readers = {token: reader for reader, token in tokens.items()}
        page = resources.files("ddpm_jax.reader_study") / "page"
        self.files = {name: (page / name).read_bytes() for name in PAGE}

    def starlette(self) -> Starlette:
        routes = [
            *(Route(f"/{name}", self.page_file) for name in PAGE if name != HTML),
            Route("/r/{token}", self.page),
            Route("/r/{token}/state", self.state),
            Route("/r/{token}/image/{position:int}", self.image),
            Route("/r/{token}/answer", self.answer, methods=["POST"]),
        ]
        handlers = {
            404: nothing,
            405: nothing,
            Busy: self.busy,
            ClientDisconnect: nothing,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    def page_file(self, request: Request) -> Response:
        name = request.url.path.rsplit("/", 1)[1]
        return reply(self.files[name], PAGE[name])

    def page(self, request: Request) -> Response:
        if self._reader(request) is None:
            return nothing()
        return reply(self.files[HTML], PAGE[HTML])

    def state(self, request: Request) -> Response:
        reader = self._reader(request)
        if reader is None:
            return nothing()
        return answered(self.place(reader, self.store.position(reader)))

    def image(self, request: Request) -> Response:
        """The grey levels of the image that is to be answered now, and no other."""
        reader = self._reader(request)
        position = request.path_params["position"]
        if reader is None or position != self.store.position(reader):
            return nothing()
        sequence = self.study.sequences[reader]
        if position >= len(sequence):
            return nothing()
        self.store.show(reader, position)
        try:
            data = image_path(self.folder, sequence[position].image).read_bytes()
        except OSError as error:
            raise Busy(f"an image cannot be read: {error.strerror}") from None
        return reply(data, "application/octet-stream")

    async def answer(self, request: Request) -> Response:
        reader = self._reader(request)
        if reader is None:
            return nothing()
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return answered({"error": "too long"}, 413)
        return await run_in_threadpool(self._add, reader, body)

    def _add(self, reader: str, body: bytes) -> Response:
        """Store the answer once; sent again, it is replied to alike."""
        sequence = self.study.sequences[reader]
        try:
            content = json.loads(body)
            position, seconds = content["position"], content["seconds"]
            if type(position) is not int or not 0 <= position < len(sequence):
                raise ValueError("position: out of range.")
            if type(seconds) not in (int, float) or not 0 <= seconds < MOST_SECONDS:
                raise ValueError("seconds: expected a number from 0.")
            one = sequence[position]
            said, confidence = content["answer"], content["confidence"]
            self.study.check(one.image, said, confidence)
            new = Answer(
                *(reader, position, one.image, one.kind, said, confidence),
                *(float(seconds), time.time()),
            )
            stored = self.store.add(new)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return answered({"error": str(error)}, 400)
        place = self.store.position(reader)
        if stored:
            self.told(reader, place)
        result = self.place(reader, place) | {"stored": stored}
        if one.kind == TRAINING:
            result["feedback"] = self.study.feedback[one.image]
        return answered(result)

    def place(self, reader: str, position: int) -> dict:
        """What the page shows: nothing of it depends on what an image is."""
        sequence, study = self.study.sequences[reader], self.study
        result = {
            "protocol": study.protocol,
            "width": study.width,
            "height": study.height,
            "levels": study.levels,
            "position": position,
            "total": len(sequence),
            "practice": sum(one.kind == TRAINING for one in sequence),
        }
        if study.protocol == LABELS:
            titles = dict(study.fields)
            here = sequence[position].image if position < len(sequence) else None
            result["claims"] = [
                {"name": name, "title": titles[name], "value": value}
                for name, value in study.claims.get(here, {}).items()
            ]
        return result

    def busy(self, request: Request, error: Exception) -> Response:
        """Not stored; the page tries again."""
        self.trouble(str(error))
        return JSONResponse({"error": "busy"}, 503, HEADERS | {"Retry-After": "1"})

    def _reader(self, request: Request) -> str | None:
        return self.readers.get(request.path_params["token"])


def reply(data: bytes, kind: str, status: int = 200) -> Response:
    return Response(data, status, HEADERS | {"Content-Type": kind})


def answered(content: dict, status: int = 200) -> Response:
    return JSONResponse(content, status, HEADERS)


def nothing(*_: object) -> Response:
    """The one answer to all that is not there, or is nobody's business."""
    return reply(b"Not here.\n", "text/plain; charset=utf-8", 404)


class Announced(uvicorn.Server):
    """Calls `announce()` once it answers, and Ctrl-C is caught."""

    announce: Callable[[], None]

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        self.announce()
