"""Which items match a query, and in what order: by datetime, then id."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pc_cloudmask.errors import SourceRefused
from pc_cloudmask.scene.geometry import build_box, prepare_area
from pc_cloudmask.scene.query import Interval, SceneQuery, parse_datetime_interval, parse_instant
from pc_cloudmask.scene.scene import drop_baseline
from pc_cloudmask.source.fields import Item, find_property

#: Items kept in memory for sorting: about half a gigabyte.
MAX_COLLECTED_ITEMS = 10_000
_UNDATED = datetime.min.replace(tzinfo=UTC)


def find_datetime(item: Item) -> datetime | None:
    """Return an item's datetime, else the start of its time span, or None if it has neither."""
    for name in ("datetime", "start_datetime"):
        text = find_property(item, name)
        if isinstance(text, str):
            try:
                return parse_instant(text)
            except ValueError:
                return None
    return None


def sort_items(items: Iterable[Item]) -> list[Item]:
    """Return all items, sorted; those without a datetime first.

    Raises:
        SourceRefused: there are more than fit into memory.
    """
    held = []
    for item in items:
        held.append(item)
        if len(held) > MAX_COLLECTED_ITEMS:
            raise SourceRefused(
                f"more than {MAX_COLLECTED_ITEMS} items match, too many to be sorted here: narrow the search"
            )
    return sorted(held, key=_key)


def sort_stream(items: Iterable[Item], held: int) -> Iterator[Item]:
    """Sort items that arrive roughly by datetime, keeping only ``held`` of them and those of one instant in memory.

    Items of one instant are sorted by id here, because databases disagree on how ids sort ("_" before or after "0").
    Items less than ``held`` late are put in their place: the Planetary Computer's pages were not always in order
    (microsoft/PlanetaryComputer#164). Items without a datetime keep their place.

    Raises:
        SourceRefused: an item arrives later than that, or one instant has more items than fit into memory.
    """
    waiting: list[tuple[tuple[datetime, str], int, Item]] = []
    newest = _UNDATED
    passed = (_UNDATED, "")
    for number, item in enumerate(items):
        key = (find_datetime(item) or newest, str(item.get("id")))
        if key < passed:
            raise SourceRefused(
                f"the STAC API does not sort by datetime as asked: {key[0]} after {passed[0]}"
            )
        newest = max(newest, key[0])
        heapq.heappush(waiting, (key, number, item))
        while len(waiting) > held and waiting[0][0][0] < newest:
            passed, _, first = heapq.heappop(waiting)
            yield first
        if len(waiting) > held + MAX_COLLECTED_ITEMS:
            raise SourceRefused(f"the STAC API gives more than {MAX_COLLECTED_ITEMS} items of one instant")
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _key(item: Item) -> tuple[datetime, str]:
    return (find_datetime(item) or _UNDATED, str(item.get("id")))


def build_filter(query: SceneQuery) -> Callable[[Item], bool]:
    """Return a function that says whether an item matches ``query``, ignoring its limit.

    An item that lacks what a criterion needs matches: it is broken, and is reported later on.

    Raises:
        SettingsError: the query's interval is invalid.
    """
    interval = parse_datetime_interval(query.datetime) if query.datetime else None
    ids = {drop_baseline(item_id) for item_id in query.ids}
    areas = [area for area in (build_box(*query.bbox) if query.bbox else None, query.intersects) if area]
    tests = [prepare_area(area) for area in areas]

    def matches(item: Item) -> bool:
        return (
            (not ids or (isinstance(item.get("id"), str) and drop_baseline(item["id"]) in ids))
            and _matches_tiles(item, query.tiles)
            and _matches_interval(item, interval)
            and all(_matches_area(item, meets) for meets in tests)
        )

    return matches


def _matches_tiles(item: Item, tiles: tuple[str, ...]) -> bool:
    tile = find_property(item, "s2:mgrs_tile")
    return not tiles or tile is None or tile in tiles


def _matches_interval(item: Item, interval: Interval | None) -> bool:
    moment = find_datetime(item)
    if interval is None or moment is None:
        return True
    start, end = interval
    return (start is None or start <= moment) and (end is None or moment <= end)


def _matches_area(item: Item, meets: Callable[[Mapping[str, Any]], bool]) -> bool:
    geometry = item.get("geometry")
    try:
        return geometry is None or meets(geometry)
    except ValueError:
        return True
