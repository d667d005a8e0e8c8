"""Products that the source made anew from one scene: the newest is linked, older ones stay reachable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from flows.errors import StoreUnavailable
from flows.ports import Item, ObjectStore, StoredObject
from flows.publish.branches import read_document
from flows.publish.leaf import ItemFolder, group_leaf, superseded_name
from flows.publish.publication import Publication
from flows.publish.steps import Step, StepName, Steps, swap_steps
from flows.publish.withdrawal import revive_steps
from flows.stac.encoding import decode_document, encode_document
from flows.stac.item_reader import find_property
from flows.stac.layout import ItemKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE, CatalogContext
from flows.stac.titles import build_item_title

PREDECESSOR_REL = "predecessor-version"
_PRODUCT_ID = re.compile(r"(?P<scene>S2[A-Z]_MSIL2A_\d{8}T\d{6}_R\d{3}_T[0-9A-Z]{5}_)\d{8}T\d{6}")
"""A product's id ends with when it was made; what stands before names platform, datatake and tile."""
_SENSING_START = re.compile(r"_S(\d{8}T\d{6})_")
"""The S-part of a datastrip's id. A datatake split into two datastrips gives two scenes, not generations."""


@dataclass(frozen=True, slots=True)
class Generations:
    """The published generations of one scene beside ``keys``, each list in order of making."""

    keys: ItemKeys
    folder: ItemFolder
    older: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()

    def link_predecessor(self, publication: Publication, context: CatalogContext) -> Publication:
        """``publication`` with a link to the generation before it, where there is one."""
        if not self.older:
            return publication
        item = decode_document(publication.item, self.keys.item)
        linked = set_predecessor(item, context, self.keys, self.older[-1])
        return replace(publication, item=encode_document(linked))

    def supersede_steps(self, store: ObjectStore) -> Steps:
        """Mark every older generation as superseded by this one, and this one by newer ones.

        A mark counts only where a listing shows its successor, so it comes before the item: were
        it to come after, a run that dies in between would leave both linked.
        """
        for older in self.older:
            yield _mark_superseded(store, self._sibling(older), self.keys.item_id)
        for newer in self.newer:
            yield _mark_superseded(store, self.keys, newer)

    def settle_steps(self, store: ObjectStore, context: CatalogContext, item: Item) -> Steps:
        """Bring marks and links to what is there now that the item is: other writers may have put theirs,
        or withdrawn it.

        Each writer lists after its own item, so of any two generations one writer at least sees both.
        """
        present = find_generations(store, self.keys, item)
        if present.folder.is_withdrawn:
            yield from revive_steps(store, self.keys)
        if (present.older, present.newer) != (self.older, self.newer):
            yield from present.supersede_steps(store)
        if present.older != self.older:
            yield from _settle_predecessor(store, context, self.keys)
        yield from present.link_steps(store, context)

    def link_steps(self, store: ObjectStore, context: CatalogContext) -> Steps:
        """Make the generation after this one, if there is one, link the one before it: by now, this one."""
        if self.newer:
            yield from _settle_predecessor(store, context, self._sibling(self.newer[0]))

    def _sibling(self, item_id: str) -> ItemKeys:
        return ItemKeys(self.keys.leaf, item_id)


def find_generations(store: ObjectStore, keys: ItemKeys, item: Item) -> Generations:
    """What the leaf holds of the scene of ``item``: one short listing, one read a generation."""
    folders = list_generations(store, keys)
    siblings = [
        item_id
        for item_id, folder in sorted(folders.items())
        if item_id != keys.item_id and folder.is_published and _is_same_strip(store, keys, item_id, item)
    ]
    return Generations(
        keys,
        folders.get(keys.item_id, ItemFolder(keys.item_id)),
        tuple(sibling for sibling in siblings if sibling < keys.item_id),
        tuple(sibling for sibling in siblings if sibling > keys.item_id),
    )


def read_scene_prefix(item_id: str) -> str:
    """What the ids of all products made from one scene begin with; the id itself where it is no product's."""
    match = _PRODUCT_ID.fullmatch(item_id)
    return match["scene"] if match else item_id


def list_generations(store: ObjectStore, keys: ItemKeys) -> dict[str, ItemFolder]:
    """Folders of the items, by id, that share platform, datatake and tile with this one, itself included."""
    match = _PRODUCT_ID.fullmatch(keys.item_id)
    prefix = keys.leaf.prefix + match["scene"] if match else keys.prefix
    return group_leaf(keys.leaf, store.list_objects(prefix)).folders


def predecessor_steps(
    store: ObjectStore, context: CatalogContext, keys: ItemKeys, choose: Callable[[Item], str | None]
) -> Steps:
    """Make the published item link as the version before it the one that ``choose`` gives for it, or none."""

    def render(current: StoredObject | None) -> bytes:
        if current is None:
            raise StoreUnavailable(f"{keys.item} was removed while it was linked: try again")
        item = decode_document(current.body, keys.item)
        return encode_document(set_predecessor(item, context, keys, choose(item)))

    return swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE)


def _settle_predecessor(store: ObjectStore, context: CatalogContext, keys: ItemKeys) -> Steps:
    """Make the published item link the generation before it, as a listing after its reading shows it."""

    def find_older(item: Item) -> str | None:
        older = find_generations(store, keys, item).older
        return older[-1] if older else None

    return predecessor_steps(store, context, keys, find_older)


def set_predecessor(item: Item, context: CatalogContext, keys: ItemKeys, predecessor: str | None) -> Item:
    """``item`` with that one link to a version before it, or with none."""
    links = [link for link in item.get("links", ()) if link.get("rel") != PREDECESSOR_REL]
    if predecessor is not None:
        target = ItemKeys(keys.leaf, predecessor).item
        title = build_item_title(predecessor)
        links.append(context.link(PREDECESSOR_REL, target, keys.item, title, GEOJSON_MEDIA_TYPE))
    return {**item, "links": links}


def read_predecessors(item: Item) -> Iterable[str]:
    """Ids of the items that ``item`` links as versions before it."""
    for link in item.get("links", ()):
        if link.get("rel") == PREDECESSOR_REL:
            yield str(link.get("href", "")).rpartition("/")[2].removesuffix(".json")


def _is_same_strip(store: ObjectStore, keys: ItemKeys, sibling: str, item: Item) -> bool:
    other = read_document(store.read_object(ItemKeys(keys.leaf, sibling).item))
    start = read_sensing_start(item)
    return start is not None and other is not None and start == read_sensing_start(other)


def read_sensing_start(item: Item) -> str | None:
    """Return when sensing of the item's datastrip began; None where it does not say."""
    datastrip = find_property(item, "s2:datastrip_id")
    match = _SENSING_START.search(datastrip) if isinstance(datastrip, str) else None
    return match[1] if match else None


def _mark_superseded(store: ObjectStore, keys: ItemKeys, successor: str) -> Step:
    key = keys.prefix + superseded_name(successor)
    store.write_object(
        key, json.dumps({"id": keys.item_id, "superseded_by": successor}).encode(), JSON_MEDIA_TYPE
    )
    return Step(StepName.SUPERSEDE, key)
