from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from flows.errors import SettingsError
from flows.serving.server import CatalogServer, bind_port


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
        server = CatalogServer(root, None, host, 0)
    except SettingsError:
        pytest.skip(f"this machine has no {host}")
    with server:
        assert server.url.startswith(url)
        assert int(server.url.rpartition(":")[2]) > 0


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b", "x" * 64])
def test_a_host_that_is_not_here_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match=f"{re.escape(host)}:0: .*--host"):
        bind_port(host, 0)
