"""Items from files, folders, URLs or static catalogs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from pc_cloudmask.errors import SettingsError, SourceRefused
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.source.documents import Document, FolderDocuments, ServerDocuments
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, find_holders, unsign_item
from pc_cloudmask.source.selection import build_filter, sort_items
from pc_cloudmask.text import LOOPBACK_HOSTS, read_file_uri, unsigned_href
from pc_cloudmask.web import RetryPolicy

logger = logging.getLogger(__name__)
#: Catalogs above an item; ours have five.
MAX_DEPTH = 12
MAX_DOCUMENTS = 200_000


class ItemFilesSource:
    """Items that ``--items`` names: an ItemCollection, an item, a folder of items, a static catalog.

    ``location`` is a path or an http(s) URL (plain http on loopback only). A folder with a
    ``catalog.json`` is read as that catalog; of any other, each JSON file but collections is an item or
    ItemCollection. Relative hrefs become absolute ones. A broken item stops no other: a warning says
    what is wrong with its file, and an item with nothing but the file's name as its id takes its place,
    so that it is reported as failed.

    ``local_root`` is the folder that assets may be read below: by default the folder of ``location``,
    None for a URL.
    """

    def __init__(
        self, location: str, local_root: Path | None = None, *, retry: RetryPolicy | None = None
    ) -> None:
        self._host = ""
        self._documents: FolderDocuments | ServerDocuments
        self._folder: Path | None = None
        self.local_root: Path | None = None
        try:
            location = read_file_uri(location)
        except ValueError as error:
            raise SettingsError(f"--items {location}: {error}") from error
        if "://" in location:
            self._start = location
            try:
                parts = urlsplit(location)
            except ValueError as error:
                raise SettingsError(f"--items {unsigned_href(location)}: not a URL") from error
            scheme, self._host = parts.scheme, parts.hostname or ""
            if not self._host or (scheme != "https" and not (scheme == "http" and self.allow_loopback)):
                shown = unsigned_href(location)
                raise SettingsError(f"--items {shown}: give a path, an https URL, or http on loopback")
            self._documents = ServerDocuments(location, retry)
        else:
            path = _find_start(location)
            self._folder = path if path.is_dir() else None
            self._start = str(path)
            self.local_root = (local_root or self._folder or path.parent).resolve()
            self._documents = FolderDocuments(self._folder or path.parent)

    @property
    def allow_loopback(self) -> bool:
        """True if assets may be read from loopback: the items come from there."""
        return self._host in LOOPBACK_HOSTS

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from: the Planetary Computer's and the location's own."""
        return PLANETARY_COMPUTER_HOSTS | ({self._host} if self._host else frozenset())

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items, see ``SceneSource``.

        Raises:
            SourceUnavailable: the server gave no answer.
            SourceRefused: nothing there that holds items; a document that is broken, too large, or
                outside of the folder or server.
            SettingsError: a query that says nothing.
        """
        matches = build_filter(query)
        found: dict[str, Item] = {}
        for item in sort_items(item for item in self._read_items() if matches(item)):
            found.setdefault(str(item.get("id")), item)
        yield from islice(found.values(), query.limit)

    def _read_items(self) -> Iterator[Item]:
        if self._folder is None:
            yield from self._walk(self._start)
            return
        paths = [path for path in sorted(self._folder.iterdir()) if path.suffix in {".json", ".geojson"}]
        if not paths:
            raise SourceRefused(f"{self._folder}: no JSON files in this folder")
        for path in paths:
            document = self._read_or_stand_in(str(path))
            if not _is_catalog(document):
                yield from self._expand(document, str(path))

    def _walk(self, start: str) -> Iterator[Item]:
        """Yield the items of the document at ``start`` and, where it is a catalog, of all below it."""
        document = self._documents.read(start)
        if not _is_catalog(document):
            if document.get("type") not in ("Feature", "FeatureCollection"):
                raise SourceRefused(
                    f"{unsigned_href(start)}: neither an item, an ItemCollection nor a catalog"
                )
            yield from self._read_pages(document, start)
            return
        pending = deque([(start, document, 0)])
        seen = {start}
        while pending:
            href, document, depth = pending.popleft()
            for relation, target in self._find_links(document, href):
                if target in seen:
                    continue
                seen.add(target)
                if len(seen) > MAX_DOCUMENTS or depth >= MAX_DEPTH:
                    raise SourceRefused(
                        f"{unsigned_href(start)}: a catalog of more than {MAX_DOCUMENTS} documents, "
                        f"or nested deeper than {MAX_DEPTH}"
                    )
                if relation == "item":
                    yield from self._expand(self._read_or_stand_in(target), target)
                else:
                    pending.append((target, self._documents.read(target), depth + 1))

    def _read_pages(self, document: Document, href: str) -> Iterator[Item]:
        """Yield the items of a document and, where a server gives it in pages, of those that follow."""
        seen = {href}
        while True:
            yield from self._expand(document, href)
            following = next((link for link in find_holders(document) if link.get("rel") == "next"), None)
            if following is None:
                return
            shown = unsigned_href(href)
            if not self._host:
                logger.warning("%s: has further pages, which are not read", shown)
                return
            target = self._documents.resolve(href, following["href"])
            if following.get("method", "GET") != "GET" or target in seen or len(seen) >= MAX_DOCUMENTS:
                raise SourceRefused(f"{shown}: has further pages, which do not follow by a plain link")
            seen.add(target)
            href, document = target, self._documents.read(target)

    def _find_links(self, document: Document, href: str) -> Iterator[tuple[str, str]]:
        """Yield relation and absolute href of a catalog's links to items and catalogs below it.

        Raises:
            SourceRefused: it has no list of links, so that nothing tells whether anything is below it.
        """
        if not isinstance(document.get("links"), list):
            raise SourceRefused(f"{unsigned_href(href)}: a catalog without a list of links")
        for link in find_holders(document):
            if (relation := link.get("rel")) in ("item", "child"):
                yield relation, self._documents.resolve(href, link["href"])

    def _read_or_stand_in(self, href: str) -> Document:
        """Return the document, or an item that has only an id if the document is broken."""
        try:
            return self._documents.read(href)
        except SourceRefused as error:
            logger.warning("%s", error)
            return _stand_in(href)

    def _expand(self, document: Document, href: str) -> Iterator[Item]:
        """Yield the items that a document holds, free of signatures, with absolute hrefs."""
        features = document.get("features")
        if document.get("type") == "Feature":
            yield self._localise(document, href)
        elif document.get("type") != "FeatureCollection" or not isinstance(features, list):
            logger.warning("%s: neither an item nor an ItemCollection", unsigned_href(href))
            yield _stand_in(href)
        else:
            for number, feature in enumerate(features):
                yield self._localise(feature, href) if isinstance(feature, dict) else _stand_in(href, number)

    def _localise(self, item: Item, base: str) -> Item:
        """Return the item without signatures, its assets' and links' hrefs absolute."""
        item = unsign_item(item)
        for holder in find_holders(item):
            holder["href"] = self._documents.resolve(base, holder["href"])
        return item


def _find_start(location: str) -> Path:
    """Return the file or folder at ``location``; a folder's own catalog stands for it."""
    try:
        path = Path(location).absolute()
        if (path / "catalog.json").is_file():
            return path / "catalog.json"
        if path.is_file() or path.is_dir():
            return path
    except (OSError, ValueError) as error:
        raise SettingsError(f"--items {location!r}: not a path") from error
    raise SettingsError(f"--items {location}: no such file or folder")


def _is_catalog(document: Document) -> bool:
    return document.get("type") in ("Catalog", "Collection")


def _stand_in(href: str, number: int | None = None) -> Item:
    """Return an item with nothing but an id: that of the file, with the number of the feature in it."""
    stem = Path(unsigned_href(href)).stem
    return {"type": "Feature", "id": stem if number is None else f"{stem}-{number}"}
