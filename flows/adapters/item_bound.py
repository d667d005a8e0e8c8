"""How many items a search may give, by what Sentinel-2 can have taken."""

from __future__ import annotations

from math import ceil, cos, radians

from flows.scene.query import BBox, Interval, SceneQuery
from flows.stac.item_extent import find_bbox

MAX_ITEMS = 1_000_000
"""Of any search: a year of 5,000 tiles, 4,000 pages; their ids take a tenth of a gigabyte."""
ITEMS_OF_A_TILE_AND_DAY = 10
"""Three satellites pass a tile near a pole some six times a day; some products are issued twice."""
ITEMS_OF_AN_ID = 10
SLACK = 1000
"""Four pages: an API that gives a little more than was asked is no enemy."""

_TILES_ON_EARTH = 60_000
_OPEN_DAYS = 15_000
"""Days of an interval with an open end: forty years of Sentinel-2."""
_KM_OF_A_DEGREE, _KM_OF_A_TILE = 111.0, 100.0


def find_most_items(query: SceneQuery, ids: tuple[str, ...] | None, interval: Interval | None) -> int:
    """The most items that a search for what ``query`` has of ``ids`` in ``interval`` can rightly find."""
    if ids:
        return SLACK + ITEMS_OF_AN_ID * len(ids)
    tiles = _TILES_ON_EARTH
    if query.tiles:
        tiles = len(query.tiles)
    elif query.bbox or query.intersects:
        tiles = min(tiles, _count_tiles(query.bbox or _find_box(query)))
    return min(MAX_ITEMS, SLACK + ITEMS_OF_A_TILE_AND_DAY * tiles * _count_days(interval))


def _find_box(query: SceneQuery) -> BBox:
    west, south, east, north = find_bbox(query.intersects or {})
    return (west, south, east, north)


def _count_days(interval: Interval | None) -> int:
    start, end = interval or (None, None)
    return _OPEN_DAYS if start is None or end is None else (end - start).days + 2


def _count_tiles(box: BBox) -> int:
    """At most so many tiles touch ``box``: twice the squares, for zones overlap."""
    west, south, east, north = box
    widest = cos(radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
    width = 360.0 if east - west >= 360 else (east - west) % 360
    columns = ceil(width * widest * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    rows = ceil((north - south) * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    return 2 * columns * rows
