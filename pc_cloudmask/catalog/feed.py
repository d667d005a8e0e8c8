"""The change feed: a CloudEvent for each item that was published, replaced or withdrawn.

There is one file a day, ``changes/2026/11/28.jsonl``, with one event a line, to which each batch is appended by
compare-and-swap. HTTP readers can derive the names without a listing, and all lines have one order. A small object per
batch would require listings and be ordered by the clocks of many machines. Since a bucket cannot append, each write
replaces the entire file. That stays cheap because a file that reaches ``PART_BYTES`` is never written again: the next
line starts ``28-1.jsonl``. A writer that finds the first part full takes the number of the last part from one listing.
That is only a hint, because a writer moves on to the next part only from a full one.

An event is recorded once every catalog links its item, or no catalog does any more, and before the marker is removed.
Replaying a marker records its event again, so no event is lost. Invariants:

1. A line is built from what the store holds after the file was read (see ``publisher``, 2), and only if the item, or
   its withdrawn marker, is still what the change's marker says. Whoever has changed it since has a marker too, and
   records that change later in the same order. So the last line about an item says what the catalog has.
2. An event that is already the last line about its item in the file is not appended again. Nothing else prevents
   duplicate lines; readers recognize an event by its id, which follows from item, content and kind.
3. A day's file is created empty before the store is read for its first lines. A writer that has appended and then finds
   the next day's file appends there too: another writer's clock runs ahead, and readers may already have moved on to
   that file. This holds for clocks less than a day apart.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import Any

import orjson

from pc_cloudmask.catalog.fields import CatalogContext, encode_document, read_document
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    CHANGES_FORM,
    COLLECTION_ID,
    COLLECTION_KEY,
    ItemKeys,
    changes_key,
    pending_key,
)
from pc_cloudmask.catalog.states import Steps, swap_steps
from pc_cloudmask.catalog.versions import digest_item, is_current, parse_item
from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from stac_ext import cloudmask

NDJSON_MEDIA_TYPE = "application/x-ndjson"
Event = dict[str, Any]


class ChangeKind(StrEnum):
    """What happened to an item."""

    PUBLISHED = "published"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"

    @property
    def type(self) -> str:
        """The ``type`` of the events of this kind."""
        return f"io.github.pc-cloudmask.item.{self}"


@dataclass(frozen=True, slots=True)
class Change:
    """An item that a writer has linked or taken out; ``digest`` and ``replaces`` are those of its marker."""

    keys: ItemKeys
    digest: str
    replaces: bool = False

    @property
    def marker(self) -> str:
        """Key of the marker that is removed once the change is recorded."""
        return pending_key(self.keys.item_id, self.digest)

    @property
    def kind(self) -> ChangeKind:
        """The kind of change if the item is as the marker says."""
        return ChangeKind.REPLACED if self.replaces else ChangeKind.PUBLISHED


def build_event(
    context: CatalogContext,
    change: Change,
    kind: ChangeKind,
    item: Item,
    now: datetime,
    reason: str | None = None,
) -> Event:
    """Return the event of a change; its id is the same, whoever records it and when.

    ``item`` is as the store holds it, ``reason`` that of a withdrawal. Hrefs are absolute if there is a public URL,
    else relative to the folder of the root catalog.
    """
    keys = change.keys
    named = f"{keys.item}\n{change.digest}\n{kind}"
    return {
        "specversion": "1.0",
        "id": sha256(named.encode()).hexdigest()[:32],
        "source": _refer(context, COLLECTION_KEY),
        "type": kind.type,
        "subject": keys.item_id,
        "time": format_instant(now),
        "datacontenttype": "application/json",
        "data": _build_data(context, keys, item) | ({} if reason is None else {"reason": reason}),
    }


def add_lines(body: bytes, events: Iterable[Event]) -> bytes:
    """Return ``body`` with a line added for each event that is not already the last one of its subject."""
    told = {str(event["subject"]): event["id"] for event in read_events(body)}
    new = [encode_document(event) for event in events if told.get(event["subject"]) != event["id"]]
    # Another program may have left the last line without a newline.
    end = b"" if body.endswith(b"\n") or not body or not new else b"\n"
    return b"".join([body, end, *new])


def read_events(body: bytes) -> Iterator[Event]:
    """Yield the events in a part of the feed, skipping lines that are not events."""
    return filter(None, map(read_event, body.splitlines()))


def read_event(line: bytes) -> Event | None:
    """Return the event on a line; None if it holds none."""
    named = ("id", "subject", "type", "time")
    with suppress(ValueError):
        event = orjson.loads(line)
        if isinstance(event, dict) and all(isinstance(event.get(name), str) for name in named):
            return event
    return None


def find_kind(event: Event) -> ChangeKind | None:
    """Return what happened to the event's item; None for a type from a later version of this program."""
    return next((kind for kind in ChangeKind if kind.type == event["type"]), None)


def _build_data(context: CatalogContext, keys: ItemKeys, item: Item) -> dict[str, Any]:
    assets = item.get("assets")
    mask = assets.get(MASK_ASSET) if isinstance(assets, Mapping) else None
    mask = mask if isinstance(mask, Mapping) else {}
    href = mask.get("href")
    name = posixpath.basename(href) if isinstance(href, str) else None
    return {
        "id": keys.item_id,
        "collection": COLLECTION_ID,
        "tile": keys.year_keys.tile,
        "datetime": find_property(item, "datetime"),
        "bbox": item.get("bbox"),
        "method": find_property(item, cloudmask.METHOD_PROP),
        "provisional": find_property(item, cloudmask.PROVISIONAL_PROP) is True,
        "clear_percentage": find_property(item, cloudmask.CLEAR_PERCENTAGE_PROP),
        "cloud_percentage": find_property(item, cloudmask.CLOUD_PERCENTAGE_PROP),
        "shadow_percentage": find_property(item, cloudmask.SHADOW_PERCENTAGE_PROP),
        "nodata_percentage": find_property(item, cloudmask.NODATA_PERCENTAGE_PROP),
        "created": find_property(item, "created"),
        "updated": find_property(item, "updated"),
        "item": _refer(context, keys.item),
        "mask": None if name is None else _refer(context, f"{keys.prefix}{name}"),
        "mask_checksum": mask.get("file:checksum"),
        "mask_size": mask.get("file:size"),
    }


def _refer(context: CatalogContext, key: str) -> str:
    return context.href(key, CATALOG_KEY).removeprefix("./")


#: Size from which a part is never written again, about 60 lines. A batch may exceed it.
PART_BYTES = 64 * 1024
_READERS = 16
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Feed:
    """Where and when to record. ``push`` receives the recorded events at least once and must not raise."""

    store: ObjectStore
    context: CatalogContext
    now: datetime
    push: Callable[[Sequence[Event]], None] | None = None


def tell_steps(feed: Feed, changes: Sequence[Change]) -> Steps:
    """Append those ``changes`` that still hold; the catalogs already show them, and their markers exist."""
    if not changes:
        return
    events: list[Event] = []

    def find_lines(current: bytes) -> bytes:
        events[:] = find_events(feed, changes)
        return add_lines(current, events)

    today = feed.now.astimezone(UTC).date()
    yield from _append_steps(feed.store, today, find_lines)
    if feed.store.find_object(changes_key(today + ONE_DAY)) is not None:
        yield from _append_steps(feed.store, today + ONE_DAY, find_lines)
    if feed.push is not None and events:
        feed.push(events)


def find_events(feed: Feed, changes: Sequence[Change]) -> list[Event]:
    """Return the events of those changes that still match the store, ordered by the items' keys."""
    ordered = sorted(set(changes), key=lambda change: (change.keys.item, change.digest))
    with ThreadPoolExecutor(_READERS) as pool:
        return list(filter(None, pool.map(partial(_find_event, feed), ordered)))


def find_last_part(store: ObjectStore, day: date) -> int:
    """Return the number of the day's last part according to a listing, or 0 if it shows none."""
    first = changes_key(day)
    matches = (CHANGES_FORM.fullmatch(info.key) for info in store.list_objects(first.removesuffix(".jsonl")))
    return max((int(match["part"] or 0) for match in matches if match), default=0)


def is_full(size: int) -> bool:
    """Return True if a part of that many bytes is never written again."""
    return size >= PART_BYTES


def _append_steps(store: ObjectStore, day: date, find_lines: Callable[[bytes], bytes]) -> Steps:
    part, was_full, was_absent = 0, False, False

    def render(current: StoredObject | None) -> bytes | None:
        nonlocal was_full, was_absent
        was_absent = current is None
        was_full = current is not None and is_full(len(current.body))
        if current is None:
            return b""
        return None if was_full else find_lines(current.body)

    while True:
        yield from swap_steps(store, changes_key(day, part), render, NDJSON_MEDIA_TYPE)
        if was_full:
            part = max(part + 1, find_last_part(store, day) if part == 0 else 0)
        elif not was_absent:
            return


def _find_event(feed: Feed, change: Change) -> Event | None:
    stored = feed.store.read_object(change.keys.item)
    item = parse_item(stored) or {}
    is_same = stored is not None and digest_item(stored) == change.digest
    is_linked = is_same and is_current(item)
    marker = None if is_linked else feed.store.read_object(change.keys.withdrawn_marker)
    if is_same and marker is None:  # or whoever was withdrawing it died half-way
        return build_event(feed.context, change, change.kind, item, feed.now)
    if marker is None or sha256(marker.body).hexdigest() != change.digest:
        return None
    reason = (read_document(marker) or {}).get("reason")
    text = reason if isinstance(reason, str) else ""
    return build_event(feed.context, change, ChangeKind.WITHDRAWN, item, feed.now, text)
