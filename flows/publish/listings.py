"""What leaves list, read once a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flows.ports import ObjectStore
from flows.publish.leaf import list_leaf
from flows.stac.layout import LeafKeys


@dataclass(frozen=True, slots=True)
class LeafListing:
    """Ids of the items that a leaf links, and of those that were withdrawn from it."""

    linked: frozenset[str]
    withdrawn: frozenset[str]


class LeafListings:
    """The listings of leaves, kept while runs of months of the same years ask for them."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._listings: dict[LeafKeys, LeafListing] = {}

    def read(self, tiles: Iterable[str], years: range) -> Iterator[tuple[LeafKeys, LeafListing]]:
        """The leaf of each tile and year; those of other years are forgotten."""
        self._listings = {leaf: listing for leaf, listing in self._listings.items() if leaf.year in years}
        for tile in sorted(tiles):
            for year in years:
                leaf = LeafKeys(tile, year)
                if leaf not in self._listings:
                    self._listings[leaf] = self._list(leaf)
                yield leaf, self._listings[leaf]

    def forget(self, leaves: Iterable[LeafKeys]) -> None:
        """List these anew when they are next asked for."""
        for leaf in leaves:
            self._listings.pop(leaf, None)

    def _list(self, leaf: LeafKeys) -> LeafListing:
        folder = list_leaf(self._store, leaf)
        withdrawn = (item_id for item_id, each in folder.folders.items() if each.is_withdrawn)
        return LeafListing(frozenset(folder.linked_ids), frozenset(withdrawn))
