"""Synthetic Sentinel-2 scenes of known sun: clouds ragged at 10 m, their shadows, water, dark ground.

The probability is noise of four sizes, the finest of one pixel, so that means over 2 x 2 and 8 x 8
pixels, thresholds and neighbours all matter. Sides of 600 x 500 pixels of 20 m: not square, and no
multiple of the 80 m level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray

from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import Scene
from tests.doubles.earth_engine.sentinel2 import Sentinel2

Field = NDArray[np.float64]

CLOUD_HEIGHT_M = 900.0
WATER, VEGETATION = 6, 4
"""Classes of SCL."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tile with its grid's CRS and upper-left corner."""

    tile: str
    crs: str
    origin: tuple[float, float]


SOUTH = Place("22KFV", "EPSG:32722", (600_000.0, 7_500_040.0))
NORTH = Place("32TNS", "EPSG:32632", (499_980.0, 5_200_020.0))


@dataclass(frozen=True, slots=True)
class Sun:
    """A solar azimuth, clockwise from north, with the hemisphere it is seen from."""

    azimuth_deg: float
    place: Place

    def __str__(self) -> str:
        return f"{self.azimuth_deg:g}-{'north' if self.place is NORTH else 'south'}"


SUNS = tuple(Sun(azimuth, place) for place in (SOUTH, NORTH) for azimuth in (38.5, 141.7, 217.3, 322.1))
"""Every quadrant in both hemispheres."""


@lru_cache(8)  # making one takes as long as making its mask
def build_ragged_scene(
    sun: Sun, seed: int = 0, shape_20m: tuple[int, int] = (500, 600), *, wedge: bool = True
) -> Sentinel2:
    """A product under ``sun``; with ``wedge``, its right side is outside the swath."""
    rng = np.random.default_rng([seed, round(sun.azimuth_deg * 10)])
    height, width = shape_20m[0] * 2, shape_20m[1] * 2
    shape = (height, width)
    thickness = _noise(rng, shape, 150) + 0.6 * _noise(rng, shape, 30) + 0.4 * _noise(rng, shape, 5)
    thickness += 0.5 * rng.uniform(-1, 1, shape)
    probability = np.clip(50 + 60 * (thickness - np.quantile(thickness, 0.78)), 0, 100)
    cloud = probability > 50
    ground = 2600 + 700 * _noise(rng, shape, 40) + 150 * rng.uniform(-1, 1, shape)
    dark_ground = _noise(rng, shape, 60) > 0.45
    water = _noise(rng, shape, 90) > 0.5
    nir = np.where(_shadow(cloud, sun.azimuth_deg), 900, np.where(dark_ground, 1100, ground))
    nir = np.where(water, 300, np.where(cloud, 5000, nir)) + rng.integers(0, 400, shape)
    scl = np.where(water[::2, ::2], WATER, VEGETATION).astype(np.uint8)
    product = Sentinel2(
        sun.place.tile,
        "20181214T133219",
        "20181214T133217",
        sun.place.crs,
        sun.place.origin,
        probability.round().astype(np.uint8),
        {"B8": nir.astype(np.uint16), "SCL": scl},
        sun.azimuth_deg,
    )
    for pixels in (product.probability, *product.bands.values()):
        pixels.setflags(write=False)  # all tests have the same
    return _with_wedge(product) if wedge else product


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> Field:
    """Smooth noise of about -1..1 whose features are ``cell`` pixels wide."""
    height, width = shape
    knots = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2))
    rows, cols = np.arange(height) / cell, np.arange(width) / cell
    row, col = rows.astype(int), cols.astype(int)
    down, across = (rows - row)[:, None], (cols - col)[None, :]
    upper = knots[np.ix_(row, col)] * (1 - across) + knots[np.ix_(row, col + 1)] * across
    lower = knots[np.ix_(row + 1, col)] * (1 - across) + knots[np.ix_(row + 1, col + 1)] * across
    smooth: Field = upper * (1 - down) + lower * down
    return smooth


def _shadow(cloud: NDArray[np.bool_], azimuth_deg: float, zenith_deg: float = 35.0) -> NDArray[np.bool_]:
    """The clouds moved away from the sun; rows grow southwards."""
    length_px = CLOUD_HEIGHT_M * math.tan(math.radians(zenith_deg)) / 10
    azimuth = math.radians(azimuth_deg)
    rows, cols = round(length_px * math.cos(azimuth)), round(-length_px * math.sin(azimuth))
    return np.roll(cloud, (rows, cols), (0, 1))


def _with_wedge(product: Sentinel2) -> Sentinel2:
    height, width = product.shape_10m
    top, bottom = 0.95 * width, 0.8 * width
    rows, cols = np.arange(height)[:, None] + 0.5, np.arange(width)[None, :] + 0.5
    valid = cols <= top + (bottom - top) * rows / height
    west, north = product.origin
    south = north - 10 * height
    outline = shapely.Polygon(
        [(west, north), (west + 10 * top, north), (west + 10 * bottom, south), (west, south)]
    )
    return replace(product, valid=valid, outline=outline)


def split_datatake(product: Sentinel2) -> tuple[Sentinel2, Sentinel2]:
    """The two images of a datatake whose datastrip ends within the tile; they overlap by 20 rows of 10 m."""
    height, width = product.shape_10m
    row = np.arange(height)[:, None]
    valid = np.ones((height, width), bool) if product.valid is None else product.valid
    west, north = product.origin
    cut = height // 2
    later = datetime.strptime(product.datastrip, "%Y%m%dT%H%M%S").replace(tzinfo=UTC) + timedelta(seconds=14)

    def part(rows: NDArray[np.bool_], first: int, last: int, datastrip: str) -> Sentinel2:
        strip = shapely.box(west, north - 10 * last, west + 10 * width, north - 10 * first)
        outline = product.footprint.shape.intersection(strip)
        return replace(product, valid=valid & rows, outline=outline, datastrip=datastrip)

    return (
        part(row < cut + 10, 0, cut + 10, product.datastrip),
        part(row >= cut - 10, cut - 10, height, later.strftime("%Y%m%dT%H%M%S")),
    )


def build_scene(product: Sentinel2) -> Scene:
    """The scene of the Planetary Computer's item of the same product; it has another discriminator."""
    height, width = product.shape_10m
    west, north = product.origin
    taken = datetime.strptime(product.datatake, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return Scene(
        id=f"{product.spacecraft}_MSIL2A_{product.datatake}_R081_T{product.tile}_20201008T100849",
        datetime=taken,
        tile=product.tile,
        platform=f"Sentinel-{product.spacecraft.removeprefix('S')}",
        grid=Grid(product.crs, (20.0, 0.0, west, 0.0, -20.0, north), (-(-height // 2), -(-width // 2))),
        solar_azimuth_deg=product.solar_azimuth_deg,
        solar_zenith_deg=product.solar_zenith_deg,
        datatake_id=product.datatake_id,
        datastrip_id=product.datastrip_id,
        processing_baseline=product.baseline,
        footprint=product.footprint.to_geojson(),
        asset_hrefs={},
    )
