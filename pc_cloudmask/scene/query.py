"""What a user asks the source for."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.geometry import BBox, read_geometry
from pc_cloudmask.scene.scene import TILE_FORM, drop_baseline, parse_item_id

#: First and last instant, both included; None leaves an end open.
Interval = tuple[datetime | None, datetime | None]
_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2}))?)?", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_OPEN_ENDS = frozenset({"", ".."})


@dataclass(frozen=True, slots=True)
class SceneQuery:
    """Criteria that must all be met; an empty tuple or None means no such criterion."""

    bbox: BBox | None = None
    intersects: Mapping[str, Any] | None = field(default=None, hash=False)
    tiles: tuple[str, ...] = ()
    datetime: str | None = None
    ids: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def is_open(self) -> bool:
        """True if there is no spatial criterion or id: every place on Earth would match."""
        return not (self.bbox or self.intersects or self.tiles or self.ids)

    @property
    def names_only_ids(self) -> bool:
        """True if ids are the only criterion, so that an id without a match is not in the source."""
        others = (self.bbox, self.intersects, self.tiles, self.datetime, self.limit)
        return bool(self.ids) and not any(others)


def build_query(
    *,
    bbox: str | None = None,
    intersects: str | bytes | None = None,
    tiles: Sequence[str] = (),
    datetime: str | None = None,
    ids: Sequence[str] = (),
    limit: int | None = None,
) -> SceneQuery:
    """Build the query from a user's texts, ``intersects`` being GeoJSON; raise SettingsError if one is at fault."""
    if bbox is not None and intersects is not None:
        raise SettingsError("--bbox and --intersects exclude each other: give one of them")
    if datetime is not None:
        parse_datetime_interval(datetime)
    if limit is not None and limit < 1:
        raise SettingsError(f"--limit {limit}: must be at least 1")
    try:
        area = None if intersects is None else read_geometry(intersects)
    except ValueError as error:
        raise SettingsError(f"--intersects {error}") from error
    return SceneQuery(
        bbox=None if bbox is None else parse_bbox(bbox),
        intersects=area,
        tiles=tuple(dict.fromkeys(parse_tile(tile) for tile in tiles)),
        datetime=datetime,
        ids=tuple(dict.fromkeys(form for item_id in ids for form in parse_ids(item_id))),
        limit=limit,
    )


def parse_ids(text: str, option: str = "--ids") -> tuple[str, ...]:
    """Return the id in a user's name for an item, as it is and as the Planetary Computer writes it.

    ``option`` is where it was given, for the SettingsError if it contains no id.
    """
    try:
        item_id = parse_item_id(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text!r:.100}: {error}") from error
    return tuple(dict.fromkeys((item_id, drop_baseline(item_id))))


def parse_tile(text: str) -> str:
    """Return ``22KFV`` for ``22KFV``, ``T22KFV`` or ``22kfv``; raise SettingsError for what is no MGRS tile."""
    tile = text.strip().upper()
    tile = tile[1:] if len(tile) == 6 and tile.startswith("T") else tile
    if not TILE_FORM.fullmatch(tile):
        raise SettingsError(f"--tile {text!r:.40}: not an MGRS tile such as 22KFV")
    return tile


def parse_bbox(text: str) -> BBox:
    """Return ``(west, south, east, north)`` from ``W,S,E,N`` in degrees; raise SettingsError if it is no such box."""
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError as error:
        raise SettingsError(f"--bbox {text!r:.60}: not four numbers W,S,E,N in degrees") from error
    if not all(map(math.isfinite, (west, south, east, north))):
        raise SettingsError(f"--bbox {text!r:.60}: NaN and infinity are no degrees")
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise SettingsError(f"--bbox {text!r:.60}: longitudes run from -180 to 180, latitudes from -90 to 90")
    if south >= north:
        raise SettingsError(f"--bbox {text!r:.60}: south is not below north; the order is W,S,E,N")
    if west == east:
        raise SettingsError(f"--bbox {text!r:.60}: west and east are the same; the order is W,S,E,N")
    return (west, south, east, north)


def parse_datetime_interval(text: str) -> Interval:
    """Return the first and last instant of ``2018``, ``2018-12``, ``2018-12-14``, an RFC 3339 instant, or two by ``/``.

    ``..`` or nothing on one side of the slash leaves that end open. Days are in UTC and included to their end. A text
    of another form, or one that ends before it starts, raises SettingsError.
    """
    first, slash, last = text.strip().partition("/")
    if not slash:
        return _parse_period(first, text)
    start = None if first in _OPEN_ENDS else _parse_period(first, text)[0]
    end = None if last in _OPEN_ENDS else _parse_period(last, text)[1]
    if start is None and end is None:
        raise SettingsError(f"--datetime {text!r:.60}: both ends are open: leave it out")
    if start is not None and end is not None and start > end:
        raise SettingsError(f"--datetime {text!r:.60}: ends before it starts")
    return (start, end)


def format_datetime_interval(interval: Interval) -> str:
    """Format the interval as every STAC API reads it: RFC 3339 instants, ``..`` for an open end."""
    return "/".join(".." if end is None else end.isoformat().replace("+00:00", "Z") for end in interval)


def split_interval(interval: Interval, longest: timedelta) -> Iterator[Interval]:
    """Yield consecutive parts of ``interval``, none longer than ``longest``; the interval itself if an end is open."""
    first, last = interval
    if first is None or last is None:
        yield interval
        return
    while first <= last:
        following = first + longest
        yield (first, min(last, following - timedelta(microseconds=1)))
        first = following


def may_hold_day(interval: Interval, day: date | None) -> bool:
    """Return True if ``day`` is in the interval, give or take one day, or is unknown.

    The day in an item's id is that of the datatake's start; there may be a midnight before the item's own instant.
    """
    start, end = interval
    return day is None or (
        (start is None or (day - start.date()).days >= -1) and (end is None or (end.date() - day).days >= -1)
    )


def format_instant(moment: datetime) -> str:
    """Format ``moment`` as STAC does, to the second: ``2018-12-14T13:32:19Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(text: str) -> datetime:
    """Return the instant in an RFC 3339 text, in UTC; raise ValueError if it is none."""
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{text!r:.60} is not an RFC 3339 instant")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r:.60} is out of range") from error


def _parse_period(text: str, written: str) -> tuple[datetime, datetime]:
    """Return the first and last instant of a year, month, day or instant; errors show what the user has ``written``."""
    try:
        parts = _DATE.fullmatch(text)
        if parts is None:
            instant = parse_instant(text)
            return (instant, instant)
        year, month, day = (int(part or 0) for part in parts.groups())
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        days = 365 + calendar.isleap(year)
        if month:
            days = 1 if day else calendar.monthrange(year, month)[1]
        return (start, start + timedelta(days=days) - timedelta(microseconds=1))
    except (ValueError, OverflowError) as error:
        raise SettingsError(
            f"--datetime {written!r:.60}: write 2018-12, 2018-12-14 or 2018-12-14T13:22:19Z, or two with '/'"
        ) from error
