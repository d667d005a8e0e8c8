"""How a server is reached: proxies, certificates, and this process's first request to it.

The first request
-----------------
A command at a terminal calls ``hurry``. From then on, a server that has not answered this process yet gets only
seconds: if it does not answer, it is not there or the way to it is wrong, which the waiting user can correct.
``find_timeouts`` resolves the server's name within the limit, and limits the time to connect, including TLS, and, more
generously, to answer. ``judge`` ends the run with ``Unreachable``, which names the stage that failed (DNS, connection,
proxy, TLS, answer) and the setting that corrects it. Failures that may be momentary, such as an unresolved name or a
refused connection, are retried once. Further requests to the same server soon after fail at once with the same error.

Any answer, even an error of the server, ends all this: a server that has answered before, as recorded by origin, gets
the normal patience of the requesting client. Jobs that run for long without anybody waiting, ``watch`` and flow runs of
a worker, never hurry.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import NameResolutionError, ReadTimeoutError

from pc_cloudmask.errors import SettingsError, Unreachable
from pc_cloudmask.text import make_printable, unsigned_href

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
#: Seconds that a user waits for the first sign of a server; with the program's start, less than ten.
FIRST_CONTACT_S = 6.0
#: Seconds to answer for a server that accepted the connection: it exists, but may still have to wake up.
FIRST_ANSWER_S = 30.0
#: A failure that may be momentary is retried once.
_ATTEMPTS = 2
PAUSE_S = 0.5
#: For this many seconds after a server was given up, further requests fail at once with the same error.
_REMEMBERED_S = 30.0
#: Addresses of a host that share the time to connect; if there are more, the first ones use it up.
_MOST_ADDRESSES = 3
BUNDLE_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
#: OpenSSL's error codes for certificates: X509_V_ERR_… in x509_vfy.h.
_OUT_OF_DATE, _FOR_ANOTHER_HOST = frozenset({9, 10}), frozenset({62, 64})
#: How OpenSSL 1.1 and 3 report that the answer was not TLS.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
#: How http.client reports a proxy that refuses a tunnel.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3}) ?([\w -]{0,60})")
_WITHOUT_SOCKS = "Missing dependencies for SOCKS support"


@dataclass(frozen=True, slots=True)
class Service:
    """A server's name, the setting with its URL and the setting with its certificates, for error texts."""

    name: str = "server"
    setting: str = ""
    bundle: str = BUNDLE_VARIABLES[0]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why no answer came, and how to correct it; ``is_final`` if an immediate retry would fail in the same way."""

    problem: str
    mend: str
    is_final: bool = False


class NoAddress(requests.ConnectionError):
    """A host's name cannot be resolved."""


class _Contacts:
    """What this process knows about servers, by origin; shared by all threads."""

    def __init__(self) -> None:
        self.limit_s: float | None = None
        self.answer_s = FIRST_ANSWER_S
        self.answered: set[tuple[str, str]] = set()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.given_up: dict[tuple[tuple[str, str], Service], tuple[float, str]] = {}


_contacts = _Contacts()


def hurry(limit_s: float | None = FIRST_CONTACT_S, answer_s: float = FIRST_ANSWER_S) -> None:
    """From now on, give a server that has not answered yet ``limit_s`` seconds to connect, ``answer_s`` to answer.

    A user is waiting; a ``limit_s`` of None means that nobody is.
    """
    _contacts.limit_s, _contacts.answer_s = limit_s, answer_s


def find_limit() -> float | None:
    """Return the ``limit_s`` given to ``hurry``, for other processes that work for this one."""
    return _contacts.limit_s


def be_patient() -> None:
    """Treat the first request to a server like any other from now on, as before any call of ``hurry``."""
    _contacts.limit_s = None
    for known in (_contacts.answered, _contacts.failures, _contacts.given_up):
        known.clear()


def is_first(url: str) -> bool:
    """Return True if the server of ``url`` has not answered yet and must do so soon."""
    return _contacts.limit_s is not None and find_origin(url) not in _contacts.answered


def note_answer(url: str) -> None:
    """Record that the server of ``url`` has answered."""
    _contacts.answered.add(find_origin(url))


def find_timeouts(url: str, service: Service) -> tuple[float, float]:
    """Return the time-outs in seconds of a first request to ``url``: to connect, for each address, and to answer.

    Raises:
        NoAddress: the name of the server, or of the proxy, cannot be resolved in time.
        Unreachable: the server was given up a moment ago.
    """
    limit_s = _contacts.limit_s or FIRST_CONTACT_S
    given_up_at, why = _contacts.given_up.get((find_origin(url), service), (float("-inf"), ""))
    if time.monotonic() - given_up_at < _REMEMBERED_S:
        raise Unreachable(why)
    started = time.monotonic()
    proxy = find_proxy(url)
    addresses = _count_addresses(proxy or url, limit_s)
    left_s = max(1.0, limit_s - (time.monotonic() - started))
    # A proxy that accepts the connection proves nothing about the server behind it, so no more time is given.
    return left_s / min(addresses, _MOST_ADDRESSES), left_s if proxy else max(left_s, _contacts.answer_s)


def judge(error: requests.RequestException, url: str, service: Service) -> None:
    """Raise ``Unreachable``, or ``SettingsError`` for a proxy, unless a first request that failed is worth a retry."""
    origin = find_origin(url)
    _contacts.failures[origin] += 1
    diagnosis = diagnose(error, url, service)
    if diagnosis.is_final or _contacts.failures[origin] >= _ATTEMPTS:
        raise give_up(url, service, diagnosis)


def give_up(url: str, service: Service, diagnosis: Diagnosis) -> Unreachable:
    """Return the error that ends the run, and record it for further requests soon after."""
    scheme, host = find_origin(unsigned_href(url))
    error = Unreachable(f"{service.name} {scheme}://{host}: {diagnosis.problem}: {diagnosis.mend}")
    _contacts.given_up[find_origin(url), service] = (time.monotonic(), str(error))
    return error


def diagnose(error: requests.RequestException, url: str, service: Service = Service()) -> Diagnosis:
    """Return what failed on the way to ``url``, according to the exceptions that libraries chained.

    Raises:
        SettingsError: the proxy in between refuses us, which a retry does not change.
    """
    causes = list(_list_causes(error))
    in_time = is_timeout(error) or any(isinstance(cause, TimeoutError) for cause in causes)
    check = f"check {service.setting}" if service.setting else "try again later"
    if problem := explain_proxy(error, url):
        return Diagnosis(problem, _mend_proxy(url), in_time)
    if isinstance(error, requests.exceptions.SSLError):
        return _diagnose_tls(causes, url, service, check)
    if isinstance(error, ValueError):  # requests' own sign of an invalid URL
        return Diagnosis(make_printable(f"{type(error).__name__}: {error}", 200), check, is_final=True)
    if in_time and not isinstance(error, NoAddress | requests.ConnectTimeout):
        return _diagnose_silence(url, service, check)
    if problem := _explain_network(error, causes, url):
        also = f", and {check}" if service.setting else ""
        mend = f"look at this machine's network{also}; where only a proxy leads out, let https_proxy name it"
        return Diagnosis(problem, mend, in_time)
    return Diagnosis(f"no connection that stays open to {_place(url)} (does it speak HTTP, or HTTPS?)", check)


def _diagnose_silence(url: str, service: Service, check: str) -> Diagnosis:
    problem = "it took the connection, and timed out before it had answered"
    mend = f"try again later, or {check}" if service.setting else check
    if proxy := find_proxy(url):
        problem = f"timed out waiting for an answer through the proxy {proxy}"
        mend = f"{_mend_proxy(url)}; or {check}"
    return Diagnosis(problem, mend, is_final=True)


def _explain_network(error: requests.RequestException, causes: list[BaseException], url: str) -> str | None:
    """Return why an address was not resolved or reached; None if there was a connection."""
    if isinstance(error, NoAddress):
        return str(error)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection to {_place(url)}: timed out"
    # The system says why there is no connection; one that was reset had been open.
    refusals = (each for each in causes if isinstance(each, OSError) and each.strerror)
    refusal = next((each for each in refusals if not isinstance(each, ConnectionResetError)), None)
    if any(isinstance(each, NameResolutionError | socket.gaierror) for each in causes):
        return _describe_no_address(url, refusal)
    return f"no connection to {_place(url)} ({refusal.strerror})" if refusal else None


def _diagnose_tls(causes: list[BaseException], url: str, service: Service, check: str) -> Diagnosis:
    refusal = next((each for each in causes if isinstance(each, ssl.SSLCertVerificationError)), None)
    if refusal is None:
        reason = next((each.reason for each in causes if isinstance(each, ssl.SSLError) and each.reason), "")
        if reason in _NO_TLS:
            problem = f"TLS: {_place(url)} does not speak it: http in place of https?"
            return Diagnosis(problem, check, is_final=True)
        said = f" ({reason.replace('_', ' ').lower()})" if reason else ""
        return Diagnosis(f"TLS: no agreement with {_place(url)}{said}", check)
    problem = f"TLS: its certificate was not accepted ({refusal.verify_message.rstrip('.')})"
    if refusal.verify_code in _OUT_OF_DATE:
        mend = f"look at this machine's clock; if that is right, {service.bundle} mends nothing: the server has to"
    elif refusal.verify_code in _FOR_ANOTHER_HOST:
        mend = f"it is another server's, which {service.bundle} does not mend: {check}"
    else:
        mend = _mend_bundle(service.bundle)
    return Diagnosis(problem, mend, is_final=True)


def _mend_bundle(wanted: str) -> str:
    names = dict.fromkeys((wanted, *BUNDLE_VARIABLES))
    used = next((name for name in names if os.environ.get(name)), None)
    if used is None:
        return f"if this network puts its own in place, let {wanted} name the file that it is signed by"
    return f"{used} names {os.environ[used]}, which lacks what it is signed by: add that, if you trust it"


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and all its causes: libraries also put causes into arguments and ``reason``."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _count_addresses(url: str, within_s: float) -> int:
    """Return how many addresses the host of ``url`` has, or raise ``NoAddress``; the resolver has no time-out."""
    parts, answers = urlsplit(url), SimpleQueue[int | Exception]()

    def look_up() -> None:
        try:
            answers.put(len(socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answers.get(timeout=within_s)
    except Empty:
        timed_out = TimeoutError(f"no answer within {within_s:g} s")
        raise NoAddress(_describe_no_address(url, timed_out)) from timed_out
    if isinstance(found, Exception):
        raise NoAddress(_describe_no_address(url, found)) from found
    return max(1, found)


def _describe_no_address(url: str, error: Exception | None) -> str:
    reason = getattr(error, "strerror", None) or error
    return f"DNS: no address of {_host(url)}" + (f" ({make_printable(reason, 100)})" if reason else "")


def find_ca_bundle() -> str | None:
    """Return the path of the user's own certificates, for all clients; ``SettingsError`` if it does not exist."""
    for name in BUNDLE_VARIABLES:
        if bundle := os.environ.get(name):
            if not os.path.exists(bundle):  # noqa: PTH110 - it may be no path at all
                raise SettingsError(f"{name} names {bundle}, where there is nothing: mend it, or unset it")
            return bundle
    return None


def find_proxy(url: str) -> str | None:
    """Return the proxy that requests to ``url`` go through, without its password; None if they go directly."""
    proxy = select_proxy(url, get_environ_proxies(url))
    return unsigned_href(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def explain_proxy(error: object, url: str, proxy: str | None = None) -> str | None:
    """Return why a request to ``url`` failed at its ``proxy``, by default the environment's; None if not there.

    Raises:
        SettingsError: the proxy refuses us, which a retry does not change.
    """
    proxy, text = proxy or find_proxy(url), str(error)
    if proxy is None:
        return None
    if _WITHOUT_SOCKS in text or isinstance(error, requests.exceptions.InvalidProxyURL):
        raise SettingsError(f"proxy {proxy}: not one that this program can use: {_mend_proxy(url)}")
    if answer := _TUNNEL.search(text):
        if int(answer[1]) not in RETRIED_STATUSES:
            raise refuse_by_proxy(proxy, answer[1], answer[2].strip(), url)
        return f"the proxy {proxy} answers HTTP {answer[1]}"
    if isinstance(error, NoAddress):
        return f"no connection to the proxy {proxy} ({error})"
    return f"no connection to the proxy {proxy}" if "roxy" in type(error).__name__ else None


def refuse_by_proxy(proxy: str, status: str, reason: str, url: str) -> SettingsError:
    """Return the error for a proxy that itself answered a request to ``url`` with HTTP status ``status``."""
    wants_user = status == "407"
    problem = "it wants a user and password" if wants_user else f"it does not let us through to {_host(url)}"
    said = f" ({reason})" if reason else ""
    return SettingsError(f"proxy {proxy} answers HTTP {status}{said}: {problem}: {_mend_proxy(url)}")


def _mend_proxy(url: str) -> str:
    """Say how to correct the variable from which the proxy is read, spelled as it is set."""
    scheme = urlsplit(url).scheme
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    used = next((name for name in names if os.environ.get(name)), "HTTPS_PROXY")
    return f"mend {used}, or list {_host(url)} in NO_PROXY"


def find_origin(url: str) -> tuple[str, str]:
    """Return scheme and authority of ``url``; both are empty if it is not a valid URL."""
    try:
        return urlsplit(url)[:2]
    except ValueError:
        return ("", "")


def is_timeout(error: requests.RequestException) -> bool:
    """Return True if time ran out; while reading a body, requests shows this only in the cause."""
    return isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), ReadTimeoutError)


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _place(url: str) -> str:
    """Return the host and port of ``url``."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (80 if parts.scheme == 'http' else 443)}"
