"""The source item as we read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from itertools import islice
from math import isfinite
from typing import Any

import orjson

from pc_cloudmask.errors import InvalidField, MissingField
from pc_cloudmask.scene.geometry import check_footprint
from pc_cloudmask.scene.grid import Affine, Grid, Shape
from pc_cloudmask.scene.ids import check_tile
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.fields import MAX_TEXT_LENGTH, UNKNOWN_ID, Item, ItemReader, is_number, is_printable
from pc_cloudmask.source.hrefs import MAX_ASSETS, read_hrefs

#: Beyond 180: the Planetary Computer leaves a footprint across the antimeridian whole, 179 to 181.
_FARTHEST_LONGITUDE = 360


def _read_footprint(reader: ItemReader) -> Mapping[str, Any]:
    geometry = reader.mapping("geometry")
    try:
        check_footprint(geometry)
    except ValueError as error:
        raise reader.invalid("geometry", str(error)) from error
    return geometry


def check_bbox(reader: ItemReader) -> None:
    """See that the item's bbox, where it has one, is what GeoJSON says.

    West may be east of east, or either lie beyond 180: such a box crosses the antimeridian.

    Raises:
        InvalidField: it is not.
    """
    if reader.find("bbox") is None:
        return
    bbox = reader.numbers("bbox")
    if len(bbox) not in (4, 6):
        raise reader.invalid("bbox", "does not have 4 or 6 numbers")
    (west, south), (east, north) = bbox[:2], bbox[len(bbox) // 2 :][:2]
    if not (_is_position([west, south]) and _is_position([east, north])):
        raise reader.invalid("bbox", "is not in degrees: longitude -360 to 360, latitude -90 to 90")
    if south > north:
        raise reader.invalid("bbox", "has its south above its north: the order is west, south, east, north")


def _is_position(position: Any) -> bool:
    if not isinstance(position, list) or len(position) not in (2, 3) or not all(map(is_number, position)):
        return False
    longitude, latitude = position[:2]
    return bool(abs(longitude) <= _FARTHEST_LONGITUDE and -90 <= latitude <= 90)


#: Assets on Sentinel-2's 20 m grid, in the order in which their ``proj:*`` fields are asked for.
GRID_ASSETS = ("SCL", "B8A")
PIXEL_SIZE_M = 20.0
#: A tile has 5490 pixels of 20 m a side.
MAX_SIDE_PX = 20_000
#: A Sentinel-2 item takes 16 kB.
MAX_ITEM_BYTES = 1 << 20
_UTM = re.compile(r"EPSG:32[67](0[1-9]|[1-5][0-9]|60)", re.ASCII)
_GREATEST_EPSG = 32_760
_UTC_SUFFIXES = ("Z", "+00:00")
_NO_INSTANT = "is no RFC 3339 instant in UTC such as 2018-12-14T13:32:19Z"


def read_scene(item: Item) -> Scene:
    """The scene that a Sentinel-2 L2A item describes; such an item can be published.

    What is read is checked, and so is what would be published of it: hrefs, the bbox, that it is JSON.

    Raises:
        MissingField, InvalidField: naming the field that is absent or cannot be used; nothing else,
            whatever ``item`` holds.
    """
    reader = ItemReader(item)
    if len(reader.mapping("assets")) > MAX_ASSETS:
        raise reader.invalid("assets", f"are more than {MAX_ASSETS}")
    scene = Scene(
        id=reader.item_id,
        datetime=_read_datetime(reader),
        tile=check_tile(reader.text("properties.s2:mgrs_tile"), reader.item_id),
        platform=reader.text("properties.platform"),
        grid=_read_grid(reader),
        solar_azimuth_deg=reader.number("properties.s2:mean_solar_azimuth", -360.0, 360.0),
        solar_zenith_deg=reader.number("properties.s2:mean_solar_zenith", 0.0, 180.0),
        datatake_id=reader.text("properties.s2:datatake_id"),
        datastrip_id=reader.text("properties.s2:datastrip_id"),
        processing_baseline=reader.text("properties.s2:processing_baseline"),
        footprint=_read_footprint(reader),
        asset_hrefs=read_hrefs(reader),
    )
    check_bbox(reader)
    if not all(is_printable(uri, MAX_TEXT_LENGTH) for uri in reader.sequence("stac_extensions")):
        raise reader.invalid("stac_extensions", f"are no texts of 1 to {MAX_TEXT_LENGTH} characters")
    encoded = _encode(item, reader.item_id)
    if len(encoded) > MAX_ITEM_BYTES:
        raise reader.invalid("item", f"takes more than {MAX_ITEM_BYTES} bytes")
    if b"null" in encoded and (path := _find_not_finite(item)):
        raise reader.invalid(path, "is NaN or infinite, which JSON does not have")
    return scene


def bound_assets(item: Item) -> Item:
    """``item`` with no more assets than it takes for ``read_scene`` to refuse it for their number.

    For sources: what follows copies an item several times, and a million assets are a gigabyte.
    """
    assets = item.get("assets")
    if not isinstance(assets, dict) or len(assets) <= MAX_ASSETS:
        return item
    return {**item, "assets": dict(islice(assets.items(), MAX_ASSETS + 1))}


def hash_item(item: Item) -> str:
    """SHA-256, in hex, of what ``item`` says of its scene.

    Neither the order of its keys counts nor links; of a local href the file name alone, so that an
    archive may be moved. ``item`` is free of signatures.

    Raises:
        InvalidField: it holds what JSON cannot, such as a number beyond 64 bits.
    """
    if not isinstance(item, dict):
        raise InvalidField(UNKNOWN_ID, "item", "is no JSON object")
    hashed = {name: value for name, value in item.items() if name != "links"}
    if isinstance(assets := hashed.get("assets"), dict):
        hashed["assets"] = {name: _without_folder(asset) for name, asset in assets.items()}
    item_id = item.get("id")
    shown = str(item_id) if is_printable(item_id, MAX_TEXT_LENGTH) else UNKNOWN_ID
    return sha256(_encode(hashed, shown)).hexdigest()


def _encode(item: Item, item_id: str) -> bytes:
    """``item`` as JSON; NaN and infinity, which JSON does not have, as null."""
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidField(item_id, "item", f"is no JSON: {error}") from error


def _find_not_finite(value: Any, path: str = "") -> str:
    """The path of the first number that JSON cannot tell, without names that cannot be shown; else empty."""
    if isinstance(value, float):
        return "" if isfinite(value) else path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        longer = f"{path}.{step}".lstrip(".")
        if found := _find_not_finite(inner, longer if is_printable(longer, MAX_TEXT_LENGTH) else path):
            return found
    return ""


def _without_folder(asset: Any) -> Any:
    if isinstance(asset, dict) and isinstance(asset.get("href"), str) and "://" not in asset["href"]:
        return {**asset, "href": asset["href"].rpartition("/")[2]}
    return asset


def _read_datetime(reader: ItemReader) -> datetime:
    """The acquisition; STAC wants it in UTC, and it is published as it stands."""
    path = "properties.datetime"
    text = reader.text(path)
    try:
        moment = parse_instant(text)
    except ValueError as error:
        raise reader.invalid(path, _NO_INSTANT) from error
    if not text.endswith(_UTC_SUFFIXES):
        raise reader.invalid(path, _NO_INSTANT)
    return moment


def _read_grid(reader: ItemReader) -> Grid:
    """The 20 m grid that the first of ``GRID_ASSETS`` tells."""
    asset = next((name for name in GRID_ASSETS if reader.find(f"assets.{name}") is not None), GRID_ASSETS[0])
    path = f"assets.{asset}"
    shape_path, transform_path = f"{path}.proj:shape", f"{path}.proj:transform"
    shape = reader.numbers(shape_path)
    transform = reader.numbers(transform_path)
    if len(shape) != 2 or not all(1 <= side <= MAX_SIDE_PX and side == int(side) for side in shape):
        raise reader.invalid(shape_path, f"is not two whole numbers from 1 to {MAX_SIDE_PX}")
    if len(transform) not in {6, 9}:
        raise reader.invalid(transform_path, "does not have 6 or 9 numbers")
    a, b, c, d, e, f = transform[:6]
    if (a, b, d, e) != (PIXEL_SIZE_M, 0, 0, -PIXEL_SIZE_M):
        raise reader.invalid(transform_path, f"is no north-up grid of {PIXEL_SIZE_M:g} m pixels")
    if not all(abs(coordinate) <= 1e8 for coordinate in (c, f)):
        raise reader.invalid(transform_path, "has its corner off the Earth")
    affine: Affine = (float(a), float(b), float(c), float(d), float(e), float(f))
    height_width: Shape = (int(shape[0]), int(shape[1]))
    return Grid(_read_crs(reader, path), affine, height_width)


def _read_crs(reader: ItemReader, asset_path: str) -> str:
    for path in (
        f"{asset_path}.proj:code",
        f"{asset_path}.proj:epsg",
        "properties.proj:code",
        "properties.proj:epsg",
    ):
        value = reader.find(path)
        if value is None:
            continue
        is_epsg = type(value) is int and 0 < value <= _GREATEST_EPSG
        code = f"EPSG:{value}" if is_epsg else value
        if not isinstance(code, str) or not _UTM.fullmatch(code):
            raise reader.invalid(path, "is no UTM zone on WGS 84, EPSG:32601 to EPSG:32760")
        return code
    raise MissingField(reader.item_id, "properties.proj:code")
