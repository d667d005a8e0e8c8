"""The invented landscapes of the sample archive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.demo.scenes import PIXEL_SIZE_M, WINDOW_PX, SampleDisc, SampleTile
from pc_cloudmask.scene.grid import Shape

FloatArray = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


def build_noise(rng: np.random.Generator, shape: Shape, octaves: int, persistence: float) -> FloatArray:
    """Smooth noise about zero, float32 ``shape``, values roughly within -1..1.

    The coarsest of the ``octaves`` has cells of ``2 ** octaves`` pixels; each finer one has half that
    size and ``persistence`` times the amplitude; the finest has cells of two pixels.
    """
    noise = _draw_uniform(rng, _cells(shape, 2**octaves))
    amplitude = np.float32(1.0)
    for octave in range(octaves - 1, 0, -1):
        amplitude *= np.float32(persistence)
        rows, cols = _cells(shape, 2**octave)
        noise = upsample_twice(noise)[:rows, :cols]
        noise += amplitude * _draw_uniform(rng, (rows, cols))
    return upsample_twice(noise)[: shape[0], : shape[1]]


def build_smooth_noise(
    rng: np.random.Generator, shape: Shape, octaves: int, persistence: float
) -> FloatArray:
    """Noise whose finest cells are eight pixels, the coarsest ``4 * 2 ** octaves``."""
    quarter = (shape[0] // 4 + 1, shape[1] // 4 + 1)
    noise = upsample_twice(upsample_twice(build_noise(rng, quarter, octaves, persistence)))
    return noise[: shape[0], : shape[1]]


def _cells(shape: Shape, size: int) -> Shape:
    """How many cells of ``size`` pixels cover ``shape``, with one to spare."""
    return (-(-shape[0] // size) + 1, -(-shape[1] // size) + 1)


def upsample_twice(values: FloatArray) -> FloatArray:
    """``values`` at half the pixel size, interpolated smoothly, (2h, 2w)."""
    return _double_rows(_double_rows(values).T).T


def repeat_twice(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """``values`` at half the pixel size, each pixel as four, (2h, 2w)."""
    return values.repeat(2, axis=0).repeat(2, axis=1)


def smooth_step(values: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, and a cubic between."""
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def mean_of_four(values: FloatArray) -> FloatArray:
    """Means of 2 x 2 pixels, (h/2, w/2)."""
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) * np.float32(0.25)


def round_to(values: FloatArray, steps: int) -> FloatArray:
    """``values`` to the nearest ``1 / steps``: what the eye does not see need not be stored."""
    rounded: FloatArray = np.rint(values * np.float32(steps))
    return rounded * np.float32(1 / steps)


def _draw_uniform(rng: np.random.Generator, shape: Shape) -> FloatArray:
    return 2 * rng.random(shape, dtype=np.float32) - 1


def _double_rows(values: FloatArray) -> FloatArray:
    """Chaikin's corner cutting along the rows: repeated, it tends to a quadratic B-spline."""
    near = np.float32(0.75) * values
    far = np.float32(0.25) * values
    doubled = np.empty((2 * values.shape[0], values.shape[1]), np.float32)
    doubled[0::2], doubled[1::2] = near, near
    doubled[2::2] += far[:-1]
    doubled[1:-1:2] += far[1:]
    doubled[0] += far[0]
    doubled[-1] += far[-1]
    return doubled


BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
SHAPE_20M = (WINDOW_PX, WINDOW_PX)


class Cover(IntEnum):
    """What covers the ground."""

    LAKE = 0
    RIVER = 1
    DARK = 2
    FOREST = 3
    TOWN = 4
    CROP = 5
    MEADOW = 6
    STUBBLE = 7
    SOIL = 8
    YOUNG_CROP = 9


FIELD_COVERS = (
    Cover.CROP,
    Cover.MEADOW,
    Cover.STUBBLE,
    Cover.SOIL,
    Cover.YOUNG_CROP,
    Cover.MEADOW,
    Cover.CROP,
)
WATER_COVERS = (Cover.LAKE, Cover.RIVER)
# Surface reflectances in the order of BANDS. Land in full sun keeps its NIR above 0.20, so that only
# shadow and DARK (burnt cane; a shaded slope of spruce) are darker than the algorithm's 0.15.
_SIGNATURES: Mapping[str, Mapping[Cover, tuple[float, ...]]] = {
    "cane": {
        Cover.LAKE: (0.052, 0.066, 0.050, 0.024, 0.008, 0.005),
        Cover.RIVER: (0.072, 0.098, 0.098, 0.040, 0.012, 0.008),
        Cover.DARK: (0.046, 0.050, 0.056, 0.090, 0.130, 0.120),
        Cover.FOREST: (0.034, 0.058, 0.038, 0.265, 0.140, 0.065),
        Cover.TOWN: (0.140, 0.152, 0.168, 0.235, 0.250, 0.215),
        Cover.CROP: (0.048, 0.098, 0.060, 0.380, 0.190, 0.090),
        Cover.MEADOW: (0.062, 0.106, 0.092, 0.300, 0.250, 0.150),
        Cover.STUBBLE: (0.090, 0.130, 0.150, 0.280, 0.340, 0.260),
        Cover.SOIL: (0.078, 0.108, 0.160, 0.250, 0.320, 0.290),
        Cover.YOUNG_CROP: (0.058, 0.108, 0.084, 0.330, 0.240, 0.150),
    },
    "farmland": {
        Cover.LAKE: (0.048, 0.062, 0.038, 0.018, 0.007, 0.005),
        Cover.RIVER: (0.066, 0.088, 0.070, 0.032, 0.010, 0.007),
        Cover.DARK: (0.020, 0.030, 0.020, 0.108, 0.055, 0.026),
        Cover.FOREST: (0.030, 0.052, 0.034, 0.250, 0.120, 0.055),
        Cover.TOWN: (0.128, 0.138, 0.146, 0.230, 0.230, 0.190),
        Cover.CROP: (0.044, 0.092, 0.052, 0.410, 0.190, 0.085),
        Cover.MEADOW: (0.050, 0.102, 0.066, 0.370, 0.220, 0.115),
        Cover.STUBBLE: (0.094, 0.134, 0.148, 0.290, 0.310, 0.230),
        Cover.SOIL: (0.088, 0.112, 0.128, 0.240, 0.280, 0.230),
        Cover.YOUNG_CROP: (0.058, 0.106, 0.082, 0.340, 0.240, 0.140),
    },
}
_FIELD_SIZE_M: Mapping[str, tuple[float, float]] = {"cane": (460.0, 700.0), "farmland": (180.0, 420.0)}
_FOREST_LEVEL: Mapping[str, float] = {"cane": 0.40, "farmland": 0.30}
_TOWN_LEVEL = 0.93
_RIVER_WIDTH_M = 110


@dataclass(frozen=True, slots=True)
class Landscape:
    """The ground of a tile's window.

    ``cover``         uint8 (h, w) at 20 m, values of ``Cover``.
    ``texture``       float32 (h, w), a factor about 1 on every reflectance.
    ``slope_east``    float32 (h, w), rise over run toward the east; ``slope_south`` toward the south.
    ``reflectance``   float32 (covers, bands), indexed by ``Cover``, then in the order of ``BANDS``.
    """

    cover: NDArray[np.uint8]
    texture: FloatArray
    slope_east: FloatArray
    slope_south: FloatArray
    reflectance: FloatArray


def build_landscape(tile: SampleTile) -> Landscape:
    """Fields, woods, towns, a river, lakes, dark ground on gentle hills."""
    rng = np.random.default_rng(tile.seed)
    height_m = 110 * build_smooth_noise(rng, SHAPE_20M, octaves=6, persistence=0.5)
    slope_south, slope_east = (np.gradient(height_m, 20.0, axis=axis).astype(np.float32) for axis in (0, 1))
    texture = 1 + np.float32(0.20) * build_smooth_noise(rng, SHAPE_20M, octaves=5, persistence=0.6)
    signatures = _SIGNATURES[tile.signatures]
    table = np.array([signatures[cover] for cover in Cover], np.float32)
    return Landscape(_build_cover(tile, rng), texture, slope_east, slope_south, table)


def is_water(cover: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where ``cover`` is a lake or a river."""
    return cover <= max(WATER_COVERS)


def _build_cover(tile: SampleTile, rng: np.random.Generator) -> NDArray[np.uint8]:
    warp = build_noise(rng, SHAPE_20M, octaves=7, persistence=0.6)
    cover = _build_fields(tile, rng, warp)
    woods = build_noise(rng, SHAPE_20M, octaves=7, persistence=0.5)
    cover[woods > _FOREST_LEVEL[tile.signatures]] = Cover.FOREST
    cover[build_noise(rng, SHAPE_20M, octaves=7, persistence=0.7) > _TOWN_LEVEL] = Cover.TOWN
    south, east = _coordinates_m()
    for disc in tile.dark_grounds:
        cover[_inside(disc, south, east, warp)] = Cover.DARK
    from_river_m = np.abs(east - _build_river_course(rng))
    cover[(from_river_m < 170 + 150 * woods) & (cover != Cover.DARK)] = Cover.FOREST
    cover[from_river_m < _RIVER_WIDTH_M / 2] = Cover.RIVER
    for disc in tile.lakes:
        cover[_inside(disc, south, east, warp)] = Cover.LAKE
    return cover


def _coordinates_m() -> tuple[FloatArray, FloatArray]:
    """Metres south (h, 1) and east (1, w) of the corner, at pixel centres."""
    south, east = ((np.arange(length, dtype=np.float32) + 0.5) * PIXEL_SIZE_M for length in SHAPE_20M)
    return south[:, None], east[None, :]


def _build_fields(tile: SampleTile, rng: np.random.Generator, warp: FloatArray) -> NDArray[np.uint8]:
    """Parcels in rows, turned another way in each district, with tracks between the districts."""
    width_m, length_m = _FIELD_SIZE_M[tile.signatures]
    levels = build_noise(rng, SHAPE_20M, octaves=9, persistence=0.3)
    district = np.clip((levels + 1) * 5, 0, 7).astype(np.int32)
    angles = rng.random(8) * math.pi
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    south, east = _coordinates_m()
    bend = np.float32(120) * warp
    along = cosine[district] * east + sine[district] * south + bend
    across = cosine[district] * south - sine[district] * east + bend
    row = np.floor(across / width_m).astype(np.int32)
    # Neighbouring rows and columns are merged here and there, so that parcels differ in size.
    row >>= rng.integers(0, 2, 64)[(row >> 1) & 63]
    shifts = rng.random(4096).astype(np.float32)
    column = np.floor(along / length_m + shifts[(row + 7 * district) & 4095]).astype(np.int32)
    column >>= rng.integers(0, 2, 64)[(row + (column >> 1)) & 63]
    kinds = rng.choice(np.array(FIELD_COVERS, np.uint8), 4096)
    fields: NDArray[np.uint8] = kinds[(row * 613 + column * 241 + district * 97) & 4095]
    tracks = (district[1:, 1:] != district[:-1, 1:]) | (district[1:, 1:] != district[1:, :-1])
    fields[1:, 1:][tracks] = Cover.TOWN
    return fields


def _build_river_course(rng: np.random.Generator) -> FloatArray:
    """Metres east of the corner, (h, 1), of a river that winds from the upper to the lower edge."""
    winding = build_noise(rng, (SHAPE_20M[0], 2), octaves=8, persistence=0.5)[:, :1]
    return 0.42 * PIXEL_SIZE_M * SHAPE_20M[1] + 2_600 * winding


def _inside(disc: SampleDisc, south: FloatArray, east: FloatArray, warp: FloatArray) -> NDArray[np.bool_]:
    """A disc whose edge is frayed."""
    distance_squared = (south - disc.south_m) ** 2 + (east - disc.east_m) ** 2
    return distance_squared < (disc.radius_m * (1 + np.float32(0.9) * warp)) ** 2
