"""Keep the pages of other sites away from a server on loopback.

A page of any site can send requests to 127.0.0.1 from the browser of its visitor. By DNS rebinding, its own name can
even point there, so that the browser takes the answers for its own. What they cannot do is to change these headers:
``Host``, ``Origin`` and ``Sec-Fetch-*``.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ["127.0.0.1", "localhost"]
"""Names of this server. The port is free: a tunnel may use another one."""

POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of every answer: the page loads nothing from elsewhere, nobody embeds it, and no photo stays in a cache."""


class SameOriginMiddleware:
    """Refuse requests that come from other pages, and add `POLICY` to all answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see https://asgi.readthedocs.io/en/latest/specs/main.html."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(POLICY)
            await send(message)

        if is_foreign(Request(scope)):
            answer = JSONResponse({"error": "this request comes from another page"}, 403)
            await answer(scope, receive, send_with_policy)
            return
        await self.app(scope, receive, send_with_policy)


def is_foreign(request: Request) -> bool:
    """Return whether a browser sent this request for another page. A link to the page itself is allowed."""
    headers: Headers = request.headers
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        return True
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    return not (request.method == "GET" and request.url.path == "/" and headers.get("sec-fetch-mode") == "navigate")
