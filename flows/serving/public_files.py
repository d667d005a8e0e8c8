"""Which files of a folder may be served: a list of what is public, not of what is private."""

from __future__ import annotations

import re

from flows.stac.layout import ASSET_NAME_FORM, CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, ITEMS_PREFIX

_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_BAND, _TILE = r"\d{2}[A-Z]", r"\d{2}[A-Z]{3}"
_ITEM_FOLDER = rf"{_BAND}/{_TILE}/\d{{4}}/{_ID}"

#: Keys of the published layout, marks of withdrawn and superseded items among them; `deploy/nginx/nginx.conf`
#: has the same list. The last line is the archive that `cloudmask demo` puts into its store, whose bands
#: its items link.
_PUBLIC_KEY = re.compile(
    rf"{re.escape(CATALOG_KEY)}"
    rf"|{re.escape(COLLECTION_KEY)}"
    rf"|{COLLECTION_ID}/{_BAND}/(?:{_TILE}/(?:\d{{4}}/)?)?{re.escape(CATALOG_KEY)}"
    rf"|{COLLECTION_ID}/{_ITEM_FOLDER}/(?:{_ID}\.json|{ASSET_NAME_FORM.pattern})"
    rf"|{ITEMS_PREFIX}{_ID}\.parquet"
    rf"|sample-archive/(?:items\.json|{_ID}/{_ID}\.(?:json|tif))",
    re.ASCII,
)
#: What a build of STAC Browser 4 or 5 consists of: pages, scripts, styles, pictures, fonts. It may stand in
#: the store's folder, whose state is JSON.
_BROWSER_FILE = re.compile(
    r"(?:[^/._][^/]*/)*[^/.][^/]*\."
    r"(?:html|js|mjs|css|map|webmanifest|png|jpe?g|gif|svg|webp|ico|woff2?|ttf|wasm)"
)


def is_public_key(key: str) -> bool:
    """Return whether ``key`` is one that the published layout has."""
    return _PUBLIC_KEY.fullmatch(key) is not None


def is_browser_file(name: str) -> bool:
    """Return whether ``name``, a path below the folder of a build, is one that STAC Browser may have."""
    return _BROWSER_FILE.fullmatch(name) is not None
