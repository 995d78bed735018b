"""The HTTP server of the stand-in: API calls, downloads, uploads, and the faults that are due."""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.standin.api import Redirect, answer_call
from tests.standin.backend import Account, ApiError, Backend
from tests.standin.faults import Fault, FaultQueue

HOST = "127.0.0.1"
_CHUNK = 64 << 10
_HANG_S = 60
_STATUS_MESSAGES = {
    "401": "Unauthenticated",
    "403": "Permission was denied",
    "404": "Not found",
    "429": "Too many requests",
    "500": "Internal error",
}
_WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>Kaggle</title></head><body>Please accept the rules.</body></html>\n"


class StandinServer:
    """A running server; use it as a context manager.

    Args:
        backend: the state of the stand-in.
        port: 0 for a free one.
    """

    def __init__(self, backend: Backend, port: int = 0) -> None:
        self.backend = backend
        self.faults = FaultQueue()
        self.calls: list[str] = []
        """All requested steps in order."""
        self.sent_bytes: Counter[str] = Counter()
        """Bytes of files sent, by step."""
        self._server = ThreadingHTTPServer((HOST, port), type("_BoundHandler", (_Handler,), {"standin": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def environment(self, account: Account | None = None, with_token: bool = True) -> dict[str, str]:
        """Return environment variables that send the client to this server.

        In its development mode the client calls http://localhost; a proxy setting brings these calls to our port. The
        client prefers these credentials to others on this machine.

        Args:
            account: who signs in; the first account if None.
            with_token: sign in with the token too, not only with name and key.
        """
        account = account or self.backend.accounts[0]
        token = {"KAGGLE_API_TOKEN": account.token} if with_token else {}
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://{HOST}:{self.port}",
            "no_proxy": "",
            "NO_PROXY": "",
            "KAGGLE_USERNAME": account.name,
            "KAGGLE_KEY": account.key,
            **token,
        }

    def __enter__(self) -> "StandinServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    standin: StandinServer

    def log_message(self, *_: object) -> None:
        """Log nothing: requests contain credentials."""

    def do_POST(self) -> None:
        """Answer a call of the API."""
        body = b"".join(self._read_chunks())
        method = self._path().rpartition("/")[2]
        fault = self._begin_step(method)
        if fault is not None and self._send_error_status(fault):
            return
        try:
            request = json.loads(body or b"{}")
            answer = self._answer(method, request, fault.kind if fault else "")
        except ApiError as error:
            self._send_json({"code": error.status, "message": str(error)}, error.status)
            return
        if fault is not None and fault.kind == "no_answer":
            self.close_connection = True
        elif isinstance(answer, Redirect):
            self._send(302, b"", {"Location": answer.address})
        else:
            self._send_json(answer)

    def do_PUT(self) -> None:
        """Store the bytes of an upload."""
        fault = self._begin_step("PUT")
        token = self._path().rpartition("/")[2]
        if token not in self.standin.backend.uploads:
            self._send(404)
            return
        path = self.standin.backend.uploads[token][1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in self._read_chunks():
                file.write(chunk)
        if fault is None or not self._send_error_status(fault):
            self._send(200)

    def do_GET(self) -> None:
        """Send a file, from the byte that the client asks for."""
        backend, name = self.standin.backend, unquote(self._path().rpartition("/")[2])
        requested = self.headers.get("Range", "")
        # To resume, the client first requests the whole file, reads only the headers, and then requests the rest.
        step = f"{'REST' if requested else 'GET'} {name}"
        fault = self._begin_step(step)
        if fault is not None and self._send_error_status(fault):
            return
        if name not in backend.files:
            self._send(404)
            return
        content, etag, kind = backend.files[name].read_bytes(), backend.etag(name), "application/zip"
        if fault is not None and fault.kind == "html":
            content, etag, kind = _WEB_PAGE, '"page"', "text/html"
        elif fault is not None and fault.kind == "truncate":
            content, etag = content[: -int(fault.amount)], '"truncated"'
        elif fault is not None and fault.kind == "corrupt":
            middle = len(content) // 2
            content, etag = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :], '"corrupt"'
        start = 0
        if requested.startswith("bytes=") and self.headers.get("If-Range", etag) == etag:
            start = int(requested[len("bytes=") :].partition("-")[0])
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content) - start),
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": formatdate(backend.files[name].stat().st_mtime, usegmt=True),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send_headers(206 if start else 200, headers)
        self._send_content(content[start:], fault, step)

    def _send_content(self, content: bytes, fault: Fault | None, step: str) -> None:
        kind, amount = (fault.kind, int(fault.amount)) if fault else ("", 0)
        if kind in ("disconnect", "hang"):
            content = content[:amount]
        chunk = max(amount // 10, 1) if kind == "throttle" else _CHUNK
        try:
            for start in range(0, len(content), chunk):
                part = content[start : start + chunk]
                self.wfile.write(part)
                self.wfile.flush()
                self.standin.sent_bytes[step] += len(part)
                if kind == "throttle":
                    time.sleep(0.1)
            if kind == "hang":
                time.sleep(_HANG_S)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def _answer(self, method: str, request: dict[str, Any], fault: str) -> dict[str, Any] | Redirect:
        if method == "IntrospectToken":
            return self._introspect(request)
        return answer_call(self.standin.backend, method, request, self._account(), fault)

    def _introspect(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            account = self.standin.backend.authenticate(token=request.get("token", ""))
        except ApiError:
            return {"active": False}
        return {"active": True, "username": account.name}

    def _account(self) -> Account:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            return self.standin.backend.authenticate(token=value)
        name, _, key = base64.b64decode(value or "").decode().partition(":")
        return self.standin.backend.authenticate(name, key)

    def _begin_step(self, step: str) -> Fault | None:
        """Record a step and return its fault, if one is due."""
        self.standin.calls.append(step)
        fault = self.standin.faults.take(step)
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.amount)
        return fault

    def _send_error_status(self, fault: Fault) -> bool:
        """Answer with an error status if that is the fault; return whether it is."""
        if fault.kind == "400":
            self._send(400, b"bad", {"Content-Type": "text/plain"})
        elif fault.kind in _STATUS_MESSAGES:
            status = int(fault.kind)
            self._send_json({"code": status, "message": _STATUS_MESSAGES[fault.kind]}, status)
        else:
            return False
        return True

    def _path(self) -> str:
        # With a proxy setting the client sends the whole address instead of its path.
        return urlsplit(self.path).path

    def _read_chunks(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            chunk = self.rfile.read(min(left, 1 << 20))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def _send_json(self, value: Mapping[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self._send_headers(status, {**(headers or {}), "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
