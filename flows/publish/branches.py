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
from flows.stac.layout import band_catalog_key, tile_catalog_key
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

    def find_children(self, store: ObjectStore, document: Document | None, own: set[str]) -> list[str]:
        """Names of the children, sorted.

        A folder may be there before its catalog: another writer's first file. Such a one is not
        linked. ``own`` are known to have theirs, and so are those that ``document`` links.
        """
        proven = own | (read_children(document) if document else set())
        listed = {name for name in store.list_folders(self.folder) if self.form.fullmatch(name)}
        return sorted(name for name in listed | own if name in proven or self.holds(store, name))


def tile_branch(context: CatalogContext, tile: str) -> Branch:
    """The catalog of a tile, which links its years."""

    def build(names: Sequence[str]) -> Document:
        return build_tile_catalog(context, tile, [int(name) for name in names])

    return Branch(tile_catalog_key(tile), YEAR_FORM, build)


def band_branch(context: CatalogContext, band: str) -> Branch:
    """The catalog of a zone and band, which links its tiles."""
    return Branch(band_catalog_key(band), TILE_FORM, partial(build_band_catalog, context, band))


def read_children(document: Document) -> set[str]:
    """Folder names of the catalogs that ``document`` links as children; none of a broken one."""
    try:
        return {link["href"].split("/")[-2] for link in document["links"] if link["rel"] == "child"}
    except (LookupError, TypeError, AttributeError):
        return set()


def read_document(stored: StoredObject | None) -> Document | None:
    """The document; None where there is none or it cannot be read, so it is made anew."""
    if stored is None:
        return None
    try:
        return decode_document(stored.body, stored.key)
    except CloudmaskError:
        return None
