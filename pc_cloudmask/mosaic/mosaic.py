"""The job: compose block by block, and write the files: a COG, a picture of it, a STAC item."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import rasterio
import rasterio.shutil
import shapely
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
    encode_document,
)
from pc_cloudmask.catalog.layout import build_item_title
from pc_cloudmask.errors import AssetError, SettingsError
from pc_cloudmask.mosaic.compose import (
    BAND_PIXEL_SIZES_M,
    NO_VALUE,
    Composer,
    Composite,
    Observation,
    Reducer,
    Values,
)
from pc_cloudmask.mosaic.plan import EXPRESSION_FORMAT, MosaicFiles, MosaicPlan, MosaicRequest, leave_out
from pc_cloudmask.mosaic.read import BrokenScenes, open_blocks
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.raster.picture import encode_picture
from pc_cloudmask.scene.geometry import find_bbox
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.settings import Settings, read_clock
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.version import __version__

COUNT_BAND = "count"
#: Reflectance of one digital number.
SCALE = 1e-4
PICTURE_PX = 1024
PLAIN_MEDIAN = "plain-median"
#: Called with the number of finished blocks and of all blocks.
Progress = Callable[[int, int], None]
_STRETCH_PERCENTILES = (0.5, 99.5)
_BLOCK_PX = 512
#: GDAL would keep written blocks in a twentieth of the machine's memory.
_CACHE_BYTES = 64 << 20
_COLORS = {"B04": ColorInterp.red, "B03": ColorInterp.green, "B02": ColorInterp.blue}
_COG_OPTIONS = {
    "BLOCKSIZE": str(_BLOCK_PX),
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "YES",
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}
_REDUCER_TITLES = {
    Reducer.MEDIAN: "Median of the clear observations",
    Reducer.LEAST_CLOUDY: "Clear observations of the least cloudy scenes",
    Reducer.MOST_RECENT_CLEAR: "Most recent clear observations",
}


@dataclass(slots=True)
class Tally:
    """Pixels of a mosaic: all that have a value, and those that the truth calls cloud or shadow."""

    filled: int = 0
    residual: int = 0

    @property
    def residual_pct(self) -> float:
        """Return the remaining cloud and shadow, in percent of the pixels with a value."""
        return 100 * self.residual / max(self.filled, 1)


@dataclass(frozen=True, slots=True)
class MosaicReport:
    """What was made; ``plain`` if the plain median was requested."""

    plan: MosaicPlan
    files: MosaicFiles
    mosaic: Tally
    plain: Tally | None
    has_truth: bool
    seconds: float

    @property
    def filled_pct(self) -> float:
        """Return the pixels with a value, in percent of the grid's."""
        height, width = self.plan.grid.shape
        return 100 * self.mosaic.filled / (height * width)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("raster", "preview", "item", *(("plain", "plain_preview") if self.plain else ()))
        document = {
            **self.plan.as_json(),
            "files": {name: str(getattr(self.files, name)) for name in names},
            "filled_percentage": round(self.filled_pct, 2),
            "seconds": round(self.seconds, 1),
        }
        if self.has_truth:
            document["residual_percentage"] = round(self.mosaic.residual_pct, 3)
            if self.plain:
                document["plain_residual_percentage"] = round(self.plain.residual_pct, 3)
        return document


def build_mosaic(
    store: ObjectReader,
    settings: Settings,
    request: MosaicRequest,
    plan: MosaicPlan,
    progress: Progress | None = None,
) -> MosaicReport:
    """Make the mosaic that ``plan`` describes, from those of its scenes that can be read.

    If a band or the mask of a scene cannot be read, the scene is left out of the entire mosaic, which is then started
    again: the result is the mosaic of the other scenes. The report's plan names the scene.

    Raises:
        SettingsError: The files cannot be written.
        AssetUnavailable, AssetRefused, StoreRefused: No scene can be read; they name an asset and its item.
        StoreUnavailable: The store does not answer.
    """
    started = time.monotonic()
    files = request.outputs
    while True:
        try:
            mosaic, plain = _write_rasters(store, settings, request, plan, progress)
            break
        except BrokenScenes as found:
            plan = leave_out(plan, request, found.errors)
    # The public URL belongs to the store in the settings, which a catalog on a server need not be.
    base = store.url if store.url.startswith("http") else settings.public_url or store.url
    pictures = {files.raster: files.preview, **({files.plain: files.plain_preview} if plain else {})}
    try:
        write_pictures(pictures, len(request.bands))
        files.item.write_bytes(encode_document(build_mosaic_item(request, plan, base, read_clock())))
    except OSError as error:
        raise SettingsError(f"{files.raster}: what goes next to it cannot be written: {error}") from error
    seconds = time.monotonic() - started
    return MosaicReport(plan, files, mosaic, plain, request.truth is not None, seconds)


def _write_rasters(
    store: ObjectReader,
    settings: Settings,
    request: MosaicRequest,
    plan: MosaicPlan,
    progress: Progress | None,
) -> tuple[Tally, Tally | None]:
    """Write the mosaic and, if requested, the plain median; return the counts of their pixels."""
    composer = Composer(request.bands, request.reducer, request.truth)
    with ExitStack() as stack:

        def open_output(name: str, reducer: str) -> Canvas:
            path = getattr(request.outputs, name)
            return stack.enter_context(open_canvas(path, plan.grid, request.bands, reducer))

        reader = stack.enter_context(open_blocks(store, settings, request, plan.observations))
        plain = open_output("plain", PLAIN_MEDIAN) if request.plain_median else None
        mosaic = open_output("raster", request.reducer)
        for number, block in enumerate(plan.blocks, start=1):
            grid = plan.grid.window_grid(block.window)
            read = reader.open_block(block.observations, grid)
            try:
                mosaic.write_block(block.window, composer.compose(read, block.observations))
                if plain is not None:
                    plain.write_block(block.window, composer.compose_plain(read, block.observations))
            except AssetError:
                if broken := reader.find_broken(block.observations, grid):
                    raise BrokenScenes(broken) from None
                raise
            if progress is not None:
                progress(number, len(plan.blocks))
    return mosaic.tally, plain.tally if plain else None


@dataclass(frozen=True, slots=True)
class Canvas:
    """A raster being written: each band, then the number of usable observations."""

    _dataset: DatasetWriter
    tally: Tally = field(default_factory=Tally)

    def write_block(self, window: Window, composite: Composite) -> None:
        """Count a block and write it in its place; blocks never written stay without data."""
        self.tally.filled += int(np.count_nonzero(composite.count))
        if composite.residual is not None:
            self.tally.residual += int(np.count_nonzero(composite.residual))
        place = RasterWindow(window.col, window.row, window.width, window.height)
        self._dataset.write(np.concatenate([composite.values, composite.count[None]]), window=place)


@contextmanager
def open_canvas(path: Path, grid: Grid, bands: Sequence[str], reducer: str) -> Iterator[Canvas]:
    """Yield a canvas that becomes the COG at ``path`` once the block ends without an error.

    uint16, no data 0. Until then, what was at ``path`` stays, and the pixels are stored uncompressed in a
    temporary folder next to it.

    Raises:
        SettingsError: The folder or the disk does not accept it.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder,
            gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES, CPL_TMPDIR=folder),
        ):
            work, cog = Path(folder, "work.tif"), Path(folder, "cog.tif")
            with _create(work, grid, bands) as dataset:
                dataset.update_tags(TIFFTAG_SOFTWARE=f"pc-cloudmask {__version__}", REDUCER=reducer)
                yield Canvas(dataset)
            rasterio.shutil.copy(str(work), str(cog), driver="COG", **_COG_OPTIONS)
            cog.replace(path)
    except (OSError, RasterioError) as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from error


def _create(path: Path, grid: Grid, bands: Sequence[str]) -> DatasetWriter:
    height, width = grid.shape
    dataset = rasterio.open(
        path,
        "w",
        driver="GTiff",
        tiled=True,
        blockxsize=_BLOCK_PX,
        blockysize=_BLOCK_PX,
        interleave="band",
        SPARSE_OK=True,
        BIGTIFF="IF_SAFER",
        count=len(bands) + 1,
        dtype="uint16",
        nodata=NO_VALUE,
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
    )
    dataset.descriptions = (*bands, COUNT_BAND)
    dataset.scales = (*(SCALE for _ in bands), 1.0)
    dataset.colorinterp = [*(_COLORS.get(name, ColorInterp.gray) for name in bands), ColorInterp.undefined]
    return dataset


def write_pictures(pictures: Mapping[Path, Path], bands: int) -> None:
    """Draw each raster, by its path, into its picture; all with the stretch of the first one.

    A picture is a PNG of the first three bands as red, green and blue, or of one as grey; no data is transparent.
    """
    stretch = None
    for raster, picture in pictures.items():
        values = _read_reduced(raster, bands)
        low, high = stretch = stretch or _find_stretch(values)
        shown = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
        scaled = np.clip((shown.astype(np.float32) - low) / (high - low), 0, 1)
        opaque = (values != NO_VALUE).all(axis=0)
        pixels = np.rint(255 * np.concatenate([scaled, opaque[None]])).astype(np.uint8)
        picture.write_bytes(encode_picture(pixels.transpose(1, 2, 0)))


def _read_reduced(path: Path, bands: int) -> NDArray[np.uint16]:
    """Return the first ``bands`` bands, ``(band, height, width)``, with the longer edge at most ``PICTURE_PX``."""
    with gdal_environment(), rasterio.open(path, driver="GTiff") as dataset:
        factor = max(1.0, max(dataset.shape) / PICTURE_PX)
        shape = (bands, *(max(1, round(side / factor)) for side in dataset.shape))
        reduced: NDArray[np.uint16] = dataset.read(
            list(range(1, bands + 1)), out_shape=shape, resampling=Resampling.average
        )
    return reduced


def _find_stretch(values: Values) -> tuple[float, float]:
    """Return what becomes black and white, from the middle 99 %: one stretch for all bands preserves their colours."""
    held = values[values != NO_VALUE]
    if not held.size:
        return (0.0, 1.0)
    low, high = np.percentile(held, _STRETCH_PERCENTILES)
    return (float(low), float(max(high, low + 1)))


def build_mosaic_item(request: MosaicRequest, plan: MosaicPlan, base: str, now: datetime) -> Item:
    """Return the item of the mosaic that has been written at ``now``.

    It names every item whose pixels may be in it, and in ``left_out`` those that match but could not be read. ``base``
    is where the source items are: a URL, or the path of a directory.
    """
    geometry = _build_geometry(plan.grid)
    observations = sorted(plan.observations, key=lambda each: (each.scene.datetime, each.id))
    count, created, reducer = len(observations), format_instant(now), request.reducer
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION_URI, RASTER_URI, FILE_URI, PROCESSING_URI],
        "id": request.outputs.raster.stem,
        "geometry": geometry,
        "bbox": find_bbox(geometry),
        "properties": {
            "title": f"Cloudless mosaic of {count} Sentinel-2 scene{'s' * (count > 1)}",
            "description": f"{_REDUCER_TITLES[reducer]}, without clouds and their shadows",
            "datetime": None,
            "start_datetime": format_instant(observations[0].scene.datetime),
            "end_datetime": format_instant(observations[-1].scene.datetime),
            "created": created,
            "updated": created,
            "gsd": plan.grid.pixel_size_m,
            "proj:code": plan.grid.crs,
            "proj:shape": list(plan.grid.shape),
            "proj:transform": list(plan.grid.transform),
            "processing:software": {"pc-cloudmask": __version__},
            "processing:datetime": created,
            "processing:expression": {"format": EXPRESSION_FORMAT, "expression": reducer.value},
            **({"left_out": sorted(plan.left_out)} if plan.left_out else {}),
        },
        "links": [_build_link(observation, base, request.outputs.item) for observation in observations],
        "assets": _build_assets(request),
    }


def _build_geometry(grid: Grid) -> dict[str, Any]:
    """Return the grid's outline in degrees, to a centimetre, counterclockwise, split at the antimeridian."""
    west, south, east, north = grid.bounds
    corners = [(west, north), (west, south), (east, south), (east, north), (west, north)]
    with gdal_environment():
        outline = transform_geom(grid.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [corners]})
    oriented = shapely.orient_polygons(shapely.geometry.shape(outline))
    geometry: dict[str, Any] = orjson.loads(
        shapely.to_geojson(shapely.transform(oriented, lambda degrees: degrees.round(7)))
    )
    return geometry


def _build_link(observation: Observation, base: str, item: Path) -> dict[str, Any]:
    key = observation.keys.item
    href = f"{base}/{key}" if "://" in base else os.path.relpath(Path(base, key), item.parent)
    title = build_item_title(observation.id)
    return {"rel": "derived_from", "href": href, "type": GEOJSON_MEDIA_TYPE, "title": title}


def _build_assets(request: MosaicRequest) -> dict[str, Any]:
    files = request.outputs
    bands: list[dict[str, Any]] = [
        {
            "name": band,
            "description": f"Surface reflectance of {band}, {BAND_PIXEL_SIZES_M[band]} m",
            "raster:scale": SCALE,
        }
        for band in request.bands
    ]
    bands.append({"name": COUNT_BAND, "description": "Number of clear observations"})
    raster: dict[str, Any] = {"data_type": "uint16", "nodata": NO_VALUE, "bands": bands}
    assets = {
        "mosaic": {
            **_describe_file(files.raster, COG_MEDIA_TYPE, **raster),
            "title": "Cloudless mosaic",
            "roles": ["data", "overview"],
        },
        "thumbnail": _describe_file(files.preview, PNG_MEDIA_TYPE, title="Preview", roles=["thumbnail"]),
    }
    if request.plain_median:
        assets["plain-median"] = {
            **_describe_file(files.plain, COG_MEDIA_TYPE, **raster),
            "title": "Plain median, clouds included",
            "roles": ["metadata"],
        }
        assets["plain-median-preview"] = _describe_file(
            files.plain_preview, PNG_MEDIA_TYPE, title="Preview of the plain median", roles=["overview"]
        )
    return assets


def _describe_file(path: Path, media_type: str, **fields: Any) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    file_fields = build_file_fields(path.stat().st_size, digest)
    return {"href": f"./{path.name}", "type": media_type, **fields, **file_fields}
