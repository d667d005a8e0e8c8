"""A query's criteria, for items that no API selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flows.adapters.item_order import find_datetime
from flows.ports import Item
from flows.scene.geometry import build_box, geometries_meet
from flows.scene.query import Interval, SceneQuery, parse_datetime_interval
from flows.stac.item_reader import find_property


def build_filter(query: SceneQuery) -> Callable[[Item], bool]:
    """Whether an item matches ``query``, its limit aside.

    An item that lacks what a criterion asks about matches: it is broken, and is named as such further on.

    Raises:
        SettingsError: the query's interval says nothing.
    """
    interval = parse_datetime_interval(query.datetime) if query.datetime else None
    areas = [area for area in (build_box(*query.bbox) if query.bbox else None, query.intersects) if area]

    def matches(item: Item) -> bool:
        return (
            (not query.ids or item.get("id") in query.ids)
            and _matches_tiles(item, query.tiles)
            and _matches_interval(item, interval)
            and all(_matches_area(item, area) for area in areas)
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


def _matches_area(item: Item, area: Mapping[str, Any]) -> bool:
    geometry = item.get("geometry")
    try:
        return geometry is None or geometries_meet(geometry, area)
    except ValueError:
        return True
