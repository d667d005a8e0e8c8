"""The hrefs of a source item: remove signatures (SAS tokens), and check where hrefs lead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pc_cloudmask.errors import AssetMissing, AssetRefused
from pc_cloudmask.source.fields import Item, check_object, is_printable
from pc_cloudmask.text import LOOPBACK_HOSTS, logger, unsign_urls, unsigned_href

MAX_HREF_LENGTH = 4096
#: A Sentinel-2 item has 23 assets.
MAX_ASSETS = 1000
#: Schemes of hrefs that may be published; an href without a scheme is a path. A browser executes none of these.
SCHEMES = frozenset({"http", "https", "s3", "gs", "abfs"})
#: JSON with more levels cannot be encoded, so anything deeper is never published.
_DEPTH = 254
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
#: User information, except the container, which is in this place in Azure's scheme.
_USER_INFORMATION = re.compile(r"(?!abfs://[^/:]*@)[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)
#: A text without any of these is not a URL with anything to remove.
_SUSPICIOUS = re.compile(r"[?#@;&%]|://[^/]*:")


def unsign_item(item: Item) -> Item:
    """Return a copy of ``item`` with ``unsigned_href`` applied to its hrefs and to all URLs in its other texts.

    Each source does this once. The copy has only as many assets as ``read_scene`` needs to refuse it for their number:
    a million of them take a gigabyte. Parts in an unusual form stay as they are. ``item`` must be a JSON object.
    """
    check_object(item)
    assets = item.get("assets")
    if isinstance(assets, dict) and len(assets) > MAX_ASSETS:
        item = {**item, "assets": dict(islice(assets.items(), MAX_ASSETS + 1))}
    unsigned = {name: value if name == "id" else _strip(value, name) for name, value in item.items()}
    if unsigned != item:
        _tell_of_signatures()
    return unsigned


def find_holders(document: Item) -> Iterator[dict[str, Any]]:
    """Yield the assets and links of an item or catalog that have an href, ignoring malformed ones."""
    assets, links = document.get("assets"), document.get("links")
    holders = [
        *(assets.values() if isinstance(assets, dict) else ()),
        *(links if isinstance(links, list) else ()),
    ]
    yield from (each for each in holders if isinstance(each, dict) and isinstance(each.get("href"), str))


def map_hrefs(item: Item, change: Callable[[str], str]) -> Item:
    """Return ``item``, which must be sound, with ``change`` applied to the hrefs of its assets and links."""

    def move(holder: dict[str, Any]) -> dict[str, Any]:
        return {**holder, "href": change(holder["href"])}

    assets = {name: move(asset) for name, asset in item["assets"].items()}
    return {**item, "assets": assets, "links": [move(link) for link in item.get("links", ())]}


def is_relative(href: str) -> bool:
    """Return True if ``href`` is a path relative to the document that contains it."""
    return re.match(r"(?![a-z][\w+.-]*:)[\w.]", href, re.ASCII | re.IGNORECASE) is not None


def check_href(href: str) -> str:
    """Return ``href`` if it may be published, else raise ``ValueError``, which says why not."""
    if not is_printable(href, MAX_HREF_LENGTH) or href != href.strip():
        raise ValueError(
            f"is no printable text of 1 to {MAX_HREF_LENGTH} characters without blanks at its ends"
        )
    scheme = _SCHEME.match(href)
    if scheme and scheme[1].lower() not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise ValueError(f"begins with {scheme[0]:.20} and not with a path or one of {known}")
    if href.startswith(("//", "\\")):
        raise ValueError("begins with // or a backslash: write the scheme, or a path")
    if _USER_INFORMATION.match(href):
        raise ValueError("holds a user name or password")
    return href


def _strip(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return ``value``, the value of ``name``, without anything that gives access to a URL."""
    if isinstance(value, str) and _SUSPICIOUS.search(value):
        return unsigned_href(value) if name == "href" or _SCHEME.match(value) else unsign_urls(value)
    if depth == _DEPTH:
        return value
    if isinstance(value, dict):
        return {inner: _strip(below, inner, depth + 1) for inner, below in value.items()}
    if isinstance(value, list):
        return [_strip(below, name, depth + 1) for below in value]
    return value


#: The Planetary Computer's API and its storage account for Sentinel-2 (``msft:storage_account`` of the collection). No
#: wildcard: anyone can create an account below ``blob.core.windows.net``.
PLANETARY_COMPUTER_HOSTS = frozenset(
    {"planetarycomputer.microsoft.com", "sentinel2l2a01.blob.core.windows.net"}
)
TIFF_SUFFIXES = (".tif", ".tiff")
#: A URL that every parser reads alike: no user information, blank, backslash, control or unusual character.
_URL = re.compile(
    r"https?://[A-Za-z0-9.\-:\[\]]+/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
MAX_ASSET_HREF_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class HrefRules:
    """What asset hrefs may lead to."""

    #: Names that https may reach, on its standard port.
    hosts: frozenset[str] = PLANETARY_COMPUTER_HOSTS
    #: Whether this machine's own servers may be read: only if the source is one.
    allow_loopback: bool = False
    #: The folder below which local files may be read; None: no local files at all.
    local_root: Path | None = None

    def find_tiff(self, href: str) -> str | Path:
        """Return where the GeoTIFF behind ``href`` is: a URL, or the path of a file.

        Raises:
            AssetMissing: it is a file that does not exist or may not be read.
            AssetRefused: it is neither https to an allowed host, nor a server on loopback where that is allowed, nor a
                regular file below the local root. Texts name the rule, not the item.
        """
        if len(href) > MAX_ASSET_HREF_LENGTH or not href.isprintable():
            raise AssetRefused(f"an href of {len(href)} characters, or with unprintable ones, is not read")
        location = self._check_url(href) if "://" in href else self._find_file(href)
        name = location.name if isinstance(location, Path) else urlsplit(location).path
        if not name.lower().endswith(TIFF_SUFFIXES):
            raise AssetRefused(f"{unsigned_href(href)}: only {' and '.join(TIFF_SUFFIXES)} files are read")
        return location

    def _check_url(self, href: str) -> str:
        shown = unsigned_href(href)
        if not _URL.fullmatch(href):
            raise AssetRefused(f"{shown}: not a plain http(s) URL")
        try:
            parts = urlsplit(href)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise AssetRefused(f"{shown}: not a plain http(s) URL") from error
        if host in LOOPBACK_HOSTS:
            if not self.allow_loopback:
                raise AssetRefused(f"{shown}: servers on loopback are read only for a source on loopback")
            return href
        if host not in self.hosts:
            raise AssetRefused(f"{shown}: host {host} is not one that assets are read from")
        if parts.scheme != "https" or port not in {None, 443}:
            raise AssetRefused(f"{shown}: assets of {host} are read through https on its own port only")
        return href

    def _find_file(self, href: str) -> Path:
        if self.local_root is None:
            raise AssetRefused(f"{href}: local files are read only for items that come from local files")
        path = Path(href)
        if not path.is_absolute() or href.startswith("/vsi"):
            raise AssetRefused(f"{href}: not an absolute path of a file")
        try:
            resolved = path.resolve(strict=True)
            inside = resolved.is_relative_to(self.local_root.resolve(strict=True))
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "a loop of links"
            raise AssetMissing(f"{href}: cannot be read: {reason}") from error
        if not inside:
            raise AssetRefused(
                f"{href}: leads out of {self.local_root}, below which the items' files are read"
            )
        if not resolved.is_file():
            raise AssetRefused(f"{href}: not a regular file")
        return resolved


@cache
def _tell_of_signatures() -> None:
    """Log this only once: a source that signs hrefs signs all of them."""
    logger.info(
        "hrefs of this source lose users, fragments and query parameters that may be secret; who reads "
        "those assets brings the right to do so"
    )
