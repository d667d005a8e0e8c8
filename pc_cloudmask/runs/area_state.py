"""The stored state of a watched area, and which of its look-back windows are due.

Losing the state only costs a scan of everything and delays withdrawals.

How the watch decides what is due
---------------------------------
Lateness is heavy-tailed: most scenes are listed within days, some a month late, and gaps of years are filled two years
later. So a run looks back over the acquisition days through one of three windows:

    hot      every run: the last days (CLOUDMASK_LOOK_BACK_DAYS), where most new scenes are
    recent   the first run of a day, in place of hot: the last 60 days, for late, changed and withdrawn scenes
    full     the first runs of a month: everything since the area's start, month by month, newest first

``find_due`` compares the current day and month with those that the area's state records as done.

1. A window is recorded only after a complete scan: the source returned everything that matches (``source/paging.py``),
   each scene is published or recorded as waiting or failed, and scenes missing from the source were counted. After a
   run that dies, meets an outage or uses up its budget, the window is still due.
2. Days and months are compared for equality, never for order, so a clock that was once wrong delays nothing.
3. Hot and recent have an open end and begin a day early, and full begins with the month of tomorrow, so a clock that is
   wrong by up to a day misses nothing.
4. A full scan is recorded month by month. The next run, in this process or another, continues where one stopped.
5. A run scans all areas' hot or recent windows before any full one (``watch.py``), so that one area's history does not
   use up the budget for new scenes in the others.
6. Only complete scans of the recent and full windows count towards a withdrawal (``watch.Withdrawals``).

Waiting and failed scenes have their own schedule: ``NotedState.is_due`` in ``catalog/states.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import WATCH_PREFIX
from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.query import Interval
from pc_cloudmask.scene.scene import check_item_id, check_tile
from pc_cloudmask.settings import check_area_name
from pc_cloudmask.storage.store import ObjectStore

#: Consecutive scans that must miss a scene before it is withdrawn.
AGREEING_SCANS = 3
#: Scans closer together than this count as one: outages last hours, and an API caches its results.
SCAN_SPACING = timedelta(hours=12)
logger = logging.getLogger(__name__)
ItemId = Annotated[str, AfterValidator(check_item_id)]
Tile = Annotated[str, AfterValidator(check_tile)]


@dataclass(frozen=True, slots=True)
class MissingScan:
    """A published scene that the last ``scans`` consecutive complete scans did not find."""

    tile: Tile
    year: int
    scans: int
    first: AwareDatetime
    last: AwareDatetime

    @property
    def is_certain(self) -> bool:
        """True if enough scans agree."""
        return self.scans >= AGREEING_SCANS

    def count_scan(self, now: datetime) -> MissingScan:
        """Return this after another scan at ``now`` without the scene; unchanged if too soon after the last.

        A clock that once ran ahead must not stop the count: an earlier ``now`` restarts its spacing.
        """
        if now < self.last:
            return replace(self, last=now)
        if now - self.last < SCAN_SPACING:
            return self
        return replace(self, scans=self.scans + 1, last=now)


def count_missing_scans(
    missing_scans: Mapping[str, MissingScan],
    missing: Mapping[str, tuple[str, int]],
    present: Iterable[str],
    now: datetime,
) -> dict[str, MissingScan]:
    """Return ``missing_scans`` updated with one complete scan at ``now``; entries outside the scan stay as they are.

    ``missing`` are tile and year of the published scenes that the source was asked for and does not have, ``present``
    the ids of those that it has.
    """
    found = set(present)
    kept = {item_id: each for item_id, each in missing_scans.items() if item_id not in found}
    for item_id, (tile, year) in missing.items():
        known = kept.get(item_id)
        kept[item_id] = known.count_scan(now) if known else MissingScan(tile, year, 1, now, now)
    return kept


class AreaState(BaseModel):
    """Progress and results of one area's scans; days are written ``2018-12-14``, months ``2018-12``.

    ``digest`` identifies the area's extent. ``recent_day`` is the day of the last complete scan of the recent window.
    ``full_month`` is the month in which the last full scan began, ``full_next`` the month to continue with, None once
    it is complete. ``tiles`` are the tiles that the source was seen to have in the area.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    recent_day: str | None = None
    full_month: str | None = None
    full_next: Annotated[str | None, Field(pattern="^20[0-9]{2}-(0[1-9]|1[0-2])$")] = None
    tiles: frozenset[Tile] = frozenset()
    missing_scans: dict[ItemId, MissingScan] = Field(default_factory=dict)


def read_area_state(store: ObjectStore, name: str, digest: str) -> AreaState:
    """Return the area's state; a fresh one if there is none or if the area's extent has changed."""
    fresh = AreaState(digest=digest)
    stored = store.read_object(_build_key(name))
    if stored is None:
        return fresh
    try:
        state = AreaState.model_validate_json(stored.body)
    except (ValueError, InvalidField):
        logger.warning("%s is not a state of this program: it is made again", _build_key(name))
        return fresh
    return state if state.digest == digest else AreaState(digest=digest, missing_scans=state.missing_scans)


def write_area_state(store: ObjectStore, name: str, state: AreaState) -> None:
    """Write the state of the area ``name``."""
    document = state.model_dump(mode="json") | {"tiles": sorted(state.tiles)}
    store.write_object(_build_key(name), json.dumps(document).encode(), JSON_MEDIA_TYPE)


def _build_key(name: str) -> str:
    return f"{WATCH_PREFIX}{check_area_name(name)}.json"


RECENT_DAYS = 60
#: How wrong our clock may be without a scene being missed.
CLOCK_SKEW = timedelta(days=1)


class LookBack(StrEnum):
    """A look-back window."""

    HOT = "hot"
    RECENT = "recent"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Scan:
    """One interval to scan; the area's state records ``done`` once it is complete, ``left`` if it is not."""

    look_back: LookBack
    interval: Interval
    done: Mapping[str, str | None] = field(default_factory=dict)
    left: Mapping[str, str | None] = field(default_factory=dict)


def find_due(state: AreaState, now: datetime) -> tuple[LookBack, ...]:
    """Return the windows that a run at ``now`` scans, in order."""
    first = LookBack.HOT if state.recent_day == f"{now:%Y-%m-%d}" else LookBack.RECENT
    full = state.full_month != f"{now:%Y-%m}" or state.full_next is not None
    return (first, LookBack.FULL) if full else (first,)


def list_scans(
    state: AreaState, look_back: LookBack, start: datetime, now: datetime, hot_days: int
) -> Iterator[Scan]:
    """Yield the scans of one window of an area watched since ``start``; a full one continues with its next month."""
    if look_back is not LookBack.FULL:
        is_hot = look_back is LookBack.HOT
        done = {} if is_hot else {"recent_day": f"{now:%Y-%m-%d}"}
        yield Scan(look_back, find_open_interval(now, start, hot_days if is_hot else RECENT_DAYS), done)
        return
    this_month = f"{now:%Y-%m}"
    goes_on = state.full_next if state.full_month == this_month else None
    newest = goes_on or f"{now + CLOCK_SKEW:%Y-%m}"
    months = list(list_months(start, newest))
    following = [month for month, _ in months[1:]]
    for (month, interval), next_month in zip(months, [*following, None], strict=True):
        noted = {"full_month": this_month}
        yield Scan(look_back, interval, noted | {"full_next": next_month}, noted | {"full_next": month})


def find_open_interval(now: datetime, start: datetime, days: int) -> Interval:
    """Return the last ``days`` of the time since ``start``; the end is open, in case our clock is slow."""
    return (max(start, now - timedelta(days=days) - CLOCK_SKEW), None)


def list_months(first: datetime, newest: str) -> Iterator[tuple[str, tuple[datetime, datetime]]]:
    """Yield the months from ``newest`` back to that of ``first``, each with its interval, clipped to ``first``."""
    year, month = (int(part) for part in newest.split("-"))
    while (year, month) >= (first.year, first.month):
        start = datetime(year, month, 1, tzinfo=UTC)
        following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        yield f"{year:04d}-{month:02d}", (max(first, start), following - timedelta(microseconds=1))
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
