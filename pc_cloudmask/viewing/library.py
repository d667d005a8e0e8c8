"""Published masks from Python.

``find_items`` searches a catalog by tile, place and date; ``read_mask`` reads what it found. Three lines
mask any cube of odc-stac::

    cube = odc.stac.load(find_items("22KFV"), bands=["B04", "cloudmask"], stac_cfg=ODC_STAC_CONFIG, chunks={})
    clear = cube.where(cube.cloudmask == 1)
    red = clear.B04.median("time")
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from posixpath import dirname, isabs, join, normpath
from typing import Any

import numpy as np
import pystac
from numpy.typing import NDArray

from pc_cloudmask.catalog.fields import find_public_url
from pc_cloudmask.catalog.layout import COLLECTION_ID, find_day
from pc_cloudmask.catalog.search import PublishedItem, decode_mask, find_published_items
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.ids import MASK_ASSET, parse_item_id
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.settings import read_settings
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.stores import open_reader

#: ``stac_cfg`` of ``odc.stac.load``, which leaves out assets with the role ``overview`` unless named.
ODC_STAC_CONFIG: Mapping[str, Any] = {
    COLLECTION_ID: {"assets": {MASK_ASSET: {"data_type": "uint8", "nodata": MaskClass.NO_DATA.value}}}
}
_TILE_IN_ID = re.compile(r"_T([0-9]{2}[A-Z]{3})_")


def find_items(
    tiles: str | Iterable[str] = (),
    *,
    bbox: Iterable[float] | None = None,
    datetime: str | None = None,
    max_cloud_pct: float | None = None,
    store: str | None = None,
) -> list[pystac.Item]:
    """Return the published items that match, by time; their hrefs absolute, those of the source unsigned.

    Masks lead into the store that is searched, whatever URL it was published for. Only the catalogs of the tiles
    and years concerned are read.

    Args:
        tiles: MGRS tiles such as ``22KFV``; none: all that are published.
        bbox: West, south, east, north in degrees; west > east crosses the antimeridian.
        datetime: ``2018``, ``2018-12``, ``2018-12-14/2019-01-31`` or ``2018-12-14/..``.
        max_cloud_pct: How much of the valid pixels cloud and shadow may cover.
        store: A directory, ``s3://bucket/prefix`` or the https URL of a catalog; default: the setting
            ``CLOUDMASK_STORE``.

    Raises:
        SettingsError: A criterion says nothing, or no catalog is there.
        StoreRefused, StoreUnavailable, SourceRefused: No right to read it, no answer, a broken document.
    """
    query = build_query(
        bbox=None if bbox is None else ",".join(map(str, bbox)),
        tiles=[tiles] if isinstance(tiles, str) else list(tiles),
        datetime=datetime,
    )
    reader = open_reader(store or read_settings().store)
    found = find_published_items(reader, query, max_cloud_pct)
    return [_build_item(published, reader.url) for published in found]


def find_item(item_id: str, *, store: str | None = None) -> pystac.Item:
    """Return the published item of that id, as ``find_items`` does.

    Where the id tells tile and day, as every product's does, only that year of that tile is read.

    Raises:
        StoreRefused: The catalog links no such item.
        SettingsError, StoreUnavailable, SourceRefused: See ``find_items``.
    """
    try:
        item_id = parse_item_id(item_id)
    except ValueError as error:
        raise SettingsError(f"item {item_id!r:.100}: {error}") from error
    tile, day = _TILE_IN_ID.search(item_id), find_day(item_id)
    tiles, interval = () if tile is None else (tile[1],), None
    if day is not None:
        # Between the instant in the id, the datatake's, and the item's own there may be a midnight.
        with contextlib.suppress(OverflowError):  # the calendar ends there: all days are looked at
            interval = f"{day - timedelta(days=1)}/{day + timedelta(days=1)}"
    query = SceneQuery(ids=(item_id,), tiles=tiles, datetime=interval)
    reader = open_reader(store or read_settings().store)
    for published in find_published_items(reader, query):
        return _build_item(published, reader.url)
    raise StoreRefused(
        f"{reader.url}: {item_id:.128} is not published there: run cloudmask ingest --ids first"
    )


def read_mask(item: pystac.Item) -> NDArray[np.uint8]:
    """Return the mask of an item of ``find_items``.

    Returns:
        uint8 ``(height, width)`` on the grid that ``proj:*`` of the asset ``cloudmask`` tells: 0 no data,
        1 clear, 2 cloud, 3 cloud shadow.

    Raises:
        StoreRefused: There is no such asset, or no file where it should be.
        StoreUnavailable: No answer.
        AssetRefused: The file is no mask.
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
        StoreRefused: There is no mask, or its grid is not told.
    """
    try:
        fields = item.assets[MASK_ASSET].extra_fields
        a, b, c, d, e, f = fields["proj:transform"][:6]
        height, width = fields["proj:shape"]
        return Grid(fields["proj:code"], (a, b, c, d, e, f), (height, width))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreRefused(f"{item.id}: no asset {MASK_ASSET} whose proj:* tell its grid") from error


def _build_item(published: PublishedItem, store_url: str) -> pystac.Item:
    document, href = published.item, f"{store_url}/{published.keys.item}"
    _lead_into(document, published.keys.item, store_url)
    if isabs(store_url):
        # pystac takes "#" and "?" in a folder's name for parts of a URL.
        document = map_hrefs(document, partial(_join_path, dirname(href)))
    item = pystac.Item.from_dict(document, href=href, preserve_dict=False)
    item.make_asset_hrefs_absolute()
    return item


def _join_path(folder: str, href: str) -> str:
    """Return a relative ``href`` of a document in ``folder`` as an absolute path, any other as it is."""
    return normpath(join(folder, href)) if is_relative(href) else href


def _lead_into(document: dict[str, Any], key: str, store_url: str) -> None:
    """Turn hrefs below the URL that the catalog was published for into hrefs of the store that was read.

    A copy of a catalog, or a store that its readers reach by another URL, has the same files.
    """
    public_url = find_public_url(document, key)
    if public_url is None:
        return
    for part in (*document["links"], *document.get("assets", {}).values()):
        if part["href"].startswith(f"{public_url}/"):
            part["href"] = store_url + part["href"].removeprefix(public_url)
