"""Bands of a raster on a scene's grid."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isfinite
from operator import add
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.text import unsigned_href

ResamplingName = Literal["nearest", "average"]
ALLOWED_DTYPES = frozenset({"uint8", "uint16", "int16"})
#: Three times a Sentinel-2 tile at 10 m.
MAX_SIDE_PX = 32_768
MAX_PIXELS = 1_000_000_000
#: A block is decoded at once: 4096 x 4096 bounds its memory; COGs have 512 x 512.
MAX_BLOCK_PIXELS = 1 << 24
#: Origins closer than this fraction of a pixel are the same: floating-point noise, 1 cm.
_ALIGNMENT_PX = 1e-3
_STRIP_PX = 512
_MAX_OVERVIEWS = 16
#: The first name in a CRS's text.
_CRS_NAME = re.compile(r'[A-Z_]+\["([^"]*)"')
logger = logging.getLogger(__name__)


class Unsuitable(Exception):
    """A raster cannot be read onto the grid; the text says why."""


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where the grid lies in the raster: offsets in its pixels, and ``factor`` of them per grid pixel."""

    row: int
    col: int
    factor: int

    def at_overview(self, factor: int) -> _Placement:
        return _Placement(self.row // factor, self.col // factor, self.factor // factor)


def read_raster(
    name: str, grid: Grid, resampling: ResamplingName, bands: int = 1, stated: Sequence[Grid] = ()
) -> NDArray[np.generic]:
    """Return the pixels of the GeoTIFF that GDAL calls ``name``, which must have ``bands`` bands, on ``grid``.

    They are ``(band, height, width)`` of the raster's own dtype. Pixels outside the raster hold its no-data value, 0 if
    it declares none. ``average`` is the mean of the valid pixels, rounded half up, through the raster's overviews if
    one divides the grid's pixels exactly. ``stated`` are the grids that the item states for the raster, of which it
    must have one if it lacks a CRS.

    Raises:
        Unsuitable: Another CRS, not aligned, coarser pixels, another number of bands, dtype, too large.
        rasterio.errors.RasterioIOError: GDAL could not open or decode it.
    """
    with rasterio.open(name, driver="GTiff") as dataset:
        check_raster(dataset, bands)
        check_crs(dataset, grid.crs, stated)
        placement = _find_placement(dataset, grid)
        level, factor = _find_overview(name, dataset, placement) if placement.factor > 1 else (None, 1)
        if level is None:
            return _read_placed(dataset, placement, grid, resampling)
    with rasterio.open(name, driver="GTiff", overview_level=level) as overview:
        check_raster(overview, bands)
        return _read_placed(overview, placement.at_overview(factor), grid, resampling)


def _find_overview(name: str, dataset: DatasetReader, placement: _Placement) -> tuple[int | None, int]:
    """Return the coarsest overview whose pixels make up the grid's exactly, with its factor.

    Levels are opened in turn, because asking the dataset for their list holds Python's lock while it
    waits for the server. An overview whose size is not an exact fraction of the raster's does not match:
    its pixels drift.
    """
    found: tuple[int | None, int] = (None, 1)
    for level in range(_MAX_OVERVIEWS):
        try:
            with rasterio.open(name, driver="GTiff", overview_level=level) as overview:
                factor = dataset.width // overview.width
                exact = (overview.height * factor, overview.width * factor) == dataset.shape
        except RasterioIOError:
            break
        if factor > placement.factor:
            break
        if exact and placement.factor % factor == placement.row % factor == placement.col % factor == 0:
            found = (level, factor)
        if factor == placement.factor:
            break
    return found


def check_raster(dataset: DatasetReader, bands: int = 1) -> None:
    """Check from its header, before any pixel is read, that a raster may be read; raise Unsuitable if not."""
    height, width = dataset.shape
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise Unsuitable(f"claims {width} x {height} pixels, more than {MAX_SIDE_PX} a side or 1e9 in all")
    if dataset.count != bands:
        raise Unsuitable(f"has {dataset.count} bands of {dataset.dtypes[0]}, not {bands}")
    if dataset.dtypes[0] not in ALLOWED_DTYPES:
        raise Unsuitable(f"holds {dataset.dtypes[0]}, not one of {', '.join(sorted(ALLOWED_DTYPES))}")
    block_height, block_width = dataset.block_shapes[0]
    if block_height * block_width > MAX_BLOCK_PIXELS:
        raise Unsuitable(f"is stored in blocks of {block_width} x {block_height} pixels: not a COG")


def check_crs(dataset: DatasetReader, crs: str, stated: Sequence[Grid]) -> bool:
    """Return True if a raster states the item's CRS, False if it states none and lies as the item says.

    Since 2026 some of the Planetary Computer's COGs only have a geotransform. Any other raster, of another CRS or with
    none and elsewhere, is Unsuitable.
    """
    wanted = CRS.from_user_input(crs)
    if dataset.crs == wanted:
        return True
    if not _tells_nothing(dataset.crs, wanted):
        code = dataset.crs.to_epsg()
        raise Unsuitable(f"has CRS {f'EPSG:{code}' if code else 'of its own'}, the item {crs}")
    if not any(_lies_on(dataset, grid) for grid in stated):
        raise Unsuitable("has no CRS, and lies otherwise than the item's proj:transform and proj:shape say")
    logger.info("%s: states no CRS: it is read in the item's, %s", unsigned_href(dataset.name), crs)
    return False


def _tells_nothing(crs: CRS | None, wanted: CRS) -> bool:
    """Return True for no CRS, and for a local one that contains no name, or only the wanted one's."""
    if not crs:
        return True
    if crs.is_projected or crs.is_geographic:
        return False
    found = (_CRS_NAME.match(each.to_wkt()) for each in (crs, wanted))
    name, wanted_name = (match[1].lower() if match else "" for match in found)
    return name in {"", "unknown", "unnamed", wanted_name}


def _lies_on(dataset: DatasetReader, grid: Grid) -> bool:
    return dataset.shape == grid.shape and np.allclose(
        tuple(dataset.transform)[:6], grid.transform, rtol=0, atol=_ALIGNMENT_PX * abs(grid.transform[0])
    )


def _find_placement(dataset: DatasetReader, grid: Grid) -> _Placement:
    """Return where ``grid`` lies in the raster, in full pixels; both have the same CRS."""
    transform, (a, b, c, d, e, f) = dataset.transform, grid.transform
    if b or d or transform.b or transform.d or not (transform.a > 0 > transform.e and a > 0 > e):
        raise Unsuitable("is not north-up")
    col, row = (c - transform.c) / transform.a, (f - transform.f) / transform.e
    if not all(map(isfinite, (a / transform.a, col, row))):
        raise Unsuitable("has pixels of no size, or lies nowhere")
    factor = round(a / transform.a)
    if factor < 1 or not np.isclose(factor * transform.a, a) or not np.isclose(factor * transform.e, e):
        raise Unsuitable(
            f"has pixels of {transform.a:g} x {-transform.e:g}, which do not divide {a:g} x {-e:g}"
        )
    if abs(col - round(col)) > _ALIGNMENT_PX or abs(row - round(row)) > _ALIGNMENT_PX:
        raise Unsuitable(f"is off the item's grid by {col - round(col):.3f}, {row - round(row):.3f} pixels")
    return _Placement(round(row), round(col), factor)


def _read_placed(
    dataset: DatasetReader, placement: _Placement, grid: Grid, resampling: ResamplingName
) -> NDArray[np.generic]:
    """Return the grid's pixels, in strips if several of the raster's pixels make one."""
    nodata, factor = _find_nodata(dataset), placement.factor
    height, width = grid.shape
    if factor == 1:
        return _read_padded(dataset, placement.row, placement.col, grid.shape, nodata)
    pixels = np.empty((dataset.count, height, width), dtype=dataset.dtypes[0])
    strip = max(1, _STRIP_PX // factor)
    for top in range(0, height, strip):
        shape = (min(strip, height - top) * factor, width * factor)
        fine = _read_padded(dataset, placement.row + top * factor, placement.col, shape, nodata)
        if resampling == "nearest":
            pixels[:, top : top + strip] = fine[:, factor // 2 :: factor, factor // 2 :: factor]
        else:
            pixels[:, top : top + strip] = average_valid(fine, factor, nodata)
    return pixels


def _find_nodata(dataset: DatasetReader) -> int:
    """Return the raster's no-data value; Sentinel-2's is 0 and often undeclared."""
    declared = dataset.nodata
    limits = np.iinfo(dataset.dtypes[0])
    if declared is None or not float(declared).is_integer() or not limits.min <= declared <= limits.max:
        return 0
    return int(declared)


def _read_padded(
    dataset: DatasetReader, row: int, col: int, shape: tuple[int, int], nodata: int
) -> NDArray[np.generic]:
    """Return a block of all bands that may extend over the raster's edges."""
    pixels = np.full((dataset.count, *shape), nodata, dtype=dataset.dtypes[0])
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + shape[0], dataset.height), min(col + shape[1], dataset.width)
    if top < bottom and left < right:
        inside = pixels[:, top - row : bottom - row, left - col : right - col]
        inside[:] = dataset.read(window=Window(left, top, right - left, bottom - top))
    return pixels


def average_valid(fine: NDArray[np.generic], factor: int, nodata: int) -> NDArray[np.generic]:
    """Return the mean of the valid pixels of each ``factor`` x ``factor`` cell, half up; ``nodata`` if none is.

    ``fine`` is ``(…, height, width)``.
    """
    # Large enough for twice the sum of a cell, and no larger, which is faster.
    dtype = np.min_scalar_type(-(2 * np.iinfo(str(fine.dtype)).max + 1) * factor**2)

    def add_up(pixels: NDArray[Any]) -> NDArray[Any]:
        rows = reduce(add, (pixels[..., step::factor, :].astype(dtype) for step in range(factor)))
        return reduce(add, (rows[..., step::factor] for step in range(factor)))

    valid = fine != nodata
    is_full = bool(valid.all())
    total = add_up(fine if is_full else fine * valid)
    count = np.asarray(factor**2, dtype) if is_full else add_up(valid)
    mean = (2 * total + count) // (2 * np.maximum(count, 1))
    return np.where(count > 0, mean, nodata).astype(fine.dtype)


#: Bytes read at a time: the first such part of a Sentinel-2 COG holds all of its directories.
CHUNK_BYTES = 1 << 15
#: A Sentinel-2 band has 6: the image and its overviews. With a mask each, these are 12.
MAX_DIRECTORIES = 32
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Returns up to ``CHUNK_BYTES`` from an offset.
Read = Callable[[int], bytes]


class TooManyDirectories(Exception):
    """A TIFF has more than ``MAX_DIRECTORIES``, or they lead in a circle."""


def check_directories(read: Read) -> None:
    """Raise ``TooManyDirectories`` if a TIFF has more than GDAL should follow; everything else is GDAL's to judge."""
    start, part = 0, read(0)

    def take(offset: int, form: str) -> int:
        """Return the number at ``offset``, from the last part that was read if it contains it."""
        nonlocal start, part
        size = struct.calcsize(form)
        if not start <= offset <= start + len(part) - size:
            start, part = offset, read(offset)
        number: int = struct.unpack(form, part[offset - start :][:size])[0]
        return number

    order, is_big = "<" if part[:2] == b"II" else ">", part[2:3] == b"+" or part[3:4] == b"+"
    # Where the first directory's offset stands, the form of a count and an offset, the bytes of an entry.
    first, count_form, offset_form, entry_bytes = (8, "Q", "Q", 20) if is_big else (4, "H", "I", 12)
    try:
        offset = take(first, order + offset_form)
        for _ in range(MAX_DIRECTORIES):
            if not offset:
                return
            entries = take(offset, order + count_form)
            link = offset + struct.calcsize(count_form) + entries * entry_bytes
            offset = take(link, order + offset_form)
    except struct.error:  # cut short
        return
    if offset:
        raise TooManyDirectories(f"has more than {MAX_DIRECTORIES} images and overviews: not a COG")
