"""Run the local page on loopback until Ctrl-C."""

import errno
import socket

import uvicorn

from pipeline.errors import UserError
from pipeline.inference.image_model import ImageModel
from pipeline.interrupts import raise_on_sigterm
from pipeline.serve.app import build_app

LOOPBACK = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """Listen on a port of loopback, which other computers cannot reach.

    Args:
        port: 0 takes any free one.

    Raises:
        UserError: another program uses the port, or it is reserved.
    """
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        what = "is used by another program" if error.errno == errno.EADDRINUSE else "is reserved for the system"
        raise UserError(f"port {port}", what, "choose another one, such as PORT=8001") from None


def address(listener: socket.socket) -> str:
    """Return the address to open in a browser."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def serve(model: ImageModel, listener: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; a photo that is being predicted is finished.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: after SIGTERM.
    """
    config = uvicorn.Config(
        build_app(model),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    with raise_on_sigterm():
        uvicorn.Server(config).run(sockets=[listener])
