"""Read and check a source item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from math import isfinite
from typing import Annotated, Any, NotRequired, TypeVar

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pc_cloudmask.errors import InvalidField, ItemError, MissingField
from pc_cloudmask.scene.geometry import (
    FARTHEST_LONGITUDE,
    boxes_meet,
    build_zone_box,
    check_footprint,
    find_bbox,
)
from pc_cloudmask.scene.grid import Grid, list_stated_grids
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import Scene, check_item_id, check_tile
from pc_cloudmask.source.fields import (
    MAX_TEXT_LENGTH,
    UNKNOWN_ID,
    Item,
    check_object,
    find_property,
    is_number,
    is_printable,
    show_id,
)
from pc_cloudmask.source.hrefs import MAX_ASSETS, check_href

T = TypeVar("T")
#: Link relations of a source item that the published item keeps, ``self`` as ``derived_from``.
REPUBLISHED_RELS = frozenset({"self", "license"})
#: Assets on Sentinel-2's 20 m grid, in the order in which their ``proj:*`` fields are tried, and assets on the 10 m
#: grid, from which the 20 m grid is derived if an item has no other.
GRID_ASSETS = ("SCL", "B8A", "B05", "B06", "B07", "B11", "B12")
FINE_ASSETS = ("B02", "B03", "B04", "B08")
PIXEL_SIZE_M, FINE_PIXEL_SIZE_M = 20.0, 10.0
_NO_GRID = f"is no north-up grid of {PIXEL_SIZE_M:g} m pixels"
#: A tile is 5490 pixels of 20 m wide.
MAX_SIDE_PX = 20_000
#: A Sentinel-2 item takes 16 kB.
MAX_ITEM_BYTES = 1 << 20
_UTM = re.compile(r"EPSG:32[67](0[1-9]|[1-5][0-9]|60)", re.ASCII)
_GREATEST_EPSG = 32_760
#: A degree of latitude in metres, and the tolerance for the ellipsoid and for a footprint that exceeds the grid.
_DEGREE_M, _TOLERANCE_DEG = 111_100, 1.0


def _check_text(text: str) -> str:
    if not is_printable(text, MAX_TEXT_LENGTH):
        raise ValueError(f"is no printable text of 1 to {MAX_TEXT_LENGTH} characters")
    return text


def _check_name(name: str) -> str:
    if not is_printable(name, 100):
        raise ValueError("has a key that is no printable text of 1 to 100 characters")
    return name


def _parse_utc(text: str) -> datetime:
    """Return the instant in a text that is published unchanged, so it must be in UTC, as STAC requires."""
    try:
        if text.endswith(("Z", "+00:00")):
            return parse_instant(text)
    except ValueError:
        pass
    raise ValueError("is no RFC 3339 instant in UTC such as 2018-12-14T13:32:19Z")


def _check_count(assets: Any) -> Any:
    if isinstance(assets, dict) and len(assets) > MAX_ASSETS:
        raise ValueError(f"are more than {MAX_ASSETS}")
    return assets


def _check_link(link: _Link) -> _Link:
    if link["rel"] in REPUBLISHED_RELS:
        check_href(link["href"])
    return link


def _check_bbox(bbox: list[float]) -> list[float]:
    """Return ``bbox`` if it is valid. West may exceed east, or either 180: such a box crosses the antimeridian."""
    if len(bbox) not in (4, 6):
        raise ValueError("does not have 4 or 6 numbers")
    (west, south), (east, north) = bbox[:2], bbox[len(bbox) // 2 :][:2]
    if max(abs(west), abs(east)) > FARTHEST_LONGITUDE or max(abs(south), abs(north)) > 90:
        raise ValueError("is not in degrees: longitude -360 to 360, latitude -90 to 90")
    if south > north:
        raise ValueError("has its south above its north: the order is west, south, east, north")
    return bbox


def _check_transform(transform: list[float]) -> list[float]:
    if len(transform) not in {6, 9}:
        raise ValueError("does not have 6 or 9 numbers")
    a, b, c, d, e, f = transform[:6]
    if (b, d, e) != (0, 0, -a) or a not in {PIXEL_SIZE_M, FINE_PIXEL_SIZE_M}:
        raise ValueError(_NO_GRID)
    if max(abs(c), abs(f)) > 1e8:
        raise ValueError("has its corner off the Earth")
    return transform


# The types of fields. Values are judged strictly: a number in a string is not a number, and true is not 1. Fields not
# named here are published unchanged, once they are known to be valid JSON.
_Text = Annotated[str, Strict(), AfterValidator(_check_text)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Href = Annotated[str, Strict(), AfterValidator(check_href)]
_Side = Annotated[float, Field(strict=True, ge=1, le=MAX_SIDE_PX, multiple_of=1)]
_Properties = TypedDict(
    "_Properties",
    {
        "datetime": Annotated[str, Strict(), AfterValidator(_parse_utc)],
        "platform": _Text,
        "s2:mgrs_tile": _Text,
        "s2:mean_solar_azimuth": Annotated[_Number, Field(ge=-360, le=360)],
        "s2:mean_solar_zenith": Annotated[_Number, Field(ge=0, le=180)],
        "s2:datatake_id": _Text,
        "s2:datastrip_id": _Text,
        "s2:processing_baseline": _Text,
    },
)


class _Link(TypedDict):
    rel: Annotated[str, Strict()]
    href: Annotated[str, Strict()]


class _Holder(TypedDict):
    href: _Href


class _Asset(_Holder):
    #: Alternative locations of the asset, by the alternate-assets extension.
    alternate: NotRequired[
        Annotated[dict[str, _Holder], BeforeValidator(lambda each: each if isinstance(each, dict) else {})]
    ]


class _Fields(TypedDict):
    """The fields of an item that are read, or checked before they are published."""

    properties: _Properties
    geometry: Annotated[dict[str, Any], AfterValidator(check_footprint)]
    assets: Annotated[
        dict[Annotated[str, AfterValidator(_check_name)], _Asset], BeforeValidator(_check_count)
    ]
    bbox: NotRequired[Annotated[list[_Number], Field(fail_fast=True), AfterValidator(_check_bbox)] | None]
    links: NotRequired[Annotated[list[Annotated[_Link, AfterValidator(_check_link)]], Field(fail_fast=True)]]
    stac_extensions: NotRequired[Annotated[list[_Text], Field(fail_fast=True)]]


_FIELDS = TypeAdapter(_Fields)
_GridAsset = TypedDict(
    "_GridAsset",
    {
        "proj:shape": Annotated[list[_Side], Field(min_length=2, max_length=2)],
        "proj:transform": Annotated[list[_Number], Field(fail_fast=True), AfterValidator(_check_transform)],
    },
)
_GRID = TypeAdapter(_GridAsset)
_GRID_FIELDS, _CRS_FIELDS = ("proj:shape", "proj:transform"), ("proj:code", "proj:epsg")


def read_scene(item: Item) -> Scene:
    """Return the scene that a Sentinel-2 L2A item describes; such an item can be published.

    Everything that is read or would be published is checked. One bad href refuses the item, because leaving out the
    asset would hide what the source sends.

    Raises:
        MissingField, InvalidField: naming the field that is absent or cannot be used; nothing else, whatever ``item``
            holds.
    """
    check_object(item)
    if item.get("id") is None:
        raise MissingField(UNKNOWN_ID, "id")
    item_id = check_item_id(item["id"])
    if missing := _find_missing(item):
        raise MissingField(item_id, *missing)
    fields = _validate(_FIELDS, item, item_id)
    properties, grid = fields["properties"], _read_grid(item, item_id)
    nodata_pct = find_property(item, "s2:nodata_pixel_percentage")
    scene = Scene(
        id=item_id,
        datetime=properties["datetime"],  # type: ignore[arg-type]  # its validator returns an instant
        tile=check_tile(properties["s2:mgrs_tile"], item_id),
        platform=properties["platform"],
        grid=grid,
        solar_azimuth_deg=properties["s2:mean_solar_azimuth"],
        solar_zenith_deg=properties["s2:mean_solar_zenith"],
        datatake_id=properties["s2:datatake_id"],
        datastrip_id=properties["s2:datastrip_id"],
        processing_baseline=properties["s2:processing_baseline"],
        footprint=fields["geometry"],
        asset_hrefs={name: asset["href"] for name, asset in fields["assets"].items()},
        nodata_pct=float(nodata_pct) if is_number(nodata_pct) and 0 <= nodata_pct <= 100 else None,
        asset_grids={name: list_stated_grids(grid, asset) for name, asset in item["assets"].items()},
    )
    _check_place(scene)
    _check_encoded(item, item_id)
    return scene


def _check_encoded(item: Item, item_id: str) -> None:
    """Check that ``item`` is JSON that may be published."""
    encoded = _encode(item, item_id)
    if len(encoded) > MAX_ITEM_BYTES:
        raise InvalidField(item_id, "item", f"takes more than {MAX_ITEM_BYTES} bytes")
    if b"null" in encoded and (path := _find_not_finite(item)):
        raise InvalidField(item_id, path, "is NaN or infinite, which JSON does not have")


def _check_place(scene: Scene) -> None:
    """Check that tile, grid and footprint are in the same place, as far as that requires no projection."""
    zone = f"EPSG:{'326' if scene.tile[2] >= 'N' else '327'}{scene.tile[:2]}"
    if scene.grid.crs != zone:
        raise InvalidField(
            scene.id, "s2:mgrs_tile", f"{scene.tile} lies in {zone}, and the grid in {scene.grid.crs}"
        )
    west, south_deg, east, north_deg = find_bbox(scene.footprint)
    _, south_m, _, north_m = scene.grid.bounds
    equator_m = 10_000_000 if scene.tile[2] < "N" else 0
    south, north = ((metres - equator_m) / _DEGREE_M for metres in (south_m, north_m))
    meets_grid = south_deg <= north + _TOLERANCE_DEG and south - _TOLERANCE_DEG <= north_deg
    if not meets_grid or not boxes_meet((west, south_deg, east, north_deg), build_zone_box(scene.tile[:3])):
        raise InvalidField(scene.id, "geometry", f"is not where tile {scene.tile} and its grid are")


def hash_item(item: Item) -> str:
    """Return the SHA-256, in hex, of what ``item`` says about its scene.

    The order of keys and the links do not count; of a local href, only the file name counts, so that an archive may be
    moved. ``item`` has no signatures; a value that JSON does not have, such as a number beyond 64 bits, is refused.
    """
    check_object(item)
    hashed = {name: value for name, value in item.items() if name != "links"}
    if isinstance(assets := hashed.get("assets"), dict):
        hashed["assets"] = {name: _without_folder(asset) for name, asset in assets.items()}
    return sha256(_encode(hashed, show_id(item))).hexdigest()


def _encode(item: Item, item_id: str) -> bytes:
    """Return ``item`` as JSON, with NaN and infinity, which JSON does not have, as null."""
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidField(item_id, "item", f"is no JSON: {error}") from error


def _find_not_finite(value: Any, path: str = "") -> str:
    """Return the path of the first number that is not finite, without unprintable names; empty if there is none."""
    if isinstance(value, float):
        return "" if isfinite(value) else path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        if found := _find_not_finite(inner, _lengthen(path, step)):
            return found
    return ""


def _without_folder(asset: Any) -> Any:
    if isinstance(asset, dict) and isinstance(asset.get("href"), str) and "://" not in asset["href"]:
        return {**asset, "href": asset["href"].rpartition("/")[2]}
    return asset


def _validate(types: TypeAdapter[T], value: Any, item_id: str, *path: str) -> T:
    """Return ``value``, found at ``path`` in the item, as validated with ``types``."""
    try:
        return types.validate_python(value)
    except ValidationError as error:
        raise _explain(error, item_id, path) from error


def _explain(error: ValidationError, item_id: str, path: tuple[str, ...]) -> ItemError:
    """Return the error for the first field that is absent or cannot be used.

    Its text repeats nothing of the item but its checked id and names of fields: it may contain anything.
    """
    first = error.errors(include_url=False)[0]
    field = ""
    for step in (*path, *first["loc"]):
        if (longer := _lengthen(field, step)) == field or step == "[key]":
            break
        field = longer
    # Null counts as absent, except for lists that may be omitted.
    absent = first["type"] == "missing" or first["input"] is None
    if absent and not field.startswith(("links", "stac_extensions")):
        return MissingField(item_id, field)
    if first["type"] == "value_error":
        return InvalidField(item_id, field, str(first["ctx"]["error"]))
    text = first["msg"]
    problem = text.removeprefix("Input ") if text.startswith("Input ") else f"is wrong: {text}"
    return InvalidField(item_id, field, problem)


def _lengthen(path: str, step: object) -> str:
    """Return ``path`` extended by ``step``, if that is printable."""
    longer = f"{path}.{step}".lstrip(".")
    return longer if is_printable(longer, MAX_TEXT_LENGTH) else path


def _read_grid(item: Item, item_id: str) -> Grid:
    """Return the 20 m grid according to the first usable asset in ``GRID_ASSETS``."""
    name = _find_grid_asset(item["assets"])
    asset = item["assets"].get(name)
    fields = _validate(_GRID, asset, item_id, "assets", name)
    height, width = map(int, fields["proj:shape"])
    a, b, c, d, e, f = fields["proj:transform"][:6]
    grid = Grid(_read_crs(item, name, item_id), (a, b, c, d, e, f), (height, width))
    if name in FINE_ASSETS and a == FINE_PIXEL_SIZE_M:
        return grid.at_pixel_size(PIXEL_SIZE_M)
    if a != PIXEL_SIZE_M:
        raise InvalidField(item_id, f"assets.{name}.proj:transform", _NO_GRID)
    return grid


def _find_grid_asset(assets: Mapping[str, Any]) -> str:
    """Return the first asset that exists and gives the grid."""
    names = (*GRID_ASSETS, *FINE_ASSETS)
    return next((name for name in names if assets.get(name) is not None), GRID_ASSETS[0])


def _find_missing(item: Item) -> list[str]:
    """Return all required fields that are absent, so that producers need not fix them one at a time."""
    missing = [name for name in ("properties", "geometry", "assets") if item.get(name) is None]
    properties, assets = item.get("properties"), item.get("assets")
    if isinstance(properties, dict):
        missing += [
            f"properties.{name}" for name in _Properties.__annotations__ if properties.get(name) is None
        ]
    if not isinstance(assets, dict) or not isinstance(properties, dict):
        return missing
    if len(assets) > MAX_ASSETS:  # truncated by ``unsign_item``, and refused for their number
        return []
    name = _find_grid_asset(assets)
    asset = assets.get(name)
    if asset is None:
        return [*missing, f"assets.{name}"]
    if isinstance(asset, dict):
        missing += [f"assets.{name}.{field}" for field in _GRID_FIELDS if asset.get(field) is None]
        codes = [holder.get(field) for holder in (asset, properties) for field in _CRS_FIELDS]
        missing += ["properties.proj:code"] if all(code is None for code in codes) else []
    return missing


def _read_crs(item: Item, asset: str, item_id: str) -> str:
    holders = {f"assets.{asset}": item["assets"][asset], "properties": item["properties"]}
    codes: dict[str, Any] = {
        f"{path}.{name}": holder.get(name) for path, holder in holders.items() for name in _CRS_FIELDS
    }
    given = ((path, value) for path, value in codes.items() if value is not None)
    path, value = next(given, ("properties.proj:code", ""))  # _find_missing has refused an item without any
    # Programs that store it in a column of floats write 32606.0.
    is_epsg = is_number(value) and value == int(value) and 0 < value <= _GREATEST_EPSG
    code = f"EPSG:{int(value)}" if is_epsg else value
    if not isinstance(code, str) or not _UTM.fullmatch(code):
        raise InvalidField(item_id, path, "is no UTM zone on WGS 84, EPSG:32601 to EPSG:32760")
    return code
