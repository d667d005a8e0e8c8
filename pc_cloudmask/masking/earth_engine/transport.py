"""How a request travels to Earth Engine, and what its failure means.

A failure means: try again (429, 5xx), ask for less (400), or fix it (401, 403). ``session`` acts on it, and
``account.Places`` lets fewer requests through after a 429.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ee
import google.auth.exceptions
import httplib2  # type: ignore[import-untyped]  # has no types
import requests
from googleapiclient.errors import Error as ApiClientError  # type: ignore[import-untyped]  # has no types
from googleapiclient.errors import HttpError

from pc_cloudmask.contact import (
    Diagnosis,
    Service,
    diagnose,
    find_origin,
    find_timeouts,
    give_up,
    is_first,
    is_timeout,
    judge,
    note_answer,
)
from pc_cloudmask.errors import EngineDenied, EngineError, EngineRefused, EngineUnavailable
from pc_cloudmask.web import BodyTooLarge, Session, answer_within, read_body

logger = logging.getLogger(__name__)
#: More than ``computePixels`` may answer (48 MB), or any listing of ours.
MAX_BODY_BYTES = 64 << 20
CONNECT_TIMEOUT_S = 20.0
QUOTA_HEADER = "x-earth-engine-quota-status"
URL_SETTING = "CLOUDMASK_EARTHENGINE_URL"
_SIGN_IN = Service("Google's sign-in")


class BoundedHttp:
    """The transport that ``ee.Initialize`` takes: time-outs, a limit on the body, a pool for all threads.

    The client's own has no time-out unless ``ee.data.setDeadline`` is called, which fetches the API's
    description again, and keeps ten connections. This one raises the failures that the client knows:
    ``ConnectionError`` and ``TimeoutError``.
    """

    def __init__(self, timeout_s: float, connections: int, url: str = "") -> None:
        self._timeout_s = timeout_s
        self._origin = find_origin(url)
        self._session = Session(connections)
        self._restricted = False

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,  # noqa: ARG002 - the signature is httplib2's
        connection_type: Any = None,  # noqa: ARG002 - as above
    ) -> tuple[httplib2.Response, bytes]:
        """Send a request and return the answer, whatever its status.

        Raises:
            TimeoutError: the answer is not complete within the time-out.
            ConnectionError: the answer is refused, reset, truncated, too long, or a web page.
            SettingsError: the proxy that the environment names does not let us through.
            Unreachable: the server has not answered this process yet, and somebody is waiting.
        """
        service = Service("Earth Engine", URL_SETTING) if find_origin(uri) == self._origin else _SIGN_IN
        try:
            timeouts = find_timeouts(uri, service) if is_first(uri) else (CONNECT_TIMEOUT_S, self._timeout_s)
            with (
                answer_within(self._timeout_s),
                self._session.request(
                    method, uri, data=body, headers=dict(headers or {}), timeout=timeouts, stream=True
                ) as response,
            ):
                content = read_body(response, MAX_BODY_BYTES)
        except BodyTooLarge as error:
            raise ConnectionError(f"an answer of more than {MAX_BODY_BYTES} bytes") from error
        except requests.RequestException as error:
            if is_first(uri):
                judge(error, uri, service)
            if is_timeout(error):
                raise TimeoutError(f"no answer within {self._timeout_s:g} s") from error
            raise ConnectionError(_describe(error, uri, service)) from error
        if what := _find_stranger(response, content):
            raise _refuse_stranger(what, uri, service)
        note_answer(uri)
        return self._describe_response(response), content

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _describe_response(self, response: requests.Response) -> httplib2.Response:
        headers: dict[str, Any] = {name.lower(): value for name, value in response.headers.items()}
        # The client would warn at every answer; once is enough.
        quota = headers.pop(QUOTA_HEADER, "")
        if "parallelism_restricted=true" in quota and not self._restricted:
            self._restricted = True
            logger.warning(
                "the project is in restricted mode: its noncommercial quota is used up, so Earth Engine "
                "answers slowly; choose a higher tier or wait for next month"
            )
        headers["status"] = response.status_code
        return httplib2.Response(headers)


def _find_stranger(response: requests.Response, content: bytes) -> str | None:
    """Return why no Google service can have sent this answer; None if one may have."""
    if 300 <= response.status_code < 400:
        return "a redirect"
    is_declared = response.headers.get("Content-Type", "").lower().startswith("text/html")
    # Some proxies call their pages JSON.
    is_page = is_declared or content[:64].lstrip().lower().startswith((b"<!doctype html", b"<html"))
    return "a web page" if response.status_code == 200 and is_page else None


def _refuse_stranger(what: str, uri: str, service: Service) -> Exception:
    """Return the error for an answer from somebody else; the first of a process ends the run."""
    problem = f"{what} came in place of {service.name}'s answer: a proxy or a sign-in page?"
    if is_first(uri):
        return give_up(uri, service, Diagnosis(problem, f"check {service.setting or 'the network'}"))
    return ConnectionError(problem)


def _describe(error: requests.RequestException, uri: str, service: Service) -> str:
    """Say why an exchange failed, without the chain of library objects in the exception's text."""
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer was cut short"
    diagnosis = diagnose(error, uri, service)
    return (
        f"{diagnosis.problem}: {diagnosis.mend}" if diagnosis.problem.startswith("TLS") else diagnosis.problem
    )


#: Everything that a call of the client raises because of the service, the network or credentials.
CLIENT_FAILURES: tuple[type[Exception], ...] = (
    ee.EEException,
    ApiClientError,
    google.auth.exceptions.GoogleAuthError,
    OSError,
    # What json and numpy raise for an answer that is invalid or truncated.
    ValueError,
    EOFError,
    # What the client raises for JSON that is not an answer.
    LookupError,
    TypeError,
)
CONSOLE = "https://console.cloud.google.com"


#: What may help.
Remedy = Literal["retry", "split"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request. ``throttled``: others should hold back too. ``retry_after_s``: as asked."""

    text: str
    error_class: type[EngineError] = EngineRefused
    remedy: Remedy | None = None
    throttled: bool = False
    retry_after_s: float | None = None


#: 400s that a smaller window avoids.
_TOO_MUCH = re.compile(
    r"memory limit exceeded|computation timed out|computation is too large|total request size"
    r"|pixel grid dimensions|image is too large|deadline exceeded while computing",
    re.IGNORECASE,
)
#: A listing that covers too many images at a time, by whatever status: fewer scenes may succeed.
_TOO_MANY = re.compile(r"aggregation limit|aborted after accumulating", re.IGNORECASE)
#: There is no such project, or these credentials may not know of it: a 403, 404 or 400.
_NO_PROJECT = re.compile(
    r"^project '[^']*' not found|denied on resource project |CONSUMER_INVALID", re.IGNORECASE
)
#: What a 403 says, and how to fix it; the first that matches counts.
_MENDED_BY: Mapping[str, str] = {
    _NO_PROJECT.pattern: (
        "no project {project} is known to these credentials: CLOUDMASK_EARTHENGINE_PROJECT wants the id, "
        f"not the name, of one that {CONSOLE}/cloud-resource-manager lists"
    ),
    "CONSUMER_SUSPENDED|has been suspended": (
        f"Google has suspended project {{project}}: see {CONSOLE}/home/dashboard?project={{project}}"
    ),
    "has not been used in project|it is disabled|SERVICE_DISABLED": (
        "the Earth Engine API is not enabled in project {project}: enable it at "
        f"{CONSOLE}/apis/library/earthengine.googleapis.com?project={{project}}"
    ),
    "not registered|not signed up": (
        "project {project} is not registered for Earth Engine: register it at "
        f"{CONSOLE}/earth-engine/configuration?project={{project}}"
    ),
    "serviceusage|permission to use project|USER_PROJECT_DENIED": (
        "these credentials may not use project {project}: grant them the role "
        f"roles/serviceusage.serviceUsageConsumer at {CONSOLE}/iam-admin/iam?project={{project}}"
    ),
    r"earthengine\.\w+|permission": (
        "these credentials may not compute in project {project}: grant them the role "
        f"roles/earthengine.viewer at {CONSOLE}/iam-admin/iam?project={{project}}"
    ),
}
#: Temporary server errors.
_PASSING = frozenset({500, 502, 503, 504})
#: Reasons of a 403 that is one of Google's ways to say 429.
_TOO_FAST = re.compile(
    r"rate.?limit.?exceeded|quota.?exceeded|RESOURCE_EXHAUSTED|too many (concurrent )?requests", re.IGNORECASE
)
_QUOTA_USED_UP = re.compile(r"compute quota|EECU|noncommercial", re.IGNORECASE)
_NOT_FOUND = re.compile(r"not found|does not exist", re.IGNORECASE)
_SIGN_IN_AGAIN = "sign in again with 'earthengine authenticate', or make a new key"


def classify_failure(error: Exception, project: str) -> Failure:
    """Return what ``error``, one of ``CLIENT_FAILURES``, means for the request that raised it."""
    text = one_line(error)
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        if not isinstance(error, google.auth.exceptions.TransportError) and not error.retryable:
            return Failure(
                f"the credentials were refused ({one_line(error, 120)}): {_SIGN_IN_AGAIN}", EngineDenied
            )
        text = f"no access token from Google's sign-in: {text}"
    elif response := _find_http_error(error):
        return _classify_status(text, response, project)
    elif isinstance(error, ee.EEException | ApiClientError):
        return Failure(text)
    elif not isinstance(error, OSError):
        text = f"an answer that cannot be read: {text}"
    elif not isinstance(error, ConnectionError | TimeoutError):
        text = f"{type(error).__name__}: {text}"
    return Failure(text, EngineUnavailable, "retry")


def one_line(error: Exception, limit: int = 300) -> str:
    """Return the error's text without line breaks, bounded."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def _find_http_error(error: BaseException | None) -> HttpError | None:
    """Return the HTTP answer behind ``error``: the client's own exception only has its text."""
    while error is not None and not isinstance(error, HttpError):
        error = error.__cause__ or error.__context__
    return error


def _classify_status(text: str, response: HttpError, project: str) -> Failure:
    status = int(response.resp.status)
    if status in {403, 429} and _QUOTA_USED_UP.search(text):
        return Failure(
            f"the compute quota of project {project} is used up ({text}): choose a higher tier at "
            f"{CONSOLE}/earth-engine/configuration?project={project}, raise the project's own limit, or wait "
            "until it is renewed",
            EngineUnavailable,
        )
    throttled = status == 429 or (status == 403 and bool(_TOO_FAST.search(_read_everything(text, response))))
    if (throttled or status in _PASSING) and not _TOO_MANY.search(text):
        after = str(response.resp.get("retry-after", ""))
        retry_after_s = float(after) if after.isascii() and after.isdigit() else None
        text = f"HTTP {status}: {text}"
        return Failure(text, EngineUnavailable, "retry", throttled, retry_after_s)
    if status in {401, 403} or _NO_PROJECT.search(text):
        return _classify_refusal(status, text, response, project)
    if _TOO_MUCH.search(text) or _TOO_MANY.search(text):
        # Even the smallest window may be in time when the service is less busy; its memory will not shrink.
        may_pass = "timed out" in text.lower() or _TOO_MANY.search(text)
        error_class = EngineUnavailable if may_pass else EngineRefused
        return Failure(text, error_class, "split")
    if status == 404 or _NOT_FOUND.search(text):
        # An image that existed when it was paired: it is being replaced, and is paired again later.
        return Failure(text, EngineUnavailable)
    return Failure(f"HTTP {status}: {text}")


def _classify_refusal(status: int, text: str, response: HttpError, project: str) -> Failure:
    if status == 401:
        return Failure(
            f"Earth Engine does not accept the credentials ({text}): {_SIGN_IN_AGAIN}", EngineDenied
        )
    everything = _read_everything(text, response)
    for pattern, mended in _MENDED_BY.items():
        if re.search(pattern, everything, re.IGNORECASE):
            return Failure(mended.format(project=project), EngineDenied)
    return Failure(f"HTTP {status}: {text}", EngineDenied)


def _read_everything(text: str, response: HttpError) -> str:
    """Return the message followed by the body: the message alone may lack the reason that is in the details."""
    return f"{text} {response.content.decode('utf-8', 'replace')}"
