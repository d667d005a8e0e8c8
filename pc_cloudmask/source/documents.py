"""JSON documents in a folder or on a server."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson

from pc_cloudmask.contact import Service, find_origin
from pc_cloudmask.errors import SourceRefused, SourceUnavailable
from pc_cloudmask.text import decode_text, read_file_uri, unsigned_href
from pc_cloudmask.web import Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy


def parse_json(body: bytes | str) -> Any:
    """Return the value that a JSON text in UTF-8 holds, with the NaN, infinity or half a character that it has.

    JSON has none of these, but Python's own encoder writes them. ``read_scene`` refuses an item that holds one.

    Raises:
        ValueError: no JSON even so, or nested beyond 1024 levels.
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
#: A scheme or a GDAL prefix, an absolute path, inline XML.
_NOT_RELATIVE = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:|/|<|\\")
Document = dict[str, Any]


class FolderDocuments:
    """Documents below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, href: str) -> Document:
        """Return the JSON object in the file at an absolute path.

        Raises:
            SourceRefused: outside, also by a link; too large, not UTF-8, not a JSON object.
        """
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
        """Return ``href`` as the document at ``base`` means it; an absolute one as it is, a file's URI as a path."""
        with suppress(ValueError):  # of another machine: it is refused when it is read
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
        """Return the JSON object at a URL.

        Raises:
            SourceUnavailable: no answer.
            SourceRefused: another server's, too large, not UTF-8, not a JSON object.
        """
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
        """Return ``href`` as the document at ``base`` means it; an absolute one as it is."""
        if _NOT_RELATIVE.match(href) and not href.startswith("/"):
            return href
        try:
            return urljoin(base, href)
        except ValueError:  # such as //[: it is refused when it is read
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
