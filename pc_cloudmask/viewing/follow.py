"""Read the change feed from any position: in a folder, in a bucket or over HTTP, since no listing is needed.

A day's file is read by ranges, from where the last read ended. Before a reader continues with the next day that has a
file, it looks at the current one once more: a writer that was about to append there sees the next file, and also
appends to that one (see ``catalog.feed``).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from pc_cloudmask.catalog.feed import ONE_DAY, Event, is_full, read_event
from pc_cloudmask.catalog.layout import CATALOG_KEY, changes_key
from pc_cloudmask.errors import SettingsError, StoreRefused, StoreUnavailable
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.settings import read_settings
from pc_cloudmask.storage.store import ObjectPart, ObjectReader
from pc_cloudmask.storage.stores import open_reader

#: Seconds between two looks at the feed: two small requests each.
PAUSE_S = 30.0
#: How far back an event's id is searched for.
SEARCHED_DAYS = 92
#: More than any file of the feed has.
_MOST_BYTES = 64 << 20
#: Days that are requested at the same time.
_DAYS_AT_ONCE = 16
#: No writer begins a file for a day this old: clocks differ by less than a day.
_SETTLED = timedelta(days=2)
_PLACE = re.compile(r"(\d{4}-\d\d-\d\d)\.(\d{1,6})\.(\d{1,12})", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the feed: a day's file, its part, and how many bytes of that are read. Its text is a cursor."""

    day: date
    part: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.day}.{self.part}.{self.offset}"


def changes(
    since: str | None = None,
    *,
    store: str | None = None,
    follow: bool = False,
    every: float = PAUSE_S,
) -> Iterator[Event]:
    """Yield what was published, replaced and withdrawn, as CloudEvents with a ``cursor``, in the feed's order.

    Args:
        since: A day, an RFC 3339 time, an event's id or a cursor, to resume after it; None: from now on.
        store: A directory, ``s3://bucket/prefix`` or the https URL of a catalog; default: the setting
            ``CLOUDMASK_STORE``.
        follow: Continue for ever, looking every so many seconds; a store that does not answer is asked again.
        every: Seconds between two looks.

    Raises:
        SettingsError: ``since`` has none of these forms.
        StoreRefused, StoreUnavailable: no permission to read it, no answer at the first look.
    """
    feed = FeedReader(open_reader(store or read_settings().store), since)
    yield from feed.follow(every, logger.warning) if follow else feed.read_new()


class FeedReader:
    """Reads the feed of ``store``; ``place`` is just after the last event returned.

    Raises:
        SettingsError: ``since`` names no place in it.
        StoreRefused, StoreUnavailable: no permission to read it, no answer.
    """

    def __init__(self, store: ObjectReader, since: str | None = None) -> None:
        self._store = store
        self._earliest: datetime | None = None
        self.place: Place
        self._go_to(since)

    def follow(self, every: float, tell: Callable[[str], None]) -> Iterator[Event]:
        """Yield the events from ``place`` on for ever, looking every so many seconds; ``tell`` of looks that failed."""
        yield from self.read_new()
        while True:
            time.sleep(every)
            try:
                yield from self.read_new()
            except StoreUnavailable as error:
                tell(f"asked again in {every:g} s: {error}")

    def read_new(self) -> Iterator[Event]:
        """Yield the events from ``place`` on, each with the ``cursor`` just after it."""
        while True:
            part = yield from self._read_rest()
            if part is not None and is_full(part.size):
                self.place = Place(self.place.day, self.place.part + 1)
                continue
            later = self._find_later()
            if later is None:
                return
            part = yield from self._read_rest()
            if part is None or not is_full(part.size):
                self.place = Place(later)

    def _read_rest(self) -> Generator[Event, None, ObjectPart | None]:
        """Yield what the current file has after the place; return the store's answer."""
        place = self.place
        part = self._read(changes_key(place.day, place.part), place.offset, _MOST_BYTES)
        if part is None:
            return None
        if place.offset > part.size:
            raise SettingsError(f"--since {place}: the change feed of {self._store.url} has no such place")
        *lines, _ = part.body.split(b"\n")  # the last piece is an incomplete line
        for line in lines:
            self.place = replace(self.place, offset=self.place.offset + len(line) + 1)
            event = read_event(line)
            if event is not None and self._is_wanted(event):
                yield {**event, "cursor": str(self.place)}
        return part

    def _is_wanted(self, event: Event) -> bool:
        """Return True for an event at or after the earliest time, and for everything that follows it."""
        if self._earliest is not None:
            try:
                if parse_instant(event["time"]) < self._earliest:
                    return False
            except ValueError:
                return False
            self._earliest = None
        return True

    def _find_later(self) -> date | None:
        """Return the next day that has a file; if there is none, the place moves to the days that may get one."""
        today = _find_today()
        days = [self.place.day + ONE_DAY * number for number in range(1, (today - self.place.day).days + 2)]
        for first in range(0, len(days), _DAYS_AT_ONCE):
            batch = days[first : first + _DAYS_AT_ONCE]
            with ThreadPoolExecutor(_DAYS_AT_ONCE) as pool:
                found = list(pool.map(self._has_file, batch))
            if any(found):
                return batch[found.index(True)]
        if self.place.day < today - _SETTLED:
            self.place = Place(today - _SETTLED)
        return None

    def _has_file(self, day: date) -> bool:
        return self._read(changes_key(day), 0, 1) is not None

    def _read(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """Return a part of the object; None if it is absent.

        A public bucket that may not be listed answers 403 for a missing key.
        """
        try:
            return self._store.read_part(key, offset, length)
        except StoreRefused:
            if offset or self._store.read_part(CATALOG_KEY, 0, 1) is None:
                raise
            return None

    def _go_to(self, since: str | None) -> None:
        """Set the place to the one that ``since`` names, by default after everything that is there."""
        if self._store.read_part(CATALOG_KEY, 0, 1) is None:
            raise SettingsError(f"{self._store.url} holds no catalog: name another --store, or publish there")
        if since is None:
            self.place = Place(_find_today() - ONE_DAY)
            for _ in self.read_new():
                pass
            return
        text = since.strip()
        if _ID.fullmatch(text):
            self._go_past(text)
            return
        try:
            if place := _PLACE.fullmatch(text):
                self.place = Place(date.fromisoformat(place[1]), int(place[2]), int(place[3]))
            elif _DAY.fullmatch(text):
                self.place = Place(date.fromisoformat(text))
            else:
                self._earliest = parse_instant(text)
                self.place = Place(self._earliest.date())
        except ValueError as error:
            raise SettingsError(
                f"--since {since!r:.60}: write a day such as 2026-11-28, an instant such as "
                "2026-11-28T06:00:00Z, an event's id or its cursor"
            ) from error

    def _go_past(self, event_id: str) -> None:
        """Set the place to the one after the event with this id."""
        self.place = Place(_find_today() - timedelta(days=SEARCHED_DAYS))
        last = None
        for event in self.read_new():
            if event["id"] == event_id:
                last = self.place
        if last is None:
            raise SettingsError(
                f"--since {event_id}: the last {SEARCHED_DAYS} days of the change feed of {self._store.url} "
                "have no such event: give a day or an instant"
            )
        self.place = last


def _find_today() -> date:
    return datetime.now(UTC).date()
