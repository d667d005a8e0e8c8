"""The mosaic's STAC item."""

from __future__ import annotations

import os
import os.path
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from rasterio.windows import Window as RasterWindow

from pc_cloudmask.catalog.fields import (
    COG_MEDIA_TYPE,
    FILE_URI,
    GEOJSON_MEDIA_TYPE,
    PNG_MEDIA_TYPE,
    PROCESSING_URI,
    PROJECTION_URI,
    RASTER_URI,
    STAC_VERSION,
    build_file_fields,
)
from pc_cloudmask.catalog.layout import build_item_title
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.mosaic.compose import Composite
from pc_cloudmask.mosaic.observation import BAND_PIXEL_SIZES_M, Observation
from pc_cloudmask.mosaic.plan import _EXPRESSION_FORMAT, MosaicFiles
from pc_cloudmask.mosaic.reducers import NO_VALUE, Reducer, Values
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.raster.picture import encode_picture
from pc_cloudmask.scene.geometry import find_bbox
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.source.fields import Item
from pc_cloudmask.version import __version__

COUNT_BAND = "count"
#: Reflectance of one digital number.
SCALE = 1e-4
_BLOCK_PX = 512
#: GDAL would keep written blocks in a twentieth of the machine's memory.
_CACHE_BYTES = 64 << 20
_COLORS = {"B04": ColorInterp.red, "B03": ColorInterp.green, "B02": ColorInterp.blue}
_WORK_OPTIONS = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": _BLOCK_PX,
    "blockysize": _BLOCK_PX,
    "interleave": "band",
    "SPARSE_OK": True,
    "BIGTIFF": "IF_SAFER",
}
_COG_OPTIONS = {
    "BLOCKSIZE": str(_BLOCK_PX),
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "YES",
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}


@dataclass(frozen=True, slots=True)
class Canvas:
    """A raster under way: each band, then how many observations were usable."""

    _dataset: DatasetWriter

    def write_block(self, window: Window, composite: Composite) -> None:
        """Put a block into its place; blocks never written stay without data."""
        place = RasterWindow(window.col, window.row, window.width, window.height)
        self._dataset.write(composite.values, list(range(1, len(composite.values) + 1)), window=place)
        self._dataset.write(composite.count, len(composite.values) + 1, window=place)


@contextmanager
def open_canvas(path: Path, grid: Grid, bands: Sequence[str], tags: Mapping[str, str]) -> Iterator[Canvas]:
    """A canvas that becomes the COG at ``path`` once the block ends without an error.

    uint16, no data 0; what was at ``path`` stays until then. The pixels stand uncompressed in a
    temporary folder beside it in the meantime.

    Raises:
        SettingsError: the folder or the disk does not take it.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder,
            gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES, CPL_TMPDIR=folder),
        ):
            work, cog = Path(folder, "work.tif"), Path(folder, "cog.tif")
            with _create(work, grid, bands) as dataset:
                dataset.update_tags(**tags)
                yield Canvas(dataset)
            rasterio.shutil.copy(str(work), str(cog), driver="COG", **_COG_OPTIONS)
            os.replace(cog, path)  # noqa: PTH105 - says that it replaces
    except (OSError, RasterioError) as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from error


def read_reduced(path: Path, bands: int, size_px: int) -> NDArray[np.uint16]:
    """The first ``bands`` bands, at most ``size_px`` on the longer edge, ``(band, height, width)``."""
    with gdal_environment(), rasterio.open(path, driver="GTiff") as dataset:
        factor = max(1.0, max(dataset.shape) / size_px)
        shape = (bands, *(max(1, round(side / factor)) for side in dataset.shape))
        reduced: NDArray[np.uint16] = dataset.read(
            list(range(1, bands + 1)), out_shape=shape, resampling=Resampling.average
        )
    return reduced


def _create(path: Path, grid: Grid, bands: Sequence[str]) -> DatasetWriter:
    height, width = grid.shape
    dataset = rasterio.open(
        path,
        "w",
        count=len(bands) + 1,
        dtype="uint16",
        nodata=NO_VALUE,
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        **_WORK_OPTIONS,
    )
    for index, name in enumerate((*bands, COUNT_BAND), start=1):
        dataset.set_band_description(index, name)
    dataset.scales = (*(SCALE for _ in bands), 1.0)
    dataset.colorinterp = [*(_COLORS.get(name, ColorInterp.gray) for name in bands), ColorInterp.undefined]
    return dataset


_REDUCER_TITLES = {
    Reducer.MEDIAN: "Median of the clear observations",
    Reducer.LEAST_CLOUDY: "Clear observations of the least cloudy scenes",
    Reducer.MOST_RECENT_CLEAR: "Most recent clear observations",
}


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


#: Digital numbers that become black and white.
Stretch = tuple[float, float]
_PERCENTILES = (0.5, 99.5)


def find_stretch(values: Values) -> Stretch:
    """One stretch for all bands, which keeps their colours, from the middle 99 % of the values."""
    held = values[values != NO_VALUE]
    if not held.size:
        return (0.0, 1.0)
    low, high = np.percentile(held, _PERCENTILES)
    return (float(low), float(max(high, low + 1)))


def draw_picture(values: Values, stretch: Stretch) -> bytes:
    """A PNG of the first three bands as red, green and blue, or of one as grey; transparent without data.

    ``values`` is ``(band, height, width)``.
    """
    low, high = stretch
    shown = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    scaled = np.clip((shown.astype(np.float32) - low) / (high - low), 0, 1)
    pixels = np.empty((*values.shape[1:], 4), np.uint8)
    pixels[..., :3] = np.rint(255 * scaled).transpose(1, 2, 0)
    pixels[..., 3] = 255 * (values != NO_VALUE).all(axis=0)
    return encode_picture(pixels)
