"""The process behind ``tests.doubles.s3_server``: moto, and what other stores do differently.

The first word of a bucket's name says how its server behaves:

    plain-     as moto does: conditions are honoured
    ceph-      a quoted ETag in If-Match is always refused, an unquoted one honoured (Ceph RGW 16)
    careless-  If-Match is ignored (localbucket 1.2)
    deaf-      If-Match and If-None-Match are ignored (s3rver 3.7)
    flaky-     15 % of the PUTs fail: half before the write, half after it (the lost answers)

``PUT /_faults`` with a JSON list sets what happens to the next PUTs, one by one: each is ``none`` or
a name in ``FAULTS``.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app

from tests.doubles.wsgi import make_server

FLAKY_SHARE = 0.15
FAULTS = {
    # name: (is the object written, status, code)
    "refused": (False, "503 Slow Down", "SlowDown"),
    "lost": (True, "503 Slow Down", "SlowDown"),
    "conflict": (False, "409 Conflict", "ConditionalRequestConflict"),
    "denied": (False, "403 Forbidden", "AccessDenied"),
    "crowded": (False, "429 Too Many Requests", "ServiceUnavailable"),
    "expired": (False, "400 Bad Request", "ExpiredToken"),
    "elsewhere": (False, "400 Bad Request", "AuthorizationHeaderMalformed"),
    "late": (False, "403 Forbidden", "RequestTimeTooSkewed"),
    "etagless": (True, "200 OK", ""),
    "hollow": (False, "200 OK", ""),
}
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Faults:
    """What happens to the next PUTs of objects."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._random = random.Random(7)
        self._lock = threading.Lock()

    def script(self, names: Iterable[str]) -> None:
        with self._lock:
            self._queue = deque(names)

    def next(self, bucket: str) -> str:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            dice = self._random.random()
        if bucket.startswith("flaky-") and dice < FLAKY_SHARE:
            return "refused" if dice < FLAKY_SHARE / 2 else "lost"
        return "none"


class StrangeStores:
    """A WSGI application: moto behind the faults and dialects above, and its other services."""

    def __init__(self) -> None:
        # Moto lists a folder with each request, to know which service it is for.
        self._application = create_backend_app("s3")
        self._others = DomainDispatcherApplication(create_backend_app)
        self._faults = Faults()
        self._writing = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if "/s3/" not in environ.get("HTTP_AUTHORIZATION", "/s3/"):
            return self._others(environ, start_response)
        path = environ["PATH_INFO"].lstrip("/")
        bucket, _, key = path.partition("/")
        if environ["REQUEST_METHOD"] != "PUT" or not (key or path == "_faults"):
            return self._application(environ, start_response)
        if path == "_faults":
            self._faults.script(json.loads(_read_body(environ)))
            return _answer(start_response, "204 No Content")
        if bucket.startswith("mute-") and not {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}.isdisjoint(environ):
            _read_body(environ)
            return _answer(start_response, "501 Not Implemented", "NotImplemented")
        if self._speak_dialect(environ, bucket):
            return _answer(start_response, "412 Precondition Failed", "PreconditionFailed")
        return self._fail(self._faults.next(bucket), environ, start_response)

    def _speak_dialect(self, environ: Environ, bucket: str) -> bool:
        """Change the request to what such a store makes of it; True where that is a refusal."""
        if bucket.startswith(("careless-", "deaf-")):
            environ.pop("HTTP_IF_MATCH", None)
        if bucket.startswith("deaf-"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        etag = environ.get("HTTP_IF_MATCH")
        if bucket.startswith("ceph-") and etag is not None:
            if etag.startswith('"'):
                _read_body(environ)
                return True
            environ["HTTP_IF_MATCH"] = f'"{etag}"'
        return False

    def _fail(self, fault: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        is_conditional = "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ
        if fault == "none" or (fault == "conflict" and not is_conditional):
            return self._write(environ, start_response)
        written, status, code = FAULTS[fault]
        if written:
            self._perform(environ)
        else:
            _read_body(environ)
        return _answer(start_response, status, code)

    def _perform(self, environ: Environ) -> None:
        for _ in self._write(environ, lambda *_: None):
            pass

    def _write(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Moto looks and writes in two steps; of a busy machine's creators, two have won.
        with self._writing:
            return self._application(environ, start_response)


def _read_body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _answer(start_response: StartResponse, status: str, code: str = "") -> Iterable[bytes]:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
    return [body]


def main() -> None:
    """Serve until terminated; the first line of the output is the URL."""
    server, url = make_server(StrangeStores())
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
