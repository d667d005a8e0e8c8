"""Counting what a store holds, from listings alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from flows.ports import ObjectInfo, ObjectStore
from flows.publish.branches import YEAR_FORM
from flows.publish.leaf import LeafFolder, group_leaf, list_with_control
from flows.stac.layout import (
    COLLECTION_ID,
    COLLECTION_KEY,
    FAILED_PREFIX,
    PENDING_PREFIX,
    WAITING_PREFIX,
    LeafKeys,
    is_state_key,
)
from flows.stac.titles import find_day

_LEAF_DEPTH = 4
"""Segments of a leaf's prefix: collection, band, tile, year."""


@dataclass(frozen=True, slots=True)
class Census:
    """Scenes by state, and the days of each tile that have a published item, in order."""

    published: int
    pending: int
    waiting: int
    failed: int
    days: dict[str, tuple[date, ...]]

    def find_gaps(self, scenes: Iterable[tuple[str, date]]) -> dict[str, list[date]]:
        """By tile, the days of ``scenes`` (tile and day, as the source has them) that are not published."""
        gaps: dict[str, set[date]] = {}
        for tile, day in scenes:
            if day not in self.days.get(tile, ()):
                gaps.setdefault(tile, set()).add(day)
        return {tile: sorted(days) for tile, days in sorted(gaps.items())}


def read_census(store: ObjectStore) -> Census:
    """Return the census of the store; one leaf's listing is in memory at a time.

    Raises:
        StoreUnavailable: the listing is not complete, or none came.
    """
    published = 0
    days: dict[str, set[date]] = {}
    for leaf in _list_leaves(store):
        ids = leaf.linked_ids
        published += len(ids)
        tile_days = days.setdefault(leaf.leaf.tile, set())
        tile_days.update(day for day in map(find_day, ids) if day is not None)
    return Census(
        published,
        _count(store, PENDING_PREFIX),
        _count(store, WAITING_PREFIX),
        _count(store, FAILED_PREFIX),
        {tile: tuple(sorted(found)) for tile, found in days.items() if found},
    )


def _list_leaves(store: ObjectStore) -> Iterator[LeafFolder]:
    def leaf_of(info: ObjectInfo) -> tuple[str, ...]:
        return tuple(info.key.split("/")[:_LEAF_DEPTH])

    listed = list_with_control(store, f"{COLLECTION_ID}/", COLLECTION_KEY)
    for (_, *rest), objects in groupby(listed, leaf_of):
        if len(rest) == _LEAF_DEPTH - 1 and YEAR_FORM.fullmatch(rest[2]):
            yield group_leaf(LeafKeys(rest[1], int(rest[2])), objects)


def _count(store: ObjectStore, prefix: str) -> int:
    return sum(is_state_key(info.key) for info in store.list_objects(prefix))
