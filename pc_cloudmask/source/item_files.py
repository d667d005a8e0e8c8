"""Read items from files, folders, URLs or static catalogs, and the JSON documents they are in."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson

from pc_cloudmask.contact import Service, find_origin
from pc_cloudmask.errors import SettingsError, SourceRefused, SourceUnavailable
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.source.fields import Item, build_filter, keep_new
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, find_holders, unsign_item
from pc_cloudmask.source.paging import sort_items
from pc_cloudmask.text import LOOPBACK_HOSTS, decode_text, read_file_uri, unsigned_href
from pc_cloudmask.web import Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy


def parse_json(body: bytes | str) -> Any:
    """Return the value of a UTF-8 JSON text, accepting what only Python writes: NaN, infinity and lone surrogates.

    Raise ``ValueError`` if it is not JSON even so, or is nested beyond 1024 levels.
    """
    text = decode_text(body) if isinstance(body, bytes) else body.removeprefix("\ufeff")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise error from None


#: An ItemCollection of 3,000 Sentinel-2 items.
MAX_DOCUMENT_BYTES = 64 << 20
DOCUMENT_DEADLINE_S = 120.0
#: Hrefs that are not relative: a scheme or a GDAL prefix, an absolute path, inline XML.
_NOT_RELATIVE = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:|/|<|\\")
Document = dict[str, Any]


class FolderDocuments:
    """Documents below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, href: str) -> Document:
        """Return the JSON object at an absolute path; ``SourceRefused`` if it is outside the folder, also by a link."""
        try:
            path = Path(href).resolve(strict=True)
            if not path.is_relative_to(self._root):
                raise SourceRefused(f"{href}: leads out of {self._root}")
            if not path.is_file():
                raise SourceRefused(f"{href}: not a regular file")
            with path.open("rb") as file:
                body = file.read(MAX_DOCUMENT_BYTES + 1)
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise SourceRefused(f"{href!r}: cannot be read: {reason}") from error
        return _parse(body, href)

    def resolve(self, base: str, href: str) -> str:
        """Return ``href`` resolved against the document at ``base``; absolute ones unchanged, a file URI as a path."""
        with suppress(ValueError):  # a URI of another machine is refused when it is read
            href = read_file_uri(href)
        if _NOT_RELATIVE.match(href):
            return href
        return os.path.normpath(Path(base).parent / href)


class ServerDocuments:
    """Documents of one scheme, host and port."""

    def __init__(self, url: str, retry: RetryPolicy | None = None) -> None:
        self._origin = find_origin(url)
        self._http = HttpClient(retry, service=Service("items of", "--items"))

    def read(self, href: str) -> Document:
        """Return the JSON object at a URL on the server."""
        shown = unsigned_href(href)
        if find_origin(href) != self._origin:
            raise SourceRefused(f"{shown}: leads to another server than {'://'.join(self._origin)}")
        try:
            answer = self._http.get(
                href,
                deadline=Deadline(DOCUMENT_DEADLINE_S),
                max_body_bytes=MAX_DOCUMENT_BYTES,
                headers={"Accept": "application/geo+json, application/json"},
            )
        except NoAnswer as error:
            raise SourceUnavailable(str(error)) from error
        except RefusedAnswer as error:
            raise SourceRefused(str(error)) from error
        if answer.status != 200:
            raise SourceRefused(f"{shown}: HTTP {answer.status}")
        return _parse(answer.body, shown)

    def resolve(self, base: str, href: str) -> str:
        """Return ``href`` resolved against the document at ``base``; absolute ones unchanged."""
        if _NOT_RELATIVE.match(href) and not href.startswith("/"):
            return href
        try:
            return urljoin(base, href)
        except ValueError:  # such as //[, which is refused when it is read
            return href


def _parse(body: bytes, shown: str) -> Document:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise SourceRefused(f"{shown}: larger than {MAX_DOCUMENT_BYTES >> 20} MB")
    try:
        document = parse_json(body)
    except ValueError as error:
        raise SourceRefused(f"{shown}: not JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise SourceRefused(f"{shown}: holds no JSON object")
    return document


logger = logging.getLogger(__name__)
#: Levels of catalogs above an item; ours have five.
MAX_DEPTH = 12
MAX_DOCUMENTS = 200_000
_CATALOGS = ("Catalog", "Collection")


class ItemFilesSource:
    """The items at the location given by ``--items``: an ItemCollection, an item, a folder of items, a static catalog.

    ``location`` is a path or an http(s) URL (plain http only on loopback). A folder with a ``catalog.json`` is read as
    that catalog; in any other folder, each JSON file except collections is an item or an ItemCollection. Relative hrefs
    become absolute. A broken item does not stop others: a warning says what is wrong with its file, and a placeholder
    item with the file's name as its id is yielded, so that it is reported as failed.

    ``local_root`` is the folder below which assets may be read: by default the folder of ``location``, None for a URL.
    """

    def __init__(
        self, location: str, local_root: Path | None = None, *, retry: RetryPolicy | None = None
    ) -> None:
        self._folder: Path | None = None
        self.local_root: Path | None = None
        #: Hosts that assets may be read from: the Planetary Computer's and the location's own.
        self.asset_hosts = PLANETARY_COMPUTER_HOSTS
        self.allow_loopback = False
        self._documents: FolderDocuments | ServerDocuments
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
            self.allow_loopback = parts.hostname in LOOPBACK_HOSTS
            is_allowed = parts.scheme == "https" or (parts.scheme == "http" and self.allow_loopback)
            if not parts.hostname or not is_allowed:
                shown = unsigned_href(location)
                raise SettingsError(f"--items {shown}: give a path, an https URL, or http on loopback")
            self.asset_hosts |= {parts.hostname}
            self._documents = ServerDocuments(location, retry)
        else:
            path = _find_start(location)
            self._folder = path if path.is_dir() else None
            self._start = str(path)
            self.local_root = (local_root or self._folder or path.parent).resolve()
            self._documents = FolderDocuments(self._folder or path.parent)

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items, see ``SceneSource``.

        Raises:
            SourceUnavailable: the server gave no answer.
            SourceRefused: nothing holds items, or a document is broken, too large, or outside the folder or server.
            SettingsError: the query is invalid.
        """
        found = sort_items(filter(build_filter(query), self._read_items()))
        yield from islice(keep_new(found), query.limit)

    def _read_items(self) -> Iterator[Item]:
        if self._folder is None:
            yield from self._walk(self._start)
            return
        paths = [path for path in sorted(self._folder.iterdir()) if path.suffix in {".json", ".geojson"}]
        if not paths:
            raise SourceRefused(f"{self._folder}: no JSON files in this folder")
        for path in paths:
            document = self._read_or_stand_in(str(path))
            if document.get("type") not in _CATALOGS:
                yield from self._expand(document, str(path))

    def _walk(self, start: str) -> Iterator[Item]:
        """Yield the items of the document at ``start`` and, if it is a catalog, of everything below it."""
        document = self._documents.read(start)
        if document.get("type") not in _CATALOGS:
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
        """Yield the items of a document and, if a server pages it, of the following pages."""
        seen = {href}
        while True:
            yield from self._expand(document, href)
            following = next((link for link in find_holders(document) if link.get("rel") == "next"), None)
            if following is None:
                return
            shown = unsigned_href(href)
            if self.local_root:
                logger.warning("%s: has further pages, which are not read", shown)
                return
            target = self._documents.resolve(href, following["href"])
            if following.get("method", "GET") != "GET" or target in seen or len(seen) >= MAX_DOCUMENTS:
                raise SourceRefused(f"{shown}: has further pages, which do not follow by a plain link")
            seen.add(target)
            href, document = target, self._documents.read(target)

    def _find_links(self, document: Document, href: str) -> Iterator[tuple[str, str]]:
        """Yield relation and absolute href of a catalog's links to items and catalogs below it."""
        if not isinstance(document.get("links"), list):  # it is unknown whether anything is below it
            raise SourceRefused(f"{unsigned_href(href)}: a catalog without a list of links")
        for link in find_holders(document):
            if (relation := link.get("rel")) in ("item", "child"):
                yield relation, self._documents.resolve(href, link["href"])

    def _read_or_stand_in(self, href: str) -> Document:
        """Return the document, or an item with only an id if the document is broken."""
        try:
            return self._documents.read(href)
        except SourceRefused as error:
            logger.warning("%s", error)
            return _stand_in(href)

    def _expand(self, document: Document, href: str) -> Iterator[Item]:
        """Yield the items in a document, without signatures, with absolute hrefs."""
        features = [document] if document.get("type") == "Feature" else document.get("features")
        if document.get("type") not in ("Feature", "FeatureCollection") or not isinstance(features, list):
            logger.warning("%s: neither an item nor an ItemCollection", unsigned_href(href))
            yield _stand_in(href)
            return
        for number, feature in enumerate(features):
            item = unsign_item(feature) if isinstance(feature, dict) else _stand_in(href, number)
            for holder in find_holders(item):
                holder["href"] = self._documents.resolve(href, holder["href"])
            yield item


def _find_start(location: str) -> Path:
    """Return the file or folder at ``location``; for a folder with a catalog, that catalog."""
    try:
        path = Path(location).absolute()
        if (path / "catalog.json").is_file():
            return path / "catalog.json"
        if path.is_file() or path.is_dir():
            return path
    except (OSError, ValueError) as error:
        raise SettingsError(f"--items {location!r}: not a path") from error
    raise SettingsError(f"--items {location}: no such file or folder")


def _stand_in(href: str, number: int | None = None) -> Item:
    """Return an item with only an id: the file's name, and the number of the feature in it."""
    stem = Path(unsigned_href(href)).stem
    return {"type": "Feature", "id": stem if number is None else f"{stem}-{number}"}
