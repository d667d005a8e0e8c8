"""Items from any second STAC API, such as Earth Search or the Copernicus Data Space Ecosystem's.

How its tiles are requested
---------------------------
APIs disagree on the property that names a tile. A search by a property that its items do not have silently finds
nothing, which would look like tiles without a scene. So the API itself is tested first: for any item of the collection,
then for that item by its tile. Only a property by which it was found is used. If there is none, or if the API does not
search by properties, items are requested by a box that contains the tile, and those of neighbouring tiles are dropped
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from pc_cloudmask.errors import SourceRefused
from pc_cloudmask.scene.geometry import BBox, build_tile_box
from pc_cloudmask.scene.query import SceneQuery, format_datetime_interval
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.source.selection import find_datetime
from pc_cloudmask.source.sighting import find_tile
from pc_cloudmask.source.stac_api import GRID_PROPERTY, TILE_PROPERTY, ApiForm, PlanetaryComputerSource
from pc_cloudmask.web import RetryPolicy

#: Requested to get one: items of one instant, a datatake's tiles, are sorted before the first is returned.
_FIRST_ITEMS = 100
URL_SETTING, COLLECTION_SETTING = "CLOUDMASK_SECOND_API", "CLOUDMASK_SECOND_COLLECTION"


class SecondApi:
    """Searches one collection of any STAC API, finding tiles by whatever property names them."""

    def __init__(self, url: str, collection: str, *, retry: RetryPolicy | None = None) -> None:
        self._url = url
        self._collection = collection
        self._retry = retry
        self._plain = self._open(TILE_PROPERTY)
        self._by_tile: PlanetaryComputerSource | None = None
        self._is_known = False

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items without duplicates; items that name no tile match any.

        Raises:
            SourceUnavailable, SourceRefused: as ``PlanetaryComputerSource.find_items``; the collection is empty.
        """
        if not self._is_known:
            self._by_tile = self._find_filter()
            self._is_known = True
        if not query.tiles:
            yield from self._plain.find_items(query)
        elif self._by_tile and not (query.bbox or query.intersects):
            yield from self._by_tile.find_items(query)
        else:
            yield from self._find_by_place(query)

    def _find_by_place(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the items of the query's tiles that lie in its place, or else in the boxes of its tiles."""
        wanted = {*query.tiles, None}
        if query.bbox or query.intersects:
            queries = [replace(query, tiles=())]
        else:
            queries = [replace(query, tiles=(), bbox=_wrap(build_tile_box(tile))) for tile in query.tiles]
        seen: set[str] = set()
        for each in queries:
            for item in self._plain.find_items(each):
                if find_tile(item) in wanted and str(item.get("id")) not in seen:
                    seen.add(str(item.get("id")))
                    yield item

    def _find_filter(self) -> PlanetaryComputerSource | None:
        """Return a source that finds items by their tiles; None if the API has not proven that it can do so."""
        if not self._plain.can_filter():
            return None
        item = next(self._plain.find_items(SceneQuery(limit=_FIRST_ITEMS)), None)
        if item is None:
            raise SourceRefused(
                f"{self._url} has no item in {self._collection!r}, so it tells nothing of any scene: "
                f"check {COLLECTION_SETTING}"
            )
        tile, moment = find_tile(item), find_datetime(item)
        if tile is None or moment is None:
            return None
        around = (moment - timedelta(seconds=1), moment + timedelta(seconds=1))
        control = SceneQuery(tiles=(tile,), datetime=format_datetime_interval(around))
        for name in (TILE_PROPERTY, GRID_PROPERTY):
            source = self._open(name)
            if find_property(item, name) in source.form.spell_tiles((tile,)) and any(
                found.get("id") == item.get("id") for found in source.find_items(control)
            ):
                return source
        return None

    def _open(self, tile_property: str) -> PlanetaryComputerSource:
        form = ApiForm(URL_SETTING, COLLECTION_SETTING, tile_property)
        return PlanetaryComputerSource(self._url, self._collection, retry=self._retry, form=form)


def _wrap(box: BBox) -> BBox:
    """Return a box that may extend beyond 180 as one whose west exceeds its east."""
    west, south, east, north = box
    return ((west + 180) % 360 - 180, max(south, -90.0), (east + 180) % 360 - 180, min(north, 90.0))
