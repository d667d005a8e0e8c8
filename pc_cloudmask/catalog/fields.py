"""Building blocks of published documents: encoding, templates, links, assets and extensions."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from pc_cloudmask.errors import SourceRefused
from pc_cloudmask.masking.classes import CLASS_STYLES, PROBABILITY_NODATA, MaskClass
from pc_cloudmask.masking.earth_engine.windows import CLOUD_PROBABILITY
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import PROBABILITY_ASSET
from pc_cloudmask.storage.store import StoredObject
from pc_cloudmask.text import decode_text, make_printable
from stac_ext.cloudmask import SCHEMA_URI

COG_MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG_MEDIA_TYPE = "image/png"
JSON_MEDIA_TYPE = "application/json"
GEOJSON_MEDIA_TYPE = "application/geo+json"
#: Multihash code of SHA-256 and its length of 32 bytes, in hex.
SHA256_MULTIHASH = "1220"
Fields = dict[str, Any]
Link = dict[str, Any]
Document = dict[str, Any]
#: More than any catalog or page of items needs; a larger document is a mistake or an attack.
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
STAC_VERSION = "1.1.0"
EXTENSIONS_URI = "https://stac-extensions.github.io"
PROJECTION_URI = f"{EXTENSIONS_URI}/projection/v2.0.0/schema.json"
RASTER_URI = f"{EXTENSIONS_URI}/raster/v2.0.0/schema.json"
FILE_URI = f"{EXTENSIONS_URI}/file/v2.1.0/schema.json"
PROCESSING_URI = f"{EXTENSIONS_URI}/processing/v1.2.0/schema.json"
#: Extensions of every published item, in addition to those of its source.
PUBLISHED_URIS = (
    PROJECTION_URI,
    f"{EXTENSIONS_URI}/classification/v2.0.0/schema.json",
    FILE_URI,
    PROCESSING_URI,
    # A newer version of the scene, or its withdrawal, adds a link or the property of this extension.
    f"{EXTENSIONS_URI}/version/v1.2.0/schema.json",
    SCHEMA_URI,
)
_VERSIONED_URI = re.compile(r"(?P<extension>.+)/v(?P<version>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})\S*/[^/]+")


@dataclass(frozen=True, slots=True)
class AssetFile:
    """The file of an asset, under a key that contains the hash of its content."""

    key: str
    body: bytes
    media_type: str
    sha256_hex: str


def build_classes() -> list[Fields]:
    """Return ``classification:classes`` of the mask.

    STAC Browser draws a class without a colour as transparent, so only classes that should be visible have one.
    """
    return [
        {
            "value": mask_class.value,
            "name": style.name,
            "title": style.title,
            "description": style.description,
            **({"color_hint": style.color_hint} if style.opaque else {}),
            **({"nodata": True} if mask_class is MaskClass.NO_DATA else {}),
        }
        for mask_class, style in CLASS_STYLES.items()
    ]


def build_mask_asset(file: AssetFile, href: str, grid: Grid) -> Fields:
    """Return the asset ``cloudmask``."""
    fields = {
        "description": "0 no data, 1 clear, 2 cloud, 3 cloud shadow",
        # overview: STAC Browser draws the first asset with this role, here in place of the source's visual.
        "roles": ["data", "data-mask", "cloud", "cloud-shadow", "overview"],
        "classification:classes": build_classes(),
        **_raster_fields(grid, MaskClass.NO_DATA.value),
    }
    return _build_asset(file, href, "Cloud and cloud-shadow mask", fields)


def build_probability_asset(file: AssetFile, href: str, grid: Grid) -> Fields:
    """Return the asset ``cloud-probability``, from which the mask can be computed again with other thresholds."""
    fields = {
        "description": "s2cloudless cloud probability in percent, 255 no data",
        "roles": ["data", "cloud"],
        **_raster_fields(grid, PROBABILITY_NODATA),
    }
    return _build_asset(file, href, "Cloud probability", fields)


def build_preview_asset(file: AssetFile, href: str) -> Fields:
    """Return the asset ``cloudmask-preview``."""
    return _build_asset(file, href, "Preview of the mask", {"roles": ["thumbnail"]})


def _build_asset(file: AssetFile, href: str, title: str, fields: Fields) -> Fields:
    measured = build_file_fields(len(file.body), file.sha256_hex)
    return {"href": href, "type": file.media_type, "title": title, **fields, **measured}


def _raster_fields(grid: Grid, nodata: int) -> Fields:
    return {
        "gsd": grid.pixel_size_m,
        "proj:code": grid.crs,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform),
        "proj:bbox": list(grid.bounds),
        "data_type": "uint8",
        "nodata": nodata,
    }


def build_file_fields(size: int, sha256_hex: str) -> Fields:
    """Return the file extension's fields."""
    return {"file:size": size, "file:checksum": f"{SHA256_MULTIHASH}{sha256_hex}"}


@dataclass(frozen=True, slots=True)
class CatalogContext:
    """Where readers find the catalog: links are absolute if there is a ``public_url``, else relative."""

    public_url: str | None = None

    def href(self, key: str, from_key: str) -> str:
        """Return the href of ``key`` in the document at ``from_key``."""
        if self.public_url is not None:
            return f"{self.public_url}/{key}"
        # The slashes make the path independent of the working directory.
        path = posixpath.relpath(f"/{key}", f"/{posixpath.dirname(from_key)}")
        return path if path.startswith("../") else f"./{path}"

    def link(self, rel: str, key: str, from_key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> Link:
        """Return a link to ``key`` in the document at ``from_key``."""
        return {"rel": rel, "href": self.href(key, from_key), "type": media_type, "title": title}

    def self_links(self, key: str, title: str, media_type: str = JSON_MEDIA_TYPE) -> list[Link]:
        """Return the document's link to itself; none without a public URL, which is needed to make it absolute."""
        return [] if self.public_url is None else [self.link("self", key, key, title, media_type)]


def find_public_url(document: Mapping[str, Any], key: str) -> str | None:
    """Return the public URL that the document at ``key`` was written for; None if its links are relative."""
    for link in document["links"]:
        if link["rel"] == "self" and "://" in link["href"] and link["href"].endswith(f"/{key}"):
            return str(link["href"].removesuffix(f"/{key}"))
    return None


def read_collection_template(names: Iterable[str] = METHODS) -> Document:
    """Return a fresh copy of the collection's template, filled in for the methods called ``names``."""
    methods = [METHODS[name] for name in METHODS if name in set(names)]
    told = "\n".join(f"- `{each.name}`: {each.description} ({each.citation})" for each in methods)
    collection = read_template("collection.json")
    collection["description"] = _read_text("description.md").strip().replace("{methods}", told)
    collection["keywords"] += [method.name for method in methods]
    collection["sci:publications"] = [{"doi": each.doi, "citation": each.citation} for each in methods]
    collection["links"] += [
        {"rel": "cite-as", "href": f"https://doi.org/{each.doi}", "type": "text/html", "title": each.citation}
        for each in methods
    ]
    if not any(method.needs_earth_engine for method in methods):
        others = [each for each in collection["providers"] if each["name"] != "Google Earth Engine"]
        collection["providers"] = others
    if not any(CLOUD_PROBABILITY in method.collections for method in methods):
        del collection["item_assets"][PROBABILITY_ASSET]
    return collection


@cache
def root_title() -> str:
    """Return the title of links to the root."""
    return str(read_template("catalog.json")["title"])


@cache
def collection_title() -> str:
    """Return the title of links to the collection."""
    return str(read_template("collection.json")["title"])


def read_template(name: str) -> Document:
    """Return a fresh copy of the template of that name."""
    document: Document = orjson.loads(_read_text(name))
    return document


@cache
def _read_text(name: str) -> str:
    return files("catalog_templates").joinpath(name).read_text("utf-8")


def encode_document(document: dict[str, Any]) -> bytes:
    """Return ``document`` as compact UTF-8 JSON in its own key order: equal documents give equal bytes.

    Publishing an item rewrites its year's catalog, which indentation would make a fifth larger.
    """
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def decode_document(body: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in ``body``, which can be encoded again; ``name`` identifies it in errors.

    The last value of a repeated key counts, as for most readers.

    Raises:
        SourceRefused: too large, not JSON in UTF-8, nested too deeply, or not an object.
    """

    def refuse(
        problem: str,
    ) -> SourceRefused:  # here alone, since redacting the name takes longer than parsing
        return SourceRefused(f"{make_printable(name, 200)}: {problem}")

    if len(body) > MAX_DOCUMENT_BYTES:
        raise refuse(f"{len(body)} bytes are more than {MAX_DOCUMENT_BYTES}")
    try:
        document = orjson.loads(decode_text(body))
        # orjson reads four times as deep a nesting as it writes.
        orjson.dumps(document)
    except (ValueError, orjson.JSONEncodeError) as error:
        raise refuse(f"not JSON in UTF-8, or nested too deep: {error}") from error
    if not isinstance(document, dict):
        raise refuse("holds no JSON object")
    return document


def merge_extensions(source_uris: Iterable[str], published_uris: Iterable[str]) -> list[str]:
    """Return the source's extensions, then ours; only the newest version of each.

    The source's ``eo`` stays at 1.0.0, which allows the ``eo:bands`` that readers such as odc-stac look for; the schema
    of version 2 and later rejects them.
    """
    newest: dict[str, str] = {}
    for uri in (*source_uris, *published_uris):
        extension, version = _split(uri)
        if extension not in newest or _split(newest[extension])[1] < version:
            # Removed and added again, so that ours come last.
            newest.pop(extension, None)
            newest[extension] = uri
    return list(newest.values())


def _split(uri: str) -> tuple[str, tuple[int, ...]]:
    """Return what identifies an extension, and its version; a URI of another form is its own identity."""
    match = _VERSIONED_URI.fullmatch(uri)
    return (match["extension"], tuple(map(int, match["version"].split(".")))) if match else (uri, ())


def find_unlisted(source_uris: Iterable[str], uris: Iterable[str]) -> list[str]:
    """Return those of ``source_uris`` whose extension is in ``uris`` in no version."""
    listed = {_split(uri)[0] for uri in uris}
    return [uri for uri in dict.fromkeys(source_uris) if _split(uri)[0] not in listed]


def read_document(stored: StoredObject | None) -> Document | None:
    """Return the document; None if it is missing or unreadable, so that it will be built again."""
    with suppress(SourceRefused):
        return None if stored is None else decode_document(stored.body, stored.key)
    return None
