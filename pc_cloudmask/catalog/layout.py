"""The published layout: which key holds what, and how items are called in titles and by users.

It is a contract with users, ``docs/contract.md``. ``walk`` has the forms of folders, and ``deploy/nginx``,
``deploy/s3``, ``deploy/store`` and ``catalog_templates`` repeat parts of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.scene import (
    MASK_ASSET,
    PROBABILITY_ASSET,
    TILE_FORM,
    check_item_id,
    check_tile,
    drop_baseline,
    is_item_id,
    parse_item_id,
)

COLLECTION_ID = "sentinel-2-l2a-cloudmask"
CATALOG_KEY = "catalog.json"
COLLECTION_KEY = f"{COLLECTION_ID}/collection.json"
#: The geoparquet mirror.
ITEMS_PREFIX = f"{COLLECTION_ID}/items/"
#: Names of the parts of the geoparquet mirror.
MIRROR_PART_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\.parquet")
#: Put when the mirror's rebuild begins; only its time counts. It is not in its folder, which readers open as one table.
MARK_KEY = f"{COLLECTION_ID}/mirror.started"
#: The raster tile index of all masks, and its style, which QGIS finds by its name.
TILE_INDEX_KEY, STYLE_KEY = f"{COLLECTION_ID}/masks.gti.gpkg", f"{COLLECTION_ID}/masks.gti.qml"
#: The change feed: one file a day, and further parts of it.
CHANGES_PREFIX = "changes/"
CHANGES_FORM = re.compile(r"changes/(?P<day>\d{4}/\d\d/\d\d)(?:-(?P<part>[1-9]\d{0,5}))?\.jsonl", re.ASCII)
#: The comparison with other catalogues, if requested.
GAPS_KEY = "gaps.parquet"
#: Private state next to the published catalog.
PENDING_PREFIX, WATCH_PREFIX = "_pending/", "_watch/"
#: Withdrawn marker in an item's folder: the source withdrew the scene, so no catalog links it.
WITHDRAWN_NAME = "withdrawn.json"
#: Hex digits of SHA-256 in an asset's key: 64 bits distinguish all versions of one scene.
_CONTENT_HASH_LENGTH = 16
#: Characters of an id that a marker's name keeps; the name must itself have the form of an id.
_LONGEST_MARKED_ID = 128 - 1 - _CONTENT_HASH_LENGTH
#: The names that ``ItemKeys.asset`` builds: such a file never changes.
ASSET_NAME_FORM = re.compile(r"[a-z-]+-[0-9a-f]{16}\.[a-z]+")
#: Ids of the Planetary Computer, and of ESA, which include the baseline.
_PRODUCT_ID = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL[12][A-Z]_\d{8}T(?P<hour>\d\d)(?P<minute>\d\d)\d\d"
    r"(?:_N\d{4})?_(?P<orbit>R\d{3})_T[0-9A-Z]{5}_\w+",
    re.ASCII,
)
#: Years 1000 to 2999, so that the days before and after are valid dates too.
_DAY_IN_ID = re.compile(r"(?<![0-9])([12][0-9]{7})(?![0-9])")
_TILE_IN_ID = re.compile(r"_T([0-9]{2}[A-Z]{3})(?:_|$)")
#: The baseline in one of ESA's ids, which may end right after it.
_BASELINE = re.compile(r"(?<=^S2[A-Z]_MSIL2A_\d{8}T\d{6})_N\d{4}(?=_|$)", re.ASCII)
#: A tile and a day as users write them.
_TILE, _DAY = r"[Tt]?(?P<tile>\d\d[A-Za-z]{3})", r"(?P<day>\d{4}-\d\d-\d\d|\d{8})"
_TILE_AND_DAY = re.compile(rf"{_TILE}[ /,@_-]+{_DAY}", re.ASCII)
#: Candidates that an error message lists.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class YearKeys:
    """The chain of catalogs above one tile and year."""

    tile: str
    year: int

    @property
    def zone(self) -> str:
        """Grid zone and latitude band, ``22K``."""
        return self.tile[:3]

    @property
    def prefix(self) -> str:
        """Folder of the year, with a trailing slash."""
        return f"{COLLECTION_ID}/{self.zone}/{self.tile}/{self.year:04d}/"

    @property
    def catalog(self) -> str:
        """Key of the year's catalog."""
        return f"{self.prefix}{CATALOG_KEY}"

    @property
    def chain(self) -> tuple[str, ...]:
        """Keys of every catalog document from the year up to the root."""
        parents = (tile_catalog_key(self.tile), zone_catalog_key(self.zone))
        return (self.catalog, *parents, COLLECTION_KEY, CATALOG_KEY)


@dataclass(frozen=True, slots=True)
class ItemKeys:
    """Where one published item and its assets are; create it with ``item_keys``."""

    year_keys: YearKeys
    item_id: str

    @property
    def prefix(self) -> str:
        """Folder of the item, with a trailing slash."""
        return f"{self.year_keys.prefix}{self.item_id}/"

    @property
    def item(self) -> str:
        """Key of the item's document."""
        return f"{self.prefix}{self.item_id}.json"

    @property
    def withdrawn_marker(self) -> str:
        """Key of the item's withdrawn marker."""
        return f"{self.prefix}{WITHDRAWN_NAME}"

    def asset(self, name: str, sha256_hex: str, extension: str) -> str:
        """Return the key of an asset's file: it contains the hash of the content, so the file never changes."""
        return f"{self.prefix}{name}-{sha256_hex[:_CONTENT_HASH_LENGTH]}.{extension}"

    def mask(self, sha256_hex: str) -> str:
        """Return the key of the mask."""
        return self.asset(MASK_ASSET, sha256_hex, "tif")

    def preview(self, sha256_hex: str) -> str:
        """Return the key of the preview."""
        return self.asset("preview", sha256_hex, "png")

    def probability(self, sha256_hex: str) -> str:
        """Return the key of the cloud probability."""
        return self.asset(PROBABILITY_ASSET, sha256_hex, "tif")


def item_keys(item_id: str, tile: str, year: int) -> ItemKeys:
    """Return the keys of an item, or raise ``InvalidField`` if its id or tile must not become part of a key."""
    return ItemKeys(YearKeys(check_tile(tile, check_item_id(item_id)), year), item_id)


def find_item_keys(item: Mapping[str, Any]) -> ItemKeys:
    """Return the keys of a published item.

    Raises:
        InvalidField, LookupError, TypeError, ValueError: it is not in the form in which items are published.
    """
    moment, tile = str(item["properties"]["datetime"]), str(item["properties"]["s2:mgrs_tile"])
    return item_keys(str(item["id"]), tile, int(moment[:4]))


def zone_catalog_key(zone: str) -> str:
    """Return the key of the catalog of a zone such as ``22K``."""
    return f"{COLLECTION_ID}/{zone}/{CATALOG_KEY}"


def tile_catalog_key(tile: str) -> str:
    """Return the key of the catalog of a tile."""
    return f"{COLLECTION_ID}/{tile[:3]}/{tile}/{CATALOG_KEY}"


def changes_key(day: date, part: int = 0) -> str:
    """Return the key of a day's change feed, or of its further part with that number."""
    return f"{CHANGES_PREFIX}{day:%Y/%m/%d}{f'-{part}' if part else ''}.jsonl"


def is_state_key(key: str) -> bool:
    """Return True if ``key`` has the form of a marker or state; other objects there are not ours."""
    name = key.rpartition("/")[2]
    return key.count("/") == 1 and name.endswith(".json") and is_item_id(name.removesuffix(".json"))


def pending_key(item_id: str, digest: str) -> str:
    """Return the key of the marker of a publication in progress; ``digest``, in hex, distinguishes it from others."""
    return f"{pending_prefix(item_id)}{digest[:_CONTENT_HASH_LENGTH]}.json"


def pending_prefix(item_id: str) -> str:
    """Return the common prefix of an item's markers; a very long id is cut, as the digest distinguishes it."""
    return f"{PENDING_PREFIX}{check_item_id(item_id)[:_LONGEST_MARKED_ID]}-"


def build_item_title(item_id: str) -> str:
    """Return ``2018-12-14 13:32 Sentinel-2B R081`` for a product's id: sorting by title sorts by time.

    The title of an id of another form is the first date in it and the id, or the id alone.
    """
    day = find_day(item_id)
    if day is None:
        return item_id
    product = _PRODUCT_ID.fullmatch(item_id)
    if product is None:
        return f"{day} {item_id}"
    hour, minute, orbit = product["hour"], product["minute"], product["orbit"]
    return f"{day} {hour}:{minute} Sentinel-2{product['platform'][-1]} {orbit}"


def build_zone_title(zone: str) -> str:
    """Return ``Zone 22, band K`` for ``22K``."""
    return f"Zone {zone[:2]}, band {zone[2:]}"


def build_tile_title(tile: str) -> str:
    """Return ``Tile 22KFV`` for ``22KFV``."""
    return f"Tile {tile}"


def build_year_title(year_keys: YearKeys) -> str:
    """Return ``22KFV in 2018``."""
    return f"{year_keys.tile} in {year_keys.year}"


def find_day(item_id: str) -> date | None:
    """Return the first eight digits that form a date: in every product's id, the day of the acquisition in UTC."""
    for digits in _DAY_IN_ID.findall(item_id):
        with suppress(ValueError):
            return date.fromisoformat(digits)
    return None


def find_tile(item_id: str) -> str | None:
    """Return the tile in an id, or in the beginning of one; None if there is none."""
    found = _TILE_IN_ID.search(item_id)
    return found[1] if found and TILE_FORM.fullmatch(found[1]) else None


class AmbiguousItem(SettingsError):
    """Raised where the name of an item matches several."""


def join_tiles_and_days(words: Iterable[str]) -> list[str]:
    """Return ``words`` with each tile and the day that follows it joined into one name, ``22KFV 2018-12-14``."""
    names: list[str] = []
    for word in words:
        if names and re.fullmatch(_DAY, word, re.ASCII) and re.fullmatch(_TILE, names[-1], re.ASCII):
            names[-1] += f" {word}"
        else:
            names.append(word)
    return names


def parse_tile_and_day(text: str) -> tuple[str, date] | None:
    """Return tile and day of a text such as ``22KFV 2018-12-14`` or ``22KFV/2018-12-14``; None for any other text."""
    named = _TILE_AND_DAY.fullmatch(text.strip())
    if named is None or not TILE_FORM.fullmatch(named["tile"].upper()):
        return None
    with suppress(ValueError):
        return named["tile"].upper(), date.fromisoformat(named["day"])
    return None


def parse_beginning(text: str, option: str) -> str:
    """Return the beginning of an id, without the baseline, or raise ``SettingsError`` that names ``option``."""
    try:
        return drop_baseline(_BASELINE.sub("", parse_item_id(text)))
    except ValueError as error:
        raise SettingsError(f"{option} {text!r:.100}: {error}") from error


def match_name(text: str, item_ids: Iterable[str], option: str = "ITEM") -> list[str]:
    """Return those of ``item_ids`` that ``text`` names: by the id, the beginning of it, or tile and day.

    An id given in full matches only itself, even if other ids begin with it. It raises what ``parse_beginning`` raises.
    """
    if place := parse_tile_and_day(text):
        return sorted(each for each in item_ids if (find_tile(each), find_day(each)) == place)
    beginning = parse_beginning(text, option)
    found = sorted(each for each in item_ids if drop_baseline(each).startswith(beginning))
    return [text] if text in found else [each for each in found if drop_baseline(each) == beginning] or found


def choose_same(names: Sequence[str], text: str, option: str = "ITEM") -> Sequence[str]:
    """Return ``names`` if they all name one product, with and without the baseline, or raise ``AmbiguousItem``."""
    if len(set(map(drop_baseline, names))) == 1:
        return names
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise AmbiguousItem(
        f"{option} {text!r:.100} may be any of {len(names)}: {', '.join(names[:_SHOWN])}{more}: write more of the id"
    )
