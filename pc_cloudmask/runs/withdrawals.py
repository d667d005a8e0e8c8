"""Take scenes out of the catalog that the source has withdrawn."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pc_cloudmask.catalog.export import update_tile_index
from pc_cloudmask.catalog.layout import ItemKeys, YearKeys, find_day
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import clear_state
from pc_cloudmask.catalog.versions import read_scene_prefix
from pc_cloudmask.catalog.walk import YearListing, YearListings
from pc_cloudmask.runs.area_state import AGREEING_SCANS, AreaState, MissingScan, count_missing_scans
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_instant
from pc_cloudmask.settings import FIRST_IMAGE, Settings
from pc_cloudmask.source.fields import Item, SceneSource
from pc_cloudmask.storage.store import ObjectStore

#: Scenes that the source is asked for in one request, in addition to the control item.
IDS_AT_ONCE = 99
#: Scenes that one scan confirms one by one, after a request for many did not return them.
CONFIRMED_AT_ONCE = 100
logger = logging.getLogger(__name__)


class Withdrawals:
    """The withdrawals of one run, at most ``CLOUDMASK_WITHDRAW_LIMIT``.

    A scene is withdrawn once several complete scans agree that the source does not have it. Then it is requested by
    name, first alone, then together with a control item: a scene that this run has seen in the source. Only an empty
    answer to the first and exactly the control item in the second count, because an answer truncated to no items or to
    one cannot be both.
    """

    def __init__(
        self, source: SceneSource, publisher: Publisher, store: ObjectStore, settings: Settings, now: datetime
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._store = store
        self._listings = YearListings(store)
        self._collection = settings.collection
        self._left = settings.withdraw_limit
        self._has_mirror = settings.mirror
        self._now = now
        self._control: str | None = None
        self.withdrawn: list[str] = []

    def reconcile(self, state: AreaState, interval: Interval, seen: frozenset[str]) -> dict[str, MissingScan]:
        """Withdraw what is certain after the complete scan of ``interval`` that saw ``seen``.

        Returns:
            The scenes of the area that scans have missed by now, without those withdrawn.

        Raises:
            SourceUnavailable: it could not be asked for scenes that it did not list.
            StoreUnavailable: it is safe to try again.
        """
        # If the source has nothing left in the interval, a scene that another scan saw is used.
        self._control = min(seen, default=self._control)
        listings = list(self._listings.read(state.tiles, _list_years(interval, self._now)))
        unfinished = _find_unfinished(listings, state)
        suspects = [
            keys
            for keys in _find_unseen(listings, interval, seen)
            if _is_of_source(self._publisher.find_published(keys), self._collection, interval)
        ]
        missing, present = self._ask_source(suspects)
        scans = count_missing_scans(
            state.missing_scans,
            {keys.item_id: (keys.year_keys.tile, keys.year_keys.year) for keys in missing},
            seen | present | _find_superseded(listings, state),
            self._now,
        )
        replaced = {read_scene_prefix(item_id) for item_id in seen}
        # A scene that was made again gives way once the new one is published.
        certain = [
            keys
            for keys in missing
            if scans[keys.item_id].is_certain and read_scene_prefix(keys.item_id) not in replaced
        ]
        chosen = self._choose(certain)
        self._withdraw([*unfinished, *chosen])
        self.withdrawn += [keys.item_id for keys in chosen]
        done = {keys.item_id for keys in (*unfinished, *chosen)}
        return {item_id: each for item_id, each in scans.items() if item_id not in done}

    def _ask_source(self, suspects: Sequence[ItemKeys]) -> tuple[list[ItemKeys], frozenset[str]]:
        """Return the ``suspects`` that the source says it does not have, and the ids that it has after all."""
        missing: list[ItemKeys] = []
        present: set[str] = set()
        for start in range(0, len(suspects), IDS_AT_ONCE) if self._control else ():
            asked = suspects[start : start + IDS_AT_ONCE]
            answer = self._ask(*(keys.item_id for keys in asked), self._control)
            if self._control not in answer:
                logger.warning("the source does not answer for scenes it has: nothing is withdrawn")
                continue
            present |= answer
            missing += [keys for keys in asked if keys.item_id not in answer]
        return self._confirm(missing, present), frozenset(present)

    def _confirm(self, missing: Sequence[ItemKeys], present: set[str]) -> list[ItemKeys]:
        """Return those of ``missing`` that the source does not return alone either; add those it does to ``present``.

        Only the first ``CONFIRMED_AT_ONCE`` are requested; the others are left to later scans.
        """
        confirmed = []
        for keys in missing[:CONFIRMED_AT_ONCE]:
            alone, with_control = self._ask(keys.item_id), self._ask(keys.item_id, self._control)
            if not alone and with_control == {self._control}:
                confirmed.append(keys)
            present |= alone | with_control
        return confirmed

    def _ask(self, *ids: str | None) -> set[str]:
        query = SceneQuery(ids=tuple(filter(None, ids)))
        return {str(item.get("id")) for item in self._source.find_items(query)}

    def _choose(self, certain: list[ItemKeys]) -> list[ItemKeys]:
        """Return the first of ``certain`` that this run may still withdraw."""
        if len(certain) > self._left:
            logger.warning(
                "the source lacks %d published scenes; %d are withdrawn in this run, the others in the next "
                "(CLOUDMASK_WITHDRAW_LIMIT)",
                len(certain),
                self._left,
            )
        chosen = certain[: self._left]
        self._left -= len(chosen)
        return chosen

    def _withdraw(self, items: list[ItemKeys]) -> None:
        if items:
            self._publisher.withdraw(items, f"{AGREEING_SCANS} scans of the source did not find it")
            for keys in items:
                clear_state(self._store, keys.item_id)
            if self._has_mirror:
                update_tile_index(self._store, self._publisher, items)
            logger.info("withdrawn: %s", ", ".join(keys.item_id for keys in items))
            self._listings.forget(keys.year_keys for keys in items)


Listings = Sequence[tuple[YearKeys, YearListing]]


def _find_unfinished(listings: Listings, state: AreaState) -> list[ItemKeys]:
    """Return items with a withdrawn marker whose run died before it had taken them out of their catalog."""
    return [
        ItemKeys(year_keys, item_id)
        for year_keys, listing in listings
        for item_id in sorted(listing.withdrawn & state.missing_scans.keys())
    ]


def _find_superseded(listings: Listings, state: AreaState) -> frozenset[str]:
    """Return scenes that were missing and have since given way to newer versions."""
    years = {(keys.tile, keys.year): listing.linked | listing.withdrawn for keys, listing in listings}
    return frozenset(
        item_id
        for item_id, scan in state.missing_scans.items()
        if item_id not in years.get((scan.tile, scan.year), {item_id})
    )


def _find_unseen(listings: Listings, interval: Interval, seen: frozenset[str]) -> list[ItemKeys]:
    """Return the published items of the interval's days that the scan did not see, sorted by id."""
    unseen = (
        ItemKeys(year_keys, item_id)
        for year_keys, listing in listings
        for item_id in listing.linked - seen
        if may_hold_day(interval, find_day(item_id))
    )
    return sorted(unseen, key=lambda keys: keys.item_id)


def _is_of_source(item: Item | None, collection: str, interval: Interval) -> bool:
    """Return True if the published item was made from an item of ``collection`` within ``interval``."""
    if item is None:
        return False
    links: Iterable[Item] = item.get("links", ())
    origins = [str(link.get("href")) for link in links if link.get("rel") == "derived_from"]
    try:
        taken = parse_instant(item["properties"]["datetime"])
    except (LookupError, TypeError, ValueError):
        return False
    start, end = interval
    inside = (start is None or start <= taken) and (end is None or taken <= end)
    return inside and any(f"/collections/{collection}/items/" in origin for origin in origins)


def _list_years(interval: Interval, now: datetime) -> range:
    start, end = interval
    first = start.year if start else FIRST_IMAGE.year
    return range(first, max(first, (end or now + timedelta(days=1)).year) + 1)
