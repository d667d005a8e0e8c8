"""What published documents keep to: STAC's version, the schemas of extensions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stac_ext.cloudmask import SCHEMA_URI

STAC_VERSION = "1.1.0"

EXTENSIONS_URI = "https://stac-extensions.github.io"
PROJECTION_URI = f"{EXTENSIONS_URI}/projection/v2.0.0/schema.json"
RASTER_URI = f"{EXTENSIONS_URI}/raster/v2.0.0/schema.json"
FILE_URI = f"{EXTENSIONS_URI}/file/v2.1.0/schema.json"
PROCESSING_URI = f"{EXTENSIONS_URI}/processing/v1.2.0/schema.json"
PUBLISHED_URIS = (
    PROJECTION_URI,
    f"{EXTENSIONS_URI}/classification/v1.1.0/schema.json",
    FILE_URI,
    PROCESSING_URI,
    # A later generation of the scene, or its withdrawal, adds a link or the property of this one.
    f"{EXTENSIONS_URI}/version/v1.2.0/schema.json",
    SCHEMA_URI,
)
"""Extensions of every published item beside those of its source."""

_VERSIONED_URI = re.compile(r"(?P<extension>.+)/v(?P<version>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})\S*/[^/]+")


def merge_extensions(source_uris: Iterable[str], published_uris: Iterable[str]) -> list[str]:
    """The source's extensions, then ours; of one extension the newest version alone.

    The source's ``eo`` stays at 1.0.0, whose ``eo:bands`` readers such as odc-stac look for: from
    version 2 on its schema refuses them.
    """
    newest: dict[str, str] = {}
    for uri in (*source_uris, *published_uris):
        extension, version = _split(uri)
        if extension not in newest or _split(newest[extension])[1] < version:
            # Put anew, not in place, so that ours come last.
            newest.pop(extension, None)
            newest[extension] = uri
    return list(newest.values())


def _split(uri: str) -> tuple[str, tuple[int, ...]]:
    """What tells extensions apart, and the version; a URI of another form stands for itself."""
    match = _VERSIONED_URI.fullmatch(uri)
    if match is None:
        return (uri, ())
    return (match["extension"], tuple(map(int, match["version"].split("."))))


def find_unlisted(source_uris: Iterable[str], uris: Iterable[str]) -> list[str]:
    """Those of ``source_uris`` of whose extension ``uris`` lists no version."""
    listed = {_split(uri)[0] for uri in uris}
    return [uri for uri in dict.fromkeys(source_uris) if _split(uri)[0] not in listed]
