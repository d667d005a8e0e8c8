"""Export the catalog as files that pgstac loads, for users who outgrow a static catalog.

Loading the three files any number of times makes the database equal to the catalog: the collection, the items with
absolute hrefs, and a script that deletes what the catalog no longer links. An item that cannot be read stays as it is
in the database.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pc_cloudmask.catalog.fields import Document, encode_document, read_document
from pc_cloudmask.catalog.layout import COLLECTION_ID, COLLECTION_KEY
from pc_cloudmask.catalog.mirror import UNREADABLE, LeftOut, read_linked
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.store import ObjectStore

COLLECTION_NAME, ITEMS_NAME, PRUNE_NAME = "collection.ndjson", "items.ndjson", "prune.sql"
#: Link relations that an API generates itself.
_STRUCTURE = frozenset({"self", "root", "parent", "collection", "child", "item", "items"})
#: The entries of the collection's item_assets that every item has: pgstac adds all entries to each item.
_COMMON_ASSETS = (MASK_ASSET, "cloudmask-preview")
#: For psql. Ids have a fixed form, so none of their characters has a meaning in SQL.
_PRUNE = """\
begin;
set local search_path to pgstac, public;
create temporary table published (id text primary key) on commit drop;
copy published from stdin;
{ids}\\.
select delete_item(id, collection) from items
  where collection = '{collection}' and id not in (select id from published);
commit;
"""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: the number of items, the files, and what was left out."""

    items: int
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def export_catalog(store: ObjectStore, folder: Path, base: str) -> Export:
    """Write the catalog's three files into ``folder``; ``base`` is the URL or path that relative hrefs start from.

    Raises:
        SettingsError: the folder cannot be written.
        StoreRefused: the store holds no collection.
        StoreUnavailable: it is unknown what the catalog links; the files written so far are incomplete.
    """
    collection = read_document(store.read_object(COLLECTION_KEY))
    if collection is None:
        raise StoreRefused(f"store {store.url} holds no collection of masks: run cloudmask check")
    left_out: list[LeftOut] = []
    ids: list[str] = []
    with _writing(folder):
        # Remove the deleting script first: one from an earlier export would delete items published since.
        (folder / PRUNE_NAME).unlink(missing_ok=True)
        with (folder / ITEMS_NAME).open("wb") as file:
            for keys, item in read_linked(store):
                ids.append(keys.item_id)
                if item is None:
                    left_out.append(LeftOut(keys.item_id, "", UNREADABLE))
                else:
                    file.write(encode_document(_detach(item, keys.item, base)))
        (folder / COLLECTION_NAME).write_bytes(encode_document(_detach_collection(collection, base)))
        script = _PRUNE.format(collection=COLLECTION_ID, ids="".join(f"{each}\n" for each in ids))
        (folder / PRUNE_NAME).write_text(script)
    files = tuple(str(folder / name) for name in (COLLECTION_NAME, ITEMS_NAME, PRUNE_NAME))
    return Export(len(ids) - len(left_out), files, tuple(left_out))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Create ``folder``, and turn errors of the file system into ``SettingsError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise SettingsError(f"{reason}: name another --out") from error


def _detach(document: Document, key: str, base: str) -> Document:
    """Return a document with absolute hrefs, without the links that an API generates."""
    folder = posixpath.dirname(f"{base}/{key}")

    def move(href: str) -> str:
        if not is_relative(href):
            return href
        scheme, separator, path = folder.rpartition("://")
        return f"{scheme}{separator}{posixpath.normpath(posixpath.join(path, href))}"

    kept = [link for link in document.get("links", []) if link.get("rel") not in _STRUCTURE]
    return map_hrefs({**document, "links": kept, "assets": document.get("assets", {})}, move)


def _detach_collection(collection: Document, base: str) -> Document:
    common = {name: collection["item_assets"][name] for name in _COMMON_ASSETS}
    return _detach({**collection, "item_assets": common}, COLLECTION_KEY, base)
