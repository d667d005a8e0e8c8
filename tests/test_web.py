"""Answers that lead elsewhere, are long, or drip; a user hears of long waits."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from pc_cloudmask.masking.earth_engine.transport import BoundedHttp
from pc_cloudmask.web import BodyTooLarge, Deadline, ForeignRedirect, HttpClient, NoAnswer, RetryPolicy
from tests.doubles.range_server import wait_until
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

CHUNK = bytes(1 << 16)
CHUNKS = 2_000


class _Handler(QuietHandler):
    app: RedirectServer

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.app.location)
        self.send_header("Content-Length", str(self.app.chunks * len(CHUNK)))
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for _ in range(self.app.chunks):
                self.wfile.write(CHUNK)
                self.app.sent += 1
        except ConnectionError:
            self.app.hung_up = True


class RedirectServer(LoopbackServer):
    """Redirects to ``location`` with a body of ``chunks``; notes how many it got rid of."""

    handler = _Handler
    location, chunks, sent, hung_up = "/b", 0, 0, False


@pytest.fixture
def server() -> Iterator[RedirectServer]:
    with RedirectServer() as server:
        yield server


def get(server: RedirectServer) -> None:
    client = HttpClient(RetryPolicy(attempts=1))
    client.get(f"{server.url}/a", deadline=Deadline(30), max_body_bytes=1000)


def test_the_body_of_a_redirect_is_bounded_too(server: RedirectServer) -> None:
    server.chunks = CHUNKS
    with pytest.raises(BodyTooLarge):
        get(server)
    wait_until(lambda: server.hung_up or server.sent == CHUNKS)
    assert server.hung_up
    assert server.sent < CHUNKS / 2


@pytest.mark.parametrize("location", ["http://[", "//[x]/", "http://[::1/é", "http://127.0.0.1:x/", "é"])
def test_a_redirect_to_no_url_is_named(server: RedirectServer, location: str) -> None:
    server.location = location
    with pytest.raises(ForeignRedirect, match="redirects"):
        get(server)


@pytest.mark.parametrize(("backoff_s", "level"), [(1.0, logging.INFO), (30.0, logging.WARNING)])
def test_a_long_wait_is_no_silence(backoff_s: float, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    caplog.set_level(logging.INFO, logger="pc_cloudmask.web")
    waits: list[float] = []
    client = HttpClient(RetryPolicy(attempts=2, backoff_s=backoff_s, sleep=waits.append))
    with pytest.raises(NoAnswer):
        client.get(f"http://127.0.0.1:{port}/?sig=hush", deadline=Deadline(100), max_body_bytes=1)
    (record,) = (record for record in caplog.records if record.name == "pc_cloudmask.web")
    assert record.levelno == level
    assert f"attempt 2 follows in {waits[0]:.1f} s" in record.getMessage()
    assert "hush" not in record.getMessage()


DRIPS = 100
"""A drip each 30 ms: a client that waits for them all takes three seconds."""


class _DripHandler(QuietHandler):
    app: DripServer

    def do_GET(self) -> None:
        try:
            self.wfile.write(self.app.start)
            for _ in range(DRIPS):
                self.wfile.write(self.app.drip)
                self.app.sent += 1
                time.sleep(0.03)
        except ConnectionError:
            self.app.hung_up = True
        self.close_connection = True


class DripServer(LoopbackServer):
    """Begins an answer with ``start`` and goes on with a ``drip`` now and then, none of them late."""

    handler = _DripHandler
    sent, hung_up = 0, False

    def __init__(self, start: bytes, drip: bytes) -> None:
        super().__init__()
        self.start, self.drip = start, drip


OK = b"HTTP/1.1 200 OK\r\n"
Ask = Callable[[str], object]


def _ask(url: str) -> object:
    client = HttpClient(RetryPolicy(attempts=1))
    return client.get(url, deadline=Deadline(0.3), max_body_bytes=1000)


def _ask_earth_engine(url: str) -> object:
    return BoundedHttp(0.3, connections=1).request(url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (OK + b"Content-Length: 100\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK, b"X"),
    ],
    ids=["body", "chunks", "head of a chunk", "headers"],
)
@pytest.mark.parametrize("ask", [_ask, _ask_earth_engine])
def test_an_answer_that_drips_ends_at_the_deadline(ask: Ask, start: bytes, drip: bytes) -> None:
    with DripServer(start, drip) as server:
        with pytest.raises((NoAnswer, TimeoutError), match=r"timed out|no answer within"):
            ask(server.url)
        wait_until(lambda: server.hung_up or server.sent == DRIPS)
    assert server.hung_up


class _Throttling(QuietHandler):
    app: ThrottlingServer

    def do_GET(self) -> None:
        status, text, header = self.app.answers.pop(0)
        body = text.encode()
        self.send_response(status)
        if header:
            self.send_header("Retry-After", header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class ThrottlingServer(LoopbackServer):
    """Gives ``answers``, of status, text and Retry-After, one after the other."""

    handler = _Throttling
    answers: list[tuple[int, str, str]]


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        ((429, "", "7"), 7),
        ((429, '{"message": "Rate limit is exceeded. Try again in 23 seconds."}', ""), 23),
        ((503, "try again in 1 second", ""), 1),
        ((403, "", "9"), 9),
        ((403, "Out of call volume quota. Quota will be replenished in 00:02:05.", ""), 125),
    ],
)
def test_a_server_that_asks_to_wait_is_waited_for(answer: tuple[int, str, str], wait_s: float) -> None:
    waited: list[float] = []
    with ThrottlingServer() as server:
        server.answers = [answer, (200, "here", "")]
        client = HttpClient(RetryPolicy(attempts=2, backoff_s=0.01, sleep=waited.append))
        found = client.get(f"{server.url}/a", deadline=Deadline(600), max_body_bytes=1000)
    assert (found.status, found.body, waited) == (200, b"here", [wait_s])


def test_a_403_that_asks_for_nothing_is_an_answer() -> None:
    with ThrottlingServer() as server:
        server.answers = [(403, "Access denied. Try again with a key.", "")]
        found = HttpClient(RetryPolicy(attempts=1)).get(
            f"{server.url}/a", deadline=Deadline(30), max_body_bytes=1000
        )
    assert found.status == 403
