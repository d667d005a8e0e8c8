"""The types of the fields that a published item may carry.

They are those of STAC 1.1's common metadata and of the extensions that an item may list, as their schemas
have them. Values are judged strictly: a number in a text is no number, true is no 1. A type is never
looser than its schema. ``proj:projjson`` is not among them: its schema is another project's, and long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Required, TypeVar

import orjson
from pydantic import AfterValidator, BeforeValidator, ConfigDict, FailFast, Field
from typing_extensions import TypedDict

from pc_cloudmask.scene.query import parse_instant

T = TypeVar("T")


def _check_moment(text: str) -> str:
    parse_instant(text)
    return text


def _check_utc(text: str) -> str:
    if not text.endswith(("Z", "+00:00")):
        raise ValueError("is not in UTC")
    return text


def _check_filled(value: Any) -> Any:
    if value == {}:
        raise ValueError("is empty")
    return value


def _check_distinct(values: list[Any]) -> list[Any]:
    if len({orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values}) < len(values):
        raise ValueError("repeats an entry")
    return values


def _check_length(values: list[Any], lengths: tuple[int, ...]) -> list[Any]:
    if len(values) not in lengths:
        raise ValueError("has another length")
    return values


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
Moment = Annotated[str, AfterValidator(_check_moment)]
Instant = Annotated[Moment, AfterValidator(_check_utc)]
# The first bad entry ends the check: a long list of them costs no more than one.
ListOf = Annotated[list[T], FailFast()]
FilledList = Annotated[list[T], FailFast(), Field(min_length=1)]
DistinctList = Annotated[FilledList[T], AfterValidator(_check_distinct)]
FilledObject = Annotated[T, BeforeValidator(_check_filled)]
DataType = Literal[
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "cint16", "cint32", "cfloat32", "cfloat64", "other",
]  # fmt: skip
NoData = Number | Literal["nan", "inf", "-inf"]
Sampling = Literal["area", "point"]


class Statistics(TypedDict, total=False):
    """Statistics of an asset's or band's values."""

    minimum: Number
    maximum: Number
    mean: Number
    stddev: Number
    count: Count
    valid_percent: Percentage


class Provider(TypedDict, total=False):
    """An organisation."""

    name: Required[Filled]
    description: str
    roles: ListOf[Literal["producer", "licensor", "processor", "host"]]
    url: str


class EoBand(TypedDict, total=False):
    """A spectral band, before version 2 of ``eo``."""

    name: str
    common_name: Literal[
        "coastal", "blue", "green", "green053", "green057", "red", "rededge", "yellow", "pan", "nir", "nir08",
        "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
    ]  # fmt: skip
    center_wavelength: Number
    full_width_half_max: Number
    solar_illumination: Number


class RasterStatistics(TypedDict, total=False):
    """Statistics before version 2 of ``raster``, which knows no others."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    mean: Number
    minimum: Number
    maximum: Number
    stddev: Number
    valid_percent: Number


class Histogram(TypedDict):
    """How often each range of values occurs."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    count: Number
    min: Number
    max: Number
    buckets: Annotated[ListOf[Integer], Field(min_length=3)]


class RasterBand(TypedDict, total=False):
    """A band before version 2 of ``raster``."""

    data_type: DataType
    unit: str
    bits_per_sample: Integer
    sampling: Sampling
    nodata: NoData
    scale: Number
    offset: Number
    spatial_resolution: Number
    statistics: FilledObject[RasterStatistics]
    histogram: Histogram


class Class(TypedDict, total=False):
    """One class of a classification."""

    value: Required[Integer]
    name: Required[Annotated[str, Field(pattern="^[0-9A-Za-z_-]+$")]]
    title: str
    description: str
    color_hint: Annotated[str, Field(pattern="^[0-9A-Fa-f]{6}$")]
    nodata: bool


class BitField(TypedDict, total=False):
    """Bits of a value that hold a classification."""

    offset: Required[Count]
    length: Required[Ordinal]
    classes: Required[DistinctList[Class]]
    roles: DistinctList[str]
    description: str
    name: str


class Expression(TypedDict):
    """A formula, in a format that says how it is to be read."""

    format: str
    expression: Any


class FileValues(TypedDict):
    """What values in a file mean."""

    values: FilledList[Any]
    summary: Filled


class Centroid(TypedDict):
    """A point in degrees."""

    lat: Elevation
    lon: Longitude


Ring = Annotated[ListOf[Annotated[ListOf[Number], Field(min_length=2)]], Field(min_length=4)]


class Polygon(TypedDict, total=False):
    """A polygon in a projection's own coordinates."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    type: Required[Literal["Polygon"]]
    coordinates: Required[ListOf[Ring]]


Box = Annotated[ListOf[Number], AfterValidator(lambda numbers: _check_length(numbers, (4, 6)))]
Transform = Annotated[ListOf[Number], AfterValidator(lambda numbers: _check_length(numbers, (6, 9)))]
#: Types of STAC's common metadata, in properties, assets and bands alike; ``bands`` themselves are judged
#: band by band.
COMMON: Mapping[str, Any] = {
    "title": str,
    "description": Filled,
    "keywords": ListOf[str],
    "roles": ListOf[str],
    "datetime": Instant | None,
    "start_datetime": Instant,
    "end_datetime": Instant,
    "created": Instant,
    "updated": Instant,
    "data_type": DataType,
    "nodata": NoData,
    "statistics": FilledObject[Statistics],
    "unit": str,
    "platform": str,
    "instruments": ListOf[str],
    "constellation": str,
    "mission": str,
    "gsd": Positive,
    "license": Annotated[str, Field(pattern="^[0-9A-Za-z_.+-]+$")],
    "providers": ListOf[Provider],
    "type": str,
}
_EO: Mapping[str, Any] = {
    "eo:cloud_cover": Percentage,
    "eo:bands": FilledList[FilledObject[EoBand]],
}
_SAT: Mapping[str, Any] = {
    "sat:platform_international_designator": str,
    "sat:orbit_state": Literal["ascending", "descending", "geostationary"],
    "sat:absolute_orbit": Ordinal,
    "sat:relative_orbit": Ordinal,
    "sat:orbit_cycle": Ordinal,
    "sat:anx_datetime": Moment,
}
_VIEW: Mapping[str, Any] = {
    "view:off_nadir": Angle,
    "view:incidence_angle": Angle,
    "view:azimuth": Azimuth,
    "view:sun_azimuth": Azimuth,
    "view:sun_elevation": Elevation,
}
_TIMESTAMPS: Mapping[str, Any] = {"published": Instant, "unpublished": Instant, "expires": Instant}


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension allows: no other field with the prefix of its own.

    ``needs`` are properties without which its schema refuses an item; ``in_assets`` says whether fields of
    assets alone will do.
    """

    fields: Mapping[str, Any]
    needs: frozenset[str] = frozenset()
    in_assets: bool = True

    @property
    def prefixes(self) -> frozenset[str]:
        return frozenset(name.partition(":")[0] for name in self.fields if ":" in name)


#: Extensions that an item may list, by the end of their URI: those whose every field is judged here.
EXTENSIONS: Mapping[str, Extension] = {
    "projection/v2.0.0": Extension(
        {
            "proj:code": str | None,
            "proj:wkt2": str | None,
            "proj:geometry": Polygon,
            "proj:bbox": Box,
            "proj:centroid": Centroid,
            "proj:shape": Annotated[ListOf[Integer], Field(min_length=2, max_length=2)],
            "proj:transform": Transform,
        }
    ),
    "classification/v1.1.0": Extension(
        {"classification:classes": DistinctList[Class], "classification:bitfields": DistinctList[BitField]}
    ),
    "file/v2.1.0": Extension(
        {
            "file:byte_order": Literal["big-endian", "little-endian"],
            "file:checksum": Annotated[str, Field(pattern="^[a-f0-9]+$")],
            "file:header_size": Count,
            "file:size": Count,
            "file:values": FilledList[FileValues],
            "file:local_path": Annotated[
                str, Field(pattern=r"""^[^\r\n\t\\:'"/]+(/[^\r\n\t\\:'"/]+)*/?$""")
            ],
        }
    ),
    "processing/v1.2.0": Extension(
        {
            "processing:expression": Expression,
            "processing:lineage": str,
            "processing:level": str,
            "processing:facility": str,
            "processing:version": str,
            "processing:datetime": Instant,
            "processing:software": dict[str, str],
        }
    ),
    "version/v1.2.0": Extension({"version": str, "deprecated": bool, "experimental": bool}),
    "eo/v1.0.0": Extension(_EO),
    "eo/v1.1.0": Extension({**_EO, "eo:snow_cover": Percentage}),
    "eo/v2.0.0": Extension(
        {
            "eo:cloud_cover": Percentage,
            "eo:snow_cover": Percentage,
            "eo:common_name": Literal[
                "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071",
                "rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir",
                "lwir11", "lwir12",
            ],
            "eo:center_wavelength": Positive,
            "eo:full_width_half_max": Positive,
            "eo:solar_illumination": Annotated[Number, Field(ge=0)],
        }
    ),
    "raster/v1.1.0": Extension({"raster:bands": FilledList[FilledObject[RasterBand]]}),
    "raster/v2.0.0": Extension(
        {
            "raster:bits_per_sample": Integer,
            "raster:sampling": Sampling,
            "raster:scale": Number,
            "raster:offset": Number,
            "raster:spatial_resolution": Number,
            "raster:histogram": Histogram,
        }
    ),
    "sat/v1.0.0": Extension(_SAT, in_assets=False),
    "sat/v1.1.0": Extension(_SAT, in_assets=False),
    "sat/v1.2.0": Extension(
        {
            **_SAT,
            "sat:orbit_state": Literal["ascending", "descending", "geostationary", "crossing"],
            "sat:acquisition_station": str,
        },
        in_assets=False,
    ),
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
