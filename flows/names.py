"""Names of flow runs, which say where and when they look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
#: Of areas, the settings and now: the first and last instant.
FindPeriod = Callable[[Mapping[str, Area], Settings, datetime], tuple[datetime, datetime | None]]


def name_ingest() -> str:
    """Return such a name as ``22KFV 2018-12``."""
    return _read_request(IngestRequest).title[:LONGEST_NAME]


def name_watch() -> str:
    """Return such a name as ``home, alps 2026-11-19/2026-11-29``."""
    request = _read_request(WatchRequest)
    return _name_areas(request, lambda areas, settings, now: (request.find_start(areas, settings, now), now))


def name_gaps() -> str:
    """Return such a name as ``home 2026-09-30/2026-11-29``."""
    request = _read_request(GapsRequest)
    return _name_areas(request, lambda _areas, _settings, now: request.read_period(now))


def name_backfill() -> str:
    """Return such a name as ``home 2018-01-01/2020-12-31``."""
    request = _read_request(BackfillRequest)
    return _name_areas(request, lambda _areas, _settings, _now: request.read_period())


def _name_areas(request: AreaRequest, find_period: FindPeriod) -> str:
    """Return the name of a run over areas; where settings are wrong, the run itself says so."""
    try:
        settings, now = request.read_settings(), request.now or read_clock()
        areas = request.read_areas(settings)
        start, end = find_period(areas, settings, now)
    except CloudmaskError:
        return "no area to look at"
    place = request.place or ", ".join(shorten(list(areas)))
    return f"{place} {start:%Y-%m-%d}/{end or now:%Y-%m-%d}"[:LONGEST_NAME]


def _read_request(kind: type[AnyRequest]) -> AnyRequest:
    """Return the request among this flow run's parameters, or the default one."""
    return kind.model_validate((flow_run.parameters or {}).get("request") or {})
