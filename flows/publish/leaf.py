"""What a listing tells of one leaf: the items of one tile and year."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.ports import ObjectInfo, ObjectStore
from flows.stac.layout import ASSET_NAME_FORM, WITHDRAWN_NAME, LeafKeys, is_item_id

_SUPERSEDED_PREFIX, _JSON = "superseded-by-", ".json"


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


def list_leaf(store: ObjectStore, leaf: LeafKeys) -> LeafFolder:
    """The leaf as one listing shows it."""
    return group_leaf(leaf, store.list_objects(leaf.prefix))


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
