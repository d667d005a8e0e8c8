"""An HTTP front before an S3 server that breaks off answers, or gives others in their place."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_EMPTY_PAGE = b'<?xml version="1.0"?><ListBucketResult></ListBucketResult>'
_HEADERS = ("ETag", "Last-Modified", "Content-Type", "x-amz-request-id")


@dataclass
class Script:
    """What happens to the next requests of a kind: ``list``, ``head``, ``get``, ``put`` or ``delete``.

    ``faults`` are used up one by one; what follows them is ``always``.

    ``status``    the answer breaks off after its status line
    ``headers``   ... after some of its headers, none of which tells a length
    ``half``      ... in the middle of its body
    ``page``      a proxy's own 404
    ``rootless``  a well-formed listing that says nothing
    ``endless``   a listing that is cut and does not say how it goes on
    ``etagless``  everything but the ETag
    ``undelimited``  the delimiter is ignored
    ``prefixless``   the common prefixes are left out
    ``denied``    403
    """

    faults: dict[str, deque[str]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def next(self, kind: str) -> str:
        self.seen.append(kind)
        queue = self.faults.get(kind)
        return queue.popleft() if queue else self.always.get(kind, "none")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: str
    script: Script

    def _answer(self) -> None:
        fault = self.script.next(self._kind())
        if fault == "undelimited":
            self.path = re.sub(r"delimiter=[^&]*&?", "", self.path)
        if fault in {"page", "denied"}:
            self._read()
            self._refuse(fault)
            return
        answer, body = self._forward()
        if fault in {"status", "headers"}:
            self._break_off(fault, answer)
            return
        body = self._change(fault, body)
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            skipped = {"content-length", "transfer-encoding", "connection"}
            if name.lower() not in skipped and not (fault == "etagless" and name.lower() == "etag"):
                self.send_header(name, value)
        length = answer.headers["Content-Length"] if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "half":
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that has had enough
            super().handle()

    do_GET = do_HEAD = do_PUT = do_DELETE = _answer  # noqa: N815 - the server's names

    def _kind(self) -> str:
        is_list = self.command == "GET" and "list-type" in parse_qs(urlsplit(self.path).query)
        return "list" if is_list else self.command.lower()

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=600)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, self._read(), dict(self.headers.items()))
            answer = connection.getresponse()
            return answer, answer.read()

    def _refuse(self, fault: str) -> None:
        status, body = (404, b"<html>no such page</html>") if fault == "page" else (403, b"")
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def _break_off(self, fault: str, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for name in _HEADERS if fault == "headers" else ():
            self.send_header(name, answer.headers.get(name, '"etag"'))
        self.flush_headers()
        self.close_connection = True

    def _change(self, fault: str, body: bytes) -> bytes:
        if fault == "rootless":
            return _EMPTY_PAGE
        if fault == "endless":
            return body.replace(b"<IsTruncated>false", b"<IsTruncated>true")
        if fault == "prefixless":
            return re.sub(rb"<CommonPrefixes>.*?</CommonPrefixes>", b"", body, flags=re.DOTALL)
        return body

    def log_message(self, *_: object) -> None:
        """Nothing: the tests read ``Script.seen``."""


@contextlib.contextmanager
def running_breaking_front(upstream: str) -> Iterator[tuple[str, Script]]:
    """A front on loopback before ``upstream``: its URL, and the script of its faults."""
    script = Script()
    attributes = {"upstream": upstream.removeprefix("http://"), "script": script}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), attributes))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
