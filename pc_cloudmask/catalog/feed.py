"""Recording in the change feed what was published, replaced and withdrawn.

One file a day, ``changes/2026/11/28.jsonl``, one event a line, appended to by compare-and-swap once a batch. An HTTP
reader can derive the names without a listing, and all lines are in one order; a small object per batch would need
listings, and would be ordered by many machines' clocks. A bucket cannot append, so each write is of the entire file.
That stays cheap because a file that reaches ``PART_BYTES`` is never written again: the next line begins
``28-1.jsonl``. A writer that finds the first part full asks one listing for the last; that is only a hint, for a full
part alone leads to the next one.

An event is recorded once every catalog links its item, or no catalog does any more, and before the marker goes.
Whoever replays a marker records it again, so nothing is lost. Invariants:

1. A line is made from what the store holds after the file was read (see ``publisher``, 2), and only if the item, or
   its withdrawn marker, is still what the change's marker says. Whoever changed it since has a marker of its own, and
   records it later in the same order. So the last line of an item says what the catalog has.
2. An event that is already its item's last line in the file is not appended again. Nothing else keeps a line from
   standing twice: readers know an event by its id, which follows from item, content and kind.
3. A day's file is created empty before the store is read for its first lines. A writer that has appended, and then
   sees the next day's file, appends there too: readers may have gone on to it, as another writer's clock runs ahead.
   This holds for clocks less than a day apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from pc_cloudmask.catalog.changes import (
    NDJSON_MEDIA_TYPE,
    Change,
    ChangeKind,
    Event,
    add_lines,
    build_event,
)
from pc_cloudmask.catalog.fields import CatalogContext, read_document
from pc_cloudmask.catalog.layout import CHANGES_FORM, changes_key
from pc_cloudmask.catalog.steps import Steps, swap_steps
from pc_cloudmask.catalog.versions import digest_item, is_current, parse_item
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: A part that reaches this size is never written again: about 60 lines. A batch may go beyond it.
PART_BYTES = 64 * 1024
_READERS = 16
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Feed:
    """Where and when to record; ``push`` is given what stands in the feed, at least once, and raises nothing."""

    store: ObjectStore
    context: CatalogContext
    now: datetime
    push: Callable[[Sequence[Event]], None] | None = field(default=None)


def tell_steps(feed: Feed, changes: Sequence[Change]) -> Steps:
    """Append those ``changes`` that still hold; the catalogs show them, and their markers are there.

    Raises:
        StoreUnavailable: trying again is harmless.
    """
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
    """Return the events of those changes that the store holds as they were made, by the items' keys."""
    ordered = sorted(set(changes), key=lambda change: (change.keys.item, change.digest))
    if len(ordered) == 1:
        found = [_find_event(feed, ordered[0])]
    else:
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda change: _find_event(feed, change), ordered))
    return [event for event in found if event is not None]


def find_last_part(store: ObjectStore, day: date) -> int:
    """Return the number of the day's last part that a listing shows, 0 if it shows none."""
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
    if is_same and is_current(item):
        return build_event(feed.context, change, change.kind, item, feed.now)
    marker = feed.store.read_object(change.keys.withdrawn_marker)
    if is_same and marker is None:  # whoever was to withdraw it died half-way
        return build_event(feed.context, change, change.kind, item, feed.now)
    if marker is None or sha256(marker.body).hexdigest() != change.digest:
        return None
    reason = (read_document(marker) or {}).get("reason")
    text = reason if isinstance(reason, str) else ""
    return build_event(feed.context, change, ChangeKind.WITHDRAWN, item, feed.now, text)
