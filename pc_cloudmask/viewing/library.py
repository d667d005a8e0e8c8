"""Published masks from Python.

``find_items`` searches a catalog by tile, place and date; ``cube.read_mask`` reads a mask that it found, and
``cube.load_cube`` loads bands masked by it. Other tools take the items directly::

    cube = odc.stac.load(find_items("22KFV"), bands=["B04", "cloudmask"], chunks={})
    stack = stackstac.stack(find_items("22KFV"), assets=["B04", "cloudmask"])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from posixpath import dirname, isabs, join, normpath
from typing import Any

import numpy as np
import orjson
import pystac
from numpy.typing import NDArray

from pc_cloudmask.catalog.fields import find_public_url
from pc_cloudmask.catalog.item import TILES_REL
from pc_cloudmask.catalog.layout import COLLECTION_ID
from pc_cloudmask.catalog.search import PublishedItem, decode_mask, find_named_keys, find_published_items
from pc_cloudmask.catalog.walk import read_linked
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.scene.grid import Grid, read_grid
from pc_cloudmask.scene.query import build_query
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.settings import read_area_file, read_settings
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.stores import open_reader

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
        document = map_hrefs(document, partial(_join_path, dirname(href)))
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


def _join_path(folder: str, href: str) -> str:
    """Return a relative ``href`` of a document in ``folder`` as an absolute path, any other unchanged."""
    return normpath(join(folder, href)) if is_relative(href) else href


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
