"""HTTP requests with a deadline, retries and bounds."""

from __future__ import annotations

import io
import logging
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from pc_cloudmask.contact import (
    PAUSE_S,
    RETRIED_STATUSES,
    Service,
    diagnose,
    find_ca_bundle,
    find_origin,
    find_proxy,
    find_timeouts,
    is_first,
    judge,
    note_answer,
    refuse_by_proxy,
)
from pc_cloudmask.text import keep_signatures_out_of_logs, unsigned_href

logger = logging.getLogger(__name__)
#: Spreads clients, not used for security; separate from the generator of `random`, whose seed is the caller's.
_DICE = random.Random()  # nosec B311
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
MAX_BACKOFF_S = 60.0
#: Waits from this length on are logged as warnings.
_LONG_WAIT_S = 5.0
#: Connections kept open to a server: as many as there may be workers.
MAX_CONNECTIONS = 64
_MAX_REDIRECTS = 3
_CHUNK_BYTES = 1 << 16
_PROXY_WANTS_USER = 407
#: How Azure's API Management, in front of the Planetary Computer, says how long to wait, for its rate and its quota.
_WAIT_SECONDS = re.compile(r"(?:try again|retry) (?:in|after) (\d{1,6}) ?s(?:ec|\b)", re.IGNORECASE)
_WAIT_CLOCK = re.compile(r"quota will be replenished in (\d{1,3}):(\d\d):(\d\d)", re.IGNORECASE)
_SHOWN_BYTES = 4096
#: Headers of which a complete answer has at least one.
_LENGTHS = ("Content-Length", "Transfer-Encoding")
_ends: ContextVar[float] = ContextVar("_ends", default=float("inf"))


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Limit answers to requests sent inside to ``seconds``, raising what a read that timed out raises."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


class DeadlineAdapter(HTTPAdapter):
    """Applies ``answer_within``, also through proxies.

    The time-outs of urllib3, including ``Timeout(total=...)``, apply to a single read: a server that sends a byte now
    and then, in its headers, in a chunk's head or in a body, never exceeds them. So every byte of an answer is read
    with the time that is left.
    """

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of connections to the server, of any kind, with the time limit added to its answers."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain = pool.ConnectionCls
        if plain.response_class is not _EndingResponse:
            pool.ConnectionCls = type(plain.__name__, (plain,), {"response_class": _EndingResponse})
        return pool


class _EndingResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: Any = self.fp.detach()
        read, ends, read_timeout_s = raw.readinto, _ends.get(), sock.gettimeout() or float("inf")

        def read_in_time(buffer: Any) -> Any:
            left_s = min(ends - time.monotonic(), read_timeout_s)
            if left_s <= 0:
                raise TimeoutError("the answer was not complete in time")
            sock.settimeout(None if left_s == float("inf") else left_s)
            return read(buffer)

        raw.readinto = read_in_time
        self.fp: io.BufferedReader = io.BufferedReader(raw)


class NoAnswer(Exception):
    """No usable answer within the deadline."""


class RefusedAnswer(Exception):
    """An answer that is not accepted."""


class BodyTooLarge(RefusedAnswer):
    """The answer's body is larger than allowed."""


class ForeignRedirect(RefusedAnswer):
    """The answer redirects to another host."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with any status except those that are retried."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """A point in time after which nothing is started."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return self._end - time.monotonic()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to retry: at most ``attempts`` times, doubling ``backoff_s``, with jitter."""

    attempts: int = 6
    backoff_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def delay_s(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number ``attempt``: half to all of the doubled back-off."""
        delay: float = min(MAX_BACKOFF_S, self.backoff_s * 2 ** (attempt - 1))
        return delay * _DICE.uniform(0.5, 1.0)


class Session(requests.Session):
    """Takes proxies and CA bundles from the environment, as requests does, but no password from ``~/.netrc``.

    A ``default`` entry there applies to any server: it would be sent to the STAC API, and together with the signature
    of an asset, to which the asset's store answers 403. Redirects are not followed either, because requests reads the
    body of a redirect to its end, however large.
    """

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.auth = _use_credentials_of_url
        for scheme in ("https://", "http://"):
            self.mount(scheme, DeadlineAdapter(pool_maxsize=connections))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: ``HttpClient`` follows redirects itself."""

    def merge_environment_settings(self, url: Any, *settings: Any) -> Any:
        """Return the environment's settings for requests to ``url``, including ``SSL_CERT_FILE``."""
        bundle = find_ca_bundle()
        merged: Any = super().merge_environment_settings(url, *settings)
        if bundle and merged["verify"] is True:
            merged["verify"] = bundle
        return merged


def _use_credentials_of_url(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authorize ``request`` by its URL's user and password, if any; this keeps requests from reading ``~/.netrc``."""
    user, password = get_auth_from_url(request.url or "")
    return HTTPBasicAuth(user, password)(request) if user or password else request


class HttpClient:
    """Makes requests with a time-out, retries, a limit on the body, and no redirect to another host.

    With ``needs_length``, a 200 without a length is not accepted: an answer that breaks off after its status line looks
    like this. A client is safe to share between threads, since cookies do not matter.
    """

    def __init__(
        self,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        needs_length: bool = False,
        service: Service = Service(),  # noqa: B008 - frozen
    ) -> None:
        keep_signatures_out_of_logs()
        self._service = service
        self._retry = retry or RetryPolicy()
        self._needs_length = needs_length
        self._session = Session(MAX_CONNECTIONS)
        self._session.headers.update(headers or {})

    def get(
        self, url: str, *, deadline: Deadline, max_body_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer to GET; see ``request``."""
        return self.request(
            requests.Request("GET", url, headers=dict(headers or {})), deadline, max_body_bytes
        )

    def request(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        """Return the answer to ``request``, with any status that is not among ``RETRIED_STATUSES``.

        Raises:
            NoAnswer: the deadline passed, attempts are used up, or the server asks for a wait beyond the deadline.
            Unreachable: the server has not answered this process yet, and a user is waiting, see ``contact``.
            SettingsError: the proxy named in the environment refuses access.
            BodyTooLarge, ForeignRedirect: the answer is not accepted.
        """
        shown = unsigned_href(request.url)
        problem = "the deadline passed"
        for attempt in range(1, self._retry.attempts + 1):
            if deadline.remaining_s() <= 0:
                break
            wanted_s = 0.0
            try:
                answer = self._follow(request, deadline, max_body_bytes)
            except requests.RequestException as error:
                if is_first(request.url):
                    judge(error, request.url, self._service)
                problem = _describe(error, request.url, self._service)
                if isinstance(error, ValueError):  # requests' own sign of an invalid URL
                    break
            else:
                found = self._find_problem(answer)
                if found is None:
                    return answer
                problem, wanted_s = found, find_wait_s(answer)
            delay_s = max(wanted_s, self._retry.delay_s(attempt))
            if attempt == self._retry.attempts or delay_s >= deadline.remaining_s():
                waits = f", asks to wait {wanted_s:.0f} s" if wanted_s else ""
                raise NoAnswer(f"{shown}: {problem}{waits}; gave up after {attempt} attempts")
            level = logging.WARNING if delay_s >= _LONG_WAIT_S else logging.INFO
            logger.log(level, "%s: %s; attempt %d follows in %.1f s", shown, problem, attempt + 1, delay_s)
            self._retry.sleep(delay_s)
        raise NoAnswer(f"{shown}: {problem}: no answer within {deadline.seconds:.0f} s")

    def _find_problem(self, answer: Answer) -> str | None:
        """Return why ``answer`` must be requested again, or None if it is accepted."""
        # A 403 that asks to wait means 429, as from the quotas of Azure's API Management.
        if answer.status in RETRIED_STATUSES or (answer.status == 403 and find_wait_s(answer) > 0):
            return f"HTTP {answer.status}"
        if self._needs_length and answer.status == 200 and not any(map(answer.headers.get, _LENGTHS)):
            return "an answer of unknown length"
        return None

    def _follow(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        """Send ``request`` once, following redirects within the host."""
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
        settings: Any = self._session.merge_environment_settings(prepared.url, {}, True, None, None)
        left_s = max(0.1, deadline.remaining_s())
        limits_s = CONNECT_TIMEOUT_S, READ_TIMEOUT_S
        if is_first(request.url):
            limits_s = find_timeouts(request.url, self._service)
        timeout = (min(limits_s[0], left_s), min(limits_s[1], left_s))
        with (
            answer_within(left_s),
            self._session.send(prepared, timeout=timeout, allow_redirects=False, **settings) as response,
        ):
            note_answer(request.url)
            body = read_body(response, max_body_bytes)
        if response.status_code == _PROXY_WANTS_USER and (proxy := find_proxy(request.url)):
            raise refuse_by_proxy(proxy, "407", "", request.url)
        return Answer(response.status_code, response.headers, body)


def read_body(response: requests.Response, max_body_bytes: int) -> bytes:
    """Return the decoded body, or raise ``BodyTooLarge``."""
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_body_bytes:
            raise BodyTooLarge(f"{unsigned_href(response.url)}: more than {max_body_bytes} bytes")
    return bytes(body)


def find_wait_s(answer: Answer) -> float:
    """Return the seconds to wait according to an answer's header or text; 0 if it gives none."""
    try:  # the header gives a number or a date
        wanted_s = float(Retry().parse_retry_after(answer.headers.get("Retry-After", "")))
    except (InvalidHeader, ValueError, OverflowError):
        wanted_s = 0.0
    if wanted_s or answer.status not in {403, 429, 503}:
        return wanted_s
    text = answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")
    if found := _WAIT_SECONDS.search(text):
        return float(found[1])
    found = _WAIT_CLOCK.search(text)
    hours, minutes, seconds = map(int, found.groups()) if found else (0, 0, 0)
    return 3600.0 * hours + 60 * minutes + seconds


def _describe(error: requests.RequestException, url: str, service: Service) -> str:
    """Return why a request failed and, for a certificate, how to correct it, without URLs or nested library objects."""
    found = diagnose(error, url, service)
    return f"{found.problem}: {found.mend}" if found.problem.startswith("TLS") else found.problem


def knock(url: str, service: Service, verify: str | bool | None = None) -> None:
    """Get any answer from the server of ``url`` on behalf of another library's client, or raise as ``judge``.

    Nothing is sent unless a first answer is expected soon, see ``contact``.
    """
    root = urljoin(url, "/")
    while is_first(url):
        try:
            limits_s = find_timeouts(url, service)
            with Session(1) as session:
                session.head(root, timeout=limits_s, verify=verify, allow_redirects=False)
        except requests.RequestException as error:
            judge(error, url, service)
            time.sleep(PAUSE_S)
        else:
            note_answer(url)
