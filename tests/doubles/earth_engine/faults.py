"""What may go wrong, and when."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.earth_engine.requests import Request


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error in Google's form; ``retry_after_s`` becomes a Retry-After header."""

    code: int
    status: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()
    retry_after_s: int | None = None

    def document(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = [dict(detail) for detail in self.details]
        return {"error": error}


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is torn down without an answer."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The answer stops after this share of its announced length."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer for this long, then the connection is closed; ends at once with the server."""

    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Delay:
    """The right answer, late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Restricted:
    """The right answer, with the header that says the project's noncommercial quota is used up."""

    headers: Mapping[str, str] = field(
        default_factory=lambda: {"x-earth-engine-quota-status": "parallelism_restricted=true"}
    )


@dataclass(frozen=True, slots=True)
class Html:
    """A page of a proxy or sign-in with status 200."""

    body: str = "<!doctype html><html><title>Sign in</title><body>Please sign in.</body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON of another form than the right answer's, with status 200."""

    document: Any


@dataclass(frozen=True, slots=True)
class WrongShape:
    """Pixels of a grid with this many more rows and columns than asked for."""

    rows: int = -1
    cols: int = 0


Fault = ErrorReply | Reset | Truncate | Hang | Delay | Restricted | Html | Answer | WrongShape


def too_many_requests(retry_after_s: int | None = None) -> ErrorReply:
    """429: over the limit of concurrent requests or of the rate."""
    return ErrorReply(
        429,
        "RESOURCE_EXHAUSTED",
        "Too Many Requests: Request was rejected because the request rate or concurrency limit was exceeded.",
        retry_after_s=retry_after_s,
    )


def quota_exceeded(project: str = "p") -> ErrorReply:
    """429 that waiting for seconds does not cure: a project's own limit of compute time a day."""
    return ErrorReply(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Earth Engine compute time (EECU-time) in seconds' and limit "
        "'Earth Engine compute time (EECU-time) per day in seconds' of service "
        f"'earthengine.googleapis.com' for consumer 'project:{project}'.",
    )


def unavailable(retry_after_s: int | None = None) -> ErrorReply:
    return ErrorReply(
        503, "UNAVAILABLE", "The service is currently unavailable.", retry_after_s=retry_after_s
    )


def internal_error() -> ErrorReply:
    return ErrorReply(500, "INTERNAL", "An internal error has occurred")


def memory_limit() -> ErrorReply:
    """400 that a smaller window cures."""
    return ErrorReply(400, "INVALID_ARGUMENT", "User memory limit exceeded.")


def computation_timed_out() -> ErrorReply:
    """400 that a smaller window cures."""
    return ErrorReply(400, "INVALID_ARGUMENT", "Computation timed out.")


def not_registered(project: str = "p") -> ErrorReply:
    """403: the project is not registered for Earth Engine."""
    return ErrorReply(
        403,
        "PERMISSION_DENIED",
        f"Project {project} is not registered to use Earth Engine. Visit "
        f"https://console.cloud.google.com/earth-engine/configuration?project={project} to register your "
        "project. See https://developers.google.com/earth-engine/guides/access for more details.",
    )


def missing_role(project: str = "p") -> ErrorReply:
    """403: the caller may not use the project."""
    console = f"https://console.developers.google.com/iam-admin/iam/project?project={project}"
    return ErrorReply(
        403,
        "PERMISSION_DENIED",
        f"Caller does not have required permission to use project {project}. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the "
        f"serviceusage.services.use permission, by visiting {console} and then retry. Propagation of the "
        "new permission may take a few minutes.",
        (
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Google developer console IAM admin", "url": console}],
            },
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "USER_PROJECT_DENIED",
                "domain": "googleapis.com",
                "metadata": {"consumer": f"projects/{project}", "service": "earthengine.googleapis.com"},
            },
        ),
    )


def api_not_enabled(project: str = "p") -> ErrorReply:
    """403: the Earth Engine API is switched off in the project."""
    console = f"https://console.developers.google.com/apis/api/earthengine.googleapis.com/overview?project={project}"
    return ErrorReply(
        403,
        "PERMISSION_DENIED",
        f"Google Earth Engine API has not been used in project {project} before or it is disabled. Enable it "
        f"by visiting {console} then retry. If you enabled this API recently, wait a few minutes for the "
        "action to propagate to our systems and retry.",
        (
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "SERVICE_DISABLED",
                "domain": "googleapis.com",
                "metadata": {"consumer": f"projects/{project}", "service": "earthengine.googleapis.com"},
            },
        ),
    )


@dataclass(eq=False)
class Rule:
    """When a fault strikes; every condition that is given must hold.

    ``path`` is part of the request's path; ``first`` the number of times it strikes; ``probability``
    is drawn from a generator of ``seed``; ``above_pixels`` are pixels of the requested grid; ``file_format`` is the
    one that is asked for.
    """

    fault: Fault
    path: str | None = None
    first: int | None = None
    probability: float | None = None
    seed: int = 0
    above_pixels: int | None = None
    file_format: str | None = None
    hits: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strikes(self, request: Request) -> bool:
        if self.path is not None and self.path not in request.path:
            return False
        if self.above_pixels is not None and (request.pixels or 0) <= self.above_pixels:
            return False
        if self.file_format is not None and request.body.get("fileFormat") != self.file_format:
            return False
        if self.first is not None and self.hits >= self.first:
            return False
        if self.probability is not None and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True


class Faults:
    """The programme of faults; the first rule that strikes decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, fault: Fault, **conditions: Any) -> Rule:
        """Programme a fault; conditions are the fields of ``Rule``, whose ``hits`` count its strikes."""
        rule = Rule(fault, **conditions)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def find(self, request: Request) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.strikes(request)), None)
