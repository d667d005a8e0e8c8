"""Which scene an item of any catalogue belongs to, and since when the catalogue has it.

Catalogues name one scene differently. The Planetary Computer omits the processing baseline from ESA's name and makes
its own products, and so its own discriminators; Earth Search counts the products of a day, as in
``S2B_22KFV_20181214_0_L2A``. Even the instant differs: ``datetime`` is when the datatake began, or when the tile itself
was seen, up to half an hour later. What they share is the satellite, the start of the datatake to the second, and the
tile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pc_cloudmask.errors import MissingField
from pc_cloudmask.scene.image import ImageKey
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import TILE_FORM
from pc_cloudmask.source.fields import UNKNOWN_ID, Item, check_object, find_property, is_printable
from pc_cloudmask.source.selection import find_datetime

_TIME = r"20\d{6}T\d{6}"
#: ESA's name of a product, with or without its baseline, as an id or in ``s2:product_uri``.
_PRODUCT = re.compile(
    rf"(?P<platform>S2[A-Z])_MSIL[12][A-Z]_(?P<start>{_TIME})_(?:N\d{{4}}_)?R\d{{3}}_T(?P<tile>[0-9A-Z]{{5}})_{_TIME}",
    re.ASCII,
)
_DATATAKE = re.compile(rf"G(?P<platform>S2[A-Z])_(?P<start>{_TIME})_\d{{6}}_N\d\d\.\d\d", re.ASCII)
_DATASTRIP = re.compile(rf"S2[A-Z]_\w+?_DS_\w+?_{_TIME}_S(?P<start>{_TIME})(?:_N\d\d\.\d\d)?", re.ASCII)
#: Ids of Earth Search: ``S2B_22KFV_20181214_0_L2A``, ``S2B_T22KFV_20181214T133217_L2A``; zones may lack the leading
#: zero.
_EARTH_SEARCH_ID = re.compile(
    r"(?P<platform>S2[A-Z])_T?(?P<tile>\d{1,2}[A-Z]{3})_20\d{6}(?:T\d{6})?_\w+", re.ASCII
)
_PLATFORM = re.compile(r"(?:sentinel-?2|S2)([A-Z])", re.IGNORECASE | re.ASCII)
_DATATAKE_PROPERTIES = ("s2:datatake_id", "eopf:datatake_id")
_DATASTRIP_PROPERTIES = ("s2:datastrip_id", "eopf:datastrip_id")
_PRODUCT_PROPERTIES = ("s2:product_uri", "sentinel:product_id", "product_uri")
#: Prefixes of the three properties that give a tile in parts.
_TILE_PARTS = ("mgrs", "sentinel")
#: Properties that say since when a catalogue has an item, most specific first.
_SINCE_PROPERTIES = ("published", "created", "updated")
#: Origin of ``since`` if no property gives it.
SENSING = "sensing"
_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Sighting:
    """An item of a catalogue and its scene.

    ``start`` is the start of the datatake, None if the item does not give it; ``moment``, an instant in the datatake,
    then takes its place. ``strip`` is the sensing start of the datastrip, if given. ``since`` is when the catalogue got
    the item, according to the property ``told``, or the sensing time if ``told`` is ``SENSING``.
    """

    item_id: str
    platform: str
    tile: str
    start: datetime | None
    moment: datetime
    strip: str
    since: datetime
    told: str


def read_sighting(item: Item) -> Sighting:
    """Return which scene ``item`` belongs to.

    Raises:
        MissingField: the item lacks satellite, tile or time.
        InvalidField: it is not a JSON object.
    """
    check_object(item)
    raw_id = item.get("id")
    item_id = str(raw_id) if is_printable(raw_id, _LONGEST_ID) else UNKNOWN_ID
    names = [match for text in _list_names(item) for match in _match_names(text)]
    platform, tile = _find_platform(item, names), find_tile(item)
    starts = (_parse_time(match["start"]) for match in names if "start" in match.groupdict())
    start = next((moment for moment in starts if moment), None)
    moment = find_datetime(item) or start
    missing = {"platform": platform, "s2:mgrs_tile or grid:code": tile, "datetime": moment}
    if not (platform and tile and moment):
        raise MissingField(item_id, *(field for field, value in missing.items() if not value))
    since, told = _find_since(item) or (start or moment, SENSING)
    return Sighting(item_id, platform, tile, start, moment, _find_strip(item), since, told)


def build_image_sighting(platform: str, key: ImageKey) -> Sighting:
    """Return which scene an Earth Engine image belongs to; Earth Engine does not say since when it has it.

    Raises:
        ValueError: its index contains no instant.
    """
    start = datetime.strptime(key.datatake_start, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return Sighting(key.index, platform, key.tile, start, start, key.sensing_start, start, SENSING)


def find_scene_key(item_id: str) -> tuple[str, datetime, str] | None:
    """Return tile, datatake start and satellite from a product's id; None for another id."""
    match = _PRODUCT.fullmatch(item_id)
    start = _parse_time(match["start"]) if match else None
    return (match["tile"], start, match["platform"]) if match and start else None


def find_tile(item: Item) -> str | None:
    """Return the MGRS tile of ``item``, such as ``01CCV``, or None if it gives none."""
    for text in _list_tiles(item):
        tile = text.strip().upper().removeprefix("MGRS-").removeprefix("T").zfill(5)
        if TILE_FORM.fullmatch(tile):
            return tile
    return None


def _list_tiles(item: Item) -> Iterator[str]:
    """Yield candidate names of the item's tile."""
    for name in ("s2:mgrs_tile", "grid:code"):
        if isinstance(text := find_property(item, name), str):
            yield text
    for prefix in _TILE_PARTS:
        parts = [
            find_property(item, f"{prefix}:{part}") for part in ("utm_zone", "latitude_band", "grid_square")
        ]
        if None not in parts:
            yield "".join(map(str, parts))
    for text in _list_names(item):
        for match in _match_names(text):
            yield match.groupdict().get("tile") or ""


def _list_names(item: Item) -> Iterator[str]:
    """Yield the names in an item: of its datatake, its product and itself."""
    for name in (*_DATATAKE_PROPERTIES, *_PRODUCT_PROPERTIES):
        if isinstance(text := find_property(item, name), str):
            yield text
    if isinstance(text := item.get("id"), str):
        yield text


def _match_names(text: str) -> Iterator[re.Match[str]]:
    name = text.strip().rpartition("/")[2].removesuffix(".SAFE")
    for form in (_DATATAKE, _PRODUCT, _EARTH_SEARCH_ID):
        if match := form.fullmatch(name):
            yield match


def _find_platform(item: Item, names: list[re.Match[str]]) -> str | None:
    """Return the satellite, such as ``S2B``, from the item's names or its ``platform``."""
    if names:
        return names[0]["platform"]
    told = _PLATFORM.fullmatch(str(find_property(item, "platform")).strip())
    return f"S2{told[1].upper()}" if told else None


def _find_strip(item: Item) -> str:
    for name in _DATASTRIP_PROPERTIES:
        if match := _DATASTRIP.fullmatch(str(find_property(item, name))):
            return match["start"]
    return ""


def _find_since(item: Item) -> tuple[datetime, str] | None:
    for name in _SINCE_PROPERTIES:
        text = find_property(item, name)
        try:
            return parse_instant(text if isinstance(text, str) else ""), name
        except ValueError:
            continue
    return None


def _parse_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
