"""The hrefs of a source item."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from flows.errors import InvalidField
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
_SIGNATURE = "sig"
_SAS_PARAMETERS = frozenset(
    {"sv", "ss", "si", "srt", "sr", "sp", "st", "se", "spr", "sip", "sdd", "ses", "scid", "tn"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "sduoid"}
    | {"rscc", "rscd", "rsce", "rscl", "rsct"}
)
"""Query parameters of Azure's shared access signatures beside the signature itself."""
_PRESIGNED = re.compile(
    r"x-(amz|goog)-(algorithm|credential|date|expires|security-token|signature|signedheaders)"
)
"""Query parameters of URLs that Amazon or Google signed."""
_ACCESS_KEY_IDS = frozenset({"awsaccesskeyid", "googleaccessid", "key-pair-id"})
_PRESIGNED_BEFORE = _ACCESS_KEY_IDS | {"signature", "expires", "policy"}
"""Query parameters of URLs that Amazon or Google signed in their older ways; boto3 still does by default."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_USER_INFORMATION = re.compile(r"https?://[^/?#]*@", re.IGNORECASE)


def strip_signatures(item: Item) -> Item:
    """``item`` without what signs URLs in its properties, assets and links, wherever they stand there.

    These are copies, so that a caller may change them. What is no asset or link of the usual form stays
    as it is: ``read_scene`` judges it.

    Raises:
        InvalidField: ``item`` is no JSON object.
    """
    if not isinstance(item, dict):
        raise InvalidField(UNKNOWN_ID, "item", "is no JSON object")
    return item | {name: _strip(item[name]) for name in ("properties", "assets", "links") if name in item}


def strip_signature(href: str) -> str:
    """``href`` without the parameters that sign it; what is left stays as it is written.

    Those of a shared access signature go only where the signature itself is there: alone, names of two
    letters may mean anything. Those of Amazon's and Google's older signatures go only where a key's id is.
    """
    head, hash_sign, fragment = href.partition("#")
    base, question_mark, query = head.partition("?")
    if not question_mark:
        return href
    parts = query.split("&")
    # A server decodes names before it compares them, so `%73ig` signs as `sig` does.
    names = [unquote(part.partition("=")[0]).lower() for part in parts]
    signing = _SAS_PARAMETERS | {_SIGNATURE} if _SIGNATURE in names else frozenset()
    signing |= frozenset() if _ACCESS_KEY_IDS.isdisjoint(names) else _PRESIGNED_BEFORE
    kept = [
        part
        for part, name in zip(parts, names, strict=True)
        if name not in signing and not _PRESIGNED.fullmatch(name)
    ]
    if len(kept) == len(parts):
        return href
    return base + (f"?{'&'.join(kept)}" if kept else "") + hash_sign + fragment


def map_hrefs(item: Item, change: Callable[[str], str]) -> Item:
    """A sound ``item`` with the hrefs of its assets and links as ``change`` makes them."""

    def move(holder: dict[str, Any]) -> dict[str, Any]:
        return {**holder, "href": change(holder["href"])}

    assets = {name: move(asset) for name, asset in item["assets"].items()}
    return {**item, "assets": assets, "links": [move(link) for link in item.get("links", ())]}


def read_hrefs(reader: ItemReader) -> Mapping[str, str]:
    """Unsigned hrefs by asset key; every href that would be published has been checked.

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
        hrefs[name] = strip_signature(_check_holder(reader, path, asset))
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


def _strip(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return strip_signature(value) if "?" in value else value
    if depth == _DEPTH:
        return value
    if isinstance(value, dict):
        return {name: _strip(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_strip(inner, depth + 1) for inner in value]
    return value


def _find_alternates(asset: Any) -> list[Any]:
    """Other places of an asset, by the alternate-assets extension."""
    alternates = asset.get("alternate") if isinstance(asset, dict) else None
    return list(alternates.values()) if isinstance(alternates, dict) else []
