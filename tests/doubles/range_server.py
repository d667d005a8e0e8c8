"""Files over HTTP with byte ranges, tokens and faults, on loopback."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

Answer = tuple[int, bytes, dict[str, str]]


class _Handler(QuietHandler):
    app: RangeServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.app.requests.append((self.command, parts.path, parts.query, self.headers.get("Range")))
        planned = self.app.plan(parts.path, len(self.app.requests)) if self.app.plan else None
        if planned is not None:
            status, body, headers = planned
            self.answer(status, body, "text/plain", headers)
            return
        if self.app.tokens is not None:
            token = parse_qs(parts.query).get("sig", [""])[0]
            if token not in self.app.tokens:
                self.answer(403 if token else 409, b"<Error/>", "application/xml")
                return
        path = self.app.root / parts.path.lstrip("/")
        if not path.is_file():
            self.answer(404, b"", "text/plain")
            return
        self._send(path.read_bytes())

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _send(self, body: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None or not self.app.ranges:
            self.answer(200, body, "image/tiff")
            return
        first = int(wanted[1])
        last = min(int(wanted[2] or len(body) - 1), len(body) - 1)
        if first > last:
            self.answer(416, b"", "text/plain", {"Content-Range": f"bytes */{len(body)}"})
            return
        content_range = f"bytes {first}-{last}/{len(body)}"
        self.answer(206, body[first : last + 1], "image/tiff", {"Content-Range": content_range})


class RangeServer(LoopbackServer):
    """Serves the files of ``root``.

    ``tokens``: with a set, only ``?sig=`` one of them opens a file, as on the Planetary Computer.
    ``plan``: called with the path and the number of the request; what it returns is answered instead.
    ``requests``: method, path, query and range of every request.
    """

    handler = _Handler

    def __init__(self, root: Path, tokens: set[str] | None = None) -> None:
        super().__init__()
        self.root = root
        self.tokens = tokens
        self.ranges = True
        self.plan: Callable[[str, int], Answer | None] | None = None
        self.requests: list[tuple[str, str, str, str | None]] = []


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Until ``condition`` holds; for what another thread does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
