"""One HTTP exchange of the Earth Engine client."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ee
import google.auth.exceptions
import httplib2  # type: ignore[import-untyped]  # has no types
import requests
from googleapiclient.errors import Error as ApiClientError  # type: ignore[import-untyped]  # has no types
from googleapiclient.errors import HttpError

from pc_cloudmask.errors import EngineError, EngineRefused, EngineUnavailable
from pc_cloudmask.web import DeadlineAdapter, answer_within, is_timeout

logger = logging.getLogger(__name__)
#: More than ``computePixels`` may answer (48 MB) or any listing of ours.
MAX_BODY_BYTES = 64 << 20
CONNECT_TIMEOUT_S = 20.0
QUOTA_HEADER = "x-earth-engine-quota-status"
_CHUNK_BYTES = 1 << 16


class WebPage(ConnectionError):
    """A web page came in place of Earth Engine's answer."""


class BoundedHttp:
    """The transport that ``ee.Initialize`` takes: time-outs, a bound on the body, a pool for all threads.

    The client's own has no time-out unless ``ee.data.setDeadline`` is called, which fetches the API's
    description again, and keeps ten connections. Its failures are those that the client knows:
    ``ConnectionError`` and ``TimeoutError``.
    """

    def __init__(self, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        adapter = DeadlineAdapter(pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self.restricted = False
        """Whether Earth Engine said that the project is in restricted mode, its quota being used up."""

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,  # noqa: ARG002 - the signature is httplib2's
        connection_type: Any = None,  # noqa: ARG002 - as above
    ) -> tuple[httplib2.Response, bytes]:
        """The answer, whatever its status.

        Raises:
            TimeoutError: not complete within the time-out.
            ConnectionError: refused, reset, cut short, too long, or a web page.
        """
        try:
            with (
                answer_within(self._timeout_s),
                self._session.request(
                    method,
                    uri,
                    data=body,
                    headers=dict(headers or {}),
                    timeout=(CONNECT_TIMEOUT_S, self._timeout_s),
                    stream=True,
                ) as response,
            ):
                content = _read_body(response)
        except requests.RequestException as error:
            if is_timeout(error):
                raise TimeoutError(f"no answer within {self._timeout_s:g} s") from error
            raise ConnectionError(_describe(error)) from error
        if response.status_code == 200 and _is_web_page(response.headers, content):
            raise WebPage("a web page came in place of Earth Engine's answer: a proxy or a sign-in page?")
        return self._describe_response(response), content

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _describe_response(self, response: requests.Response) -> httplib2.Response:
        headers: dict[str, Any] = {name.lower(): value for name, value in response.headers.items()}
        # The client would warn at every answer; once is enough.
        quota = headers.pop(QUOTA_HEADER, "")
        if "parallelism_restricted=true" in quota and not self.restricted:
            self.restricted = True
            logger.warning(
                "the project is in restricted mode: its noncommercial quota is used up, so Earth Engine "
                "answers slowly; choose a higher tier or wait for next month"
            )
        headers["status"] = response.status_code
        return httplib2.Response(headers)


def _read_body(response: requests.Response) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ConnectionError(f"an answer of more than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _is_web_page(headers: Mapping[str, str], content: bytes) -> bool:
    """Whether this is HTML, said or shown: some proxies call their pages JSON."""
    start = content[:64].lstrip().lower()
    return headers.get("Content-Type", "").lower().startswith("text/html") or start.startswith(
        (b"<!doctype html", b"<html")
    )


def _describe(error: requests.RequestException) -> str:
    """Why an exchange failed, without the chain of library objects in the exception's text."""
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS certificate was not accepted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer was cut short"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it was lost"
    return type(error).__name__


#: Everything that a call of the client raises because of the service, the network or credentials.
CLIENT_FAILURES: tuple[type[Exception], ...] = (
    ee.EEException,
    ApiClientError,
    google.auth.exceptions.GoogleAuthError,
    OSError,
    # What json and numpy say of an answer that is none, or is cut short.
    ValueError,
    EOFError,
    # What the client says of JSON that is no answer.
    LookupError,
    TypeError,
)
CONSOLE = "https://console.cloud.google.com"


class Remedy(Enum):
    """What may help."""

    RETRY = "retry"
    SPLIT = "split"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request. ``throttled``: others should hold back too. ``retry_after_s``: as asked."""

    remedy: Remedy
    text: str
    error_class: type[EngineError]
    throttled: bool = False
    retry_after_s: float | None = None


#: 400s that a smaller window cures.
_TOO_MUCH = re.compile(
    r"memory limit exceeded|computation timed out|computation is too large|total request size"
    r"|pixel grid dimensions|image is too large|deadline exceeded while computing",
    re.IGNORECASE,
)
#: There is no such project, or nothing that these credentials may know of: a 403, 404 or 400.
_NO_PROJECT = re.compile(
    r"^project '[^']*' not found|denied on resource project |CONSUMER_INVALID", re.IGNORECASE
)
#: What a 403 says, and how to mend it; the first that matches counts.
_MENDED_BY: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        _NO_PROJECT,
        (
            "no project {project} is known to these credentials: CLOUDMASK_EARTHENGINE_PROJECT wants the id, "
            f"not the name, of one that {CONSOLE}/cloud-resource-manager lists"
        ),
    ),
    (
        re.compile(r"CONSUMER_SUSPENDED|has been suspended", re.IGNORECASE),
        f"Google has suspended project {{project}}: see {CONSOLE}/home/dashboard?project={{project}}",
    ),
    (
        re.compile(r"has not been used in project|it is disabled|SERVICE_DISABLED", re.IGNORECASE),
        (
            "the Earth Engine API is not enabled in project {project}: enable it at "
            f"{CONSOLE}/apis/library/earthengine.googleapis.com?project={{project}}"
        ),
    ),
    (
        re.compile(r"not registered|not signed up", re.IGNORECASE),
        (
            "project {project} is not registered for Earth Engine: register it at "
            f"{CONSOLE}/earth-engine/configuration?project={{project}}"
        ),
    ),
    (
        re.compile(r"serviceusage|permission to use project|USER_PROJECT_DENIED", re.IGNORECASE),
        (
            "these credentials may not use project {project}: grant them the role "
            f"roles/serviceusage.serviceUsageConsumer at {CONSOLE}/iam-admin/iam?project={{project}}"
        ),
    ),
    (
        re.compile(r"earthengine\.\w+|permission", re.IGNORECASE),
        (
            "these credentials may not compute in project {project}: grant them the role "
            f"roles/earthengine.viewer at {CONSOLE}/iam-admin/iam?project={{project}}"
        ),
    ),
)
#: Server errors that pass.
_PASSING = frozenset({500, 502, 503, 504})
_QUOTA_USED_UP = re.compile(r"compute quota|EECU|noncommercial", re.IGNORECASE)
_NOT_FOUND = re.compile(r"not found|does not exist", re.IGNORECASE)


def classify_failure(error: Exception, project: str) -> Failure:
    """What ``error``, one of ``CLIENT_FAILURES``, means for the request that raised it."""
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return _classify_credentials(error)
    response = _find_http_error(error)
    if response is None:
        if isinstance(error, ee.EEException | ApiClientError):
            return Failure(Remedy.NONE, one_line(error), EngineRefused)
        if isinstance(error, ConnectionError | TimeoutError):
            return Failure(Remedy.RETRY, one_line(error), EngineUnavailable)
        if isinstance(error, OSError):
            return Failure(Remedy.RETRY, f"{type(error).__name__}: {one_line(error)}", EngineUnavailable)
        return Failure(Remedy.RETRY, f"an answer that cannot be read: {one_line(error)}", EngineUnavailable)
    # The message alone may lack the reason that the body's details have.
    text = one_line(error)
    everything = f"{text} {response.content.decode('utf-8', 'replace')}"
    return _classify_status(int(response.resp.status), text, everything, response, project)


def one_line(error: Exception, limit: int = 300) -> str:
    """The error's text without line breaks, bounded."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def _find_http_error(error: BaseException | None) -> HttpError | None:
    """The HTTP answer behind ``error``: the client's own exception carries its text only."""
    while error is not None and not isinstance(error, HttpError):
        error = error.__cause__ or error.__context__
    return error


def _classify_credentials(error: google.auth.exceptions.GoogleAuthError) -> Failure:
    if isinstance(error, google.auth.exceptions.TransportError) or error.retryable:
        return Failure(
            Remedy.RETRY, f"no access token from Google's sign-in: {one_line(error)}", EngineUnavailable
        )
    return Failure(
        Remedy.NONE,
        f"the credentials were refused ({one_line(error, 120)}): sign in again with "
        "'earthengine authenticate', or make a new key",
        EngineRefused,
    )


def _classify_status(status: int, text: str, everything: str, response: HttpError, project: str) -> Failure:
    if status in {403, 429} and _QUOTA_USED_UP.search(text):
        return Failure(
            Remedy.NONE,
            f"the compute quota of project {project} is used up ({text}): choose a higher tier at "
            f"{CONSOLE}/earth-engine/configuration?project={project}, raise the project's own limit, or wait "
            "until it is renewed",
            EngineUnavailable,
        )
    if status == 429 or status in _PASSING:
        return Failure(
            Remedy.RETRY,
            f"HTTP {status}: {text}",
            EngineUnavailable,
            throttled=status == 429,
            retry_after_s=_read_retry_after(response),
        )
    if status in {401, 403} or _NO_PROJECT.search(text):
        return _classify_refusal(status, text, everything, project)
    if _TOO_MUCH.search(text):
        # Even the smallest window may be in time when the service is less busy; its memory stays as it is.
        timed_out = "timed out" in text.lower()
        return Failure(Remedy.SPLIT, text, EngineUnavailable if timed_out else EngineRefused)
    if status == 404 or _NOT_FOUND.search(text):
        # An image that was there when it was paired: it is being replaced, and is paired again later.
        return Failure(Remedy.NONE, text, EngineUnavailable)
    return Failure(Remedy.NONE, f"HTTP {status}: {text}", EngineRefused)


def _classify_refusal(status: int, text: str, everything: str, project: str) -> Failure:
    if status == 401:
        return Failure(
            Remedy.NONE,
            f"Earth Engine does not accept the credentials ({text}): sign in again with "
            "'earthengine authenticate', or make a new key",
            EngineRefused,
        )
    for pattern, mended in _MENDED_BY:
        if pattern.search(everything):
            return Failure(Remedy.NONE, mended.format(project=project), EngineRefused)
    return Failure(Remedy.NONE, text, EngineRefused)


def _read_retry_after(response: HttpError) -> float | None:
    value = str(response.resp.get("retry-after", ""))
    return float(value) if value.isascii() and value.isdigit() else None
