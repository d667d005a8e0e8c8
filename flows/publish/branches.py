"""Catalogs that link other catalogs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flows.errors import CloudmaskError
from flows.ports import ObjectStore, StoredObject
from flows.scene.tile import TILE_FORM
from flows.stac.catalog import build_band_catalog, build_tile_catalog
from flows.stac.encoding import decode_document
from flows.stac.layout import band_catalog_key, is_item_id, tile_catalog_key
from flows.stac.links import CatalogContext

Document = dict[str, Any]

BAND_FORM = re.compile(r"\d\d[C-X]")
YEAR_FORM = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True)
class Branch:
    """The catalog at ``key``; its children are folders beside it that hold a catalog.

    ``form`` is what their names look like: another folder there is none of ours. ``build`` gives
    the document that links the children of the given names.
    """

    key: str
    form: re.Pattern[str]
    build: Callable[[Sequence[str]], Document]

    @property
    def folder(self) -> str:
        """With a trailing slash."""
        return f"{self.key.rpartition('/')[0]}/"

    def holds(self, store: ObjectStore, name: str) -> bool:
        """Whether a child of that name has a catalog."""
        return bool(self.form.fullmatch(name)) and (
            store.find_object(f"{self.folder}{name}/catalog.json") is not None
        )

    def find_children(
        self, store: ObjectStore, document: Document | None, own: set[str], *, rebuild: bool = False
    ) -> list[str]:
        """Return the names of the children, sorted.

        A folder may be there before its catalog: another writer's first file. Such a one is not
        linked. ``own`` are known to have theirs, and so are those that ``document`` links, unless it is to
        be built again. A child that it links is dropped only where the listing lacks it and its catalog is
        absent; without a document two listings stand in for it.
        """
        linked = read_children(document) if document else set()
        proven = set() if rebuild else linked
        listed = {name for _ in range(1 if document else 2) for name in store.list_folders(self.folder)}
        return sorted(
            name
            for name in listed | linked | own
            if name in own or name in listed & proven or self.holds(store, name)
        )


def tile_branch(context: CatalogContext, tile: str) -> Branch:
    """The catalog of a tile, which links its years."""

    def build(names: Sequence[str]) -> Document:
        return build_tile_catalog(context, tile, [int(name) for name in names])

    return Branch(tile_catalog_key(tile), YEAR_FORM, build)


def band_branch(context: CatalogContext, band: str) -> Branch:
    """The catalog of a zone and band, which links its tiles."""
    return Branch(band_catalog_key(band), TILE_FORM, partial(build_band_catalog, context, band))


def find_names(store: ObjectStore, catalog: str, form: re.Pattern[str]) -> list[str]:
    """Return the names of ``form`` that the catalog at that key links, and of folders beside it; sorted."""
    document = read_document(store.read_object(catalog))
    linked = read_children(document) if document else set()
    listed = store.list_folders(f"{catalog.rpartition('/')[0]}/")
    return sorted(filter(form.fullmatch, linked.union(listed)))


def read_children(document: Document, rel: str = "child") -> set[str]:
    """Return the folder names of what ``document`` links as ``rel``; of a broken one, none."""
    try:
        return {link["href"].split("/")[-2] for link in document["links"] if link["rel"] == rel}
    except (LookupError, TypeError, AttributeError):
        return set()


def read_linked_items(catalog: StoredObject | None) -> set[str]:
    """Return the ids of the items that a year's catalog links; of none, and of a broken one, none."""
    document = read_document(catalog)
    return set(filter(is_item_id, read_children(document, "item"))) if document else set()


def read_document(stored: StoredObject | None) -> Document | None:
    """The document; None where there is none or it cannot be read, so it is made anew."""
    if stored is None:
        return None
    try:
        return decode_document(stored.body, stored.key)
    except CloudmaskError:
        return None
