"""The scenes of the sample archive: tiles, dates, sun, weather, and the rasters that a satellite above would record.

Everything is made from sums, products and square roots of float32, which give the same bits on every machine;
Fourier transforms, exponentials or sines of arrays would not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import PROBABILITY_NODATA, MaskClass
from pc_cloudmask.scene.grid import Grid, Shape
from pc_cloudmask.scene.scene import PROBABILITY_ASSET, reflectance_offset_dn

FloatArray = NDArray[np.floating[Any]]
#: Codes of ground cover.
Codes = NDArray[np.uint8]
Raster = NDArray[np.uint8] | NDArray[np.uint16]

PIXEL_SIZE_M = 20
#: Edge of the window at 20 m: 18 km of a tile's 110.
WINDOW_PX = 900
SHAPE_20M = (WINDOW_PX, WINDOW_PX)
BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")


@dataclass(frozen=True, slots=True)
class SampleTile:
    """A window in the upper-left corner of a real tile, with an invented landscape, and who passes over it.

    ``corner_m``  the tile's upper-left corner in its own UTM zone.
    ``soil``      reflectance of its bare soil in the order of ``BANDS``.
    ``field_m``   width and length of its smallest fields.
    ``lake_m``    where its river widens into a lake: metres east and south of the corner.
    """

    name: str
    epsg: int
    platform: str
    relative_orbit: int
    corner_m: tuple[int, int]
    seed: int
    soil: tuple[float, ...]
    field_m: tuple[float, float]
    lake_m: tuple[float, float]

    def grid(self, pixel_size_m: int = PIXEL_SIZE_M) -> Grid:
        """Return the window's grid at ``pixel_size_m``."""
        size, west, north = map(float, (pixel_size_m, *self.corner_m))
        edge = WINDOW_PX * PIXEL_SIZE_M // pixel_size_m
        return Grid(f"EPSG:{self.epsg}", (size, 0.0, west, 0.0, -size, north), (edge, edge))


@dataclass(frozen=True, slots=True)
class SampleScene:
    """One acquisition of a tile.

    The sun's angles are those of the place and time, to a tenth of a degree; clouds are so high that their
    shadows fall some 750 m away, within the 1000 m in which the mask's method looks for them.

    ``greenness``     how much greener than their average the crops are, -1..1.
    ``cloudiness``    about 1: added to noise about -1 to make clouds of it; ``haze`` likewise.
    ``clear_third``   which third of the window, 0 to 2 from the north-west on, has no clouds. Scenes of a tile
                      have different ones, so that every place is clear on one date.
    ``swath_edge_m``  where the swath begins on the window's upper and lower edge, metres east of the corner.
    """

    tile: SampleTile
    datetime: datetime
    absolute_orbit: int
    processing_baseline: str
    solar_azimuth_deg: float
    solar_zenith_deg: float
    greenness: float
    cloud_height_m: float
    cloudiness: float
    clear_third: int
    haze: float = 0
    swath_edge_m: tuple[float, float] | None = None

    @property
    def id(self) -> str:
        """Return an id in the Planetary Computer's form, with a processing time that no real product has."""
        tile, orbit = self.tile, f"R{self.tile.relative_orbit:03d}"
        start, end = f"{self.datetime:%Y%m%dT%H%M%S}", f"{self.datetime:%Y%m%d}T235959"
        return f"{tile.platform}_MSIL2A_{start}_{orbit}_T{tile.name}_{end}"


_BRAZIL = SampleTile(
    name="22KFV",
    epsg=32722,
    platform="S2B",
    relative_orbit=81,
    corner_m=(600_000, 7_500_040),
    seed=22,
    soil=(0.050, 0.078, 0.135, 0.235, 0.290, 0.250),
    field_m=(420.0, 760.0),
    lake_m=(7_500, 11_000),
)
_BAVARIA = SampleTile(
    name="33UUP",
    epsg=32633,
    platform="S2A",
    relative_orbit=22,
    corner_m=(300_000, 5_400_000),
    seed=33,
    soil=(0.078, 0.104, 0.126, 0.230, 0.285, 0.245),
    field_m=(170.0, 380.0),
    lake_m=(11_500, 7_500),
)


# fmt: off
SAMPLE_SCENES = (
    SampleScene(
        _BRAZIL, datetime(2018, 6, 17, 13, 32, 21, tzinfo=UTC), 6685, "02.12", 31.6, 53.0,
        greenness=-0.5, cloud_height_m=570, cloudiness=1.05, clear_third=0,
    ),
    SampleScene(
        _BRAZIL, datetime(2018, 9, 15, 13, 32, 19, tzinfo=UTC), 7972, "02.12", 47.6, 35.8,
        greenness=-1, cloud_height_m=1050, cloudiness=1.2, clear_third=1,
    ),
    SampleScene(
        _BRAZIL, datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC), 9259, "02.12", 96.5, 23.6,
        greenness=1, cloud_height_m=1750, cloudiness=1.0, clear_third=2, swath_edge_m=(3_500, -1_200),
    ),
    SampleScene(
        _BAVARIA, datetime(2021, 9, 10, 10, 10, 31, tzinfo=UTC), 32480, "03.01", 160.0, 45.2,
        greenness=-1, cloud_height_m=750, cloudiness=1.0, clear_third=0,
    ),
    SampleScene(
        _BAVARIA, datetime(2022, 4, 18, 10, 10, 31, tzinfo=UTC), 35626, "04.00", 157.0, 39.6,
        greenness=0, cloud_height_m=910, cloudiness=1.15, clear_third=1, haze=0.55,
    ),
    SampleScene(
        _BAVARIA, datetime(2022, 6, 17, 10, 10, 41, tzinfo=UTC), 36484, "04.00", 149.5, 27.8,
        greenness=1, cloud_height_m=1430, cloudiness=1.05, clear_third=2,
    ),
)
# fmt: on

# Codes of ground cover: ranges, within which each code has its own colour.
WATER, DARK, FOREST, TOWN, FIELD = range(8), range(8, 16), range(16, 48), range(48, 64), range(64, 256)
HEDGE, ROAD = FOREST[28], TOWN[1]
# Surface reflectances in the order of BANDS, rounded from spectra of Sentinel-2 L2A. The NIR of land in full sun
# stays above 0.20, so that only shadow, water and DARK (burnt or boggy ground) are darker than the algorithm's 0.15.
_DEEP, _TURBID = (0.026, 0.034, 0.022, 0.014, 0.006, 0.004), (0.052, 0.076, 0.060, 0.030, 0.010, 0.007)
_BURNT, _BOG = (0.034, 0.041, 0.046, 0.080, 0.125, 0.115), (0.026, 0.038, 0.036, 0.120, 0.110, 0.070)
_CONIFER, _BROADLEAF = (0.018, 0.029, 0.019, 0.230, 0.095, 0.042), (0.024, 0.045, 0.027, 0.330, 0.150, 0.065)
_ROOF, _CONCRETE = (0.085, 0.100, 0.120, 0.225, 0.230, 0.200), (0.170, 0.190, 0.205, 0.280, 0.290, 0.260)
_CROP, _GRASS = (0.030, 0.062, 0.037, 0.420, 0.190, 0.088), (0.042, 0.078, 0.060, 0.330, 0.230, 0.130)
_STRAW = (0.090, 0.125, 0.155, 0.290, 0.330, 0.250)


def build_noise(rng: np.random.Generator, shape: Shape, octaves: range, persistence: float) -> FloatArray:
    """Return smooth noise about zero, float32 ``shape``, values roughly within -1..1.

    It has cells of ``2 ** octave`` pixels for each of ``octaves``; the coarsest has amplitude 1, each finer one
    ``persistence`` times that of the previous one.
    """
    amplitude = np.float32(1)
    noise: FloatArray = np.zeros([-(-length // 2**octaves.stop) + 1 for length in shape], np.float32)
    for octave in reversed(octaves):
        # One more each way, for interpolation.
        rows, cols = (-(-length // 2**octave) + 1 for length in shape)
        layer = amplitude * (2 * rng.random((rows, cols), dtype=np.float32) - 1)
        noise = layer + _upsample(noise)[:rows, :cols]
        amplitude *= np.float32(persistence)
    for _ in range(octaves.start):
        noise = _upsample(noise)
    return noise[: shape[0], : shape[1]]


def _upsample(values: FloatArray) -> FloatArray:
    """Return ``values`` at half the pixel size, interpolated smoothly, (2h, 2w)."""
    return _double_rows(_double_rows(values).T).T


def _double_rows(values: FloatArray) -> FloatArray:
    """Cut corners along the rows like Chaikin: repeated, this converges to a quadratic B-spline."""
    padded = np.concatenate((values[:1], values, values[-1:]))
    near, far = np.float32(0.75) * values, np.float32(0.25) * padded
    doubled = np.empty((2 * values.shape[0], values.shape[1]), np.float32)
    np.add(near, far[:-2], out=doubled[0::2])
    np.add(near, far[2:], out=doubled[1::2])
    return doubled


def repeat(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``values`` at half the pixel size, each pixel as four, (2h, 2w)."""
    return values.repeat(2, axis=0).repeat(2, axis=1)


def smooth_step(values: FloatArray) -> FloatArray:
    """Return 0 below 0, 1 above 1, and a cubic in between."""
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


@dataclass(frozen=True, slots=True)
class Landscape:
    """The ground of a tile's window: ``cover`` is uint8 (2h, 2w) at 10 m, the others float32 (h, w) at 20 m.

    ``cover`` holds codes of WATER, DARK, FOREST, TOWN, FIELD; ``texture`` is a factor on the reflectance of land.
    """

    tile: SampleTile
    cover: Codes
    texture: FloatArray
    height_m: FloatArray

    def build_reflectances(self, greenness: float) -> FloatArray:
        """Return the surface reflectance of each code in each band, float32 (256, 6).

        ``greenness``, -1..1, is the season; each FIELD code follows it in its own way.
        """
        rng = np.random.default_rng(self.tile.seed)
        table = np.empty((256, len(BANDS)), np.float32)
        pairs = ((WATER, _DEEP, _TURBID), (DARK, _BURNT, _BOG), (FOREST, _CONIFER, _BROADLEAF))
        for codes, first, second in pairs:
            table[codes] = _mix(first, second, np.linspace(0, 1, len(codes)))
        table[TOWN] = _mix(_ROOF, _CONCRETE, rng.random(len(TOWN)) ** 2)
        table[TOWN[::3]] = _mix(_BROADLEAF, _ROOF, np.full(len(TOWN[::3]), 0.5))
        plants = _mix(_CROP, _GRASS, rng.random(len(FIELD)))
        bare = _mix(self.tile.soil, _STRAW, rng.random(len(FIELD)) ** 2)
        green = np.clip(1.5 * rng.random(len(FIELD)) - 0.1 + 0.25 * greenness * rng.random(len(FIELD)), 0, 1)
        fields = bare + green.astype(np.float32)[:, None] * (plants - bare)
        table[FIELD] = fields * (0.95 + 0.3 * rng.random(len(FIELD))).astype(np.float32)[:, None]
        return table


def _mix(first: tuple[float, ...], second: tuple[float, ...], shares: NDArray[np.float64]) -> FloatArray:
    """Return ``first`` with a share of ``second``, float32 (shares, bands)."""
    start, stop = np.array(first, np.float32), np.array(second, np.float32)
    return start + shares.astype(np.float32)[:, None] * (stop - start)


def build_landscape(tile: SampleTile) -> Landscape:
    """Return fields, woods, towns and dark ground on gentle hills, with a river that widens into a lake."""
    rng = np.random.default_rng(tile.seed)
    height = build_noise(rng, SHAPE_20M, range(3, 9), 0.5)
    texture = 1 + 0.16 * build_noise(rng, SHAPE_20M, range(2, 7), 0.7)
    ragged = build_noise(rng, SHAPE_20M, range(1, 7), 0.6)
    speckle = rng.random(SHAPE_20M, dtype=np.float32)
    cover = _build_fields(tile, rng, ragged)
    _lay(cover, build_noise(rng, SHAPE_20M, range(1, 8), 0.7) > 0.95, TOWN, speckle)
    from_river_m, width_m = _build_river(tile, rng)
    wooded = (height + 0.3 * ragged > 0.42) | (from_river_m < width_m + 60 + 120 * ragged)
    _lay(cover, wooded, FOREST, 0.5 + 0.5 * ragged)
    _lay(cover, build_noise(rng, SHAPE_20M, range(3, 7), 0.5) > 0.8, DARK, 0.5 + 0.4 * ragged)
    _lay(cover, from_river_m < width_m, WATER, 1 - (width_m - from_river_m) / 500)
    return Landscape(tile, cover, texture, 90 * height)


def _lay(cover: Codes, where: NDArray[np.bool_], codes: range, level: FloatArray) -> None:
    """Put on ``cover``, (2h, 2w), ``where`` it is true, the code from ``codes`` at ``level``, 0..1, both (h, w)."""
    chosen = np.clip(level * len(codes), 0, len(codes) - 1) + codes.start
    np.copyto(cover, repeat(chosen.astype(np.uint8)), where=repeat(where))


def _build_fields(tile: SampleTile, rng: np.random.Generator, warp: FloatArray) -> Codes:
    """Return parcels in rows, with another direction in each district, and roads between the districts."""
    width_m, length_m = tile.field_m
    levels = build_noise(rng, SHAPE_20M, range(3, 9), 0.35)
    district = repeat(np.clip((levels + 1) * 5, 0, 9).astype(np.int32))
    angles = rng.random(10) * math.pi
    cosine, sine = (
        np.array([f(angle) for angle in angles], np.float32)[district] for f in (math.cos, math.sin)
    )
    metres = (np.arange(2 * WINDOW_PX, dtype=np.float32) + 0.5) * (PIXEL_SIZE_M // 2)
    bend = repeat(np.float32(60) * warp)
    along = cosine * metres + sine * metres[:, None] + bend
    across = cosine * metres[:, None] - sine * metres + bend
    row = np.floor(across / np.float32(width_m)).astype(np.int32)
    # Some neighbouring rows and columns are merged, so that parcels differ in size.
    row >>= rng.integers(0, 2, 64, np.int32)[(row >> 1) & 63]
    shifts = rng.random(4096, np.float32)
    column = np.floor(along / np.float32(length_m) + shifts[(row + 7 * district) & 4095]).astype(np.int32)
    column >>= rng.integers(0, 2, 64, np.int32)[(row + (column >> 1)) & 63]
    parcel = (row * 613 + column * 241 + district * 97) & 4095
    fields: Codes = rng.integers(FIELD.start, FIELD.stop, 4096, np.uint8)[parcel]
    edge = (parcel[1:, 1:] != parcel[:-1, 1:]) | (parcel[1:, 1:] != parcel[1:, :-1])
    fields[1:, 1:][edge & (parcel[1:, 1:] % 4 == 0)] = HEDGE
    fields[1:, 1:][(district[1:, 1:] != district[:-1, 1:]) | (district[1:, 1:] != district[1:, :-1])] = ROAD
    return fields


def _build_river(tile: SampleTile, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return metres from a river winding from the upper to the lower edge, (h, w), and half its width, (h, w)."""
    metres = (np.arange(WINDOW_PX, dtype=np.float32) + 0.5) * PIXEL_SIZE_M
    east_m, south_m = tile.lake_m
    winding = 2_600 * build_noise(rng, (WINDOW_PX, 2), range(5, 9), 0.4)[:, :1]
    winding += np.float32(east_m) - winding[round(south_m / PIXEL_SIZE_M)]
    slope = np.gradient(winding, PIXEL_SIZE_M, axis=0)
    lake = smooth_step(1 - np.abs(metres[:, None] - np.float32(south_m)) / 3_200)
    shore = 1 + 0.9 * build_noise(rng, SHAPE_20M, range(2, 8), 0.55)
    from_river_m = np.abs(metres - winding) / np.sqrt(1 + slope * slope)
    return from_river_m, 45 + 1_150 * lake * np.clip(shore, 0.2, 2)


class Truth(IntEnum):
    """Values of the truth: those of ``MaskClass``, and two more that it does not distinguish."""

    NO_DATA = MaskClass.NO_DATA
    CLEAR = MaskClass.CLEAR
    CLOUD = MaskClass.CLOUD
    SHADOW_ON_LAND = MaskClass.CLOUD_SHADOW
    SHADOW_ON_WATER = 4
    HAZE = 5


#: Pixels of 10 m per pixel of the preview.
_PREVIEW_STEP = 6
#: How far beyond the window clouds are made, in pixels of 20 m: their shadows reach no further.
_MARGIN_PX = 50
#: Opacity from which a cloud hides the ground, and shade from which ground is in shadow.
_HALF = 0.5
#: Opacity in blue from which a veil is haze.
_HAZY = 0.1
# By band, in the order of BANDS: the share of light that reaches the ground in a cloud's shadow (sky light, which
# is blue); a bright cloud's reflectance; the reflectance of haze, and its opacity relative to that in blue.
_DIFFUSE = (0.42, 0.36, 0.31, 0.24, 0.18, 0.15)
_CLOUD = (0.66, 0.66, 0.67, 0.72, 0.52, 0.38)
_HAZE = (0.40, 0.39, 0.38, 0.42, 0.32, 0.26)
_HAZE_OPACITY = (1.0, 0.86, 0.74, 0.52, 0.16, 0.09)
#: Steps per unit of the sky's layers and of the ground's light, and the step of digital numbers: coarser ones would be
#: visible, finer ones would take twice the bytes.
_SKY_STEPS, _LIGHT_STEPS, _STEP_DN = 32, 20, 20
#: Reflectance at which ESA's true-colour image saturates.
_TRUE_COLOUR_WHITE = 0.3558


@dataclass(frozen=True, slots=True)
class Sky:
    """The effects of a scene's sky on the light, float32 (h, w) at 20 m, 0..1; ``valid`` is what the swath covers.

    A cloud of some ``opacity`` hides the ground, is as bright as ``brightness``, and takes the direct sunlight from
    the ground in its ``shade``; a veil of ``haze`` takes some of the ground's light, of blue the most.
    """

    opacity: FloatArray
    brightness: FloatArray
    shade: FloatArray
    haze: FloatArray
    valid: NDArray[np.bool_]


def build_sky(scene: SampleScene) -> Sky:
    """Return clouds, their shadow (the same outline moved away from the sun), and haze."""
    rng = np.random.default_rng([scene.absolute_orbit, scene.tile.seed])
    shape = (WINDOW_PX + 2 * _MARGIN_PX, WINDOW_PX + 2 * _MARGIN_PX)
    noise = build_noise(rng, shape, range(1, 7), 0.45) + build_noise(rng, shape, range(7, 9), 0.5) / 2
    place = (np.arange(shape[0], dtype=np.float32) - _MARGIN_PX) / WINDOW_PX
    from_third = 0.65 * place[:, None] + 0.35 * place - np.float32((scene.clear_third + 0.5) / 3)
    thickness = noise + np.float32(scene.cloudiness - 1) - 2 * smooth_step((0.25 - np.abs(from_third)) / 0.06)
    opacity = smooth_step(thickness / 0.1)
    # A cloud's shadow falls away from the sun, this many rows and columns from the cloud, seen from the nadir.
    length_px = scene.cloud_height_m * math.tan(math.radians(scene.solar_zenith_deg)) / PIXEL_SIZE_M
    azimuth = math.radians(scene.solar_azimuth_deg)
    rows, cols = round(math.cos(azimuth) * length_px), round(-math.sin(azimuth) * length_px)
    # A cloud is brighter where it rises away from its shadow.
    lit = thickness - np.roll(thickness, (-rows // 10, -cols // 10), axis=(0, 1))
    veil = build_noise(rng, shape, range(4, 9), 0.5) + np.float32(scene.haze - 1)
    layers = {
        "opacity": opacity,
        "brightness": np.clip(0.4 + 0.3 * thickness + 1.1 * lit, 0.3, 1),
        "shade": np.roll(opacity, (rows, cols), axis=(0, 1)),
        "haze": np.maximum(0.5 * smooth_step(veil / 0.9), 0.09 * smooth_step(thickness / 0.3 + 1)),
    }
    window = slice(_MARGIN_PX, -_MARGIN_PX)
    # The swath's edge follows the pixels of 20 m, so that all bands agree on it.
    upper_m, lower_m = scene.swath_edge_m or (0.0, 0.0)
    places = (np.arange(WINDOW_PX) + 0.5) / WINDOW_PX
    valid = places * WINDOW_PX * PIXEL_SIZE_M >= upper_m + (lower_m - upper_m) * places[:, None]
    return Sky(
        **{name: _round_to(each[window, window], _SKY_STEPS) for name, each in layers.items()}, valid=valid
    )


def _round_to(values: FloatArray, steps: int) -> FloatArray:
    """Return ``values`` rounded to the nearest ``1 / steps``."""
    rounded: FloatArray = np.rint(values * np.float32(steps)) / np.float32(steps)
    return rounded


def draw_rasters(scene: SampleScene, landscape: Landscape) -> dict[str, Raster]:
    """Return every raster of ``scene`` by asset key: (h, w), or (h, w, 3) for a picture."""
    sky = build_sky(scene)
    cover = landscape.cover[::2, ::2]
    bands = _draw_bands(scene, landscape, sky)
    # ESA's true-colour picture: 1..255, 0 no data.
    reflectances = (np.arange(2**15) + reflectance_offset_dn(scene.processing_baseline)) / 10_000
    table = np.clip(reflectances * (255 / _TRUE_COLOUR_WHITE), 1, 255).astype(np.uint8)
    table[0] = 0
    visual = np.stack([table[bands[band]] for band in ("B04", "B03", "B02")], axis=-1)
    return {
        **bands,
        "visual": visual,
        "preview": visual[_PREVIEW_STEP // 2 :: _PREVIEW_STEP, _PREVIEW_STEP // 2 :: _PREVIEW_STEP],
        PROBABILITY_ASSET: _draw_probability(landscape, sky),
        "SCL": _draw_scene_classes(cover, sky),
        "truth": _draw_truth(cover, sky),
    }


def _draw_bands(scene: SampleScene, landscape: Landscape, sky: Sky) -> dict[str, NDArray[np.uint16]]:
    """Return digital numbers of each band at 10 m, or 20 m if that is the instrument's resolution; 0 is no data."""
    table, light = landscape.build_reflectances(scene.greenness), _build_light(scene, landscape)
    bands = {}
    for index, band in enumerate(BANDS):
        # Through the air, the ground appears fainter, with the light of haze and clouds added.
        through = 1 - np.float32(_HAZE_OPACITY[index]) * sky.haze
        added = (1 - through) * np.float32(_HAZE[index]) * (1 - sky.opacity)
        added += sky.opacity * np.float32(_CLOUD[index]) * sky.brightness
        through *= light * (1 - np.float32(1 - _DIFFUSE[index]) * sky.shade) * (1 - sky.opacity)
        through *= np.float32(10_000 / _STEP_DN)
        # Rounds to 1 at least: 0 would be no data.
        added = np.maximum(added * np.float32(10_000 / _STEP_DN), 0.51)
        cover, valid = landscape.cover, sky.valid
        if band in ("B11", "B12"):
            cover = cover[::2, ::2]
        else:
            through, added, valid = repeat(through), repeat(added), repeat(valid)
        through *= table[:, index][cover]
        through += added
        bands[band] = np.rint(through, out=through).astype(np.uint16)
        bands[band] *= np.uint16(_STEP_DN)
        bands[band] += np.uint16(-reflectance_offset_dn(scene.processing_baseline))
        bands[band][~valid] = 0
    return bands


def _build_light(scene: SampleScene, landscape: Landscape) -> FloatArray:
    """Return the land's texture times the shading of its relief, about 1: slopes towards the sun are brighter."""
    azimuth, slant = math.radians(scene.solar_azimuth_deg), math.tan(math.radians(scene.solar_zenith_deg))
    slope_south, slope_east = np.gradient(landscape.height_m, PIXEL_SIZE_M)
    shading = 1 - slant * (math.sin(azimuth) * slope_east - math.cos(azimuth) * slope_south)
    light = _round_to(landscape.texture * np.clip(shading, 0.85, 1.15), _LIGHT_STEPS)
    return np.where(landscape.cover[::2, ::2] < WATER.stop, np.float32(1), light)


def _draw_probability(landscape: Landscape, sky: Sky) -> NDArray[np.uint8]:
    """Return cloud probability in percent as s2cloudless would see it, (2h, 2w) at 10 m, 255 no data.

    Clear ground has a few percent, towns more; a cloud's fringe rises through 50 where it hides half the ground;
    haze stays below, except for its thickest parts.
    """
    clear = np.full(256, 4, np.float32)
    clear[TOWN] = 18
    signal = repeat(sky.opacity + 0.95 * sky.haze * (1 - sky.opacity))
    ground = repeat(landscape.texture * landscape.texture) * clear[landscape.cover]
    probability_pct = np.rint(ground + signal * (97 - ground)).astype(np.uint8)
    probability_pct[repeat(~sky.valid)] = PROBABILITY_NODATA
    return probability_pct


def _draw_truth(cover: Codes, sky: Sky) -> NDArray[np.uint8]:
    """Return ``Truth`` without a buffer, (h, w) at 20 m: a cloud hides a shadow, a shadow hides haze."""
    truth = np.where(sky.haze >= _HAZY, Truth.HAZE, Truth.CLEAR).astype(np.uint8)
    shadow, water = sky.shade >= _HALF, cover < WATER.stop
    truth[shadow & ~water] = Truth.SHADOW_ON_LAND
    truth[shadow & water] = Truth.SHADOW_ON_WATER
    truth[sky.opacity >= _HALF] = Truth.CLOUD
    truth[~sky.valid] = Truth.NO_DATA
    return truth


def _draw_scene_classes(cover: Codes, sky: Sky) -> NDArray[np.uint8]:
    """Return Sen2Cor's scene classification (SCL), (h, w) at 20 m, 0 no data."""
    table = np.full(256, 4, np.uint8)
    table[WATER], table[DARK], table[TOWN] = 6, 2, 5
    classes: NDArray[np.uint8] = table[cover]
    land = classes != 6
    classes[land & (sky.haze >= 0.3)] = 10
    classes[land & (sky.shade >= _HALF)] = 3
    classes[sky.opacity >= 0.4] = 8
    classes[sky.opacity >= 0.8] = 9
    classes[~sky.valid] = 0
    return classes
