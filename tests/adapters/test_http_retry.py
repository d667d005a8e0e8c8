"""What a user is told while requests are tried again."""

from __future__ import annotations

import logging
import socket

import pytest

from flows.adapters.http_retry import Deadline, HttpClient, NoAnswer, RetryPolicy


@pytest.mark.parametrize(("backoff_s", "level"), [(1.0, logging.INFO), (30.0, logging.WARNING)])
def test_a_long_wait_is_no_silence(backoff_s: float, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    caplog.set_level(logging.INFO, logger="flows.adapters.http_retry")
    waits: list[float] = []
    client = HttpClient(RetryPolicy(attempts=2, backoff_s=backoff_s, sleep=waits.append))
    with pytest.raises(NoAnswer):
        client.get(f"http://127.0.0.1:{port}/?sig=hush", deadline=Deadline(100), max_body_bytes=1)
    (record,) = (record for record in caplog.records if record.name == "flows.adapters.http_retry")
    assert record.levelno == level
    assert f"attempt 2 follows in {waits[0]:.1f} s" in record.getMessage()
    assert "hush" not in record.getMessage()
