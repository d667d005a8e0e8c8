"""The HTTP transport of the Earth Engine client."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import httplib2  # type: ignore[import-untyped]  # has no types
import requests

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
from pc_cloudmask.web import Session, answer_within

logger = logging.getLogger(__name__)
#: More than ``computePixels`` may answer (48 MB), or any listing of ours.
MAX_BODY_BYTES = 64 << 20
CONNECT_TIMEOUT_S = 20.0
QUOTA_HEADER = "x-earth-engine-quota-status"
_CHUNK_BYTES = 1 << 16
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
                content = _read_body(response)
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


def _read_body(response: requests.Response) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ConnectionError(f"an answer of more than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _is_web_page(headers: Mapping[str, str], content: bytes) -> bool:
    """Return True if this is HTML, declared or not: some proxies call their pages JSON."""
    start = content[:64].lstrip().lower()
    return headers.get("Content-Type", "").lower().startswith("text/html") or start.startswith(
        (b"<!doctype html", b"<html")
    )


def _find_stranger(response: requests.Response, content: bytes) -> str | None:
    """Return why no Google service can have sent this answer; None if one may have."""
    if 300 <= response.status_code < 400:
        return "a redirect"
    return "a web page" if response.status_code == 200 and _is_web_page(response.headers, content) else None


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
