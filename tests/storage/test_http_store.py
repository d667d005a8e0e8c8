"""A catalog that a web server shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pc_cloudmask.errors import SettingsError, StoreRefused, StoreUnavailable
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.s3 import S3Store
from pc_cloudmask.storage.stores import HttpStore, open_reader
from pc_cloudmask.web import RetryPolicy
from tests.doubles.s3_server import S3Server

ANSWERS = {
    "/base/here.json": (200, b"{}"),
    "/base/cut.json": (200, b"{}"),
    "/base/gone.json": (404, b""),
    "/base/mine.json": (403, b""),
}
#: Cut after their status line, so often.
CUT = {"/base/endless.json": 9, "/base/cut.json": 1}
RETRY = RetryPolicy(attempts=2, sleep=lambda _: None)


class CuttingServer(ThreadingHTTPServer):
    cuts: dict[str, int]


class Server(BaseHTTPRequestHandler):
    server: CuttingServer

    def do_GET(self) -> None:
        if self.server.cuts.get(self.path, 0):
            self.server.cuts[self.path] -= 1
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            return
        status, body = ANSWERS.get(self.path, (503, b""))
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[HttpStore]:
    server = CuttingServer(("127.0.0.1", 0), Server)
    server.cuts = dict(CUT)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield HttpStore(f"http://127.0.0.1:{server.server_port}/base/", RETRY)
    server.shutdown()
    thread.join()
    server.server_close()


def test_objects_are_read_and_missing_ones_are_none(store: HttpStore) -> None:
    read, found = store.read_object("here.json"), store.find_object("here.json")
    assert read is not None
    assert found is not None
    assert (read.body, read.etag, found.size) == (b"{}", '"tag"', 2)
    assert store.read_object("gone.json") is None
    assert store.find_object("gone.json") is None


def test_what_is_not_public_is_no_missing_object(store: HttpStore) -> None:
    with pytest.raises(StoreRefused, match=r"mine\.json: HTTP 403: not public, or not there at all"):
        store.read_object("mine.json")


def test_a_server_in_trouble_is_asked_again_later(store: HttpStore) -> None:
    with pytest.raises(StoreUnavailable, match="503"):
        store.read_object("other.json")


def test_an_answer_that_breaks_off_after_its_status_line_is_no_empty_object(store: HttpStore) -> None:
    read = store.read_object("cut.json")
    assert read is not None
    assert read.body == b"{}"
    for ask in (store.read_object, store.find_object):
        with pytest.raises(StoreUnavailable, match="an answer of unknown length; gave up after 2 attempts"):
            ask("endless.json")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["../up.json", "/here.json", "a//b", "here.json?x=1"])
def test_a_key_leads_nowhere_else(store: HttpStore, key: str) -> None:
    with pytest.raises(StoreRefused, match="key"):
        store.read_object(key)


def test_a_location_names_its_kind(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_reader("https://masks.example.com/s2/catalog.json"), HttpStore)
    assert open_reader("https://masks.example.com/s2/catalog.json").url == "https://masks.example.com/s2"
    assert isinstance(open_reader("http://localhost:8000"), HttpStore)
    assert isinstance(open_reader("http://[::1]:8000/"), HttpStore)
    for location in (tmp_path, f"file:{tmp_path}", f"file://{tmp_path}", tmp_path / "catalog.json"):
        reader = open_reader(str(location))
        assert isinstance(reader, LocalStore)
        assert reader.root == tmp_path
    s3_server.use(monkeypatch)
    assert isinstance(open_reader(f"s3://{s3_server.create_bucket('plain')}/prefix"), S3Store)


@pytest.mark.parametrize("location", ["http://masks.example.com", "gs://bucket", "ftp://host/x"])
def test_a_location_of_another_kind_is_refused(location: str) -> None:
    with pytest.raises(SettingsError, match="https"):
        open_reader(location)


@pytest.mark.parametrize("location", ["https://[x", "s3://[x", "http://[::1", "~nobody-of-that-name/out"])
def test_a_location_that_is_none_is_named(location: str) -> None:
    with pytest.raises(SettingsError, match="store"):
        open_reader(location)
