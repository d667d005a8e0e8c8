"""What a listing tells of one leaf: the items of one tile and year."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pc_cloudmask.catalog.layout import ASSET_NAME_FORM, WITHDRAWN_NAME, ItemKeys, LeafKeys
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.scene.ids import is_item_id
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore

_SUPERSEDED_PREFIX, _JSON = "superseded-by-", ".json"
#: Listings of a leaf that are asked for until one is complete, or two agree.
_LISTINGS = 4
logger = logging.getLogger(__name__)


def superseded_name(successor_id: str) -> str:
    """Name of the mark, in an older item's folder, of the item that took its place."""
    return f"{_SUPERSEDED_PREFIX}{successor_id}{_JSON}"


@dataclass(slots=True)
class ItemFolder:
    """The objects of one item, by their name in its folder."""

    item_id: str
    objects: dict[str, ObjectInfo] = field(default_factory=dict)

    @property
    def item(self) -> ObjectInfo | None:
        """The item's document, which is written after every file that it links."""
        return self.objects.get(f"{self.item_id}{_JSON}")

    @property
    def is_withdrawn(self) -> bool:
        return WITHDRAWN_NAME in self.objects

    @property
    def is_published(self) -> bool:
        """Whether an item is there that its source has not taken back."""
        return self.item is not None and not self.is_withdrawn

    @property
    def successors(self) -> list[str]:
        """Ids of the items that took this one's place."""
        return [
            name.removeprefix(_SUPERSEDED_PREFIX).removesuffix(_JSON)
            for name in self.objects
            if name.startswith(_SUPERSEDED_PREFIX)
        ]


@dataclass(slots=True)
class LeafFolder:
    """The item folders of one leaf by item id; ``strays`` belong to no item."""

    leaf: LeafKeys
    folders: dict[str, ItemFolder] = field(default_factory=dict)
    strays: list[ObjectInfo] = field(default_factory=list)

    @property
    def linked_ids(self) -> list[str]:
        """Ids of the items that the leaf's catalog links, sorted.

        An item steps back only for a successor that this very listing shows to be there.
        """
        return sorted(
            item_id
            for item_id, folder in self.folders.items()
            if folder.is_published and not any(map(self.holds, folder.successors))
        )

    def holds(self, item_id: str) -> bool:
        """Whether the leaf has the item, published and not withdrawn."""
        folder = self.folders.get(item_id)
        return folder is not None and folder.is_published

    def find_missing(self, expected: Iterable[str]) -> set[str]:
        """Return which of the ``expected`` items the listing neither shows nor explains by a tombstone."""
        empty = ItemFolder("")
        folders = {item_id: self.folders.get(item_id, empty) for item_id in expected}
        return {
            item_id for item_id, folder in folders.items() if folder.item is None and not folder.is_withdrawn
        }


def list_with_control(store: ObjectStore, prefix: str, control: str) -> Iterator[ObjectInfo]:
    """Yield every object below ``prefix``, the one at ``control`` among them, should it be there.

    Raises:
        StoreUnavailable: the listing lacks it, so it lacks others, too.
    """
    is_shown = False
    for info in store.list_objects(prefix):
        is_shown = is_shown or info.key == control
        yield info
    if not is_shown and store.find_object(control) is not None:
        raise StoreUnavailable(f"{control}: the listing of {store.url} lacks it: try again later")


def list_leaf(store: ObjectStore, leaf: LeafKeys) -> LeafFolder:
    """Return the leaf as a listing shows it that shows the leaf's catalog, too, where there is one.

    The key of the catalog comes after those of Sentinel-2's items: a listing that is empty or cut lacks it.

    Raises:
        StoreUnavailable: the listings lack it again and again.
    """
    for _ in range(_LISTINGS - 1):
        try:
            return group_leaf(leaf, list_with_control(store, leaf.prefix, leaf.catalog))
        except StoreUnavailable as error:
            logger.info("listing again: %s", error)
    return group_leaf(leaf, list_with_control(store, leaf.prefix, leaf.catalog))


def list_leaf_surely(store: ObjectStore, leaf: LeafKeys, expected: Iterable[str]) -> LeafFolder:
    """Return the leaf as a listing shows it that shows every ``expected`` item, or its tombstone.

    An item is taken to be gone only where two listings lack it, and the store itself says that it is absent.

    Raises:
        StoreUnavailable: the listings and what is there contradict each other.
    """
    expected = set(expected)
    missing_before: set[str] | None = None
    for _ in range(_LISTINGS):
        folder = list_leaf(store, leaf)
        missing = folder.find_missing(expected)
        if not missing or (missing == missing_before and _are_absent(store, leaf, missing)):
            return folder
        missing_before = missing
    raise StoreUnavailable(
        f"{leaf.catalog}: the listing of {store.url} lacks items that are there, {min(missing)} among them: "
        "try again later"
    )


def _are_absent(store: ObjectStore, leaf: LeafKeys, item_ids: Iterable[str]) -> bool:
    return all(store.find_object(ItemKeys(leaf, item_id).item) is None for item_id in sorted(item_ids))


def group_leaf(leaf: LeafKeys, objects: Iterable[ObjectInfo]) -> LeafFolder:
    """``objects`` below the leaf's prefix, by item; what publishing never writes is a stray."""
    found, prefix = LeafFolder(leaf), leaf.prefix
    for info in objects:
        item_id, slash, name = info.key.removeprefix(prefix).partition("/")
        if slash and is_item_id(item_id) and _is_ours(item_id, name):
            found.folders.setdefault(item_id, ItemFolder(item_id)).objects[name] = info
        elif info.key != leaf.catalog:
            found.strays.append(info)
    return found


def _is_ours(item_id: str, name: str) -> bool:
    is_mark = name == WITHDRAWN_NAME or name.startswith(_SUPERSEDED_PREFIX)
    return is_mark or name == f"{item_id}{_JSON}" or ASSET_NAME_FORM.fullmatch(name) is not None


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
