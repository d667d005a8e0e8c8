"""A process that stands before an S3 server and fails a share of the requests.

Run as ``python -m tests.doubles.faulty_front UPSTREAM SHARE SEED FAULT...``; the first line of the output is the URL.
The faults are:

    error     answered 503; the server behind is not asked
    lost      the server behind does it, the client is answered 503
    hangup    the server behind does it, the connection is closed without an answer
    body      an object's bytes break off in the middle
    listing   a listing breaks off in the middle, as a complete answer with status 200
"""

from __future__ import annotations

import http.client
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Dice:
    """Chooses what happens to a request."""

    def __init__(self, share: float, seed: int, faults: list[str]) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._faults = faults
        self._lock = threading.Lock()

    def throw(self, method: str, *, lists: bool) -> str:
        """The fault, or an empty text."""
        with self._lock:
            if self._random.random() >= self._share:
                return ""
            fault = self._random.choice(self._faults)
        fits = {"body": method == "GET" and not lists, "listing": lists}
        return fault if fits.get(fault, True) else "error"


class Front(BaseHTTPRequestHandler):
    """Passes a request on, or fails it."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    dice = Dice(0, 0, [])

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        lists = self.command == "GET" and "list-type=2" in self.path
        fault = self.dice.throw(self.command, lists=lists)
        if fault == "error":
            self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
            return
        connection = http.client.HTTPConnection(self.upstream, timeout=600)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_HEADERS}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.headers.get("Content-Length", "0")
        finally:
            connection.close()
        if fault == "lost":
            self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
        elif fault == "hangup":
            self.close_connection = True
        elif fault == "listing":
            self._answer(answer.status, headers, content[: len(content) // 2])
        elif fault == "body" and len(content) > 1:
            self._answer(answer.status, headers, content[: len(content) // 2], promised=len(content))
            self.close_connection = True
        else:
            self._answer(answer.status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815 - the handler's own names

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, promised: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


_SLOW_DOWN = b"<Error><Code>SlowDown</Code></Error>"


def main() -> None:
    """Serve until terminated."""
    upstream, share, seed, *faults = sys.argv[1:]
    Front.upstream = urlsplit(upstream).netloc
    Front.dice = Dice(float(share), int(seed), faults)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    server.daemon_threads = True
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
