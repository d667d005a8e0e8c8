"""The catalog as pgstac loads it: for those whose users outgrow a static catalog.

Three files make a database what the catalog is, as often as they are loaded: the collection, the items with absolute
hrefs, and a script that deletes what the catalog no longer links. An item that cannot be read is left as the database
has it.
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
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.store import ObjectStore

COLLECTION_NAME, ITEMS_NAME, PRUNE_NAME = "collection.ndjson", "items.ndjson", "prune.sql"
#: Links that an API makes of its own.
_STRUCTURE = frozenset({"self", "root", "parent", "collection", "child", "item", "items"})
#: Of the collection's item_assets what every item has: pgstac adds all that stand there to each item.
_COMMON_ASSETS = (MASK_ASSET, "cloudmask-preview")
#: For psql. The ids have the form of ids: no letter of theirs means anything to SQL.
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
    """What was written: how many items, to which files, and what is left out."""

    items: int
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def export_catalog(store: ObjectStore, folder: Path, base: str) -> Export:
    """Write the catalog's three files into ``folder``; ``base`` is the URL or path that relative hrefs begin with.

    Raises:
        SettingsError: the folder cannot be written.
        StoreRefused: the store holds no collection.
        StoreUnavailable: it cannot be said what the catalog links; what is there of the files is not complete.
    """
    collection = read_document(store.read_object(COLLECTION_KEY))
    if collection is None:
        raise StoreRefused(f"store {store.url} holds no collection of masks: run cloudmask check")
    left_out: list[LeftOut] = []
    ids: list[str] = []
    with _writing(folder):
        # First of all what deletes: one that is there from an earlier export would delete what came since.
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
    """Make ``folder``, and tell of what the file system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise SettingsError(f"{reason}: name another --out") from error


def _detach(document: Document, key: str, base: str) -> Document:
    """Return a document without the links that an API makes, its hrefs absolute."""
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
