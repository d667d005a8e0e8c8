"""HTTP requests with a deadline, retries and bounds."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, get_environ_proxies, select_proxy
from urllib3.exceptions import InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.text import keep_signatures_out_of_logs, make_printable, unsigned_href

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
_PROXY_WANTS_USER = 407
#: How Azure's API Management, before the Planetary Computer, says how long: of its rate and of its quota.
_WAIT_SECONDS = re.compile(r"(?:try again|retry) (?:in|after) (\d{1,6}) ?s(?:ec|\b)", re.IGNORECASE)
_WAIT_CLOCK = re.compile(r"quota will be replenished in (\d{1,3}):(\d\d):(\d\d)", re.IGNORECASE)
_SHOWN_BYTES = 4096
#: Headers of which a complete answer has one.
_LENGTHS = ("Content-Length", "Transfer-Encoding")
_ends: ContextVar[float] = ContextVar("_ends", default=float("inf"))


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Let answers to requests that are sent inside end after ``seconds``, as after a read that timed out."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


class DeadlineAdapter(HTTPAdapter):
    """Keeps to ``answer_within``, through proxies too.

    The time-outs of urllib3, ``Timeout(total=...)`` among them, are those of one read each: a server that sends a
    byte now and then, of its headers, of a chunk's head or of a body, never runs into them. So every byte of an
    answer is read with what is left of the time.
    """

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of connections to the server, whatever their kind, with answers that end."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain = pool.ConnectionCls
        if plain.response_class is not _EndingResponse:
            pool.ConnectionCls = type(plain.__name__, (plain,), {"response_class": _EndingResponse})
        return pool


class _EndingResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: Any = self.fp.detach()
        raw.readinto = partial(_read_in_time, sock, raw.readinto, _ends.get(), sock.gettimeout())
        self.fp: io.BufferedReader = io.BufferedReader(raw)


def _read_in_time(
    sock: socket.socket, read: Callable[[Any], int], ends: float, read_timeout_s: float | None, buffer: Any
) -> int:
    """Read into ``buffer`` what comes before ``ends`` of the monotonic clock."""
    left_s = min(ends - time.monotonic(), read_timeout_s or float("inf"))
    if left_s <= 0:
        raise TimeoutError("the answer was not complete in time")
    sock.settimeout(None if left_s == float("inf") else left_s)
    return read(buffer)


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

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """A point in time after which nothing is begun."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return self._end - time.monotonic()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When something is tried again: at most ``attempts`` times, doubling ``backoff_s``, jittered."""

    attempts: int = 6
    backoff_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def delay_s(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number ``attempt``: half to all of the doubled back-off."""
        delay: float = min(MAX_BACKOFF_S, self.backoff_s * 2 ** (attempt - 1))
        return delay * random.uniform(0.5, 1.0)  # nosec B311 # spreads clients, hides nothing


class Session(requests.Session):
    """Takes proxies and CA bundles from the environment, as requests does, and no password from ``~/.netrc``.

    A ``default`` entry there is for any server: it would go to the STAC API and beside the signature of an asset,
    whose store answers that with 403. Nor is any redirect followed: to say where one leads, requests reads its
    body to the end, however large.
    """

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.auth = _UrlCredentials()
        for scheme in ("https://", "http://"):
            self.mount(scheme, DeadlineAdapter(pool_maxsize=connections))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: ``HttpClient`` follows by itself."""

    def merge_environment_settings(self, url: Any, *settings: Any) -> Any:
        """Return what the environment says of requests to ``url``, ``SSL_CERT_FILE`` included."""
        bundle = find_ca_bundle()
        merged: Any = super().merge_environment_settings(url, *settings)
        if bundle and merged["verify"] is True:
            merged["verify"] = bundle
        return merged


class _UrlCredentials(AuthBase):
    """Stands where requests would look into ``~/.netrc``; user and password of the URL itself count."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        user, password = get_auth_from_url(request.url or "")
        return HTTPBasicAuth(user, password)(request) if user or password else request


def find_ca_bundle() -> str | None:
    """Return the path of the certificates that the user trusts in place of the usual ones, for every client alike.

    Raises:
        SettingsError: there is nothing at that path.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if bundle := os.environ.get(name):
            if not os.path.exists(bundle):  # noqa: PTH110 - it may be no path at all
                raise SettingsError(f"{name} names {bundle}, where there is nothing: mend it, or unset it")
            return bundle
    return None


#: How http.client quotes a proxy that does not let us through.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}) ?([\w -]{0,60})")
_WITHOUT_SOCKS = "Missing dependencies for SOCKS support"


def find_proxy(url: str) -> str | None:
    """Return the proxy that requests to ``url`` go through, without its password; None if they go directly."""
    proxy = select_proxy(url, get_environ_proxies(url))
    return unsigned_href(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def explain_proxy(error: object, url: str, proxy: str | None = None) -> str | None:
    """Return what to say of a request to ``url`` that failed at the proxy on its way; None if it did not.

    ``proxy`` is the one that the environment names for ``url``, unless it is given.

    Raises:
        SettingsError: the proxy refuses us, which trying again does not change.
    """
    proxy, text = proxy or find_proxy(url), str(error)
    if proxy is None:
        return None
    if _WITHOUT_SOCKS in text or isinstance(error, requests.exceptions.InvalidProxyURL):
        raise SettingsError(f"proxy {proxy}: not one that this program can use: {_mend_proxy(url)}")
    if answer := _TUNNEL.search(text):
        if int(answer[1]) not in RETRIED_STATUSES:
            raise _refuse_by_proxy(proxy, answer[1], answer[2].strip(), url)
        return f"the proxy {proxy} answers HTTP {answer[1]}"
    return f"no connection to the proxy {proxy}" if "roxy" in type(error).__name__ else None


def _refuse_by_proxy(proxy: str, status: str, reason: str, url: str) -> SettingsError:
    problem = (
        "it wants a user and password" if status == "407" else f"it does not let us through to {_host(url)}"
    )
    said = f" ({reason})" if reason else ""
    return SettingsError(f"proxy {proxy} answers HTTP {status}{said}: {problem}: {_mend_proxy(url)}")


def _mend_proxy(url: str) -> str:
    return f"mend HTTPS_PROXY, or list {_host(url)} in NO_PROXY"


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


class HttpClient:
    """Requests with a time-out each, retries, a limit to the body, and no redirect to another host.

    With ``needs_length`` a 200 that does not say how long it is counts as none: an answer that breaks off
    after its status line looks so. A client is safe to share between threads, for no cookie matters.
    """

    def __init__(
        self,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        needs_length: bool = False,
    ) -> None:
        keep_signatures_out_of_logs()
        self._retry = retry or RetryPolicy()
        self._needs_length = needs_length
        self._session = Session(MAX_CONNECTIONS)
        self._session.headers.update(headers or {})

    def get(
        self, url: str, *, deadline: Deadline, max_body_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer to GET; see ``request``."""
        request = requests.Request("GET", url, headers=dict(headers or {}))
        return self.request(request, deadline, max_body_bytes)

    def request(self, request: requests.Request, deadline: Deadline, max_body_bytes: int) -> Answer:
        """Return the answer to ``request``, whatever its status, once that is not among ``RETRIED_STATUSES``.

        Raises:
            NoAnswer: deadline passed, attempts used up, or a wait asked for beyond the deadline.
            SettingsError: the proxy that the environment names does not let us through.
            BodyTooLarge, ForeignRedirect: the answer is not taken.
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
                problem = explain_proxy(error, request.url) or _describe(error)
                if isinstance(error, ValueError):  # requests' own mark of a URL that is none
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
        """Return why ``answer`` is asked for again, or None if it is taken."""
        if answer.status in RETRIED_STATUSES or is_throttled(answer):
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
        timeout = (min(CONNECT_TIMEOUT_S, left_s), min(READ_TIMEOUT_S, left_s))
        with (
            answer_within(left_s),
            self._session.send(prepared, timeout=timeout, allow_redirects=False, **settings) as response,
        ):
            body = read_body(response, max_body_bytes)
        if response.status_code == _PROXY_WANTS_USER and (proxy := find_proxy(request.url)):
            raise _refuse_by_proxy(proxy, "407", "", request.url)
        return Answer(response.status_code, response.headers, body)


def find_origin(url: str) -> tuple[str, str]:
    """Return scheme and authority of ``url``; both are empty where it cannot be read as one."""
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return ("", "")


def is_timeout(error: requests.RequestException) -> bool:
    """Return True if time ran out; of a body requests says so in the cause alone."""
    return isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), ReadTimeoutError)


def read_body(response: requests.Response, max_body_bytes: int) -> bytes:
    """Return the decoded body.

    Raises:
        BodyTooLarge: it has more than ``max_body_bytes``.
    """
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_body_bytes:
            raise BodyTooLarge(f"{unsigned_href(response.url)}: more than {max_body_bytes} bytes")
    return bytes(body)


def is_throttled(answer: Answer) -> bool:
    """Return True for a 403 by which a server means 429, as quotas of Azure's API Management do."""
    return answer.status == 403 and find_wait_s(answer) > 0


def find_wait_s(answer: Answer) -> float:
    """Return the seconds that an answer asks to wait for, in its header or its text; 0 where it does not."""
    wanted_s = _read_retry_after(answer.headers)
    if wanted_s or answer.status not in {403, 429, 503}:
        return wanted_s
    text = answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")
    if found := _WAIT_SECONDS.search(text):
        return float(found[1])
    if found := _WAIT_CLOCK.search(text):
        hours, minutes, seconds = map(int, found.groups())
        return 3600.0 * hours + 60 * minutes + seconds
    return 0.0


def _read_retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for, as a number or a date; 0 where it cannot be read."""
    try:
        return float(Retry().parse_retry_after(headers.get("Retry-After", "")))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _describe(error: requests.RequestException) -> str:
    """Return why a request failed, without URLs or the chain of library objects in its text."""
    if is_timeout(error):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "its TLS certificate was not accepted (if this network puts its own in place, let REQUESTS_CA_BUNDLE "
            "name the file that it is signed by)"
        )
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return make_printable(f"{type(error).__name__}: {error}", 200)
