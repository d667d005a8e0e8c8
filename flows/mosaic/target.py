"""The grid of a mosaic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from flows.adapters.gdal import gdal_environment
from flows.errors import SettingsError
from flows.mosaic.observation import BAND_PIXEL_SIZES_M, Observation
from flows.scene.grid import Grid
from flows.scene.query import BBox

Bounds = tuple[float, float, float, float]
"""``(west, south, east, north)`` in the units of a CRS."""

MAX_PIXELS = 4_000_000_000
"""About 33 full tiles of 10 m."""
_LONGITUDES, _LATITUDES = "EPSG:4326", (-180.0, 180.0)
_EDGE_POINTS = 21


def build_target_grid(
    observations: Sequence[Observation],
    bands: Sequence[str],
    *,
    bbox: BBox | None = None,
    crs: str | None = None,
    pixel_size_m: float | None = None,
) -> Grid:
    """The grid that covers ``bbox``, without one all observations.

    Its CRS is the most frequent one of the observations unless ``crs`` names another; its pixels are
    those of the finest band, and lie on those of the observations in the same CRS.

    Raises:
        SettingsError: no projected CRS in metres, a pixel size that is none, a grid too large or empty.
    """
    crs = _check_crs(crs) if crs else _find_crs(observations)
    size = float(min(BAND_PIXEL_SIZES_M[band] for band in bands)) if pixel_size_m is None else pixel_size_m
    if not (math.isfinite(size) and 1 <= size <= 10_000):
        raise SettingsError(f"--resolution {size:g}: give metres from 1 to 10000")
    bounds = _project_bbox(bbox, crs) if bbox else _unite(_project(observations, crs))
    return _snap(bounds, crs, size, _find_anchor(observations, crs))


def find_bounds(grid: Grid, crs: str) -> Bounds:
    """What ``grid`` covers in another CRS."""
    if grid.crs == crs:
        return grid.bounds
    with gdal_environment():
        west, south, east, north = transform_bounds(grid.crs, crs, *grid.bounds, densify_pts=_EDGE_POINTS)
    return (west, south, east, north)


def bounds_overlap(one: Bounds, other: Bounds) -> bool:
    """Whether two bounds share more than an edge."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _check_crs(text: str) -> str:
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise SettingsError(f"--crs {text!r:.40}: not a CRS such as EPSG:32722") from error
    code = crs.to_epsg()
    if code is None or not crs.is_projected or crs.linear_units_factor[1] != 1.0:
        raise SettingsError(f"--crs {text!r:.40}: not a projected CRS in metres of the EPSG registry")
    return f"EPSG:{code}"


def _find_crs(observations: Sequence[Observation]) -> str:
    counts = Counter(observation.scene.grid.crs for observation in observations)
    return min(counts, key=lambda crs: (-counts[crs], crs))


def _project_bbox(bbox: BBox, crs: str) -> Bounds:
    """``bbox`` in ``crs``; of one across the antimeridian, both halves."""
    west, south, east, north = bbox
    low, high = _LATITUDES
    halves = [bbox] if west < east else [(west, south, high, north), (low, south, east, north)]
    with gdal_environment():
        projected = [transform_bounds(_LONGITUDES, crs, *half, densify_pts=_EDGE_POINTS) for half in halves]
    if not all(map(math.isfinite, sum(projected, ()))):
        raise SettingsError(f"--bbox: lies outside of where {crs} is defined; name another --crs")
    return _unite(projected)


def _project(observations: Iterable[Observation], crs: str) -> list[Bounds]:
    grids = {observation.scene.grid: None for observation in observations}
    return [find_bounds(grid, crs) for grid in grids]


def _unite(bounds: Iterable[Bounds]) -> Bounds:
    west, south, east, north = zip(*bounds, strict=True)
    return (min(west), min(south), max(east), max(north))


def _find_anchor(observations: Sequence[Observation], crs: str) -> tuple[float, float]:
    """A corner of the observations' pixels: tiles of one zone share their grid of 20 m."""
    for observation in observations:
        if observation.scene.grid.crs == crs:
            _, _, west, _, _, north = observation.scene.grid.transform
            return (west, north)
    return (0.0, 0.0)


def _snap(bounds: Bounds, crs: str, size: float, anchor: tuple[float, float]) -> Grid:
    """The smallest grid over ``bounds`` with ``anchor`` on a corner of its pixels."""
    noise = 1e-6  # of a pixel: bounds that lie on the grid must not gain a row by a rounding error
    first_col = math.floor((bounds[0] - anchor[0]) / size + noise)
    last_col = math.ceil((bounds[2] - anchor[0]) / size - noise)
    first_row = math.floor((anchor[1] - bounds[3]) / size + noise)
    last_row = math.ceil((anchor[1] - bounds[1]) / size - noise)
    height, width = last_row - first_row, last_col - first_col
    if height * width > MAX_PIXELS:
        raise SettingsError(
            f"the mosaic would have {width} x {height} pixels of {size:g} m, more than {MAX_PIXELS:.0e}: "
            "give a coarser --resolution or a smaller --bbox"
        )
    west, north = anchor[0] + first_col * size, anchor[1] - first_row * size
    return Grid(crs, (size, 0.0, west, 0.0, -size, north), (max(height, 1), max(width, 1)))
