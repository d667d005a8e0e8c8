"""Links between published documents."""

from __future__ import annotations

from collections.abc import Mapping
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
        return _relate(key, from_key)

    def link(self, rel: str, key: str, from_key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> Link:
        """A link to ``key`` in the document at ``from_key``."""
        return {"rel": rel, "href": self.href(key, from_key), "type": media_type, "title": title}

    def self_links(self, key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> list[Link]:
        """The document's link to itself; none without a public URL, which alone could make it absolute."""
        return [] if self.public_url is None else [self.link("self", key, key, title, media_type)]


def find_public_url(document: Mapping[str, Any], key: str) -> str | None:
    """The public URL that the document at ``key`` was written for; None where its links are relative."""
    for link in document["links"]:
        if link["rel"] == "self" and "://" in link["href"] and link["href"].endswith(f"/{key}"):
            return str(link["href"].removesuffix(f"/{key}"))
    return None


def _relate(key: str, from_key: str) -> str:
    """The path from the document at ``from_key`` to ``key``; ``posixpath.relpath`` asks where it runs."""
    *folders, name = key.split("/")
    *from_folders, _ = from_key.split("/")
    shared = 0
    for folder, from_folder in zip(folders, from_folders, strict=False):
        if folder != from_folder:
            break
        shared += 1
    up = "../" * (len(from_folders) - shared) or "./"
    return up + "/".join([*folders[shared:], name])
