"""Connections on which an answer is whole in time, or ends.

A time-out of requests is that of one read, and one read may wait for 64 kB: a server that sends a byte
now and then, of a body or of headers, would hold its client for days.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ends: ContextVar[float] = ContextVar("_ends", default=float("inf"))


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Answers to requests that are sent inside end after ``seconds``, as after a read that timed out."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def is_timeout(error: requests.RequestException) -> bool:
    """Whether time ran out; of a body requests says so in the cause alone."""
    return isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), ReadTimeoutError)


class DeadlineAdapter(HTTPAdapter):
    """Keeps to ``answer_within``, through proxies too."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of connections to the server."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _build_connection_class(pool.ConnectionCls)
        return pool


@cache
def _build_connection_class(plain: type[Any]) -> type[Any]:
    """``plain`` with answers that end; itself where it has them."""
    if plain.response_class is _EndingResponse:
        return plain
    return type(plain.__name__, (plain,), {"response_class": _EndingResponse})


class _EndingResponse(HTTPResponse):
    """An answer whose every byte is read with what is left of the time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: io.BufferedReader = io.BufferedReader(_EndingReader(self.fp.detach(), sock, _ends.get()))


class _EndingReader(io.RawIOBase):
    """Reads ``raw``, the socket's own reader, until ``ends`` of the monotonic clock."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, ends: float) -> None:
        super().__init__()
        self._raw, self._sock, self._ends = raw, sock, ends
        self._read_timeout_s = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(left_s if self._read_timeout_s is None else min(left_s, self._read_timeout_s))
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()
