"""What a watch is due to scan: which look-back windows, in which order, and what is noted after each.

How the watch decides what is due
---------------------------------
Lateness is heavy-tailed: most scenes are listed within days, some a month late, and gaps of years are filled
two years later. So a run looks back over the days on which scenes were taken, through one of three windows:

    hot      every run: the last days (CLOUDMASK_LOOK_BACK_DAYS), where most is new
    recent   the first run of a day, in place of hot: the last 60 days, for what is late, changed or withdrawn
    full     the first runs of a month: everything since the area's start, month by month, the newest first

``find_due`` compares the day and the month of now with those that the area's state notes as done.

1. A window is noted only after its scan was complete: the source gave all that matches (``source/paging.py``), each
   scene is published, or noted as waiting or failed, and what the source lacks was counted. A run that dies, meets
   an outage or uses up its budget leaves it due.
2. Days and months are compared for equality, never for order: a clock that was once wrong delays nothing.
3. Hot and recent are open at the end and begin a day early, and full begins with the month of tomorrow: a clock
   that is wrong by up to a day overlooks nothing.
4. A full scan is noted month by month. The next run, of this process or another, goes on where one stopped.
5. A run takes all areas' hot or recent windows before any full one (``watch.py``): one area's history must not use
   up the budget that is for what is new in the others.
6. Only complete scans of the recent and full windows count towards a withdrawal (``withdrawals.py``).

Scenes that wait or failed have times of their own: ``NotedState.is_due`` in ``catalog/states.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pc_cloudmask.runs.area_state import AreaState
from pc_cloudmask.scene.query import Interval

RECENT_DAYS = 60
#: How wrong our clock may be without a scene being overlooked.
CLOCK_SKEW = timedelta(days=1)


class LookBack(StrEnum):
    """A look-back window."""

    HOT = "hot"
    RECENT = "recent"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Scan:
    """One interval to scan; ``done`` is what the area's state notes once it is complete, ``left`` if it is not."""

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
    """Yield the scans of one window, of an area that is watched since ``start``; a full one goes on with its month."""
    if look_back is LookBack.HOT:
        yield Scan(look_back, find_open_interval(now, start, hot_days))
        return
    if look_back is LookBack.RECENT:
        done = {"recent_day": f"{now:%Y-%m-%d}"}
        yield Scan(look_back, find_open_interval(now, start, RECENT_DAYS), done)
        return
    this_month = f"{now:%Y-%m}"
    goes_on = state.full_month == this_month and state.full_next is not None
    newest = state.full_next if goes_on and state.full_next else f"{now + CLOCK_SKEW:%Y-%m}"
    months = list(list_months(start, newest))
    following = [month for month, _ in months[1:]]
    for (month, interval), next_month in zip(months, [*following, None], strict=True):
        noted = {"full_month": this_month}
        yield Scan(look_back, interval, noted | {"full_next": next_month}, noted | {"full_next": month})


def find_open_interval(now: datetime, start: datetime, days: int) -> Interval:
    """Return the last ``days`` of what is watched since ``start``; the end is open, in case our clock is slow."""
    return (max(start, now - timedelta(days=days) - CLOCK_SKEW), None)


def list_months(first: datetime, newest: str) -> Iterator[tuple[str, tuple[datetime, datetime]]]:
    """Yield the months from ``newest`` back to that of ``first``, each with its interval, which begins at ``first``."""
    year, month = (int(part) for part in newest.split("-"))
    while (year, month) >= (first.year, first.month):
        start = datetime(year, month, 1, tzinfo=UTC)
        following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        yield f"{year:04d}-{month:02d}", (max(first, start), following - timedelta(microseconds=1))
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
