"""The source item as we read it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from flows.errors import InvalidField, MissingField
from flows.scene.grid import Affine, Grid, Shape
from flows.scene.scene import Scene
from flows.stac.layout import check_item_id, check_tile

Item = dict[str, Any]

GRID_ASSETS = ("SCL", "B8A")
"""Assets on Sentinel-2's 20 m grid, in the order in which their ``proj:*`` fields are asked for."""
PIXEL_SIZE_M = 20.0
MAX_SIDE_PX = 20_000
"""A tile has 5490 pixels of 20 m a side."""

_SAS_PARAMETERS = frozenset(
    {"sv", "ss", "srt", "sr", "sp", "st", "se", "spr", "sip", "sig", "sdd", "ses", "scid"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid"}
)
"""Query parameters of Azure's shared access signatures."""
_UTM = re.compile(r"EPSG:32[67](0[1-9]|[1-5][0-9]|60)")


def read_scene(item: Item) -> Scene:
    """The scene that a Sentinel-2 L2A item describes.

    Raises:
        MissingField, InvalidField: naming the field that is absent or cannot be used.
    """
    reader = _Reader(item)
    grid = _read_grid(reader)
    azimuth = reader.number("properties.s2:mean_solar_azimuth", -360.0, 360.0)
    return Scene(
        id=reader.item_id,
        datetime=_read_datetime(reader),
        tile=check_tile(reader.text("properties.s2:mgrs_tile"), reader.item_id),
        platform=reader.text("properties.platform"),
        grid=grid,
        solar_azimuth_deg=azimuth,
        solar_zenith_deg=reader.number("properties.s2:mean_solar_zenith", 0.0, 180.0),
        datatake_id=reader.text("properties.s2:datatake_id"),
        datastrip_id=reader.text("properties.s2:datastrip_id"),
        processing_baseline=reader.text("properties.s2:processing_baseline"),
        footprint=reader.mapping("geometry"),
        asset_hrefs=_read_hrefs(reader),
    )


def strip_signatures(item: Item) -> Item:
    """``item`` without the parameters of shared access signatures in any href; shares what is unchanged.

    Whatever is no asset or link of the usual form stays as it is: ``read_scene`` judges it.
    """
    stripped = dict(item)
    if isinstance(assets := item.get("assets"), dict):
        stripped["assets"] = {name: _strip_holder(asset) for name, asset in assets.items()}
    if isinstance(links := item.get("links"), list):
        stripped["links"] = [_strip_holder(link) for link in links]
    return stripped


def strip_signature(href: str) -> str:
    """``href`` without the parameters of a shared access signature; others stay as they are written."""
    if "?" not in href:
        return href
    base, _, query = href.partition("?")
    kept = [part for part in query.split("&") if part.partition("=")[0].lower() not in _SAS_PARAMETERS]
    return f"{base}?{'&'.join(kept)}" if kept else base


def hash_item(item: Item) -> str:
    """SHA-256, in hex, of what ``item`` says, whatever the order of its keys and the signatures in its hrefs.

    A local href counts by its file name alone: an archive may be moved.

    Raises:
        InvalidField: it holds what JSON cannot, such as a number beyond 64 bits.
    """
    stripped = strip_signatures(item)
    stripped.pop("links", None)
    if isinstance(assets := stripped.get("assets"), dict):
        stripped["assets"] = {name: _without_folder(asset) for name, asset in assets.items()}
    try:
        return sha256(orjson.dumps(stripped, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except orjson.JSONEncodeError as error:
        raise InvalidField(repr(item.get("id"))[:60], "item", f"is no JSON: {error}") from error


def _strip_holder(holder: Any) -> Any:
    if isinstance(holder, dict) and isinstance(holder.get("href"), str):
        return {**holder, "href": strip_signature(holder["href"])}
    return holder


def _without_folder(asset: Any) -> Any:
    if isinstance(asset, dict) and isinstance(asset.get("href"), str) and "://" not in asset["href"]:
        return {**asset, "href": asset["href"].rpartition("/")[2]}
    return asset


class _Reader:
    """Takes fields out of an item by their dotted path; says which one is missing or wrong."""

    def __init__(self, item: Item) -> None:
        self._item = item
        if not isinstance(item, dict):
            raise InvalidField("?", "item", "is no JSON object")
        self.item_id = "?"
        item_id = self.text("id")
        self.item_id = check_item_id(item_id)

    def find(self, path: str) -> Any:
        """The value at ``path``; None where there is none, or no object on the way to it."""
        value: Any = self._item
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def required(self, path: str) -> Any:
        value = self.find(path)
        if value is None:
            raise MissingField(self.item_id, path)
        return value

    def text(self, path: str) -> str:
        value = self.required(path)
        if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable():
            raise self.invalid(path, "is no text of 1 to 200 characters")
        return value

    def number(self, path: str, least: float, most: float) -> float:
        value = self.required(path)
        if not _is_number(value) or not least <= value <= most:
            raise self.invalid(path, f"is no number between {least:g} and {most:g}")
        return float(value)

    def mapping(self, path: str) -> dict[str, Any]:
        value = self.required(path)
        if not isinstance(value, dict):
            raise self.invalid(path, "is no JSON object")
        return value

    def numbers(self, path: str) -> list[float]:
        value = self.required(path)
        if not isinstance(value, list) or not all(_is_number(number) for number in value):
            raise self.invalid(path, "is no list of finite numbers")
        return value

    def invalid(self, path: str, problem: str) -> InvalidField:
        return InvalidField(self.item_id, path, problem)


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number that a double holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _read_datetime(reader: _Reader) -> datetime:
    text = reader.text("properties.datetime")
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise reader.invalid("properties.datetime", "is no RFC 3339 instant") from error


def _read_grid(reader: _Reader) -> Grid:
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


def _read_crs(reader: _Reader, asset_path: str) -> str:
    for path in (
        f"{asset_path}.proj:code",
        f"{asset_path}.proj:epsg",
        "properties.proj:code",
        "properties.proj:epsg",
    ):
        value = reader.find(path)
        if value is None:
            continue
        code = value if isinstance(value, str) else f"EPSG:{value}" if type(value) is int else ""
        if not _UTM.fullmatch(code):
            raise reader.invalid(path, "is no UTM zone on WGS 84, EPSG:32601 to EPSG:32760")
        return code
    raise MissingField(reader.item_id, "properties.proj:code")


def _read_hrefs(reader: _Reader) -> Mapping[str, str]:
    hrefs = {}
    for name, asset in reader.mapping("assets").items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if not isinstance(href, str) or not href:
            raise reader.invalid(f"assets.{name:.40}", "has no href")
        hrefs[name] = strip_signature(href)
    return hrefs
