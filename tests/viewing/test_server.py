from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing import server
from pc_cloudmask.viewing import server as patience
from pc_cloudmask.viewing.server import CatalogServer, bind_port
from tests.viewing.conftest import Serve


def test_connections_send_at_once() -> None:
    """Header and body are two writes: held back, the second waits 40 ms for the reader's kernel."""
    with (
        bind_port("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_it_knows_its_address_before_it_runs(root: Path, host: str, url: str) -> None:
    try:
        listening = CatalogServer(root, None, host, 0)
    except SettingsError:
        pytest.skip(f"this machine has no {host}")
    with listening:
        assert listening.url.startswith(url)
        assert int(listening.url.rpartition(":")[2]) > 0


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b", "x" * 64])
def test_a_host_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match=f"{re.escape(host)}:0: .*--host"):
        bind_port(host, 0)


def read_all(connection: socket.socket) -> bytes:
    """What the server still sends before it closes the connection."""
    body = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            body += more
    return body


def send_slowly(url: str, head: bytes, drip: bytes) -> bytes:
    """The answer to a request of which ``drip`` is sent over and over, until the server closes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=120) as connection:
        connection.sendall(head)
        ended = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(drip)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return read_all(connection)
        finally:
            ended.set()
            sender.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "drip", "answered"),
    [
        (b"", b"G", b"408"),
        (b"GET /catalog.json HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x", b"408"),
        (b"GET /catalog.json HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x", b"200"),
        (b"GET /catalog.json HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX-Slow: ", b"x", b"200"),
    ],
    ids=["first byte", "header", "body", "second request"],
)
def test_a_request_that_comes_in_byte_by_byte_is_not_waited_for(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, head: bytes, drip: bytes, answered: bytes
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 0.5)
    assert send_slowly(serve(root), head, drip).startswith(b"HTTP/1.1 " + answered)


def test_a_connection_that_says_nothing_is_not_waited_for(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 0.5)
    assert send_slowly(serve(root), b"", b"").startswith(b"HTTP/1.1 408")


def test_a_reader_beyond_the_most_is_told_so_and_served_once_there_is_room(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 4)
    url = serve(root)
    address = urlsplit(url)
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
        # The server learns of them in the order in which they were made.
        answer = requests.get(f"{url}/catalog.json", timeout=600)
        assert answer.status_code == 503
        assert answer.headers["Connection"] == "close"

        for _ in range(4):
            held.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
        closed = held.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
        closed.settimeout(60)
        assert read_all(closed).startswith(b"HTTP/1.1 503")

    def ask() -> bool:
        return requests.get(f"{url}/catalog.json", timeout=600).status_code == 200

    assert any(ask() for _ in range(1000))
