"""Where a bucket is, as it tells who may not list it, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pc_cloudmask.errors import StoreError
from pc_cloudmask.storage.s3 import S3Store
from pc_cloudmask.storage.stores import open_reader
from tests.doubles.s3_server import S3Server


@contextmanager
def running_refusal(status: int, headers: dict[str, str]) -> Iterator[str]:
    """The URL of a server that answers every HEAD so."""

    class Refusal(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "region"),
    [
        (403, {"x-amz-bucket-region": "eu-west-1", "x-amz-request-id": "1"}, "eu-west-1"),
        (403, {}, "eu-north-1"),
        (200, {}, "eu-north-1"),
        (404, {}, None),
    ],
)
def test_the_region_is_what_the_bucket_says_or_else_the_client_s(
    status: int, headers: dict[str, str], region: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_refusal(status, headers) as url:
        S3Server(url).use(monkeypatch)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
        store = open_reader("s3://bucket/masks")
        assert isinstance(store, S3Store)
        if region is None:
            with pytest.raises(StoreError, match="s3://bucket"):
                store.find_place()
        else:
            assert store.find_place().region == region
