"""The stand-in's HTTP side: the client's calls in, the world's answers out, with the faults that are due."""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.standin.faults import Fault, Faults
from tests.standin.world import Account, RefusedError, World

HOST = "127.0.0.1"
_CHUNK = 64 << 10
_STATUS = {
    "401": "Unauthenticated",
    "403": "Permission was denied",
    "404": "Not found",
    "429": "Too many requests",
    "500": "Internal error",
}
PAGE = b"<!DOCTYPE html>\n<html><head><title>Kaggle</title></head><body>Please accept the rules.</body></html>\n"


class Standin:
    """A running server; use it as a context manager."""

    def __init__(self, world: World, port: int = 0) -> None:
        self.world = world
        self.faults = Faults()
        self.calls: list[str] = []
        """Every step that was asked for, in order."""
        self.served: Counter[str] = Counter()
        """Bytes of files sent, by step."""
        self._server = ThreadingHTTPServer((HOST, port), type("Bound", (_Handler,), {"standin": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_address[1]

    def environment(self, account: Account | None = None, token: bool = True) -> dict[str, str]:
        """Variables that send the client here, signed in as `account` (default: the first one).

        The client knows a development mode that calls http://localhost; a proxy setting brings those calls to our
        port. An account given here is asked before any real credentials on this machine.
        """
        account = account or self.world.accounts[0]
        signed_in = {"KAGGLE_API_TOKEN": account.token} if token else {}
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://{HOST}:{self.port}",
            "no_proxy": "",
            "NO_PROXY": "",
            "KAGGLE_USERNAME": account.name,
            "KAGGLE_KEY": account.key,
            **signed_in,
        }

    def __enter__(self) -> "Standin":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    standin: Standin

    def log_message(self, *_: object) -> None:
        """Say nothing: requests carry credentials."""

    def do_POST(self) -> None:
        """A call of the API."""
        body = self._read()
        method = self._path().rpartition("/")[2]
        fault = self._begin(method)
        if fault is not None and self._refuse(fault):
            return
        try:
            request = json.loads(body or b"{}")
            if method == "IntrospectToken":
                self._json(self._introspect(request))
                return
            answer = self._answer(method, request, self._account(), fault)
        except RefusedError as refused:
            self._json({"code": refused.status, "message": str(refused)}, refused.status)
            return
        if fault is not None and fault.kind == "break":
            self.close_connection = True
            return
        if isinstance(answer, str):
            self._send(302, b"", {"Location": answer})
        else:
            self._json(answer)

    def do_PUT(self) -> None:
        """The bytes of an upload."""
        fault = self._begin("PUT")
        token = self._path().rpartition("/")[2]
        if token not in self.standin.world.tokens:
            self._send(404)
            return
        path = self.standin.world.tokens[token][1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in self._chunks():
                file.write(chunk)
        if fault is None or not self._refuse(fault):
            self._send(200)

    def do_GET(self) -> None:
        """The bytes of a file, from where the client wants them."""
        world, name = self.standin.world, unquote(self._path().rpartition("/")[2])
        wanted = self.headers.get("Range", "")
        # To go on, the client asks for the whole first, looks at the headers alone, and then asks for the rest.
        step = f"{'REST' if wanted else 'GET'} {name}"
        fault = self._begin(step)
        if fault is not None and self._refuse(fault):
            return
        if name not in world.files:
            self._send(404)
            return
        content, tag = world.files[name].read_bytes(), world.tag(name)
        kind = "application/zip"
        if fault is not None and fault.kind == "html":
            content, tag, kind = PAGE, '"page"', "text/html"
        if fault is not None and fault.kind == "short":
            content, tag = content[: -int(fault.amount)], '"short"'
        if fault is not None and fault.kind == "garble":
            middle = len(content) // 2
            content, tag = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :], '"garbled"'
        start = 0
        if wanted.startswith("bytes=") and self.headers.get("If-Range", tag) == tag:
            start = int(wanted[len("bytes=") :].partition("-")[0])
        self.send_response(206 if start else 200)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content) - start),
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Last-Modified": formatdate(world.files[name].stat().st_mtime, usegmt=True),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self._send_body(content[start:], fault, step)

    def _send_body(self, content: bytes, fault: Fault | None, step: str) -> None:
        kind, amount = (fault.kind, int(fault.amount)) if fault else ("", 0)
        if kind in ("cut", "hang"):
            content = content[:amount]
        chunk = max(amount // 10, 1) if kind == "trickle" else _CHUNK
        try:
            for start in range(0, len(content), chunk):
                self.wfile.write(content[start : start + chunk])
                self.wfile.flush()
                self.standin.served[step] += len(content[start : start + chunk])
                if kind == "trickle":
                    time.sleep(0.1)
            if kind == "hang":
                time.sleep(60)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def _answer(self, method: str, request: dict[str, Any], account: Account, fault: Fault | None) -> Any:
        """What a call gives back: an object, or the address to be sent on to."""
        world, slug = self.standin.world, request.get("competitionName", "")
        kind = fault.kind if fault else ""
        if method == "ListCompetitions":
            words = request.get("search", "").split()
            row = {"ref": f"https://www.kaggle.com/competitions/{world.slug}", "userHasEntered": account.joined}
            return {"competitions": [row] if all(word in world.slug for word in words) else []}
        if method == "ListDataFiles":
            world.enter(account, slug)
            names = sorted(world.files)
            start, length = int(request.get("pageToken") or 0), world.page
            page = names[start : start + length]
            files = [
                {
                    "ref": name,
                    "name": name,
                    "totalBytes": world.files[name].stat().st_size,
                    "creationDate": "2017-07-25T00:00:00Z",
                }
                for name in page
            ]
            return {"files": files, "nextPageToken": str(start + length) if start + length < len(names) else ""}
        if method == "DownloadDataFile":
            world.enter(account, slug)
            if request["fileName"] not in world.files:
                raise RefusedError(404, "Not found")
            return f"http://localhost/files/{request['fileName']}?X-Signature={account.key}"
        if method == "StartSubmissionUpload":
            token = world.start_upload(account, slug, request["fileName"])
            return {"token": token, "createUrl": f"http://localhost/upload/{token}"}
        if method == "CreateSubmission":
            entry = world.submit(account, slug, request["blobFileTokens"], request.get("submissionDescription", ""))
            if kind == "swallow":
                world.entries.remove(entry)
            elif kind != "pending":
                world.settle(entry, fail="Evaluation Exception: something is wrong" if kind == "error" else "")
            return {"message": f"Successfully submitted to {world.slug}", "ref": entry.ref}
        world.enter(account, slug or request.get("competitionDataSources", [""])[0])
        if method == "ListSubmissions":
            mine = [entry for entry in reversed(world.entries) if entry.account == account.name]
            return {"submissions": [entry.row() for entry in mine]}
        if method == "GetSubmissionLimits":
            return world.allowance(account)
        if method == "GetLeaderboard":
            return {"submissions": world.leaderboard()}
        if method == "SaveKernel":
            world.kernels.append(request)
            return {"ref": request["slug"], "url": "/code/" + request["slug"], "versionNumber": len(world.kernels)}
        raise RefusedError(404, f"The stand-in does not know {method}")

    def _introspect(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            account = self.standin.world.sign_in(token=request.get("token", ""))
        except RefusedError:
            return {"active": False}
        return {"active": True, "username": account.name}

    def _account(self) -> Account:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            return self.standin.world.sign_in(token=value)
        name, _, key = base64.b64decode(value or "").decode().partition(":")
        return self.standin.world.sign_in(name, key)

    def _begin(self, step: str) -> Fault | None:
        self.standin.calls.append(step)
        fault = self.standin.faults.take(step)
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.amount)
        return fault

    def _refuse(self, fault: Fault) -> bool:
        """Answer with a status if that is the fault."""
        if fault.kind == "400":
            self._send(400, b"bad", {"Content-Type": "text/plain"})
        elif fault.kind in _STATUS:
            status = int(fault.kind)
            self._json({"code": status, "message": _STATUS[fault.kind]}, status)
        else:
            return False
        return True

    def _path(self) -> str:
        # Through a proxy setting the whole address comes instead of its path.
        return urlsplit(self.path).path

    def _read(self) -> bytes:
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            chunk = self.rfile.read(min(left, 1 << 20))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
