"""The look-back windows of a watch: how far a run looks back.

    hot      every run: the last days (CLOUDMASK_LOOK_BACK_DAYS), where most is new
    recent   the first run of a day: the last 60 days, for what is late or changed
    full     the first runs of a month: everything, month by month, the newest first

Lateness is heavy-tailed: products come a month late, and gaps of years are filled two years later.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import WATCH_PREFIX
from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.ids import check_item_id, check_tile
from pc_cloudmask.scene.query import Interval, parse_instant
from pc_cloudmask.settings import check_area_name
from pc_cloudmask.storage.store import ObjectStore

RECENT_LOOK_BACK = timedelta(days=60)
#: How wrong our clock may be without a scene being overlooked.
CLOCK_SKEW = timedelta(days=1)


class LookBack(StrEnum):
    """How far back."""

    HOT = "hot"
    RECENT = "recent"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class LookBackProgress:
    """Which scans of one area are complete.

    ``recent_day`` is the day of the last complete scan of 60 days; ``full_month`` the month in which
    everything was last begun to be scanned, and ``full_next`` the month to go on with, None once all is done.
    Days are ``2018-12-14``, months ``2018-12``.
    """

    recent_day: str | None = None
    full_month: str | None = None
    full_next: str | None = None

    def find_due(self, now: datetime) -> tuple[LookBack, ...]:
        """The look-back windows that a run at ``now`` scans, in order; a wider one that is due covers the hot one.

        A day or month other than the noted one makes a window due, be it an earlier one: a clock that
        was wrong once delays nothing.
        """
        first = LookBack.HOT if self.recent_day == f"{now:%Y-%m-%d}" else LookBack.RECENT
        full = self.full_month != f"{now:%Y-%m}" or self.full_next is not None
        return (first, LookBack.FULL) if full else (first,)

    def find_full_start(self, now: datetime) -> str:
        """The month that a full scan goes on with, or begins at."""
        if self.full_month == f"{now:%Y-%m}" and self.full_next is not None:
            return self.full_next
        return f"{now + CLOCK_SKEW:%Y-%m}"


def find_hot_interval(now: datetime, start: datetime, days: int) -> Interval:
    """The last ``days`` of what is watched since ``start``; its end is open, in case our clock is slow."""
    return (max(start, now - timedelta(days=days) - CLOCK_SKEW), None)


def find_recent_interval(now: datetime, start: datetime) -> Interval:
    """The last 60 days of what is watched since ``start``; its end is open, in case our clock is slow."""
    return (max(start, now - RECENT_LOOK_BACK - CLOCK_SKEW), None)


def list_months(first: datetime, newest: str) -> Iterator[tuple[str, tuple[datetime, datetime]]]:
    """The months from ``newest`` back to that of ``first``, each with its interval.

    The first month begins at ``first``, not before.
    """
    year, month = (int(part) for part in newest.split("-"))
    while (year, month) >= (first.year, first.month):
        start = datetime(year, month, 1, tzinfo=UTC)
        following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        yield f"{year:04d}-{month:02d}", (max(first, start), following - timedelta(microseconds=1))
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)


AGREEING_SCANS = 3
#: Time between two scans that count as two: outages last hours, and an API caches what it found.
SCAN_SPACING = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class MissingScan:
    """One published scene that ``scans`` complete scans in a row did not find."""

    tile: str
    year: int
    scans: int
    first: datetime
    last: datetime

    @property
    def is_certain(self) -> bool:
        """Whether enough scans agree."""
        return self.scans >= AGREEING_SCANS

    def count_scan(self, now: datetime) -> MissingScan:
        """This missing scan after another scan at ``now`` without the scene; too soon after the last, unchanged.

        A clock that ran ahead once must not stop the count: an earlier ``now`` begins its spacing again.
        """
        if now < self.last:
            return replace(self, last=now)
        if now - self.last < SCAN_SPACING:
            return self
        return replace(self, scans=self.scans + 1, last=now)


#: By the item's id.
MissingScans = Mapping[str, MissingScan]


def count_missing_scans(
    missing_scans: MissingScans, missing: Mapping[str, tuple[str, int]], present: Iterable[str], now: datetime
) -> dict[str, MissingScan]:
    """``missing_scans`` after one complete scan.

    ``missing`` are the published scenes, with tile and year, that the source was asked for and does not
    have; ``present`` are the ids that it has. What this scan did not look at stays as it is.
    """
    kept = dict(missing_scans)
    for item_id in present:
        kept.pop(item_id, None)
    for item_id, (tile, year) in missing.items():
        known = kept.get(item_id)
        kept[item_id] = known.count_scan(now) if known else MissingScan(tile, year, 1, now, now)
    return kept


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AreaState:
    """Progress and findings of one area's scans.

    ``digest`` tells for which extent; ``tiles`` are those that the source was seen to have there.
    Losing it costs a scan of everything, and delays withdrawals: nothing else.
    """

    name: str
    digest: str
    progress: LookBackProgress = field(default_factory=LookBackProgress)
    tiles: frozenset[str] = frozenset()
    missing_scans: Mapping[str, MissingScan] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{WATCH_PREFIX}{self.name}.json"


def read_area_state(store: ObjectStore, name: str, digest: str) -> AreaState:
    """The state of the area; a fresh one where there is none, or where the area's extent has changed."""
    fresh = AreaState(check_area_name(name), digest)
    stored = store.read_object(fresh.key)
    if stored is None:
        return fresh
    try:
        state = _read_document(name, json.loads(stored.body))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, InvalidField):
        logger.warning("%s is not a state of this program: it is made again", fresh.key)
        return fresh
    return state if state.digest == digest else replace(fresh, missing_scans=state.missing_scans)


def write_area_state(store: ObjectStore, state: AreaState) -> None:
    """Put the state."""
    document = {
        "digest": state.digest,
        "recent_day": state.progress.recent_day,
        "full_month": state.progress.full_month,
        "full_next": state.progress.full_next,
        "tiles": sorted(state.tiles),
        "absences": {
            item_id: {
                "tile": missing_scan.tile,
                "year": missing_scan.year,
                "scans": missing_scan.scans,
                "first": missing_scan.first.isoformat(),
                "last": missing_scan.last.isoformat(),
            }
            for item_id, missing_scan in sorted(state.missing_scans.items())
        },
    }
    store.write_object(state.key, json.dumps(document).encode(), JSON_MEDIA_TYPE)


def _read_document(name: str, document: dict[str, Any]) -> AreaState:
    progress = LookBackProgress(
        *(
            None if document[key] is None else str(document[key])
            for key in ("recent_day", "full_month", "full_next")
        )
    )
    if progress.full_next is not None:
        datetime.strptime(progress.full_next, "%Y-%m")
    missing_scans = {
        check_item_id(item_id): MissingScan(
            check_tile(entry["tile"]),
            int(entry["year"]),
            int(entry["scans"]),
            parse_instant(entry["first"]),
            parse_instant(entry["last"]),
        )
        for item_id, entry in document["absences"].items()
    }
    tiles = frozenset(check_tile(tile) for tile in document["tiles"])
    return AreaState(name, str(document["digest"]), progress, tiles, missing_scans)
