"""HTTP servers on an ephemeral port of loopback, ended with their ``with`` block."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


class QuietHandler(BaseHTTPRequestHandler):
    """HTTP/1.1 that keeps connections and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    app: ClassVar[Any]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""

    def answer(
        self, status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole response; a client that hung up is no error of the server's."""
        try:
            self.send_response(status)
            for name, value in {"Content-Type": media_type, **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class _QuietServer(ThreadingHTTPServer):
    """On a port that none before it had in this process: GDAL remembers what it once read from a URL."""

    daemon_threads = True
    used: ClassVar[set[int]] = set()

    def server_bind(self) -> None:
        super().server_bind()
        while self.server_port in self.used:
            self.socket.close()
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_address = ("127.0.0.1", 0)
            super().server_bind()
        self.used.add(self.server_port)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or was killed, is no error of the server's."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LoopbackServer:
    """Serves ``handler`` in threads of this process."""

    handler: ClassVar[type[QuietHandler]]

    def __init__(self) -> None:
        bound = type("BoundHandler", (self.handler,), {"app": self})
        self._server = _QuietServer(("127.0.0.1", 0), bound)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Without a trailing slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
