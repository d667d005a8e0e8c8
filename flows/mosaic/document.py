"""The mosaic's STAC item."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path
from typing import Any

from rasterio.warp import transform_geom

from flows.adapters.gdal import gdal_environment
from flows.mosaic.observation import BAND_PIXEL_SIZES_M, Observation
from flows.mosaic.raster import COUNT_BAND, SCALE
from flows.mosaic.reducers import NO_VALUE, Reducer
from flows.ports import Item
from flows.scene.grid import Grid
from flows.scene.query import format_instant
from flows.stac.asset_fields import COG_MEDIA_TYPE, PNG_MEDIA_TYPE, build_file_fields
from flows.stac.extensions import FILE_URI, PROCESSING_URI, PROJECTION_URI, RASTER_URI, STAC_VERSION
from flows.stac.item_extent import find_bbox
from flows.stac.links import GEOJSON_MEDIA_TYPE
from flows.stac.titles import build_item_title
from flows.version import __version__

_EXPRESSION_FORMAT = "pc-cloudmask-reducer"
_REDUCER_TITLES = {
    Reducer.MEDIAN: "Median of the clear observations",
    Reducer.LEAST_CLOUDY: "Clear observations of the least cloudy scenes",
    Reducer.MOST_RECENT_CLEAR: "Most recent clear observations",
}


@dataclass(frozen=True, slots=True)
class MosaicFiles:
    """Where the parts of a mosaic stand, side by side; ``plain`` where it was asked for."""

    raster: Path
    preview: Path
    item: Path
    plain: Path
    plain_preview: Path


@dataclass(frozen=True, slots=True)
class MosaicParts:
    """What a mosaic's item is made of.

    ``base`` is where the items it was made from are: a URL, or the path of a directory.
    """

    files: MosaicFiles
    grid: Grid
    bands: Sequence[str]
    reducer: Reducer
    observations: Sequence[Observation]
    base: str
    now: datetime
    with_plain: bool


def name_files(out: Path) -> MosaicFiles:
    """The files of the mosaic whose raster is ``out``."""
    plain = out.with_name(f"{out.stem}-plain.tif")
    return MosaicFiles(
        out, out.with_suffix(".png"), out.with_suffix(".json"), plain, plain.with_suffix(".png")
    )


def build_mosaic_item(parts: MosaicParts) -> Item:
    """The item beside the raster, which names every item whose pixels may be in it."""
    geometry = _build_geometry(parts.grid)
    times = [observation.scene.datetime for observation in parts.observations]
    now = format_instant(parts.now)
    count = len(parts.observations)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION_URI, RASTER_URI, FILE_URI, PROCESSING_URI],
        "id": parts.files.raster.stem,
        "geometry": geometry,
        "bbox": find_bbox(geometry),
        "properties": {
            "title": f"Cloudless mosaic of {count} Sentinel-2 scene{'s' * (count > 1)}",
            "description": f"{_REDUCER_TITLES[parts.reducer]}, without clouds and their shadows",
            "datetime": None,
            "start_datetime": format_instant(min(times)),
            "end_datetime": format_instant(max(times)),
            "created": now,
            "updated": now,
            "gsd": parts.grid.pixel_size_m,
            "proj:code": parts.grid.crs,
            "proj:shape": list(parts.grid.shape),
            "proj:transform": list(parts.grid.transform),
            "processing:software": {"pc-cloudmask": __version__},
            "processing:datetime": now,
            "processing:expression": {"format": _EXPRESSION_FORMAT, "expression": parts.reducer.value},
        },
        "links": [_build_link(parts, observation) for observation in parts.observations],
        "assets": _build_assets(parts),
    }


def is_mosaic_item(body: bytes) -> bool:
    """Whether ``body`` is what ``build_mosaic_item`` made, now or earlier."""
    return b'"format":"' + _EXPRESSION_FORMAT.encode() + b'"' in body


def _build_link(parts: MosaicParts, observation: Observation) -> dict[str, Any]:
    key = observation.keys.item
    href = f"{parts.base}/{key}"
    if "://" not in parts.base:
        href = os.path.relpath(Path(parts.base, key), parts.files.item.parent)
    title = build_item_title(observation.id)
    return {"rel": "derived_from", "href": href, "type": GEOJSON_MEDIA_TYPE, "title": title}


def _build_assets(parts: MosaicParts) -> dict[str, Any]:
    files = parts.files
    assets = {
        "mosaic": {
            **_build_raster_asset(files.raster, parts.bands),
            "title": "Cloudless mosaic",
            "roles": ["data", "overview"],
        },
        "thumbnail": _build_picture_asset(files.preview, "Preview"),
    }
    if parts.with_plain:
        assets["plain-median"] = {
            **_build_raster_asset(files.plain, parts.bands),
            "title": "Plain median, clouds included",
            "roles": ["metadata"],
        }
        assets["plain-median-preview"] = _build_picture_asset(
            files.plain_preview, "Preview of the plain median", "overview"
        )
    return assets


def _build_raster_asset(path: Path, bands: Sequence[str]) -> dict[str, Any]:
    described = [
        {
            "name": band,
            "description": f"Surface reflectance of {band}, {BAND_PIXEL_SIZES_M[band]} m",
            "raster:scale": SCALE,
        }
        for band in bands
    ]
    described.append({"name": COUNT_BAND, "description": "Number of clear observations"})
    return {
        "href": f"./{path.name}",
        "type": COG_MEDIA_TYPE,
        "data_type": "uint16",
        "nodata": NO_VALUE,
        "bands": described,
        **_file_fields(path),
    }


def _build_picture_asset(path: Path, title: str, role: str = "thumbnail") -> dict[str, Any]:
    return {
        "href": f"./{path.name}",
        "type": PNG_MEDIA_TYPE,
        "title": title,
        "roles": [role],
        **_file_fields(path),
    }


def _file_fields(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return build_file_fields(path.stat().st_size, digest)


def _build_geometry(grid: Grid) -> dict[str, Any]:
    """The grid's outline in degrees, counterclockwise; across the antimeridian in two parts."""
    west, south, east, north = grid.bounds
    ring = [(west, north), (west, south), (east, south), (east, north), (west, north)]
    with gdal_environment():
        outline = transform_geom(grid.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})
    if outline["type"] == "Polygon":
        return {"type": "Polygon", "coordinates": _finish_rings(outline["coordinates"])}
    return {"type": "MultiPolygon", "coordinates": [_finish_rings(part) for part in outline["coordinates"]]}


def _finish_rings(rings: Sequence[Sequence[tuple[float, float]]]) -> list[list[list[float]]]:
    """Rings without holes, counterclockwise, to about a centimetre."""
    finished = []
    for ring in rings:
        twice_area = sum(x * north - east * y for (x, y), (east, north) in pairwise(ring))
        ordered = ring if twice_area > 0 else ring[::-1]
        finished.append([[round(x, 7), round(y, 7)] for x, y in ordered])
    return finished
