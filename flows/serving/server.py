"""The web server."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette

from flows.errors import SettingsError
from flows.serving.app import build_app
from flows.serving.patience import ImpatientProtocol
from flows.serving.stac_browser import StacBrowser

_BACKLOG = 128
#: Connections from which on a request is answered with 503: a page of STAC Browser opens about ten.
_MOST_CONNECTIONS = 256
#: Seconds that answers under way are given once the server is told to end.
_ENDING_S = 10


class CatalogServer:
    """Serves the catalog in ``root``; bound to its port at once, so that it can say which one.

    Raises:
        SettingsError: a host or port that cannot be had.
    """

    def __init__(self, root: Path, browser: StacBrowser | None, host: str, port: int) -> None:
        self._app = build_app(root, browser)
        self._socket = bind_port(host, port)

    @property
    def url(self) -> str:
        """Where readers find it, without a slash at the end."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self) -> None:
        """Serve until interrupted."""
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(build_config(self._app)).run(sockets=[self._socket])


def build_config(app: Starlette) -> uvicorn.Config:
    """Return how ``app`` is served: with bounds on what a reader may hold, logs where all others go."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING_S,
    )


def bind_port(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 stands for any free one.

    Raises:
        SettingsError: the host or port cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter: a name that DNS has no form for
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else getattr(error, "strerror", "no such name")
        raise SettingsError(
            f"{host}:{port}: {reason}: choose another --host or --port; --port 0 takes any free one"
        ) from error
    # asyncio sets this on sockets of its own making alone; without it a body waits 40 ms for the
    # reader to acknowledge the header. Connections inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
