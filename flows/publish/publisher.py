"""Publishing items so that nothing published is lost or linked before it is whole.

    marker                     _pending/{id}.json: says what will be there
    files                      under keys that carry the hash of their content
    item                       once every file it links is there
    leaf                       compare-and-swap, rendered from a listing; the item is published now
    tile, band, collection, root   bottom-up, where they do not link their child yet
    marker removed

A run may die between any two of these: what it leaves is found by its markers, and the next run
ends what was begun.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import sha256

from flows.errors import CloudmaskError, InvalidField, StoreRefused, StoreUnavailable
from flows.ports import Item, ObjectStore
from flows.publish.catalogs import catalog_stages, collection_steps, leaf_steps
from flows.publish.generations import find_generations
from flows.publish.marker import Marker, build_marker, list_markers, read_marker, write_marker
from flows.publish.publication import Publication
from flows.publish.steps import Step, StepName, Steps, run_steps
from flows.publish.withdrawal import relink_steps, withdraw_steps
from flows.stac.coverage import Coverage, read_coverage
from flows.stac.encoding import decode_document
from flows.stac.layout import ItemKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, CatalogContext

_CATALOG_ATTEMPTS = 4
"""Runs of a sequence that an unavailable store ends; the store's client has retried each request."""
_CATALOG_WORKERS = 16
"""Catalogs written side by side: requests wait for the network, not for the processor."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0

logger = logging.getLogger(__name__)


def find_published(store: ObjectStore, keys: ItemKeys) -> Item | None:
    """The item as the store holds it, in one read; None where it holds none, or a broken one."""
    stored = store.read_object(keys.item)
    return None if stored is None else _decode(stored.body, keys)


def item_steps(store: ObjectStore, context: CatalogContext, publication: Publication, now: datetime) -> Steps:
    """Put the item and its files into the store; nothing links to it yet."""
    keys = publication.keys
    item = decode_document(publication.item, keys.item)
    generations = find_generations(store, keys, item)
    publication = generations.link_predecessor(publication, context)
    marker = build_marker(publication, now)
    write_marker(store, marker)
    yield Step(StepName.MARK, marker.key)
    for file in publication.files:
        # The key says what the bytes are, so writing again what another writer wrote harms nobody.
        store.write_object(file.key, file.body, file.media_type)
        yield Step(StepName.FILE, file.key)
    yield from generations.supersede_steps(store)
    if generations.folder.is_withdrawn:
        # Before the item: an item that is there beside its tombstone would never be linked.
        store.delete_object(keys.tombstone)
        yield Step(StepName.REVIVE, keys.tombstone)
    store.write_object(keys.item, publication.item, GEOJSON_MEDIA_TYPE)
    yield Step(StepName.ITEM, keys.item)
    yield from generations.settle_steps(store, context, item)


class Publisher:
    """Publishes into one store; safe to share between threads."""

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
        """``now`` is when the run began; ``clock`` tells the time, for leases: a run may take days."""
        self._store = store
        self._context = context
        self._now = now
        self._clock = clock or (lambda: now)
        self._single_writer = single_writer
        self._pause = pause
        self._coverages: dict[ItemKeys, Coverage] = {}
        self._lock = threading.Lock()

    def check_writers(self) -> None:
        """Nothing where this publisher may write beside others, or is the only one by its settings.

        The store is probed once; a run that computes much asks before it does.

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
        """The item as the store holds it, in one read; None where it holds none, or a broken one."""
        return find_published(self._store, keys)

    def publish_item(self, publication: Publication) -> None:
        """Put an item and its files into the store; ``publish_catalogs`` then links it.

        Raises:
            InvalidField: an item without a place or time; nothing was written.
            StoreUnavailable: the outcome is unknown; doing it again is harmless.
            StoreRefused: the store cannot be written, or not by several writers.
        """
        self.check_writers()
        coverage = _read_coverage(decode_document(publication.item, publication.keys.item), publication.keys)
        run_steps(item_steps(self._store, self._context, publication, self._clock()))
        with self._lock:
            self._coverages[publication.keys] = coverage

    def publish_catalogs(self, published: Iterable[ItemKeys]) -> None:
        """Link items that ``publish_item`` put, here or in another process; only now do they count.

        Raises:
            StoreUnavailable: some are not linked; the next run's ``recover`` links them.
        """
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            self._link(dict(filter(None, pool.map(self._take_coverage, published))))

    def publish_collection(self) -> None:
        """Bring the collection to what lies beside its items: the parts of their geoparquet mirror.

        Raises:
            StoreUnavailable: the outcome is unknown; doing it again is harmless.
            StoreRefused: the store cannot be written, or not by several writers.
        """
        self.check_writers()
        self._run(collection_steps(self._store, self._context, set(), None))

    def withdraw(self, items: Iterable[ItemKeys], reason: str) -> None:
        """Take items out of the catalogs; they and their files stay where they are for a while.

        Raises:
            StoreUnavailable: some are linked still; doing it again is harmless.
            StoreRefused: the store cannot be written, or not by several writers.
        """
        items = list(items)
        self.check_writers()
        self._run_stage([withdraw_steps(self._store, keys, reason, self._now) for keys in items])
        leaves = sorted({keys.leaf for keys in items}, key=lambda leaf: leaf.prefix)
        self._run_stage([leaf_steps(self._store, self._context, leaf) for leaf in leaves])
        self._run_stage([relink_steps(self._store, self._context, keys) for keys in items])

    def recover(self) -> list[ItemKeys]:
        """Link what runs that died had put, and drop markers whose writer left no item; what was linked.

        A marker whose item is there as it says is replayed at once: a writer that is alive would do
        the very same. One whose item is not there yet is left alone until its lease is over.
        """
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            replays = list(pool.map(self._replay, list_markers(self._store)))
        coverages = dict(filter(None, replays))
        if coverages:
            logger.info("linking %d items that an earlier run left unlinked", len(coverages))
        self._link(coverages)
        return list(coverages)

    def _take_coverage(self, keys: ItemKeys) -> tuple[ItemKeys, Coverage] | None:
        with self._lock:
            coverage = self._coverages.pop(keys, None)
        if coverage is None:
            item = self.find_published(keys)
            coverage = None if item is None else _find_coverage(item, keys)
        return None if coverage is None else (keys, coverage)

    def _replay(self, marker_key: str) -> tuple[ItemKeys, Coverage] | None:
        marker = read_marker(self._store, marker_key)
        if marker is None:
            return None
        stored = self._store.read_object(marker.keys.item)
        whole = stored is not None and sha256(stored.body).hexdigest() == marker.digest
        if not whole and not marker.is_stale(self._clock()):
            return None
        item = None if stored is None else _decode(stored.body, marker.keys)
        coverage = None if item is None else _find_coverage(item, marker.keys)
        if item is None or coverage is None:
            self._drop(marker)
            return None
        self._run(find_generations(self._store, marker.keys, item).link_steps(self._store, self._context))
        return marker.keys, coverage

    def _drop(self, marker: Marker) -> None:
        logger.info("%s: its writer died before the item was there", marker.key)
        self._store.delete_object(marker.key)

    def _link(self, coverages: Mapping[ItemKeys, Coverage]) -> None:
        if not coverages:
            return
        self.check_writers()
        for attempt in range(_CATALOG_ATTEMPTS):
            try:
                for stage in catalog_stages(self._store, self._context, coverages):
                    self._run_stage(stage)
                return
            except StoreUnavailable as error:
                if attempt == _CATALOG_ATTEMPTS - 1:
                    raise
                logger.warning("writing the catalogs again: %s", error)
                self._pause(_LONGEST_PAUSE_S * random.random())  # nosec B311 # spreads writers, hides nothing

    def _run_stage(self, stage: Sequence[Steps]) -> None:
        if len(stage) == 1:
            self._run(stage[0])
            return
        with ThreadPoolExecutor(_CATALOG_WORKERS) as pool:
            list(pool.map(self._run, stage))

    def _run(self, steps: Steps) -> None:
        pause_s = _PAUSE_S
        for step in steps:
            if step.name is StepName.CONFLICT:
                self._pause(pause_s * random.random())  # nosec B311 # spreads writers, hides nothing
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _decode(body: bytes, keys: ItemKeys) -> Item | None:
    try:
        item = decode_document(body, keys.item)
    except CloudmaskError as error:
        logger.warning("%s is broken and will be published anew: %s", keys.item, error)
        return None
    if item.get("id") != keys.item_id or not isinstance(item.get("properties"), dict):
        logger.warning("%s does not hold that item and will be published anew", keys.item)
        return None
    return item


def _read_coverage(item: Item, keys: ItemKeys) -> Coverage:
    try:
        return read_coverage(item)
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidField(keys.item_id, "bbox or datetime", f"cannot be read ({error})") from error


def _find_coverage(item: Item, keys: ItemKeys) -> Coverage | None:
    try:
        return _read_coverage(item, keys)
    except InvalidField as error:
        logger.warning("%s is not linked: %s", keys.item, error)
        return None
