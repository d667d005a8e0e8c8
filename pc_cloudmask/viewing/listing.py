"""Published items, one per line."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pc_cloudmask.catalog.search import ItemChoice, PublishedItem, search_catalog
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item, find_property, is_number
from pc_cloudmask.storage.store import ObjectReader
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    PROVISIONAL_PROP,
    SHADOW_PERCENTAGE_PROP,
)


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


def find_mask_key(published: PublishedItem) -> str | None:
    """Return where an item's mask is in the store: in the item's folder, whatever URL it was published for."""
    assets = published.item.get("assets")
    mask = assets.get(MASK_ASSET) if isinstance(assets, Mapping) else None
    href = mask.get("href") if isinstance(mask, Mapping) else None
    return published.keys.prefix + posixpath.basename(href) if isinstance(href, str) else None


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
