"""Which scenes Earth Engine has: the indexes of its images by tile and time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import ee

from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import L2A
from pc_cloudmask.scene.geometry import build_box
from pc_cloudmask.scene.image import ImageKey, parse_image_index
from pc_cloudmask.scene.query import SceneQuery, parse_datetime_interval, split_interval
from pc_cloudmask.web import Deadline

#: What one request lists: some 20,000 images, a megabyte of their names.
TILES_AT_ONCE, TIME_AT_ONCE = 50, timedelta(days=31)
#: ``SPACECRAFT_NAME`` is such as ``Sentinel-2B``.
_COLUMNS = ["system:index", "SPACECRAFT_NAME"]


def list_images(session: EarthEngineSession, query: SceneQuery) -> Iterator[tuple[str, ImageKey]]:
    """Yield the satellite, such as ``S2B``, and the key of each image of Level-2A that ``query`` matches.

    Raises:
        EngineUnavailable, EngineRefused: the list is not complete.
    """
    if query.datetime is None:
        raise ValueError("images are listed for a time")
    session.start()
    starts = range(0, max(1, len(query.tiles)), TILES_AT_ONCE)
    for tiles in (query.tiles[start : start + TILES_AT_ONCE] for start in starts):
        for first, last in split_interval(parse_datetime_interval(query.datetime), TIME_AT_ONCE):
            if first is None or last is None:
                raise ValueError("images are listed for a time that has a start and an end")
            yield from _list_part(session, query, tiles, first, last)


def _list_part(
    session: EarthEngineSession, query: SceneQuery, tiles: tuple[str, ...], first: datetime, last: datetime
) -> Iterator[tuple[str, ImageKey]]:
    images = ee.ImageCollection(L2A).filterDate(_millis(first), _millis(last) + 1)
    if tiles:
        images = images.filter(ee.Filter.inList("MGRS_TILE", list(tiles)))
    area = build_box(*query.bbox) if query.bbox else query.intersects
    if area:
        images = images.filterBounds(ee.Geometry(dict(area), None, False))
    rows = images.reduceColumns(ee.Reducer.toList(len(_COLUMNS)), _COLUMNS).get("list")
    deadline = Deadline(session.limits.pairing_deadline_s)
    answer = session.call("listing images", partial(ee.data.computeValue, rows), deadline)
    if not isinstance(answer, list):
        raise EngineRefused("Earth Engine answered with something else than the list of images asked for")
    for row in answer:
        key = parse_image_index(row[0]) if isinstance(row, list) and isinstance(row[0], str) else None
        if key is None or not str(row[-1]).startswith("Sentinel-2"):
            raise EngineRefused(f"Earth Engine lists an image of another form than Sentinel-2's: {row!r:.80}")
        yield f"S2{str(row[-1])[-1]}", key


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
