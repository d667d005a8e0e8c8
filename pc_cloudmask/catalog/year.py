"""What a listing tells of one year: the items of one tile and year."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pc_cloudmask.catalog.layout import ASSET_NAME_FORM, WITHDRAWN_NAME, ItemKeys, YearKeys
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.scene.ids import is_item_id
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore

_SUPERSEDED_PREFIX, _JSON = "superseded-by-", ".json"
#: Listings of a year that are asked for until one is complete, or two agree.
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
class YearFolder:
    """The item folders of one year by item id; ``unknown_objects`` belong to no item."""

    year_keys: YearKeys
    folders: dict[str, ItemFolder] = field(default_factory=dict)
    unknown_objects: list[ObjectInfo] = field(default_factory=list)

    @property
    def linked_ids(self) -> list[str]:
        """Ids of the items that the year's catalog links, sorted.

        An item steps back only for a successor that this very listing shows to be there.
        """
        return sorted(
            item_id
            for item_id, folder in self.folders.items()
            if folder.is_published and not any(map(self.holds, folder.successors))
        )

    def holds(self, item_id: str) -> bool:
        """Whether the year has the item, published and not withdrawn."""
        folder = self.folders.get(item_id)
        return folder is not None and folder.is_published

    def find_missing(self, expected: Iterable[str]) -> set[str]:
        """Return which of the ``expected`` items the listing neither shows nor explains by a withdrawn marker."""
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


def list_year(store: ObjectStore, year_keys: YearKeys) -> YearFolder:
    """Return the year as a listing shows it that shows the year's catalog, too, where there is one.

    The key of the catalog comes after those of Sentinel-2's items: a listing that is empty or cut lacks it.

    Raises:
        StoreUnavailable: the listings lack it again and again.
    """
    for _ in range(_LISTINGS - 1):
        try:
            return group_year(year_keys, list_with_control(store, year_keys.prefix, year_keys.catalog))
        except StoreUnavailable as error:
            logger.info("listing again: %s", error)
    return group_year(year_keys, list_with_control(store, year_keys.prefix, year_keys.catalog))


def list_year_surely(store: ObjectStore, year_keys: YearKeys, expected: Iterable[str]) -> YearFolder:
    """Return the year as a listing shows it that shows every ``expected`` item, or its withdrawn marker.

    An item is taken to be gone only where two listings lack it, and the store itself says that it is absent.

    Raises:
        StoreUnavailable: the listings and what is there contradict each other.
    """
    expected = set(expected)
    missing_before: set[str] | None = None
    for _ in range(_LISTINGS):
        folder = list_year(store, year_keys)
        missing = folder.find_missing(expected)
        if not missing or (missing == missing_before and _are_absent(store, year_keys, missing)):
            return folder
        missing_before = missing
    raise StoreUnavailable(
        f"{year_keys.catalog}: the listing of {store.url} lacks items that are there, {min(missing)} among them: "
        "try again later"
    )


def _are_absent(store: ObjectStore, year_keys: YearKeys, item_ids: Iterable[str]) -> bool:
    return all(store.find_object(ItemKeys(year_keys, item_id).item) is None for item_id in sorted(item_ids))


def group_year(year_keys: YearKeys, objects: Iterable[ObjectInfo]) -> YearFolder:
    """``objects`` below the year's prefix, by item; what publishing never writes is an unknown object."""
    found, prefix = YearFolder(year_keys), year_keys.prefix
    for info in objects:
        item_id, slash, name = info.key.removeprefix(prefix).partition("/")
        if slash and is_item_id(item_id) and _is_ours(item_id, name):
            found.folders.setdefault(item_id, ItemFolder(item_id)).objects[name] = info
        elif info.key != year_keys.catalog:
            found.unknown_objects.append(info)
    return found


def _is_ours(item_id: str, name: str) -> bool:
    is_mark = name == WITHDRAWN_NAME or name.startswith(_SUPERSEDED_PREFIX)
    return is_mark or name == f"{item_id}{_JSON}" or ASSET_NAME_FORM.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class YearListing:
    """Ids of the items that a year links, and of those that were withdrawn from it."""

    linked: frozenset[str]
    withdrawn: frozenset[str]


class YearListings:
    """The listings of years, kept while runs of months of the same years ask for them."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._listings: dict[YearKeys, YearListing] = {}

    def read(self, tiles: Iterable[str], years: range) -> Iterator[tuple[YearKeys, YearListing]]:
        """The year of each tile and year; those of other years are forgotten."""
        self._listings = {
            year_keys: listing for year_keys, listing in self._listings.items() if year_keys.year in years
        }
        for tile in sorted(tiles):
            for year in years:
                year_keys = YearKeys(tile, year)
                if year_keys not in self._listings:
                    self._listings[year_keys] = self._list(year_keys)
                yield year_keys, self._listings[year_keys]

    def forget(self, years: Iterable[YearKeys]) -> None:
        """List these again when they are next asked for."""
        for year_keys in years:
            self._listings.pop(year_keys, None)

    def _list(self, year_keys: YearKeys) -> YearListing:
        folder = list_year(self._store, year_keys)
        withdrawn = (item_id for item_id, each in folder.folders.items() if each.is_withdrawn)
        return YearListing(frozenset(folder.linked_ids), frozenset(withdrawn))
