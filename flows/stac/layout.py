"""The published layout: which key holds what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flows.errors import InvalidField
from flows.scene.tile import TILE_FORM

COLLECTION_ID = "sentinel-2-l2a-cloudmask"
CATALOG_KEY = "catalog.json"
COLLECTION_KEY = f"{COLLECTION_ID}/collection.json"
ITEMS_PREFIX = f"{COLLECTION_ID}/items/"
"""The geoparquet mirror."""
PENDING_PREFIX, WAITING_PREFIX, FAILED_PREFIX = "_pending/", "_waiting/", "_failed/"
WATCH_PREFIX = "_watch/"
"""Private state beside the published catalog."""
PROBE_PREFIX = "_probe/"
"""Objects that a store's capabilities are tried on; a killed probe leaves one behind."""
WITHDRAWN_NAME = "withdrawn.json"
"""Tombstone in an item's folder: the source took the scene back, so no catalog links it."""
MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET = "cloudmask", "cloudmask-preview", "cloud-probability"
"""Keys of the assets that we publish in an item."""

_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_RESERVED_ID = re.compile(r"withdrawn|superseded-by-.*")
"""Names of marks in an item's folder, where its document has its own id for a name."""
_CONTENT_HASH_LENGTH = 16
"""Hex digits of SHA-256 in an asset's key: 64 bits tell apart all versions of one scene."""
_LONGEST_MARKED_ID = 128 - 1 - _CONTENT_HASH_LENGTH
"""Of an id in a marker's name, which is to be an id's form itself."""
ASSET_NAME_FORM = re.compile(r"[a-z-]+-[0-9a-f]{16}\.[a-z]+")
"""What ``ItemKeys.asset`` makes: such a file never changes."""


def check_tile(tile: str, item_id: str = "?") -> str:
    """``tile`` if it is an MGRS tile such as ``22KFV``; it becomes part of a key.

    Raises:
        InvalidField: it is none.
    """
    if not TILE_FORM.fullmatch(tile):
        raise InvalidField(item_id, "s2:mgrs_tile", f"{tile!r:.40} is not an MGRS tile such as 22KFV")
    return tile


def check_item_id(item_id: str) -> str:
    """``item_id`` if letters, digits, ``_`` and ``-`` alone spell it; it becomes part of a key.

    Raises:
        InvalidField: it is spelled otherwise, or is a name that the catalog keeps for itself.
    """
    if not _ITEM_ID.fullmatch(item_id):
        raise InvalidField(repr(item_id)[:60], "id", "is not 1 to 128 letters, digits, '_' or '-'")
    if _RESERVED_ID.fullmatch(item_id):
        raise InvalidField(item_id, "id", "is a name that the catalog keeps for itself")
    return item_id


def is_item_id(text: str) -> bool:
    """Whether ``text`` may be an item's id."""
    return bool(_ITEM_ID.fullmatch(text)) and not _RESERVED_ID.fullmatch(text)


def is_state_key(key: str) -> bool:
    """Whether ``key`` is one that ``pending_key`` and its like make: another object there is none of ours."""
    name = key.rpartition("/")[2]
    return key.count("/") == 1 and name.endswith(".json") and is_item_id(name.removesuffix(".json"))


def band_catalog_key(band: str) -> str:
    """Key of the catalog of a zone and latitude band such as ``22K``."""
    return f"{COLLECTION_ID}/{band}/{CATALOG_KEY}"


def tile_catalog_key(tile: str) -> str:
    """Key of the catalog of a tile."""
    return f"{COLLECTION_ID}/{tile[:3]}/{tile}/{CATALOG_KEY}"


@dataclass(frozen=True, slots=True)
class LeafKeys:
    """The chain of catalogs above one tile and year."""

    tile: str
    year: int

    @property
    def band(self) -> str:
        """Grid zone and latitude band, ``22K``."""
        return self.tile[:3]

    @property
    def band_catalog(self) -> str:
        return band_catalog_key(self.band)

    @property
    def tile_catalog(self) -> str:
        return tile_catalog_key(self.tile)

    @property
    def prefix(self) -> str:
        """Folder of the year, with a trailing slash."""
        return f"{COLLECTION_ID}/{self.band}/{self.tile}/{self.year:04d}/"

    @property
    def catalog(self) -> str:
        return f"{self.prefix}{CATALOG_KEY}"

    @property
    def chain(self) -> tuple[str, ...]:
        """Keys of every catalog document from the leaf up to the root."""
        return (self.catalog, self.tile_catalog, self.band_catalog, COLLECTION_KEY, CATALOG_KEY)


@dataclass(frozen=True, slots=True)
class ItemKeys:
    """Where one published item and its assets are; built by ``item_keys``."""

    leaf: LeafKeys
    item_id: str

    @property
    def prefix(self) -> str:
        """Folder of the item, with a trailing slash."""
        return f"{self.leaf.prefix}{self.item_id}/"

    @property
    def item(self) -> str:
        return f"{self.prefix}{self.item_id}.json"

    @property
    def tombstone(self) -> str:
        return f"{self.prefix}{WITHDRAWN_NAME}"

    def asset(self, name: str, sha256_hex: str, extension: str) -> str:
        """Key of an asset's file: its name carries the hash of its content, so it never changes."""
        return f"{self.prefix}{name}-{sha256_hex[:_CONTENT_HASH_LENGTH]}.{extension}"

    def mask(self, sha256_hex: str) -> str:
        return self.asset(MASK_ASSET, sha256_hex, "tif")

    def preview(self, sha256_hex: str) -> str:
        return self.asset("preview", sha256_hex, "png")

    def probability(self, sha256_hex: str) -> str:
        return self.asset(PROBABILITY_ASSET, sha256_hex, "tif")


def item_keys(item_id: str, tile: str, year: int) -> ItemKeys:
    """Keys of an item of ``tile`` and ``year``.

    Raises:
        InvalidField: an id or tile that must not become part of a key.
    """
    return ItemKeys(LeafKeys(check_tile(tile, check_item_id(item_id)), year), item_id)


def pending_key(item_id: str, digest: str) -> str:
    """Return the key of the marker of a publication under way; ``digest``, in hex, tells it from others."""
    return f"{pending_prefix(item_id)}{digest[:_CONTENT_HASH_LENGTH]}.json"


def pending_prefix(item_id: str) -> str:
    """Return what the keys of all markers of an item begin with; a very long id is cut, its digest tells."""
    return f"{PENDING_PREFIX}{check_item_id(item_id)[:_LONGEST_MARKED_ID]}-"
