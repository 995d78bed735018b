"""The local page as an ASGI application: photos come in, masks go out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.errors import UserError
from pipeline.inference.image_model import ImageModel
from pipeline.serve.guard import HOSTS, SameOriginMiddleware
from pipeline.serve.page import serve_page, serve_script
from pipeline.serve.photos import MAX_BYTES, Photo, PhotoStore, predict_photo, render_mask, render_rle

Result = TypeVar("Result")

MAX_WAITING = 4
"""Photos that are received, wait or are predicted at one time. The page sends one after the other."""
UPLOAD_TYPE = "application/octet-stream"
"""Type of an upload. Forms of other pages cannot send it, and their scripts must ask first, which nobody answers."""


class Service:
    """Answers the requests of the page; a single thread predicts and encodes."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model
        self.default = model.postprocess.thresholds[0]
        self.thresholds = sorted({step / 100 for step in range(1, 100)} | {self.default})
        self.html, self.js = serve_page(model, self.thresholds, self.default), serve_script()
        self.photos = PhotoStore()
        self.waiting = 0
        self.worker = ThreadPoolExecutor(1, "predict")

    async def index(self, request: Request) -> Response:
        """Return the page."""
        return Response(self.html, media_type="text/html")

    async def script(self, request: Request) -> Response:
        """Return the script of the page."""
        return Response(self.js, media_type="text/javascript")

    async def add(self, request: Request) -> Response:
        """Predict the photo in the body; its name is in the query."""
        if request.headers.get("content-type") != UPLOAD_TYPE:
            raise HTTPException(415, f"a photo is sent as {UPLOAD_TYPE}")
        if self.waiting >= MAX_WAITING:
            raise HTTPException(503, "other photos are being predicted; try again in a second", {"Retry-After": "1"})
        name = clean_name(request.query_params.get("name", ""))
        self.waiting += 1
        try:
            data = await read_body(request, MAX_BYTES)
            photo = await self._run(lambda: predict_photo(self.model, data, name, self.thresholds))
        except ClientDisconnect:
            return Response(status_code=499)
        except UserError as error:
            # Not a status of 400: the request is right, and browsers log those as errors of the page.
            return JSONResponse({"error": error.what if error.where == name else str(error)})
        finally:
            self.waiting -= 1
        return JSONResponse({"key": self.photos.add(photo), **photo.describe()}, 201)

    async def remove(self, request: Request) -> Response:
        """Forget a photo."""
        self.photos.remove(request.path_params["key"])
        return Response(status_code=204)

    async def preview(self, request: Request) -> Response:
        """Return the photo as the model sees it."""
        return Response(self._photo(request).preview, media_type="image/jpeg")

    async def thumbnail(self, request: Request) -> Response:
        """Return a small copy of the photo."""
        return Response(self._photo(request).thumbnail, media_type="image/jpeg")

    async def levels(self, request: Request) -> Response:
        """Return the counts of `pipeline.inference.levels.Levels` as bytes (classes, h, w)."""
        return Response(self._photo(request).shown_counts, headers={"Content-Encoding": "gzip"}, media_type=UPLOAD_TYPE)

    async def mask(self, request: Request) -> Response:
        """Return the PNG of one class, at the threshold in the query."""
        photo, threshold, index = self._photo(request), self._threshold(request), request.path_params["index"]
        if index >= len(self.model.mask_suffixes):
            raise HTTPException(404, "there is no such class")
        return attachment(*await self._run(lambda: render_mask(self.model, photo, index, threshold)), "image/png")

    async def rle(self, request: Request) -> Response:
        """Return the run-length encoding of all classes, at the threshold in the query."""
        photo, threshold = self._photo(request), self._threshold(request)
        if self.model.competition is None:
            raise HTTPException(404, "the file of the competition is not here, so its format is not known")
        return attachment(*await self._run(lambda: render_rle(self.model, photo, threshold)), "text/csv")

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.worker, work)

    def _photo(self, request: Request) -> Photo:
        photo = self.photos.get(request.path_params["key"])
        if photo is None:
            raise HTTPException(404, "this photo is not in memory any more; drop it again")
        return photo

    def _threshold(self, request: Request) -> float:
        text = request.query_params.get("threshold", str(self.default))
        chosen = [threshold for threshold in self.thresholds if str(threshold) == text]
        if not chosen:
            raise HTTPException(400, f"the threshold {text[:20]!r} is none of the page's")
        return chosen[0]


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body of a request, up to `limit` bytes.

    Raises:
        HTTPException: it is longer.
    """
    too_long = HTTPException(413, f"a photo may have up to {limit // 10**6} MB")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_long
    return bytes(body)


def clean_name(name: str) -> str:
    """Return the last part of a path without control characters, at most 200 characters; "photo" if nothing is left."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    printable = "".join(character for character in last if character.isprintable())
    return printable[-200:] if printable.strip(". ") else "photo"


def attachment(name: str, content: bytes, media_type: str) -> Response:
    """Return a file that the browser saves under `name` (RFC 6266)."""
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, headers={"Content-Disposition": disposition}, media_type=media_type)


async def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": "an error of the program; the terminal shows it"}, 500)


def build_app(model: ImageModel) -> Starlette:
    """Return the application for one model."""
    service = Service(model)
    photo = "/photos/{key}"
    return Starlette(
        routes=[
            Route("/", service.index),
            Route("/serve.js", service.script),
            Route("/photos", service.add, methods=["POST"]),
            Route(photo, service.remove, methods=["DELETE"]),
            Route(f"{photo}/preview.jpg", service.preview),
            Route(f"{photo}/thumbnail.jpg", service.thumbnail),
            Route(f"{photo}/levels", service.levels),
            Route(f"{photo}/mask/{{index:int}}.png", service.mask),
            Route(f"{photo}/rle.csv", service.rle),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(SameOriginMiddleware),
        ],
        exception_handlers={HTTPException: _explain, Exception: _explain},
    )
