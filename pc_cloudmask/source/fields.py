"""What an item of any catalogue says, not yet validated: its fields, its scene, and which query it matches.

Catalogues name one scene differently. The Planetary Computer omits the processing baseline from ESA's name and makes
its own products, and so its own discriminators; Earth Search counts the products of a day, as in
``S2B_22KFV_20181214_0_L2A``. Even the instant differs: ``datetime`` is when the datatake began, or when the tile itself
was seen, up to half an hour later. What they share, and a ``Sighting`` holds, is the satellite, the start of the
datatake to the second, and the tile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from pc_cloudmask.errors import InvalidField, MissingField
from pc_cloudmask.scene.geometry import build_box, prepare_area
from pc_cloudmask.scene.image import ImageKey
from pc_cloudmask.scene.query import SceneQuery, parse_datetime_interval, parse_instant
from pc_cloudmask.scene.scene import TILE_FORM, drop_baseline

Item = dict[str, Any]
#: The longest text that we read from an item, a datastrip's id, has 64 characters.
MAX_TEXT_LENGTH = 200
UNKNOWN_ID = "?"


def check_object(item: Any) -> None:
    """Raise ``InvalidField`` unless ``item`` is a JSON object."""
    if not isinstance(item, dict):
        raise InvalidField(UNKNOWN_ID, "item", "is no JSON object")


def find_property(item: Item, name: str) -> Any:
    """Return the item's property of that name, or None if it has none, or no properties object."""
    properties = item.get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def is_number(value: Any) -> bool:
    """Return True if ``value`` is a finite number that fits into a double."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_printable(value: Any, longest: int) -> TypeGuard[str]:
    """Return True if ``value`` is a text of 1 to ``longest`` characters on one line."""
    return isinstance(value, str) and 1 <= len(value) <= longest and value.isprintable()


def show_id(item: Item) -> str:
    """Return the item's id if it may be shown, else ``UNKNOWN_ID``."""
    item_id = item.get("id")
    return item_id if is_printable(item_id, MAX_TEXT_LENGTH) else UNKNOWN_ID


def read_id(item: Item) -> str:
    """Return the item's id, whatever it is, as a text by which items are compared."""
    return str(item.get("id"))


def keep_new(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the first item of each id."""
    seen: set[str] = set()
    for item in items:
        if (item_id := read_id(item)) not in seen:
            seen.add(item_id)
            yield item


def find_datetime(item: Item) -> datetime | None:
    """Return an item's datetime, else the start of its time span, or None if it has neither."""
    texts = (find_property(item, name) for name in ("datetime", "start_datetime"))
    return _find_instant(next((text for text in texts if isinstance(text, str)), ""))


def _find_instant(text: Any) -> datetime | None:
    try:
        return parse_instant(text) if isinstance(text, str) else None
    except ValueError:
        return None


def build_filter(query: SceneQuery) -> Callable[[Item], bool]:
    """Return a function that says whether an item matches ``query``, ignoring its limit.

    An item that lacks what a criterion needs matches: it is broken, and is reported later on.
    """
    start, end = parse_datetime_interval(query.datetime) if query.datetime else (None, None)
    ids, tiles = {drop_baseline(item_id) for item_id in query.ids}, (*query.tiles, None)
    areas = [area for area in (build_box(*query.bbox) if query.bbox else None, query.intersects) if area]
    tests = [prepare_area(area) for area in areas]

    def matches(item: Item) -> bool:
        return (
            (not ids or (isinstance(item.get("id"), str) and drop_baseline(item["id"]) in ids))
            and (not query.tiles or find_property(item, "s2:mgrs_tile") in tiles)
            and ((moment := find_datetime(item)) is None or (start or moment) <= moment <= (end or moment))
            and all(_matches_area(item, meets) for meets in tests)
        )

    return matches


def _matches_area(item: Item, meets: Callable[[Mapping[str, Any]], bool]) -> bool:
    geometry = item.get("geometry")
    try:
        return geometry is None or meets(geometry)
    except ValueError:
        return True


_TIME = r"20\d{6}T\d{6}"
#: ESA's name of a product, with or without its baseline, as an id or in ``s2:product_uri``.
_PRODUCT = re.compile(
    rf"(?P<platform>S2[A-Z])_MSIL[12][A-Z]_(?P<start>{_TIME})_(?:N\d{{4}}_)?R\d{{3}}_T(?P<tile>[0-9A-Z]{{5}})_{_TIME}",
    re.ASCII,
)
_DATATAKE = re.compile(rf"G(?P<platform>S2[A-Z])_(?P<start>{_TIME})_\d{{6}}_N\d\d\.\d\d", re.ASCII)
_DATASTRIP = re.compile(rf"S2[A-Z]_\w+?_DS_\w+?_{_TIME}_S(?P<start>{_TIME})(?:_N\d\d\.\d\d)?", re.ASCII)
#: Ids of Earth Search: ``S2B_22KFV_20181214_0_L2A``, ``S2B_T22KFV_20181214T133217_L2A``; ``1CCV`` may stand for
#: ``01CCV``.
_EARTH_SEARCH = re.compile(
    r"(?P<platform>S2[A-Z])_T?(?P<tile>\d{1,2}[A-Z]{3})_20\d{6}(?:T\d{6})?_\w+", re.ASCII
)
_PLATFORM = re.compile(r"(?:sentinel-?2|S2)([A-Z])", re.IGNORECASE | re.ASCII)
#: Properties that name an item's datatake or product.
_NAMES = ("s2:datatake_id", "eopf:datatake_id", "s2:product_uri", "sentinel:product_id", "product_uri")
#: Properties that say since when a catalogue has an item, most specific first.
_SINCE_PROPERTIES = ("published", "created", "updated")
#: Origin of ``since`` if no property gives it.
SENSING = "sensing"


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
    """Return which scene ``item`` belongs to, or raise ``MissingField`` if it lacks satellite, tile or time."""
    check_object(item)
    item_id, names = show_id(item), list(_match_names(item))
    platform, tile = _find_platform(item, names), find_tile(item)
    starts = (_parse_time(match["start"]) for match in names if "start" in match.groupdict())
    start = next((moment for moment in starts if moment), None)
    moment = find_datetime(item) or start
    missing = {"platform": platform, "s2:mgrs_tile or grid:code": tile, "datetime": moment}
    if not (platform and tile and moment):
        raise MissingField(item_id, *(field for field, value in missing.items() if not value))
    strips = (
        _DATASTRIP.fullmatch(str(find_property(item, f"{prefix}:datastrip_id"))) for prefix in ("s2", "eopf")
    )
    strip = next((match["start"] for match in strips if match), "")
    dates = ((_find_instant(find_property(item, name)), name) for name in _SINCE_PROPERTIES)
    since, told = next(((date, name) for date, name in dates if date), (start or moment, SENSING))
    return Sighting(item_id, platform, tile, start, moment, strip, since, told)


def build_image_sighting(platform: str, key: ImageKey) -> Sighting:
    """Return which scene an Earth Engine image belongs to, or raise ``ValueError`` if its index gives no instant."""
    # Earth Engine does not say since when it has the image.
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
    """Yield the texts in an item that may name its tile, whole or in three parts."""
    for name in ("s2:mgrs_tile", "grid:code"):
        if isinstance(text := find_property(item, name), str):
            yield text
    for prefix in ("mgrs", "sentinel"):
        parts = [
            find_property(item, f"{prefix}:{part}") for part in ("utm_zone", "latitude_band", "grid_square")
        ]
        if None not in parts:
            yield "".join(map(str, parts))
    for match in _match_names(item):
        yield match.groupdict().get("tile") or ""


def _match_names(item: Item) -> Iterator[re.Match[str]]:
    """Yield the names in an item that have a known form: of its datatake, its product and itself."""
    for text in (*(find_property(item, name) for name in _NAMES), item.get("id")):
        name = text.strip().rpartition("/")[2].removesuffix(".SAFE") if isinstance(text, str) else ""
        yield from filter(None, (form.fullmatch(name) for form in (_DATATAKE, _PRODUCT, _EARTH_SEARCH)))


def _find_platform(item: Item, names: list[re.Match[str]]) -> str | None:
    """Return the satellite, such as ``S2B``, from the item's names or its ``platform``."""
    if names:
        return names[0]["platform"]
    told = _PLATFORM.fullmatch(str(find_property(item, "platform")).strip())
    return f"S2{told[1].upper()}" if told else None


def _parse_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


class ItemSearch(Protocol):
    """Finds Sentinel-2 items."""

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items without duplicates, ordered by datetime, then id, with unsigned hrefs.

        Raises:
            SourceUnavailable: no complete answer within the deadline.
            SourceRefused: an answer that is not a page of items of allowed size.
        """


class SceneSource(ItemSearch, Protocol):
    """Finds Sentinel-2 items, and determines where their assets may be read from."""

    @property
    def local_root(self) -> Path | None:
        """The folder that local assets must be in; None if no asset may be local."""

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from."""

    @property
    def allow_loopback(self) -> bool:
        """True if assets may be read from loopback, because the items come from there."""
