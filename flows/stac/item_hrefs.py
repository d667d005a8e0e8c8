"""The hrefs of a source item."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flows.errors import InvalidField
from flows.hrefs import unsign_urls, unsigned_href
from flows.stac.item_reader import UNKNOWN_ID, Item, ItemReader, is_printable

MAX_HREF_LENGTH = 4096
MAX_ASSETS = 1000
"""A Sentinel-2 item has 23."""
SCHEMES = frozenset({"http", "https", "s3", "gs", "abfs"})
"""What a published href may begin with; one without a scheme is a path. A browser runs none of these."""
REPUBLISHED_RELS = frozenset({"self", "license"})
"""Links of a source item that the published item keeps: the first as ``derived_from``."""

_DEPTH = 254
"""No more levels can be written as JSON, so what lies deeper is never published."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
#: But for the container that stands there in Azure's scheme.
_USER_INFORMATION = re.compile(r"(?!abfs://[^/:]*@)[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)
#: A text without any of these is no URL with something to lose.
_SUSPICIOUS = re.compile(r"[?#@;&%]|://[^/]*:")


def strip_signatures(item: Item) -> Item:
    """Return ``item`` with its hrefs, and all URLs in its other texts, as ``unsigned_href`` has them.

    It is a copy, so that a caller may change it. What has not the usual form stays
    as it is: ``read_scene`` judges it.

    Raises:
        InvalidField: ``item`` is no JSON object.
    """
    if not isinstance(item, dict):
        raise InvalidField(UNKNOWN_ID, "item", "is no JSON object")
    return {name: value if name == "id" else _strip(value, name) for name, value in item.items()}


def map_hrefs(item: Item, change: Callable[[str], str]) -> Item:
    """A sound ``item`` with the hrefs of its assets and links as ``change`` makes them."""

    def move(holder: dict[str, Any]) -> dict[str, Any]:
        return {**holder, "href": change(holder["href"])}

    assets = {name: move(asset) for name, asset in item["assets"].items()}
    return {**item, "assets": assets, "links": [move(link) for link in item.get("links", ())]}


def read_hrefs(reader: ItemReader) -> Mapping[str, str]:
    """Hrefs by asset key; every href that would be published has been checked.

    One bad href refuses the item: to leave the asset out would hide that the source sends such.

    Raises:
        MissingField, InvalidField: no assets, or an href that must not be published.
    """
    assets = reader.mapping("assets")
    if len(assets) > MAX_ASSETS:
        raise reader.invalid("assets", f"are more than {MAX_ASSETS}")
    hrefs = {}
    for name, asset in assets.items():
        if not is_printable(name, 100):
            raise reader.invalid("assets", "have a key that is no printable text of 1 to 100 characters")
        path = f"assets.{name}"
        hrefs[name] = _check_holder(reader, path, asset)
        for alternate in _find_alternates(asset):
            _check_holder(reader, f"{path}.alternate", alternate)
    for number, link in enumerate(reader.sequence("links")):
        _check_link(reader, f"links.{number}", link)
    return hrefs


def _check_link(reader: ItemReader, path: str, link: Any) -> None:
    if not isinstance(link, dict) or not all(isinstance(link.get(name), str) for name in ("rel", "href")):
        raise reader.invalid(path, "is no link: it needs a rel and an href")
    if link["rel"] in REPUBLISHED_RELS:
        _check_holder(reader, path, link)


def _check_holder(reader: ItemReader, path: str, holder: Any) -> str:
    """The href of an asset or link, which may be published."""
    href = holder.get("href") if isinstance(holder, dict) else None
    if href is None:
        raise reader.invalid(path, "has no href")
    problem = _find_problem(href)
    if problem:
        raise reader.invalid(f"{path}.href", problem)
    return str(href)


def _find_problem(href: Any) -> str | None:
    """Why ``href`` must not be published; None where it may."""
    if not is_printable(href, MAX_HREF_LENGTH) or href != href.strip():
        return f"is no printable text of 1 to {MAX_HREF_LENGTH} characters without blanks at its ends"
    scheme = _SCHEME.match(href)
    if scheme and scheme[1].lower() not in SCHEMES:
        return f"begins with {scheme[0]:.20} and not with a path or one of {', '.join(sorted(SCHEMES))}"
    if href.startswith(("//", "\\")):
        return "begins with // or a backslash: write the scheme, or a path"
    if _USER_INFORMATION.match(href):
        return "holds a user name or password"
    return None


def _strip(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return ``value``, which stands under ``name``, without what opens a URL."""
    if isinstance(value, str):
        if not _SUSPICIOUS.search(value):
            return value
        return unsigned_href(value) if name == "href" or _SCHEME.match(value) else unsign_urls(value)
    if depth == _DEPTH:
        return value
    if isinstance(value, dict):
        return {inner: _strip(below, inner, depth + 1) for inner, below in value.items()}
    if isinstance(value, list):
        return [_strip(below, name, depth + 1) for below in value]
    return value


def _find_alternates(asset: Any) -> list[Any]:
    """Other places of an asset, by the alternate-assets extension."""
    alternates = asset.get("alternate") if isinstance(asset, dict) else None
    return list(alternates.values()) if isinstance(alternates, dict) else []
