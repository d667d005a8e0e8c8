"""Taking out of the catalog what the source took back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from pc_cloudmask.catalog.layout import ItemKeys, find_day
from pc_cloudmask.catalog.versions import read_scene_prefix
from pc_cloudmask.catalog.walk import YearListings
from pc_cloudmask.runs.area_state import AGREEING_SCANS, AreaState, count_missing_scans
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_instant
from pc_cloudmask.source.fields import Item

#: Scenes that the source is asked for in one request, beside the one that it must know.
IDS_AT_ONCE = 99
#: Scenes that a scan asks the source for one by one, since it does not give them.
CONFIRMED_AT_ONCE = 100
logger = logging.getLogger(__name__)


class Withdrawals:
    """One run's withdrawals: at most ``limit`` of them.

    A scene is withdrawn once several complete scans agree that the source does not have it. It is asked for
    by name, alone, then beside a control item: a scene that this run has seen in the source. Only an answer that
    is empty, and one that holds the control item alone, count: an answer that was cut, to no items or to one, is
    not both.
    """

    def __init__(self, context: RunContext, limit: int) -> None:
        self._context = context
        self._left = limit
        self._listings = YearListings(context.store)
        self._witness: str | None = None
        self.withdrawn: list[str] = []

    def reconcile(self, state: AreaState, interval: Interval, seen: frozenset[str]) -> AreaState:
        """``state`` after the complete scan of ``interval`` that saw ``seen``; what is certain is withdrawn.

        Raises:
            SourceUnavailable: it could not be asked for what it did not list.
            StoreUnavailable: trying again is harmless.
        """
        # Where the source has nothing left in the interval, a scene that another scan saw must do.
        self._witness = min(seen, default=self._witness)
        unfinished = self._find_unfinished(state, interval)
        superseded = self._find_superseded(state, interval)
        suspects = self._find_suspects(state, interval, seen)
        missing, present = self._ask_source(suspects)
        missing_scans = count_missing_scans(
            state.missing_scans,
            {item_id: (keys.year_keys.tile, keys.year_keys.year) for item_id, keys in missing.items()},
            seen | present | superseded,
            self._context.now,
        )
        replaced = {read_scene_prefix(item_id) for item_id in seen}
        certain = [
            keys
            for item_id, keys in sorted(missing.items())
            # One that was made again steps back once the new one is published.
            if missing_scans[item_id].is_certain and read_scene_prefix(item_id) not in replaced
        ]
        if len(certain) > self._left:
            logger.warning(
                "the source lacks %d published scenes; %d are withdrawn in this run, the others in the next "
                "(CLOUDMASK_WITHDRAW_LIMIT)",
                len(certain),
                self._left,
            )
        chosen = certain[: self._left]
        self._left -= len(chosen)
        self._withdraw([*unfinished, *chosen])
        self.withdrawn += [keys.item_id for keys in chosen]
        done = {keys.item_id for keys in (*unfinished, *chosen)}
        kept = {
            item_id: missing_scan for item_id, missing_scan in missing_scans.items() if item_id not in done
        }
        return replace(state, missing_scans=kept)

    def _withdraw(self, items: list[ItemKeys]) -> None:
        if items:
            reason = f"{AGREEING_SCANS} scans of the source did not find it"
            self._context.publisher.withdraw(items, reason)
            logger.info("withdrawn: %s", ", ".join(keys.item_id for keys in items))
            self._listings.forget(keys.year_keys for keys in items)

    def _find_unfinished(self, state: AreaState, interval: Interval) -> list[ItemKeys]:
        """Items with a withdrawn marker that a run was still to take out of their catalog when it died."""
        return [
            ItemKeys(year_keys, item_id)
            for year_keys, listing in self._listings.read(state.tiles, self._years(interval))
            for item_id in sorted(listing.withdrawn & state.missing_scans.keys())
        ]

    def _find_superseded(self, state: AreaState, interval: Interval) -> frozenset[str]:
        """Scenes that were missing, and step back for newer products of theirs by now."""
        return frozenset(
            item_id
            for year_keys, listing in self._listings.read(state.tiles, self._years(interval))
            for item_id, missing_scan in state.missing_scans.items()
            if (missing_scan.tile, missing_scan.year) == (year_keys.tile, year_keys.year)
            and item_id not in listing.linked | listing.withdrawn
        )

    def _find_suspects(
        self, state: AreaState, interval: Interval, seen: frozenset[str]
    ) -> dict[str, ItemKeys]:
        """Published items of this source and interval that the scan did not see."""
        unseen = (
            ItemKeys(year_keys, item_id)
            for year_keys, listing in self._listings.read(state.tiles, self._years(interval))
            for item_id in sorted(listing.linked - seen)
            if may_hold_day(interval, find_day(item_id))
        )
        return {keys.item_id: keys for keys in unseen if self._is_of_source(keys, interval)}

    def _is_of_source(self, keys: ItemKeys, interval: Interval) -> bool:
        """Whether the published item was made from one of the source's collection, within ``interval``."""
        item = self._context.publisher.find_published(keys)
        if item is None:
            return False
        collection = f"/collections/{self._context.settings.collection}/items/"
        origins = [str(link.get("href")) for link in _derived_from(item)]
        try:
            taken = parse_instant(item["properties"]["datetime"])
        except (LookupError, TypeError, ValueError):
            return False
        start, end = interval
        inside = (start is None or start <= taken) and (end is None or taken <= end)
        return inside and any(collection in origin for origin in origins)

    def _ask_source(self, suspects: Mapping[str, ItemKeys]) -> tuple[dict[str, ItemKeys], frozenset[str]]:
        """Which of ``suspects`` the source says it does not have, and which it has after all."""
        missing: dict[str, ItemKeys] = {}
        present: set[str] = set()
        if self._witness is None:
            return missing, frozenset()
        ids = sorted(suspects)
        for start in range(0, len(ids), IDS_AT_ONCE):
            asked = ids[start : start + IDS_AT_ONCE]
            answer = self._ask((*asked, self._witness))
            if self._witness not in answer:
                logger.warning("the source does not answer for scenes it has: nothing is withdrawn")
                continue
            present |= answer
            missing |= {item_id: suspects[item_id] for item_id in asked if item_id not in answer}
        return self._confirm(missing, present), frozenset(present)

    def _confirm(self, missing: Mapping[str, ItemKeys], present: set[str]) -> dict[str, ItemKeys]:
        """Those of ``missing`` that the source does not give when asked for one alone; what it gives is ``present``.

        No more than ``CONFIRMED_AT_ONCE``: the others are left as they are, to later scans.
        """
        confirmed: dict[str, ItemKeys] = {}
        for item_id, keys in islice(missing.items(), CONFIRMED_AT_ONCE):
            alone, beside = self._ask((item_id,)), self._ask((item_id, str(self._witness)))
            if not alone and beside == {self._witness}:
                confirmed[item_id] = keys
            present |= alone | beside
        return confirmed

    def _ask(self, ids: tuple[str, ...]) -> set[str]:
        return {str(item.get("id")) for item in self._context.source.find_items(SceneQuery(ids=ids))}

    def _years(self, interval: Interval) -> range:
        start, end = interval
        first = (start or datetime.min.replace(tzinfo=UTC)).year
        return range(first, max(first, (end or self._context.now + timedelta(days=1)).year) + 1)


def _derived_from(item: Item) -> Iterator[Mapping[str, object]]:
    links: Iterable[Mapping[str, object]] = item.get("links", ())
    return (link for link in links if link.get("rel") == "derived_from")
