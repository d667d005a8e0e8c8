"""The web server."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import uvicorn

from flows.errors import SettingsError
from flows.serving.app import build_app
from flows.serving.stac_browser import StacBrowser

_BACKLOG = 128


class CatalogServer:
    """Serves the catalog in ``root``; bound to its port at once, so that it can say which one.

    Raises:
        SettingsError: a host or port that cannot be had.
    """

    def __init__(self, root: Path, browser: StacBrowser | None, host: str, port: int) -> None:
        self._app = build_app(root, browser)
        self._socket = _bind(host, port)

    @property
    def url(self) -> str:
        """Where readers find it, without a slash at the end."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until interrupted."""
        # Logs go where the command line sends all others.
        config = uvicorn.Config(self._app, log_config=None, server_header=False)
        with self._socket, contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[self._socket])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(
            f"{host}:{port}: {reason}: choose another --host or --port; --port 0 takes any free one"
        ) from error
