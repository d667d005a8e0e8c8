"""The lines of the change feed: one CloudEvent for each item that was published, replaced or withdrawn."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import orjson

from pc_cloudmask.catalog.fields import CatalogContext, encode_document
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, ItemKeys, pending_key
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.source.fields import Item, find_property
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    PROVISIONAL_PROP,
    SHADOW_PERCENTAGE_PROP,
)

#: What the ``type`` of every event begins with.
TYPE_PREFIX = "io.github.pc-cloudmask.item."
NDJSON_MEDIA_TYPE = "application/x-ndjson"
#: Hex digits of an event's id.
_ID_LENGTH = 32
_PERCENTAGES = {
    "clear_percentage": CLEAR_PERCENTAGE_PROP,
    "cloud_percentage": CLOUD_PERCENTAGE_PROP,
    "shadow_percentage": SHADOW_PERCENTAGE_PROP,
    "nodata_percentage": NODATA_PERCENTAGE_PROP,
}
Event = dict[str, Any]


class ChangeKind(StrEnum):
    """What became of an item."""

    PUBLISHED = "published"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"

    @property
    def type(self) -> str:
        """The ``type`` of its events."""
        return f"{TYPE_PREFIX}{self}"


@dataclass(frozen=True, slots=True)
class Change:
    """An item that a writer has linked or taken out; ``digest`` and ``replaces`` are those of its marker."""

    keys: ItemKeys
    digest: str
    replaces: bool = False

    @property
    def marker(self) -> str:
        """Key of the marker that goes once the change is told."""
        return pending_key(self.keys.item_id, self.digest)

    @property
    def kind(self) -> ChangeKind:
        """What it is if the item is there as the marker says."""
        return ChangeKind.REPLACED if self.replaces else ChangeKind.PUBLISHED


def build_event(
    context: CatalogContext,
    change: Change,
    kind: ChangeKind,
    item: Item,
    now: datetime,
    reason: str | None = None,
) -> Event:
    """Return the event of a change; the same change has the same id, whoever tells it and when.

    ``item`` is as the store holds it, ``reason`` that of a withdrawal. Hrefs are absolute with a public URL, relative
    to the folder of the root catalog without.
    """
    keys = change.keys
    named = f"{keys.item}\n{change.digest}\n{kind}"
    return {
        "specversion": "1.0",
        "id": sha256(named.encode()).hexdigest()[:_ID_LENGTH],
        "source": _refer(context, COLLECTION_KEY),
        "type": kind.type,
        "subject": keys.item_id,
        "time": format_instant(now),
        "datacontenttype": "application/json",
        "data": _build_data(context, keys, item) | ({} if reason is None else {"reason": reason}),
    }


def add_lines(body: bytes, events: Iterable[Event]) -> bytes:
    """Return ``body`` with a line for each event that is not already the last one of its subject there."""
    told = {str(event["subject"]): event["id"] for event in read_events(body)}
    new = [encode_document(event) for event in events if told.get(event["subject"]) != event["id"]]
    # Another program may have left the last line without a newline.
    end = b"" if body.endswith(b"\n") or not body or not new else b"\n"
    return b"".join([body, end, *new])


def read_events(body: bytes) -> Iterator[Event]:
    """Yield the events of a part of the feed; a line that is not an event is skipped."""
    for line in body.splitlines():
        event = read_event(line)
        if event is not None:
            yield event


def read_event(line: bytes) -> Event | None:
    """Return the event that a line holds; None if it is not one."""
    try:
        event = orjson.loads(line)
    except ValueError:
        return None
    named = ("id", "subject", "type", "time")
    is_event = isinstance(event, dict) and all(isinstance(event.get(name), str) for name in named)
    return event if is_event else None


def find_kind(event: Event) -> ChangeKind | None:
    """Return what became of the event's item; None for a type of a later version of this program."""
    return next((kind for kind in ChangeKind if kind.type == event["type"]), None)


def _build_data(context: CatalogContext, keys: ItemKeys, item: Item) -> dict[str, Any]:
    assets = item.get("assets")
    mask = assets.get(MASK_ASSET) if isinstance(assets, Mapping) else None
    mask = mask if isinstance(mask, Mapping) else {}
    href = mask.get("href")
    key = f"{keys.prefix}{posixpath.basename(href)}" if isinstance(href, str) else None
    return {
        "id": keys.item_id,
        "collection": COLLECTION_ID,
        "tile": keys.year_keys.tile,
        "datetime": find_property(item, "datetime"),
        "bbox": item.get("bbox"),
        "method": find_property(item, METHOD_PROP),
        "provisional": find_property(item, PROVISIONAL_PROP) is True,
        **{name: find_property(item, property_name) for name, property_name in _PERCENTAGES.items()},
        "created": find_property(item, "created"),
        "updated": find_property(item, "updated"),
        "item": _refer(context, keys.item),
        "mask": None if key is None else _refer(context, key),
        "mask_checksum": mask.get("file:checksum"),
        "mask_size": mask.get("file:size"),
    }


def _refer(context: CatalogContext, key: str) -> str:
    return context.href(key, CATALOG_KEY).removeprefix("./")
