"""The reconciliation of one watched area with what is published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from flows.area import Area
from flows.ingestion import Ingestion
from flows.ports import Item
from flows.publish.area_states import read_area_state, write_area_state
from flows.rings import Ring, RingProgress, find_hot_interval, find_recent_interval, list_months
from flows.scene.query import Interval
from flows.scene.tile import TILE_FORM
from flows.stac.item_reader import find_property
from flows.stac.layout import is_item_id
from flows.wiring import Wiring
from flows.withdrawals import Withdrawals

logger = logging.getLogger(__name__)


class AreaWatch:
    """Scans one area ring by ring; each scan that is complete is noted in the store at once.

    ``area`` is its name with itself. ``is_late`` tells that the run should leave what remains of a long
    scan to the next one.
    """

    def __init__(
        self,
        wiring: Wiring,
        ingestion: Ingestion,
        withdrawals: Withdrawals,
        area: tuple[str, Area],
        is_late: Callable[[], bool],
    ) -> None:
        name, self._area = area
        self._wiring = wiring
        self._ingestion = ingestion
        self._withdrawals = withdrawals
        self._is_late = is_late
        self._state = read_area_state(wiring.store, name, self._area.digest)

    def scan(self, rings: Sequence[Ring] | None = None, *, whole: bool) -> None:
        """Scan ``rings``, by default those that are due: with ``whole`` the full one alone, else the others.

        Raises:
            CloudmaskError: the source, the engine or the store ended the scan; what it did stays done.
        """
        for ring in rings or self._state.progress.find_due(self._wiring.now):
            if (ring is Ring.FULL) is not whole:
                continue
            match ring:
                case Ring.HOT:
                    days = self._wiring.settings.look_back_days
                    self._publish(find_hot_interval(self._wiring.now, self._area.start, days))
                case Ring.RECENT:
                    self._scan_recent()
                case Ring.FULL:
                    self._scan_everything()

    def _scan_recent(self) -> None:
        now = self._wiring.now
        if self._reconcile(find_recent_interval(now, self._area.start)):
            self._note(replace(self._state.progress, recent_day=f"{now:%Y-%m-%d}"))

    def _scan_everything(self) -> None:
        """Month by month, the newest first; the next run goes on where this one stops."""
        progress = self._state.progress
        months = list(list_months(self._area.start, progress.find_full_start(self._wiring.now)))
        this_month = f"{self._wiring.now:%Y-%m}"
        following: list[str | None] = [month for month, _ in months[1:]]
        for (month, interval), next_month in zip(months, [*following, None], strict=True):
            if self._is_late():
                logger.info("the scan of everything goes on at %s in the next run", month)
                return
            if not self._reconcile(interval):
                self._note(replace(self._state.progress, full_month=this_month, full_next=month))
                return
            self._note(replace(self._state.progress, full_month=this_month, full_next=next_month))

    def _reconcile(self, interval: Interval) -> bool:
        """Publish what the source has within ``interval``, withdraw what it lacks; whether all was done."""
        seen = self._publish(interval)
        if self._ingestion.deferred:
            return False
        self._state = self._withdrawals.reconcile(self._state, interval, seen)
        return True

    def _publish(self, interval: Interval) -> frozenset[str]:
        """Publish what the source has within ``interval``; the ids of all that it has there."""
        seen: set[str] = set()
        tiles: set[str] = set()
        query = self._area.read_query(interval)
        logger.info("area %s: looking at %s", self._state.name, query.datetime)
        self._ingestion.publish(_record(self._wiring.source.find_items(query), seen, tiles))
        self._state = replace(self._state, tiles=self._state.tiles | tiles | set(self._area.tiles))
        return frozenset(seen)

    def _note(self, progress: RingProgress) -> None:
        self._state = replace(self._state, progress=progress)
        write_area_state(self._wiring.store, self._state)


def _record(items: Iterable[Item], seen: set[str], tiles: set[str]) -> Iterator[Item]:
    """``items`` as they are; their ids and tiles, where those are such, are put into the sets."""
    for item in items:
        item_id, tile = item.get("id"), find_property(item, "s2:mgrs_tile")
        if isinstance(item_id, str) and is_item_id(item_id):
            seen.add(item_id)
        if isinstance(tile, str) and TILE_FORM.fullmatch(tile):
            tiles.add(tile)
        yield item
