"""A WSGI application on loopback whose clients keep their connections.

The servers of Werkzeug and of the standard library open a connection and a thread for each request, and parse its
headers as an e-mail's: half of what a request to moto cost.
"""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Callable, Iterable
from email.utils import formatdate
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
_BODILESS = ("1", "204", "304")


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    application: ClassVar[Application]

    def handle(self) -> None:
        try:
            while self._answer_next():
                pass
        except ConnectionError:
            pass  # a client that hung up, or was killed, is no error of ours

    def _answer_next(self) -> bool:
        """Answer a request; False where none follows."""
        request = self.rfile.readline().decode("latin-1").split()
        if len(request) != 3:
            return False
        method, target, protocol = request
        environ = self._read_head(method, target)
        if environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = BytesIO(self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0)))
        keeps = protocol == "HTTP/1.1" and environ.get("HTTP_CONNECTION", "").lower() != "close"
        self._answer(method, {**environ, "wsgi.input": body, "SERVER_PROTOCOL": protocol}, keeps=keeps)
        return keeps

    def _read_head(self, method: str, target: str) -> Environ:
        path, _, query = target.partition("?")
        host, port = self.server.server_address[:2]  # type: ignore[misc]
        environ: Environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "RAW_URI": target,
            "QUERY_STRING": query,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        while line := self.rfile.readline().decode("latin-1").strip("\r\n"):
            name, _, value = line.partition(":")
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value.strip()
        return environ

    def _answer(self, method: str, environ: Environ, *, keeps: bool) -> None:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        answer = type(self).application(
            environ, lambda status, headers, *_: started.append((status, headers))
        )
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        status, headers = started[-1]
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "date" not in names:
            lines.append(f"Date: {formatdate(usegmt=True)}")
        if "content-length" not in names and not status.startswith(_BODILESS):
            lines.append(f"Content-Length: {len(body)}")
        if not keeps:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head if method == "HEAD" else head + body)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def make_server(application: Application) -> tuple[socketserver.BaseServer, str]:
    """A server of ``application`` on a port that is free, and its URL."""
    handler = type("Handler", (_Handler,), {"application": staticmethod(application)})
    server = _Server(("127.0.0.1", 0), handler)
    return server, f"http://127.0.0.1:{server.server_address[1]}"
