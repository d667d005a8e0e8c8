"""The pixels of a grid that make up an area.

A pixel belongs to an area if its centre lies inside, which GDAL and ``rasterio.features.geometry_mask`` call not
``all_touched``. An area that contains no pixel's centre, be it a point, a line or a strip of a field, consists of
the pixels that it touches.

Edges are straight in longitude and latitude, as GeoJSON specifies. On a grid in metres they are not, so they are
divided into short pieces before they are projected; without that, an edge of 100 km is up to ten pixels off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, floor, radians

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.scene.geometry import find_degrees
from pc_cloudmask.scene.grid import Grid, Window

#: Longest piece of an edge, in degrees: it lies less than 0.2 m off its chord at 80 degrees of latitude.
_PIECE_DEG = 0.01
#: How far from a grid's middle, in degrees of latitude, an area may extend whose pixels are counted one by one: UTM is
#: suitable there. What lies further away is measured.
_NEAR_DEG = 2.0
#: Margin around the grid, so that pixels at its edge see the area's true edges.
_MARGIN_DEG = 0.02
#: Pixels of the box around an area that are counted one by one: this takes a second or two.
_MOST_PX = 1 << 28
#: Pixels that are drawn at a time.
_STRIP_PX = 1 << 24
#: Equal-area: one square metre of it is one square metre on the ground.
_EQUAL_AREA = "EPSG:6933"
_TURNS = (-360, 0, 360)


@dataclass(frozen=True, slots=True)
class AreaPixels:
    """An area of ``total_px`` pixels, including those off the grid.

    ``window`` is the block of the grid's pixels that holds those of the area, None if there are none; ``inside`` says
    which of them belong to it, bool ``(height, width)``.
    """

    window: Window | None
    inside: NDArray[np.bool_]
    total_px: int


def find_pixels(area: BaseGeometry, grid: Grid) -> AreaPixels:
    """Return the pixels of ``grid`` that make up ``area``, a shape in longitude and latitude that is not empty.

    If an area extends further than about two degrees from the grid, or is larger than 300 km, its part off the grid is
    not counted but measured, in square metres on the ground.
    """
    area = _make_plain(area)
    with gdal_environment():
        west, south, east, north = find_degrees(grid.crs, grid.bounds)
    around = _turn_to(area, (west + east) / 2)
    shrinking = cos(radians(min(max(abs(south), abs(north)), 85)))

    def grow(margin_deg: float) -> BaseGeometry:
        across = margin_deg / shrinking
        return shapely.box(west - across, south - margin_deg, east + across, north + margin_deg)

    with gdal_environment():
        if grow(_NEAR_DEG).contains(around):
            placed = _project(around, grid.crs)
            box = _find_window(placed, grid)
            if box.height * box.width <= _MOST_PX:
                return _count(placed, grid, box)
        return _measure(area, _project(around & grow(_MARGIN_DEG), grid.crs), grid)


def _make_plain(area: BaseGeometry) -> BaseGeometry:
    """Return the area valid and of one dimension: if it has lines next to areas, only the areas."""
    parts = shapely.get_parts(shapely.make_valid(area))
    dimensions = shapely.get_dimensions(parts)
    plain: BaseGeometry = shapely.union_all(parts[dimensions == dimensions.max()])
    return plain


def _count(placed: BaseGeometry, grid: Grid, box: Window) -> AreaPixels:
    """Count all pixels of an area, wherever they lie on the endless grid."""
    on_grid = _meet(box, grid)
    rows = max(1, _STRIP_PX // box.width)
    strips = [
        Window(row, box.col, min(rows, box.row + box.height - row), box.width)
        for row in range(box.row, box.row + box.height, rows)
    ]
    for touched in (False, True):
        inside = _draw(placed, grid, on_grid, touched)
        if on_grid == box:
            total = int(np.count_nonzero(inside))
        else:
            total = sum(int(np.count_nonzero(_draw(placed, grid, strip, touched))) for strip in strips)
        if total:
            break
    return AreaPixels(on_grid, inside, total)


def _measure(area: BaseGeometry, placed: BaseGeometry, grid: Grid) -> AreaPixels:
    """Count the pixels on the grid, and measure the rest of the area."""
    on_grid = None if placed.is_empty else _meet(_find_window(placed, grid), grid)
    inside = _draw(placed, grid, on_grid, False)
    counted = int(np.count_nonzero(inside))
    flat = _project(area, _EQUAL_AREA, 1.0)
    total = max(counted, round(flat.area / grid.pixel_size_m**2), 1)
    return AreaPixels(on_grid, inside, total)


def _turn_to(area: BaseGeometry, middle_deg: float) -> BaseGeometry:
    """Return the area with longitudes within half a turn of ``middle_deg``; the antimeridian does not split it."""
    half = shapely.box(middle_deg - 180, -90, middle_deg + 180, 90)
    return shapely.union_all([translate(area, degrees) & half for degrees in _TURNS])


def _project(area: BaseGeometry, crs: str, piece_deg: float = _PIECE_DEG) -> BaseGeometry:
    """Return the area in ``crs``, after dividing its edges into pieces."""
    if area.is_empty:
        return area
    placed: BaseGeometry = shapely.transform(
        shapely.segmentize(area, piece_deg),
        lambda points: np.column_stack(transform("EPSG:4326", crs, *points.T)[:2]),
    )
    return placed


def _find_window(placed: BaseGeometry, grid: Grid) -> Window:
    """Return the pixels around a projected area, with one more on each side, on the endless grid."""
    a, _, c, _, e, f = grid.transform
    west, south, east, north = placed.bounds
    left, top = floor((west - c) / a) - 1, floor((north - f) / e) - 1
    right, bottom = ceil((east - c) / a) + 1, ceil((south - f) / e) + 1
    return Window(top, left, bottom - top, right - left)


def _meet(box: Window, grid: Grid) -> Window | None:
    """Return the part of the window that lies on the grid."""
    height, width = grid.shape
    top, left = max(box.row, 0), max(box.col, 0)
    bottom, right = min(box.row + box.height, height), min(box.col + box.width, width)
    return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None


def _draw(placed: BaseGeometry, grid: Grid, window: Window | None, touched: bool) -> NDArray[np.bool_]:
    if window is None:
        return np.zeros((0, 0), bool)
    drawn: NDArray[np.uint8] = rasterize(
        [(placed, 1)],
        out_shape=window.shape,
        transform=Affine(*grid.window_grid(window).transform),
        all_touched=touched or shapely.get_dimensions(placed) < 2,
        dtype="uint8",
    )
    return drawn.view(np.bool_)
