"""Publish items so that nothing published is lost, and nothing is linked before it is complete.

Everything is written in this order:

    marker                     _pending/{id}-{digest}.json: says what is about to be published
    files                      under keys that contain the hash of their content
    item                       once every file it links exists; compare-and-swap, rendered from a listing
    settling                   links and marks of the scene's versions (see ``versions``)
    year catalog               compare-and-swap, rendered from a listing; the item is published now
    tile, zone, collection, root   bottom-up, where they do not link their child yet
    change feed                compare-and-swap: what is now linked, or no longer linked (see ``feed``)
    marker removed

A run may die between any two of these. Its marker shows what it left unfinished, and the next command that publishes
finishes it. Invariants:

1. Nothing is linked before everything it links exists: files, item, year, tile, zone, collection, root.
2. A document that several writers write is swapped in against its ETag, and rendered from a listing made after it was
   read. So the listing contains whatever was published before it, and whatever is published after it either makes the
   swap fail or is followed by the other writer's own swap. A year catalog is rendered once more after it was written,
   because a writer that withdrew and restored an item in the meantime may have found the old catalog correct and
   written nothing.
3. Everything after the item follows from what is in the store, by steps that leave correct objects unchanged. So anyone
   may replay a marker at any time, whether its writer is alive or not.
4. A marker is removed only after the item is as the marker says and has been settled, linked and recorded by whoever
   removes it, or once its lease has expired. Its key contains its digest, so that no writer removes another's marker. A
   writer that was suspended for longer than its lease, or that was declared dead by a clock that runs ahead, looks for
   its marker after it has put its item, and puts the marker again if it is gone.
5. A withdrawal has a marker too; its withdrawn marker takes the role of the item's document in all this.
6. A mask made by a lesser method never replaces a better one, however late its writer is: the swap of an item sees the
   present one, and writes nothing if that is better (``Publication.better``). The writer then continues as if its item
   had been written, and links the better one; ``check --repair`` removes its files.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256

from pc_cloudmask.catalog.documents import Coverage, read_coverage
from pc_cloudmask.catalog.feed import Change, Event, Feed
from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    AssetFile,
    CatalogContext,
    encode_document,
)
from pc_cloudmask.catalog.layout import ItemKeys, YearKeys
from pc_cloudmask.catalog.parents import (
    catalog_stages,
    collection_steps,
    find_missing,
    tell_stages,
    year_steps,
)
from pc_cloudmask.catalog.states import (
    Marker,
    Step,
    StepName,
    Steps,
    build_marker,
    list_markers,
    read_marker,
    run_steps,
    swap_steps,
    write_marker,
)
from pc_cloudmask.catalog.versions import (
    digest_item,
    find_older,
    is_current,
    mark_withdrawal,
    parse_item,
    read_method,
    set_predecessor,
    settle_steps,
    withdraw_steps,
)
from pc_cloudmask.catalog.walk import decode_item, find_published
from pc_cloudmask.errors import CloudmaskError, InvalidField, StoreRefused, StoreUnavailable
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: How often writing the catalogs is attempted while the store is unavailable; its client retries each request itself.
_CATALOG_ATTEMPTS = 4
#: Catalogs written in parallel: requests wait for the network, not for the processor.
_CATALOG_WORKERS = 16
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """An item that does not link another version yet, with every file that it links inside the store.

    ``better`` are methods whose masks it does not replace; ``replaces`` says that the catalog already has the item.
    """

    keys: ItemKeys
    item: Item = field(hash=False)
    files: tuple[AssetFile, ...]
    better: tuple[str, ...] = ()
    replaces: bool = False

    @cached_property
    def body(self) -> bytes:
        """The encoded item."""
        return encode_document(self.item)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the encoded item, in hex."""
        return sha256(self.body).hexdigest()


def put_steps(store: ObjectStore, context: CatalogContext, publication: Publication) -> Steps:
    """Put the publication's item with a link to the version before it, unless it is already there.

    It does not replace a better mask that another writer has published in the meantime.
    """
    keys, item = publication.keys, publication.item

    def render(current: StoredObject | None) -> bytes | None:
        there = parse_item(current)
        if is_current(there) and read_method(there) in publication.better:
            return None
        older = find_older(store, keys, item, there)
        return encode_document(set_predecessor(item, context, keys, older)) if older else publication.body

    yield from swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE)
    yield Step(StepName.ITEM, keys.item)


def item_steps(store: ObjectStore, context: CatalogContext, publication: Publication, now: datetime) -> Steps:
    """Put the item and its files into the store, without linking the item in a catalog."""
    keys = publication.keys
    marker = build_marker(keys, publication.digest, now, replaces=publication.replaces)
    write_marker(store, marker)
    yield Step(StepName.MARK, marker.key)
    for file in publication.files:
        # The key contains the hash of the bytes, so it is harmless if two writers write the same file.
        store.write_object(file.key, file.body, file.media_type)
        yield Step(StepName.FILE, file.key)
    yield from put_steps(store, context, publication)
    if store.find_object(marker.key) is None:
        write_marker(store, marker)
        yield Step(StepName.MARK, marker.key)
    yield from settle_steps(store, context, keys)


@dataclass(frozen=True, slots=True)
class _Replay:
    """An item to be linked now, what it covers, and the changes to record if its marker may be removed then."""

    keys: ItemKeys
    coverage: Coverage
    changes: tuple[Change, ...]


class Publisher:
    """Publishes into one store; safe to share between threads. Its methods raise what ``check_writers`` raises.

    ``now`` is when the run began. ``clock`` returns the current time, for leases, because a run may take days;
    ``tell_time`` returns it for the change feed. ``push`` receives the events recorded there.
    """

    def __init__(
        self,
        store: ObjectStore,
        context: CatalogContext,
        now: datetime,
        *,
        single_writer: bool = False,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._store = store
        self._context = context
        self._clock = clock or (lambda: now)
        self._single_writer = single_writer
        self._pause = pause
        self.tell_time = self._clock
        self.push: Callable[[Sequence[Event]], None] | None = None
        self._begun: dict[ItemKeys, _Replay] = {}
        self._lock = threading.Lock()

    def check_writers(self) -> None:
        """Check that this publisher may write next to others, or that the settings say it is the only one.

        The store is probed once; expensive runs call this before they compute anything.

        Raises:
            StoreRefused: the store cannot be written, or not by several writers.
        """
        if self._single_writer:
            return
        capabilities = self._store.probe_capabilities()
        if not (capabilities.create_only and capabilities.compare_and_swap):
            raise StoreRefused(
                f"{self._store.url} ignores conditional writes, so several writers would lose each other's "
                "items: choose another store, or set CLOUDMASK_SINGLE_WRITER=true where only one ever runs"
            )

    def find_published(self, keys: ItemKeys) -> Item | None:
        """Return what ``find_published`` finds in this store."""
        return find_published(self._store, keys)

    def publish_item(self, publication: Publication) -> None:
        """Put an item and its files into the store; ``publish_catalogs`` then links it.

        Raises:
            InvalidField: the item has no place or time; nothing was written.
            StoreUnavailable: the outcome is unknown; it is safe to try again.
        """
        self.check_writers()
        keys = publication.keys
        coverage = _read_coverage(publication.item, keys)
        run_steps(item_steps(self._store, self._context, publication, self._clock()))
        with self._lock:
            change = Change(keys, publication.digest, publication.replaces)
            self._begun[keys] = _Replay(keys, coverage, (change,))

    def publish_catalogs(self, published: Iterable[ItemKeys]) -> None:
        """Link items that ``publish_item`` has put, here or in another process; only now do they count as published.

        Raises:
            StoreUnavailable: some are not linked; the next run's ``recover`` links them.
        """
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            self._link(list(filter(None, pool.map(self._take_begun, published))))

    def link_missing(self, items: Iterable[ItemKeys]) -> None:
        """Link those of ``items``, all in the store, that neither their year's catalog nor a newer version links.

        Their writer died, and others have removed its marker since. This takes one read for each year.
        """
        years = defaultdict[YearKeys, set[str]](set)
        for keys in items:
            years[keys.year_keys].add(keys.item_id)
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            missing = pool.map(lambda year: find_missing(self._store, *year), years.items())
            self.publish_catalogs([keys for found in missing for keys in found])

    def publish_collection(self) -> None:
        """Make the collection list the present parts of the geoparquet mirror."""
        self.check_writers()
        self._run(collection_steps(self._store, self._context, set(), None))

    def withdraw(self, items: Iterable[ItemKeys], reason: str) -> None:
        """Take items out of the catalogs; they and their files stay in the store for a grace period.

        Raises:
            StoreUnavailable: some are still linked; it is safe to try again.
        """
        items = list(items)
        self.check_writers()
        store, context, now = self._store, self._context, self._clock()
        self._run_stage([withdraw_steps(store, context, keys, reason, now) for keys in items])
        years = sorted({keys.year_keys for keys in items}, key=lambda year_keys: year_keys.prefix)
        self._run_stage([year_steps(store, context, year_keys) for year_keys in years])
        self.tell([Change(keys, mark_withdrawal(keys, reason, now).sha256) for keys in items])

    def tell(self, changes: Sequence[Change]) -> None:
        """Record in the change feed what the catalogs show by now, and remove the changes' markers.

        Raises:
            StoreUnavailable: the markers stay, and the next run's ``recover`` records the changes.
        """
        for stage in tell_stages(Feed(self._store, self._context, self.tell_time(), self.push), changes):
            self._run_stage(stage)

    def recover(self) -> list[ItemKeys]:
        """Settle, link and return the items that dead runs left; remove the markers of writers that left none.

        Any marker may be replayed at any time, since a live writer would do exactly the same. It is then removed if its
        item is as the marker says; otherwise it is left to its writer until its lease expires. A marker that cannot be
        read is logged and left to the next run.
        """
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            replays = list(filter(None, pool.map(self._replay, list_markers(self._store))))
        left = list(dict.fromkeys(replay.keys for replay in replays if replay.changes))
        if left:
            logger.info("linking %d items that an earlier run left unlinked", len(left))
        self._link(replays)
        return left

    def _take_begun(self, keys: ItemKeys) -> _Replay | None:
        with self._lock:
            begun = self._begun.pop(keys, None)
        if begun is not None:
            return begun
        stored = self._store.read_object(keys.item)
        if stored is None:
            return None
        change = Change(keys, digest_item(stored))
        marker = read_marker(self._store, change.marker)
        return self._settle(stored, keys, replace(change, replaces=marker is not None and marker.replaces))

    def _replay(self, marker_key: str) -> _Replay | None:
        try:
            marker = read_marker(self._store, marker_key)
        except CloudmaskError as error:
            logger.warning("%s cannot be read and is left to the next run: %s", marker_key, error)
            marker = None
        if marker is None:
            return None
        stored = self._store.read_object(marker.keys.item)
        is_done = stored is not None and self._is_done(marker, stored)
        is_over = is_done or marker.is_stale(self._clock())
        replay = None
        if stored is not None:
            change = Change(marker.keys, marker.sha256, marker.replaces)
            # A writer that died half-way may have left the item in a state that nobody has recorded.
            changes = (change,) if is_done else (change, replace(change, digest=digest_item(stored)))
            replay = self._settle(stored, marker.keys, *(changes if is_over else ()))
        if replay is None and is_over:
            logger.info("%s: its writer died before the item was there, or took a broken one out", marker.key)
            self.tell([Change(marker.keys, marker.sha256)])
        return replay

    def _is_done(self, marker: Marker, item: StoredObject) -> bool:
        """Return True if the marker's writer has put the item or the withdrawn marker, which completes its own part."""
        if digest_item(item) == marker.sha256:
            return True
        withdrawn_marker = self._store.read_object(marker.keys.withdrawn_marker)
        return withdrawn_marker is not None and sha256(withdrawn_marker.body).hexdigest() == marker.sha256

    def _settle(self, stored: StoredObject, keys: ItemKeys, *changes: Change) -> _Replay | None:
        """Settle the item and return how to link it; None if it cannot be read."""
        item = decode_item(stored, keys)
        if item is None:
            return None
        try:
            coverage = _read_coverage(item, keys)
        except InvalidField as error:
            logger.warning("%s is not linked: %s", keys.item, error)
            return None
        self.check_writers()
        self._run(settle_steps(self._store, self._context, keys))
        return _Replay(keys, coverage, changes)

    def _link(self, begun: Sequence[_Replay]) -> None:
        if not begun:
            return
        self.check_writers()
        coverages = {each.keys: each.coverage for each in begun}
        for attempt in range(_CATALOG_ATTEMPTS):
            try:
                for stage in catalog_stages(self._store, self._context, coverages):
                    self._run_stage(stage)
                self.tell([change for each in begun for change in each.changes])
                return
            except StoreUnavailable as error:
                if attempt == _CATALOG_ATTEMPTS - 1:
                    raise
                logger.warning("writing the catalogs again: %s", error)
                self._pause(_LONGEST_PAUSE_S * random.random())  # nosec B311 # spreads writers, hides nothing

    def _run_stage(self, stage: Sequence[Steps]) -> None:
        if len(stage) == 1:
            self._run(stage[0])
        else:
            with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
                list(pool.map(self._run, stage))

    def _run(self, steps: Steps) -> None:
        pause_s = _PAUSE_S
        for step in steps:
            if step.name is StepName.CONFLICT:
                self._pause(pause_s * random.random())  # nosec B311 # spreads writers, hides nothing
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _read_coverage(item: Item, keys: ItemKeys) -> Coverage:
    try:
        return read_coverage(item)
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidField(keys.item_id, "bbox or datetime", f"cannot be read ({error})") from error
