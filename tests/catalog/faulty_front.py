"""A front of an S3 server that fails the reading of chosen objects, as gateways and policies do."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from pc_cloudmask.storage.s3 import S3Store
from tests.doubles.s3_server import S3Server
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

FAULTS = ("denied", "unavailable", "broken")


class _Handler(QuietHandler):
    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.app.find_fault(self.command, self.path)
        if fault in {"denied", "unavailable"}:
            status, code = (403, "AccessDenied") if fault == "denied" else (503, "SlowDown")
            self.answer(status, f"<Error><Code>{code}</Code></Error>".encode(), "application/xml")
            return
        connection = http.client.HTTPConnection(self.app.upstream, timeout=600)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "broken" else content)
        self.close_connection = fault == "broken"
        connection.close()

    do_GET = do_HEAD = do_PUT = do_DELETE = _pass_on  # noqa: N815 - the base class's names


class FaultyFront(LoopbackServer):
    """``faults`` maps what a key ends with to one of ``FAULTS``: every read of such an object fails so."""

    handler = _Handler

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self.upstream = urlsplit(upstream).netloc
        self.faults: dict[str, str] = {}

    def find_fault(self, method: str, path: str) -> str | None:
        """What happens to this request."""
        if method not in {"GET", "HEAD"}:
            return None
        key = urlsplit(path).path
        return next((fault for end, fault in self.faults.items() if key.endswith(end)), None)


@contextmanager
def open_faulty_store(server: S3Server) -> Iterator[tuple[S3Store, FaultyFront]]:
    """A store in a new bucket behind a front; its client tries once, so that a failure takes no time."""
    with FaultyFront(server.url) as front:
        client = boto3.client(
            "s3",
            endpoint_url=front.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # pragma: allowlist secret
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        yield S3Store(server.create_bucket(), "some/where", client), front
