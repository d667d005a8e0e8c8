"""The rings of a watch: how far a run looks back.

    hot      every run: the last days (CLOUDMASK_LOOK_BACK_DAYS), where most is new
    recent   the first run of a day: the last 60 days, for what is late or changed
    full     the first runs of a month: everything, month by month, the newest first

Lateness is heavy-tailed: products come a month late, and gaps of years are filled two years later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from flows.scene.query import Interval

RECENT_LOOK_BACK = timedelta(days=60)
CLOCK_SKEW = timedelta(days=1)
"""How wrong our clock may be without a scene being overlooked."""


class Ring(StrEnum):
    """How far back."""

    HOT = "hot"
    RECENT = "recent"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class RingProgress:
    """Which scans of one area are complete.

    ``recent_day`` is the day of the last complete scan of 60 days; ``full_month`` the month in which
    everything was last begun to be scanned, and ``full_next`` the month to go on with, None once all is done.
    Days are ``2018-12-14``, months ``2018-12``.
    """

    recent_day: str | None = None
    full_month: str | None = None
    full_next: str | None = None

    def find_due(self, now: datetime) -> tuple[Ring, ...]:
        """The rings that a run at ``now`` scans, in order; a wider one that is due covers the hot one.

        A day or month other than the noted one makes a ring due, be it an earlier one: a clock that
        was wrong once delays nothing.
        """
        first = Ring.HOT if self.recent_day == f"{now:%Y-%m-%d}" else Ring.RECENT
        full = self.full_month != f"{now:%Y-%m}" or self.full_next is not None
        return (first, Ring.FULL) if full else (first,)

    def find_full_start(self, now: datetime) -> str:
        """The month that a full scan goes on with, or begins at."""
        if self.full_month == f"{now:%Y-%m}" and self.full_next is not None:
            return self.full_next
        return f"{now + CLOCK_SKEW:%Y-%m}"


def find_hot_interval(now: datetime, start: datetime, days: int) -> Interval:
    """The last ``days`` of what is watched since ``start``; its end is open, lest our clock be slow."""
    return (max(start, now - timedelta(days=days) - CLOCK_SKEW), None)


def find_recent_interval(now: datetime, start: datetime) -> Interval:
    """The last 60 days of what is watched since ``start``; its end is open, lest our clock be slow."""
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
