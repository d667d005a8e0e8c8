"""Names of flow runs, which say where and when they look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from prefect.runtime import flow_run

from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.runs.request import (
    AreaRequest,
    BackfillRequest,
    GapsRequest,
    IngestRequest,
    RunRequest,
    WatchRequest,
    shorten,
)
from pc_cloudmask.settings import Area, Settings, read_clock

#: Of a name: what was given as an interval or a box may be any text.
LONGEST_NAME = 120
AnyRequest = TypeVar("AnyRequest", bound=RunRequest)


def name_by(kind: type[AnyRequest]) -> Callable[[], str]:
    """Return what names a flow run by the request of this kind among its parameters."""

    def name() -> str:
        return describe(kind.model_validate((flow_run.parameters or {}).get("request") or {}))

    return name


def describe(request: RunRequest) -> str:
    """Return such a name as ``22KFV 2018-12`` or ``home, alps 2026-11-19/2026-11-29``."""
    if isinstance(request, IngestRequest):
        return request.title[:LONGEST_NAME]
    if isinstance(request, AreaRequest):
        with suppress(CloudmaskError):  # the run itself says which setting is wrong
            return _describe_areas(request)[:LONGEST_NAME]
    return "no area to look at"


def _describe_areas(request: AreaRequest) -> str:
    settings, now = request.read_settings(), request.now or read_clock()
    areas = request.read_areas(settings)
    place = request.place or ", ".join(shorten(list(areas)))
    first, last = _find_period(request, areas, settings, now)
    return f"{place} {first:%Y-%m-%d}/{last or now:%Y-%m-%d}"


def _find_period(
    request: AreaRequest, areas: Mapping[str, Area], settings: Settings, now: datetime
) -> tuple[datetime, datetime | None]:
    """Return the first and last instant that a run looks at; the end may be open."""
    match request:
        case WatchRequest():
            return request.find_start(areas, settings, now), now
        case GapsRequest():
            return request.read_period(now)
        case BackfillRequest():
            return request.read_period()
    raise TypeError(type(request))
