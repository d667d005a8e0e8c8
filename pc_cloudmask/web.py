"""HTTP requests with retries."""

from __future__ import annotations

import io
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from pc_cloudmask.text import keep_signatures_out_of_logs, make_printable, unsigned_href

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


logger = logging.getLogger(__name__)
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
MAX_BACKOFF_S = 60.0
#: From here on who waits is told why.
_LONG_WAIT_S = 5.0
#: Kept open to a server: as many as there may be workers.
MAX_CONNECTIONS = 64
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 1 << 16


class NoAnswer(Exception):
    """No usable answer within the deadline; the text says why."""


class RefusedAnswer(Exception):
    """An answer that is not taken; the text says why."""


class BodyTooLarge(RefusedAnswer):
    """The answer's body is larger than allowed."""


class ForeignRedirect(RefusedAnswer):
    """The answer leads to another host."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: any status but those that were retried."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Lower-case media type without parameters."""
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()


class Deadline:
    """A point in time after which nothing is begun."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self._end - time.monotonic()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is tried again: at most ``attempts`` times, doubling ``backoff_s``, jittered."""

    attempts: int = 6
    backoff_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after attempt number ``attempt``: half to all of the doubled back-off."""
        delay: float = min(MAX_BACKOFF_S, self.backoff_s * 2 ** (attempt - 1))
        return delay * random.uniform(0.5, 1.0)  # nosec B311 # spreads clients, hides nothing


class _Session(requests.Session):
    """Looks at no redirect: to say where one leads, requests reads its whole body, however large."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: ``HttpClient`` follows by itself."""


class HttpClient:
    """Requests with a time-out each, retries, a limit to the body, and no redirect to another host.

    A ``requests.Session`` is safe to share for what is done here: no cookie matters.
    """

    def __init__(self, retry: RetryPolicy | None = None, headers: Mapping[str, str] | None = None) -> None:
        keep_signatures_out_of_logs()
        self._retry = retry or RetryPolicy()
        self._session = _Session()
        self._session.headers.update(headers or {})
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, DeadlineAdapter(pool_maxsize=MAX_CONNECTIONS))

    def get(
        self, url: str, *, deadline: Deadline, max_body_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to GET."""
        return self.request(
            requests.Request("GET", url, headers=dict(headers or {})), deadline, max_body_bytes
        )

    def request(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        """The answer to ``request``, whatever its status, once it is none of ``RETRIED_STATUSES``.

        Raises:
            NoAnswer: deadline passed, attempts used up, or a Retry-After beyond the deadline.
            BodyTooLarge, ForeignRedirect: the answer is not taken.
        """
        shown = unsigned_href(request.url)
        problem = "the deadline passed"
        for attempt in range(1, self._retry.attempts + 1):
            if deadline.remaining_s() <= 0:
                break
            wanted_s = None
            try:
                answer = self._follow(request, deadline, max_body_bytes)
            except requests.RequestException as error:
                problem = _describe(error)
                if isinstance(error, ValueError):  # requests' own mark of a URL that is none
                    break
            else:
                if answer.status not in RETRIED_STATUSES:
                    return answer
                problem = f"HTTP {answer.status}"
                wanted_s = _retry_after_s(answer.headers)
            delay_s = max(wanted_s or 0.0, self._retry.delay_s(attempt))
            if attempt == self._retry.attempts or delay_s >= deadline.remaining_s():
                waits = f", asks to wait {wanted_s:.0f} s" if wanted_s else ""
                raise NoAnswer(f"{shown}: {problem}{waits}; gave up after {attempt} attempts")
            level = logging.WARNING if delay_s >= _LONG_WAIT_S else logging.INFO
            logger.log(level, "%s: %s; attempt %d follows in %.1f s", shown, problem, attempt + 1, delay_s)
            self._retry.sleep(delay_s)
        raise NoAnswer(f"{shown}: {problem}: no answer within {deadline.seconds:.0f} s")

    def _follow(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        """One attempt, following redirects within the host."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._send(request, deadline, max_body_bytes)
            target = answer.headers.get("Location")
            if answer.status not in {301, 302, 303, 307, 308} or target is None:
                return answer
            try:
                url = urljoin(request.url, target)
            except ValueError as error:
                raise ForeignRedirect(f"{unsigned_href(request.url)} redirects to no URL") from error
            if find_origin(url) != find_origin(request.url):
                raise ForeignRedirect(f"{unsigned_href(request.url)} redirects to {unsigned_href(url)}")
            method = "GET" if answer.status == 303 else request.method
            request = requests.Request(method, url, headers=request.headers, json=request.json)
        raise ForeignRedirect(f"{unsigned_href(request.url)}: more than {_MAX_REDIRECTS} redirects")

    def _send(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        prepared = self._session.prepare_request(request)
        settings: dict[str, Any] = dict(
            self._session.merge_environment_settings(prepared.url, {}, stream=True, verify=None, cert=None)
        )
        left_s = max(0.1, deadline.remaining_s())
        with (
            answer_within(left_s),
            self._session.send(
                prepared,
                timeout=(min(CONNECT_TIMEOUT_S, left_s), min(READ_TIMEOUT_S, left_s)),
                allow_redirects=False,
                **settings,
            ) as response,
        ):
            body = _read_body(response, max_body_bytes)
            return Answer(request.url, response.status_code, response.headers, body)


def find_origin(url: str) -> tuple[str, str]:
    """Scheme and authority of ``url``; both are empty where it cannot be read as one."""
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return ("", "")


def _read_body(response: requests.Response, max_body_bytes: int) -> bytes:
    """The decoded body."""
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        size += len(chunk)
        if size > max_body_bytes:
            raise BodyTooLarge(f"{unsigned_href(response.url)}: more than {max_body_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, given as a number or as a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _describe(error: requests.RequestException) -> str:
    """Why a request failed, without URLs or the chain of library objects in its text."""
    if is_timeout(error):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate was not accepted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return make_printable(f"{type(error).__name__}: {error}", 200)
