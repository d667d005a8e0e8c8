"""What may be published of a source item: the fields that STAC and the extensions it lists allow.

The rule: whatever the mask depends on, the item's place in the catalog and every href must be sound, or the item is
refused with the name of the field (``pc_cloudmask.source.item``). Any other field that its schema does not allow is
left out and named in one line of the log, and so is an extension that is unknown to us or has no field in the item. So
whatever an item holds, what is published of it is valid.

The types are those of STAC 1.1's common metadata and of the extensions that an item may list, as in their schemas.
Values are judged strictly: a number in a string is not a number, and true is not 1. A type is never looser than its
schema. ``proj:projjson`` is not included: its schema belongs to another project, and is long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Required

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from pc_cloudmask.catalog.fields import EXTENSIONS_URI, PUBLISHED_URIS, find_unlisted, merge_extensions
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET
from pc_cloudmask.source.fields import Item
from stac_ext import cloudmask


def _check(is_allowed: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a validator that lets only allowed values pass."""

    def check(value: Any) -> Any:
        if not is_allowed(value):
            raise ValueError("is not allowed")
        return value

    return check


def _are_distinct(values: list[Any]) -> bool:
    return len({orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values}) == len(values)


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Integer = Annotated[Number, Field(multiple_of=1)]
Count = Annotated[Integer, Field(ge=0)]
Ordinal = Annotated[Integer, Field(ge=1)]
Percentage = Annotated[Number, Field(ge=0, le=100)]
Azimuth = Annotated[Number, Field(ge=0, le=360)]
Angle = Annotated[Number, Field(ge=0, le=90)]
Elevation = Annotated[Number, Field(ge=-90, le=90)]
Longitude = Annotated[Number, Field(ge=-180, le=180)]
Filled = Annotated[str, Field(min_length=1)]
Moment = Annotated[str, AfterValidator(parse_instant)]
Instant = Annotated[str, Field(pattern=r"(Z|\+00:00)$"), AfterValidator(parse_instant)]
DataType = Literal[
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "cint16", "cint32", "cfloat32", "cfloat64", "other",
]  # fmt: skip
NoData = Number | Literal["nan", "inf", "-inf"]
Sampling = Literal["area", "point"]


def _list(kind: Any, least: int = 0, most: int | None = None, *, distinct: bool = False) -> Any:
    """Return the type of a list of ``kind``; its first bad entry ends the check, so that a long one costs no more."""
    checks = [AfterValidator(_check(_are_distinct))] if distinct else []
    return Annotated[list[kind], FailFast(), Field(min_length=least, max_length=most), *checks]


def _object(kinds: Mapping[str, Any], required: Iterable[str] = (), *, closed: bool = False) -> Any:
    """Return the type of an object with fields of these ``kinds``, a ``closed`` one with no others.

    If no field is ``required``, there must be some field all the same.
    """
    fields = {name: Required[kind] if name in required else kind for name, kind in kinds.items()}
    made = TypedDict("made", fields, total=False)  # type: ignore[misc]
    with_config(ConfigDict(extra="forbid" if closed else "ignore"))(made)
    return made if required else Annotated[made, BeforeValidator(_check(lambda value: value != {}))]


_STATISTICS = _object({
    **dict.fromkeys(("minimum", "maximum", "mean", "stddev"), Number), "count": Count, "valid_percent": Percentage,
})  # fmt: skip
_ROLES = _list(Literal["producer", "licensor", "processor", "host"])
_PROVIDER = _object({"name": Filled, "description": str, "roles": _ROLES, "url": str}, {"name"})
_COMMON_NAME = Literal[
    "coastal", "blue", "green", "green053", "green057", "red", "rededge", "yellow", "pan", "nir", "nir08",
    "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
]  # fmt: skip
_WAVES = ("center_wavelength", "full_width_half_max", "solar_illumination")
#: A spectral band, before version 2 of ``eo``.
_EO_BAND = _object({"name": str, "common_name": _COMMON_NAME, **dict.fromkeys(_WAVES, Number)})
_HISTOGRAM = _object(
    {**dict.fromkeys(("count", "min", "max"), Number), "buckets": _list(Integer, 3)},
    {"count", "min", "max", "buckets"},
    closed=True,
)
#: Statistics and a band before version 2 of ``raster``.
_RASTER_STATISTICS = _object(
    dict.fromkeys(("mean", "minimum", "maximum", "stddev", "valid_percent"), Number), closed=True
)
_RASTER_BAND = _object(
    {
        "data_type": DataType,
        "unit": str,
        "bits_per_sample": Integer,
        "sampling": Sampling,
        "nodata": NoData,
        **dict.fromkeys(("scale", "offset", "spatial_resolution"), Number),
        "statistics": _RASTER_STATISTICS,
        "histogram": _HISTOGRAM,
    }
)
_CLASS = _object(
    {
        "value": Integer,
        "name": Annotated[str, Field(pattern="^[0-9A-Za-z_-]+$")],
        **dict.fromkeys(("title", "description"), str),
        "color_hint": Annotated[str, Field(pattern="^[0-9A-Fa-f]{6}$")],
        "nodata": bool,
        "percentage": Percentage,
        "count": Count,
    },
    {"value", "name"},
)
_CLASSES = _list(_CLASS, 1, distinct=True)
_BIT_FIELD = _object(
    {
        "offset": Count,
        "length": Ordinal,
        "classes": _CLASSES,
        "roles": _list(str, 1, distinct=True),
        **dict.fromkeys(("description", "name"), str),
    },
    {"offset", "length", "classes"},
)
_EXPRESSION = _object({"format": str, "expression": Any}, {"format", "expression"})
_FILE_VALUES = _object({"values": _list(Any, 1), "summary": Filled}, {"values", "summary"})
_CENTROID = _object({"lat": Elevation, "lon": Longitude}, {"lat", "lon"})
_RINGS = _list(_list(_list(Number, 2), 4))
_POLYGON = _object({"type": Literal["Polygon"], "coordinates": _RINGS}, {"type", "coordinates"}, closed=True)
_BOX = Annotated[list[Number], FailFast(), AfterValidator(_check(lambda numbers: len(numbers) in {4, 6}))]
_TRANSFORM = Annotated[
    list[Number], FailFast(), AfterValidator(_check(lambda numbers: len(numbers) in {6, 9}))
]
#: Types of the fields of STAC's common metadata, in properties, assets and bands alike; ``bands`` themselves are
#: checked band by band.
COMMON: Mapping[str, Any] = {
    **dict.fromkeys(("title", "unit", "platform", "constellation", "mission", "type"), str),
    **dict.fromkeys(("keywords", "roles", "instruments"), _list(str)),
    **dict.fromkeys(("start_datetime", "end_datetime", "created", "updated"), Instant),
    "description": Filled,
    "datetime": Instant | None,
    "data_type": DataType,
    "nodata": NoData,
    "statistics": _STATISTICS,
    "gsd": Positive,
    "license": Annotated[str, Field(pattern="^[0-9A-Za-z_.+-]+$")],
    "providers": _list(_PROVIDER),
}
_EO: Mapping[str, Any] = {"eo:cloud_cover": Percentage, "eo:bands": _list(_EO_BAND, 1)}
_SAT: Mapping[str, Any] = {
    "sat:platform_international_designator": str,
    "sat:orbit_state": Literal["ascending", "descending", "geostationary"],
    **dict.fromkeys(("sat:absolute_orbit", "sat:relative_orbit", "sat:orbit_cycle"), Ordinal),
    "sat:anx_datetime": Moment,
}
_VIEW: Mapping[str, Any] = {
    **dict.fromkeys(("view:off_nadir", "view:incidence_angle"), Angle),
    **dict.fromkeys(("view:azimuth", "view:sun_azimuth"), Azimuth),
    "view:sun_elevation": Elevation,
}
_TIMESTAMPS = dict.fromkeys(("published", "unpublished", "expires"), Instant)


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension allows: of the fields with its prefixes, only these.

    ``needs`` are properties without which its schema refuses an item; ``in_assets`` and ``in_bands`` say whether it is
    enough if only assets, or only their bands, have its fields.
    """

    fields: Mapping[str, Any]
    needs: frozenset[str] = frozenset()
    in_assets: bool = True
    in_bands: bool = False


#: Extensions that an item may list, by the end of their URI: those whose every field is checked here.
EXTENSIONS: Mapping[str, Extension] = {
    "projection/v2.0.0": Extension({
        "proj:code": str | None,
        "proj:wkt2": str | None,
        "proj:geometry": _POLYGON,
        "proj:bbox": _BOX,
        "proj:centroid": _CENTROID,
        "proj:shape": _list(Integer, 2, 2),
        "proj:transform": _TRANSFORM,
    }),
    "classification/v2.0.0": Extension(
        {"classification:classes": _CLASSES, "classification:bitfields": _list(_BIT_FIELD, 1, distinct=True)}
    ),
    "file/v2.1.0": Extension({
        "file:byte_order": Literal["big-endian", "little-endian"],
        "file:checksum": Annotated[str, Field(pattern="^[a-f0-9]+$")],
        **dict.fromkeys(("file:header_size", "file:size"), Count),
        "file:values": _list(_FILE_VALUES, 1),
        "file:local_path": Annotated[
            str, Field(pattern=r"""^[^\r\n\t\\:'"/]+(/[^\r\n\t\\:'"/]+)*/?$""")
        ],
    }),
    "processing/v1.2.0": Extension({
        "processing:expression": _EXPRESSION,
        **dict.fromkeys(
            ("processing:lineage", "processing:level", "processing:facility", "processing:version"), str
        ),
        "processing:datetime": Instant,
        "processing:software": dict[str, str],
    }),
    "version/v1.2.0": Extension({"version": str, "deprecated": bool, "experimental": bool}),
    "eo/v1.0.0": Extension(_EO),
    "eo/v1.1.0": Extension({**_EO, "eo:snow_cover": Percentage}),
    "eo/v2.0.0": Extension({
        **dict.fromkeys(("eo:cloud_cover", "eo:snow_cover"), Percentage),
        "eo:common_name": Literal[
            "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071",
            "rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir",
            "lwir11", "lwir12",
        ],
        **dict.fromkeys(("eo:center_wavelength", "eo:full_width_half_max"), Positive),
        "eo:solar_illumination": Annotated[Number, Field(ge=0)],
    }, in_bands=True),
    "raster/v1.1.0": Extension({"raster:bands": _list(_RASTER_BAND, 1)}),
    "raster/v2.0.0": Extension({
        "raster:bits_per_sample": Integer,
        "raster:sampling": Sampling,
        **dict.fromkeys(("raster:scale", "raster:offset", "raster:spatial_resolution"), Number),
        "raster:histogram": _HISTOGRAM,
    }, in_bands=True),
    "sat/v1.0.0": Extension(_SAT, in_assets=False),
    "sat/v1.1.0": Extension(_SAT, in_assets=False),
    "sat/v1.2.0": Extension({
        **_SAT,
        "sat:orbit_state": Literal["ascending", "descending", "geostationary", "crossing"],
        "sat:acquisition_station": str,
    }, in_assets=False),
    "view/v1.0.0": Extension(_VIEW),
    "view/v1.1.0": Extension({**_VIEW, "view:moon_azimuth": Azimuth, "view:moon_elevation": Angle}),
    "grid/v1.0.0": Extension(
        {"grid:code": Annotated[str, Field(pattern="^[A-Z]+-[-_.A-Za-z0-9]+$")]}, frozenset({"grid:code"})
    ),
    "grid/v1.1.0": Extension(
        {"grid:code": Annotated[str, Field(pattern="^[A-Z0-9]+-[-_.A-Za-z0-9]+$")]}, frozenset({"grid:code"})
    ),
    "mgrs/v1.0.0": Extension(
        {"mgrs:latitude_band": str, "mgrs:grid_square": str, "mgrs:utm_zone": Integer},
        frozenset({"mgrs:latitude_band", "mgrs:grid_square"}),
    ),
    "timestamps/v1.0.0": Extension(_TIMESTAMPS),
    "timestamps/v1.1.0": Extension(_TIMESTAMPS),
}  # fmt: skip
#: Fields that are lists of objects with fields of their own.
_BANDS = ("bands", "raster:bands")
_OWN_ASSETS = frozenset({MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET})
_OWN_PREFIX = cloudmask.PREFIX.rstrip(":")
_MOST_NAMED = 10
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ValidSource:
    """What may be published of a source item, and the names of what was left out."""

    item: Item
    left_out: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line on what was left out: ``properties.gsd, assets.B02.roles and 3 more``."""
        shown = (name[:_LONGEST_NAME] for name in self.left_out[:_MOST_NAMED])
        named = ", ".join(name if name.isprintable() else ascii(name) for name in shown)
        further = len(self.left_out) - _MOST_NAMED
        return f"{named} and {further} more" if further > 0 else named


class _Rules(NamedTuple):
    """The types of known fields, and the prefixes that allow no other fields than these."""

    types: Mapping[str, TypeAdapter[Any]]
    closed: Mapping[str, frozenset[str]]


def keep_valid(item: Item) -> ValidSource:
    """Return what may be published of ``item``, which can be read as a scene; ``item`` itself is not changed."""
    known = [uri for uri in item.get("stac_extensions", ()) if _find_end(uri) in EXTENSIONS]
    uris = merge_extensions(known, PUBLISHED_URIS)
    rules, left_out = _build_rules(tuple(uris)), list[str]()
    geometry = {name: item["geometry"][name] for name in ("type", "coordinates")}
    left_out += [f"geometry.{name}" for name in item["geometry"] if name not in geometry]
    properties = _keep_fields(item["properties"], rules, "properties", left_out)
    assets = {
        name: _keep_fields(asset, rules, f"assets.{name}", left_out) for name, asset in item["assets"].items()
    }
    theirs = {name: asset for name, asset in assets.items() if name not in _OWN_ASSETS}
    for name in ("bands", "eo:bands"):
        # As in the schemas: an item may have bands only if an asset has some.
        if name in properties and not any(name in asset for asset in theirs.values()):
            del properties[name]
            left_out.append(f"properties.{name}")
    kept = [
        uri
        for uri in uris
        if uri in PUBLISHED_URIS or _is_used(EXTENSIONS[_find_end(uri)], properties, theirs)
    ]
    left_out += [f"stac_extensions {uri}" for uri in find_unlisted(item.get("stac_extensions", ()), kept)]
    valid = {"geometry": geometry, "properties": properties, "assets": assets, "stac_extensions": kept}
    return ValidSource({**item, **valid}, tuple(left_out))


def migrate_projection(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``fields`` with the projection extension's ``proj:epsg`` replaced, in its place, by version 2's form."""
    if "proj:epsg" not in fields:
        return dict(fields)
    epsg = fields["proj:epsg"]
    code = fields.get("proj:code") or (f"EPSG:{epsg}" if type(epsg) is int else None)
    migrated = {"proj:code" if name == "proj:epsg" else name: value for name, value in fields.items()}
    return {**migrated, "proj:code": code}


def _keep_fields(source: Mapping[str, Any], rules: _Rules, path: str, left_out: list[str]) -> dict[str, Any]:
    fields = migrate_projection(source)
    wrong = frozenset(_find_wrong(fields, rules))
    left_out += [f"{path}.{name}" for name in fields if name in wrong]
    return {name: value for name, value in fields.items() if name not in wrong}


def _find_wrong(fields: Mapping[str, Any], rules: _Rules) -> Iterator[str]:
    """Yield the names of the fields that may not be published as they are."""
    yield from (name for name, value in fields.items() if not _is_allowed(name, value, rules))
    # One end of a time span without the other.
    ends = [name for name in ("start_datetime", "end_datetime") if name in fields]
    if len(ends) == 1:
        yield ends[0]


def _is_allowed(name: str, value: Any, rules: _Rules) -> bool:
    if name in _BANDS and not _are_bands(value, rules):
        return False
    kind = rules.types.get(name)
    if kind is not None and not _is_of(kind, value):
        return False
    names = rules.closed.get(name.partition(":")[0]) if ":" in name else None
    return names is None or name in names


def _are_bands(bands: Any, rules: _Rules) -> bool:
    return isinstance(bands, list) and all(
        isinstance(band, dict) and isinstance(band.get("name", ""), str) and not any(_find_wrong(band, rules))
        for band in bands
    )


def _is_of(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except (ValidationError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _find_end(uri: str) -> str:
    """Return name and version in the URI of an extension's schema; the URI itself if it has another form."""
    return uri.removeprefix(f"{EXTENSIONS_URI}/").removesuffix("/schema.json")


def _is_used(extension: Extension, properties: Item, assets: Mapping[str, Item]) -> bool:
    """Return True if the item has what the schema of ``extension`` requires of an item that lists it."""
    if not extension.needs <= properties.keys():
        return False
    holders = [properties, *(assets.values() if extension.in_assets else ())]
    bands = [band for holder in holders if extension.in_bands for band in holder.get("bands", ())]
    return any(not extension.fields.keys().isdisjoint(holder) for holder in (*holders, *bands))


@lru_cache(maxsize=64)
def _build_rules(uris: tuple[str, ...]) -> _Rules:
    """Return the rules for an item that lists ``uris``; fields of other extensions are checked too."""
    listed = [end for end in map(_find_end, uris) if end in EXTENSIONS]
    types: dict[str, TypeAdapter[Any]] = {}
    for end in ("", *EXTENSIONS, *listed):
        types |= _adapt(end)
    closed = {_OWN_PREFIX: frozenset[str]()}
    for fields in (EXTENSIONS[end].fields for end in listed):
        closed |= {name.partition(":")[0]: frozenset(fields) for name in fields if ":" in name}
    return _Rules(types, closed)


@cache
def _adapt(end: str) -> dict[str, TypeAdapter[Any]]:
    """Return type checkers for the fields of the extension whose URI ends so, or of STAC itself if ``end`` is empty."""
    fields = EXTENSIONS[end].fields if end else COMMON
    return {name: TypeAdapter(kind) for name, kind in fields.items()}
