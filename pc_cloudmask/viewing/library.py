"""Published masks found, listed and counted, from Python.

``find_items`` searches a catalog by tile, place and date; ``cube.read_mask`` reads a mask that it found, and
``cube.load_cube`` loads bands masked by it. Other tools take the items directly::

    cube = odc.stac.load(find_items("22KFV"), bands=["B04", "cloudmask"], chunks={})
    stack = stackstac.stack(find_items("22KFV"), assets=["B04", "cloudmask"])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from posixpath import basename, dirname, isabs, join, normpath
from typing import Any

import numpy as np
import orjson
import pystac
from numpy.typing import NDArray

from pc_cloudmask.catalog.fields import find_public_url
from pc_cloudmask.catalog.item import TILES_REL
from pc_cloudmask.catalog.layout import COLLECTION_ID
from pc_cloudmask.catalog.search import (
    ItemChoice,
    PublishedItem,
    decode_mask,
    find_named_keys,
    find_published_items,
    search_catalog,
)
from pc_cloudmask.catalog.walk import read_linked
from pc_cloudmask.errors import CloudmaskError, SettingsError, StoreRefused
from pc_cloudmask.masking.classes import DECIMALS, MaskClass
from pc_cloudmask.scene.grid import Grid, read_grid
from pc_cloudmask.scene.query import build_query, parse_instant
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.settings import read_area_file, read_settings
from pc_cloudmask.source.fields import Item, find_property, is_number
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.storage.stores import open_reader
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    PROVISIONAL_PROP,
    SHADOW_PERCENTAGE_PROP,
)

#: ``stac_cfg`` of ``odc.stac.load``, which leaves out assets with the role ``overview`` unless named.
ODC_STAC_CONFIG: Mapping[str, Any] = {
    COLLECTION_ID: {"assets": {MASK_ASSET: {"data_type": "uint8", "nodata": MaskClass.NO_DATA.value}}}
}
_EPSG = re.compile(r"EPSG:(\d{4,6})", re.ASCII)


def find_items(
    tiles: str | Iterable[str] = (),
    *,
    bbox: Iterable[float] | None = None,
    intersects: Any = None,
    datetime: str | None = None,
    max_cloud_pct: float | None = None,
    store: str | None = None,
) -> list[pystac.Item]:
    """Return the published items that match, by time; their hrefs are absolute, those of the source unsigned.

    odc-stac and stackstac read them without configuration: the mask lacks the role ``overview``, and ``proj:epsg`` is
    added next to ``proj:code``.

    Hrefs of masks point into the store that is searched, whatever URL it was published for. Only the catalogs of the
    tiles and years concerned are read.

    Args:
        tiles: MGRS tiles such as ``22KFV``; default: all that are published.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        intersects: An area instead of a box: GeoJSON as a file's path, text or an object, or a shapely geometry.
        datetime: ``2018``, ``2018-12``, ``2018-12-14/2019-01-31`` or ``2018-12-14/..``.
        max_cloud_pct: How much of the valid pixels cloud and shadow may cover.
        store: A directory, ``s3://bucket/prefix`` or the https URL of a catalog; default: the setting
            ``CLOUDMASK_STORE``.

    Raises:
        SettingsError: A criterion is invalid, or there is no catalog.
        StoreRefused, StoreUnavailable, SourceRefused: No permission to read it, no answer, a broken document.
    """
    query = build_query(
        bbox=None if bbox is None else ",".join(map(str, bbox)),
        intersects=None if intersects is None else read_area(intersects, "intersects"),
        tiles=[tiles] if isinstance(tiles, str) else list(tiles),
        datetime=datetime,
    )
    reader = open_reader(store or read_settings().store)
    found = find_published_items(reader, query, max_cloud_pct)
    return [_build_item(published, reader.url) for published in found]


def find_item(item_id: str, *, store: str | None = None) -> pystac.Item:
    """Return one published item, as ``find_items`` does.

    A unique prefix of the id is enough, and so are tile and day, ``22KFV 2018-12-14``. If the text contains tile and
    day, as every product's id does, only that year of that tile is read.

    Raises:
        AmbiguousItem: Several match.
        StoreRefused: The catalog links no such item.
        SettingsError, StoreUnavailable, SourceRefused: See ``find_items``.
    """
    reader = open_reader(store or read_settings().store)
    keys = find_named_keys(reader, item_id, "item")
    return _build_item(PublishedItem(keys, read_linked(reader, keys.item)), reader.url)


def read_classes(item: pystac.Item) -> NDArray[np.uint8]:
    """Return the pixels of the mask of an item of ``find_items``; ``cube.read_mask`` also says where they are.

    Returns:
        uint8 ``(height, width)`` on the grid given by ``proj:*`` of the asset ``cloudmask``: 0 no data,
        1 clear, 2 cloud, 3 cloud shadow.

    Raises:
        StoreRefused: There is no such asset, or its file is missing.
        StoreUnavailable: No answer.
        AssetRefused: The file is not a mask.
    """
    asset = item.assets.get(MASK_ASSET)
    href = asset.get_absolute_href() if asset is not None else None
    if href is None:
        raise StoreRefused(f"{item.id}: no asset {MASK_ASSET} that can be found: take an item of find_items")
    folder, _, name = href.rpartition("/")
    stored = open_reader(folder).read_object(name)
    if stored is None:
        raise StoreRefused(f"{item.id}: {href} is missing; cloudmask check --repair mends the catalog")
    return decode_mask(stored.body, item.id)


def find_mask_grid(item: pystac.Item) -> Grid:
    """Return the grid of the mask of an item of ``find_items``.

    Raises:
        StoreRefused: There is no mask, or its grid is not given.
    """
    try:
        return read_grid(item.assets[MASK_ASSET].extra_fields)
    except (KeyError, ValueError) as error:
        raise StoreRefused(f"{item.id}: no asset {MASK_ASSET} whose proj:* tell its grid") from error


def _build_item(published: PublishedItem, store_url: str) -> pystac.Item:
    document, href = published.item, f"{store_url}/{published.keys.item}"
    _lead_into(document, published.keys.item, store_url)
    if isabs(store_url):
        # pystac takes "#" and "?" in a folder's name as parts of a URL.
        folder = dirname(href)
        document = map_hrefs(
            document, lambda each: normpath(join(folder, each)) if is_relative(each) else each
        )
    item = pystac.Item.from_dict(document, href=href, preserve_dict=False)
    item.make_asset_hrefs_absolute()
    _suit_readers(item)
    return item


def _suit_readers(item: pystac.Item) -> None:
    """Adapt the item in memory to what tools expect and a published document cannot say.

    odc-stac ignores assets with the role ``overview``, which makes STAC Browser draw the mask; stackstac 0.5 finds a
    CRS only in ``proj:epsg``, which ``proj:code`` has replaced.
    """
    mask = item.assets.get(MASK_ASSET)
    if mask is not None and mask.roles:
        mask.roles = [role for role in mask.roles if role != "overview"]
    code = item.properties.get("proj:code")
    if isinstance(code, str) and (epsg := _EPSG.fullmatch(code)):
        item.properties.setdefault("proj:epsg", int(epsg[1]))


def _lead_into(document: dict[str, Any], key: str, store_url: str) -> None:
    """Turn hrefs below the URL that the catalog was published for into hrefs of the store that was read.

    A copy of a catalog, or a store that its readers reach by another URL, has the same files.
    """
    public_url = find_public_url(document, key)
    if public_url is None:
        return
    for part in (*document["links"], *document.get("assets", {}).values()):
        if part["href"].startswith(f"{public_url}/") and part.get("rel") != TILES_REL:
            part["href"] = store_url + part["href"].removeprefix(public_url)


def read_area(area: Any, what: str = "--intersects") -> str | bytes:
    """Return as GeoJSON text a file's content, a text that is GeoJSON itself, an object, or a shape.

    A shape is anything with a ``__geo_interface__``: shapely's, geopandas' tables. ``what`` names it in errors.

    Raises:
        SettingsError: there is no such file, or it is none of these.
    """
    if isinstance(area, str) and area.lstrip().startswith("{"):
        return area
    if isinstance(area, str | Path) and str(area):
        return read_area_file(Path(area), what)
    document = getattr(area, "__geo_interface__", area)
    if not isinstance(document, Mapping):
        raise SettingsError(f"{what}: name a file of GeoJSON, or give GeoJSON")
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise SettingsError(f"{what}: not GeoJSON: {error}") from error


@dataclass(frozen=True, slots=True)
class ListedItem:
    """The fields of an item in a list.

    ``datetime`` is in UTC. ``clear_percentage``, ``cloud_percentage`` and ``shadow_percentage`` are shares of its valid
    pixels, ``nodata_percentage`` of all; None if the item does not say. ``item`` and ``mask`` are their locations in
    the store that was read.
    """

    id: str
    tile: str
    datetime: str | None
    method: str | None
    provisional: bool
    clear_percentage: float | None
    cloud_percentage: float | None
    shadow_percentage: float | None
    nodata_percentage: float | None
    item: str
    mask: str | None

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def list_items(
    store: ObjectReader, choice: ItemChoice, broken: dict[str, CloudmaskError] | None = None
) -> list[ListedItem]:
    """Return the items that match, by time; for ``broken`` and exceptions see ``search_catalog``."""
    found = search_catalog(
        store, choice, lambda published: describe_item(store, published), broken, brief=True
    )
    return sorted(found, key=lambda each: (each.datetime is None, each.datetime, each.id))


def find_mask_fields(published: PublishedItem) -> Mapping[str, Any]:
    """Return the fields of an item's mask; none if it has no mask."""
    assets = published.item.get("assets")
    mask = assets.get(MASK_ASSET) if isinstance(assets, Mapping) else None
    return mask if isinstance(mask, Mapping) else {}


def find_mask_key(published: PublishedItem) -> str | None:
    """Return where an item's mask is in the store: in the item's folder, whatever URL it was published for."""
    href = find_mask_fields(published).get("href")
    return published.keys.prefix + basename(href) if isinstance(href, str) else None


def describe_item(store: ObjectReader, published: PublishedItem) -> ListedItem:
    """Return a published item's fields in a list."""
    keys, item = published.keys, published.item
    mask = find_mask_key(published)
    return ListedItem(
        id=keys.item_id,
        tile=keys.year_keys.tile,
        datetime=_find_moment(item),
        method=_find_text(item, METHOD_PROP),
        provisional=find_property(item, PROVISIONAL_PROP) is True,
        clear_percentage=_find_number(item, CLEAR_PERCENTAGE_PROP),
        cloud_percentage=_find_number(item, CLOUD_PERCENTAGE_PROP),
        shadow_percentage=_find_number(item, SHADOW_PERCENTAGE_PROP),
        nodata_percentage=_find_number(item, NODATA_PERCENTAGE_PROP),
        item=f"{store.url}/{keys.item}",
        mask=None if mask is None else f"{store.url}/{mask}",
    )


def _find_moment(item: Item) -> str | None:
    try:
        return parse_instant(_find_text(item, "datetime") or "").isoformat().replace("+00:00", "Z")
    except ValueError:
        return None


def _find_text(item: Item, name: str) -> str | None:
    value = find_property(item, name)
    return value if isinstance(value, str) else None


def _find_number(item: Item, name: str) -> float | None:
    value = find_property(item, name)
    return value if is_number(value) else None


@dataclass(frozen=True, slots=True)
class MonthOfTile:
    """The scenes of one tile in one month of one year.

    ``cloud_free`` of the ``scenes`` have little cloud and shadow. ``clear_views`` is how many complete views of the
    tile their clear pixels add up to: how often its average pixel was seen clear.
    """

    tile: str
    year: int
    month: int
    scenes: int
    cloud_free: int
    clear_views: float

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "tile": self.tile,
            "month": f"{self.year:04d}-{self.month:02d}",
            "scenes": self.scenes,
            "cloud_free": self.cloud_free,
            "clear_views": round(self.clear_views, 3),
        }


def count_observations(items: Iterable[PublishedItem], max_cloud_pct: float = 20.0) -> list[MonthOfTile]:
    """Return the months that have scenes, by tile, then time; 20 % of cloud is a common choice in searches."""

    def month_of(item: PublishedItem) -> tuple[str, int, int]:
        year, month = map(int, item.item["properties"]["datetime"].split("-")[:2])
        return (item.keys.year_keys.tile, year, month)

    months = []
    for (tile, year, month), group in groupby(sorted(items, key=month_of), month_of):
        # Clear is in percent of the valid pixels, which may be none; no data in percent of all pixels.
        of_month = (item.item["properties"] for item in group)
        shares = [
            (each.get(CLEAR_PERCENTAGE_PROP, 0.0), each.get(NODATA_PERCENTAGE_PROP, 0.0)) for each in of_month
        ]
        cloud_free = sum(round(100 - clear, DECIMALS) <= max_cloud_pct for clear, _ in shares)
        clear_views = sum(clear * (100 - nodata) / 100**2 for clear, nodata in shares)
        months.append(MonthOfTile(tile, year, month, len(shares), cloud_free, clear_views))
    return months
