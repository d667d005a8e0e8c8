"""Links between published documents."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

JSON_MEDIA_TYPE = "application/json"
GEOJSON_MEDIA_TYPE = "application/geo+json"

Link = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CatalogContext:
    """Where readers find the catalog: absolute links with ``public_url``, relative ones without."""

    public_url: str | None = None

    def href(self, key: str, from_key: str) -> str:
        """The href of ``key`` in the document at ``from_key``."""
        if self.public_url is not None:
            return f"{self.public_url}/{key}"
        path = posixpath.relpath(key, posixpath.dirname(from_key) or ".")
        return path if path.startswith("../") else f"./{path}"

    def link(self, rel: str, key: str, from_key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> Link:
        """A link to ``key`` in the document at ``from_key``."""
        return {"rel": rel, "href": self.href(key, from_key), "type": media_type, "title": title}

    def self_links(self, key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> list[Link]:
        """The document's link to itself; none without a public URL, which alone could make it absolute."""
        return [] if self.public_url is None else [self.link("self", key, key, title, media_type)]
