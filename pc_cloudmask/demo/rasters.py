"""The sky of a sample scene, and the rasters that a satellite above it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.demo.ground import (
    BANDS,
    DARK,
    TOWN,
    WATER,
    Codes,
    FloatArray,
    Landscape,
    build_noise,
    repeat,
    smooth_step,
)
from pc_cloudmask.demo.scenes import PIXEL_SIZE_M, WINDOW_PX, SampleScene
from pc_cloudmask.masking.classes import PROBABILITY_NODATA, MaskClass
from pc_cloudmask.scene.ids import PROBABILITY_ASSET
from pc_cloudmask.scene.scene import reflectance_offset_dn

Raster = NDArray[np.uint8] | NDArray[np.uint16]


class Truth(IntEnum):
    """Values of the truth: those of ``MaskClass``, and two that it does not tell apart."""

    NO_DATA = MaskClass.NO_DATA
    CLEAR = MaskClass.CLEAR
    CLOUD = MaskClass.CLOUD
    SHADOW_ON_LAND = MaskClass.CLOUD_SHADOW
    SHADOW_ON_WATER = 4
    HAZE = 5


#: Bands of 20 m.
COARSE_BANDS = ("B11", "B12")
#: Pixels of 10 m in one of the preview.
_PREVIEW_STEP = 6
#: How far beyond the window clouds are made, in pixels of 20 m: their shadows reach no further.
_MARGIN_PX = 50
#: Opacity from which a cloud hides the ground, and shade from which ground is in shadow.
_HALF = 0.5
#: Opacity in blue from which a veil is haze.
_HAZY = 0.1
# By band, in the order of BANDS: the share of light that reaches the ground in a cloud's shadow (sky light, which
# is blue); a bright cloud's reflectance; haze's, and its opacity next to that in blue.
_DIFFUSE = (0.42, 0.36, 0.31, 0.24, 0.18, 0.15)
_CLOUD = (0.66, 0.66, 0.67, 0.72, 0.52, 0.38)
_HAZE = (0.40, 0.39, 0.38, 0.42, 0.32, 0.26)
_HAZE_OPACITY = (1.0, 0.86, 0.74, 0.52, 0.16, 0.09)
#: Steps of the sky's layers and of the ground's light, and of digital numbers: coarser ones can be seen, finer ones
#: take twice the bytes.
_SKY_STEPS, _LIGHT_STEPS, _STEP_DN = 32, 20, 20
#: Reflectance at which ESA's true-colour image saturates.
_TRUE_COLOUR_WHITE = 0.3558


@dataclass(frozen=True, slots=True)
class Sky:
    """What the sky of a scene does to the light, float32 (h, w) at 20 m, 0..1.

    ``opacity``     how much of the ground a cloud hides.
    ``brightness``  how bright the cloud is.
    ``shade``       how much of the direct sunlight a cloud takes from the ground.
    ``haze``        how much of the ground's blue light a thin veil takes.
    ``valid``       bool, what the swath holds.
    """

    opacity: FloatArray
    brightness: FloatArray
    shade: FloatArray
    haze: FloatArray
    valid: NDArray[np.bool_]


def build_sky(scene: SampleScene) -> Sky:
    """Return clouds, their shadow, which is the same outline moved away from the sun, and haze."""
    rng = np.random.default_rng([scene.absolute_orbit, scene.tile.seed])
    shape = (WINDOW_PX + 2 * _MARGIN_PX, WINDOW_PX + 2 * _MARGIN_PX)
    noise = build_noise(rng, shape, range(1, 7), 0.45) + build_noise(rng, shape, range(7, 9), 0.5) / 2
    place = (np.arange(shape[0], dtype=np.float32) - _MARGIN_PX) / WINDOW_PX
    from_third = 0.65 * place[:, None] + 0.35 * place - np.float32((scene.clear_third + 0.5) / 3)
    thickness = noise + np.float32(scene.cloudiness - 1) - 2 * smooth_step((0.25 - np.abs(from_third)) / 0.06)
    opacity = smooth_step(thickness / 0.1)
    rows, cols = scene.shadow_shift_px()
    # A cloud is brighter where it rises away from its shadow.
    lit = thickness - _move(thickness, -rows // 10, -cols // 10)
    veil = build_noise(rng, shape, range(4, 9), 0.5) + np.float32(scene.haze - 1)
    return Sky(
        opacity=_cut(opacity),
        brightness=_cut(np.clip(0.4 + 0.3 * thickness + 1.1 * lit, 0.3, 1)),
        shade=_cut(_move(opacity, rows, cols)),
        haze=_cut(np.maximum(0.5 * smooth_step(veil / 0.9), 0.09 * smooth_step(thickness / 0.3 + 1))),
        valid=_build_swath(scene),
    )


def _cut(layer: FloatArray) -> FloatArray:
    """Return ``layer`` without its margins, in few steps, so that it compresses well."""
    window = slice(_MARGIN_PX, -_MARGIN_PX)
    return _round_to(layer[window, window], _SKY_STEPS)


def _move(layer: FloatArray, rows: int, cols: int) -> FloatArray:
    """Return ``layer`` so many pixels further south and east."""
    return np.roll(layer, (rows, cols), axis=(0, 1))


def _round_to(values: FloatArray, steps: int) -> FloatArray:
    """Return ``values`` rounded to the nearest ``1 / steps``."""
    rounded: FloatArray = np.rint(values * np.float32(steps)) / np.float32(steps)
    return rounded


def _build_swath(scene: SampleScene) -> NDArray[np.bool_]:
    """Return where the swath is, (h, w) at 20 m: its edge keeps to these pixels, so that all bands agree on it."""
    upper_m, lower_m = scene.swath_edge_m or (0.0, 0.0)
    places = (np.arange(WINDOW_PX) + 0.5) / WINDOW_PX
    return places * WINDOW_PX * PIXEL_SIZE_M >= upper_m + (lower_m - upper_m) * places[:, None]


def draw_rasters(scene: SampleScene, landscape: Landscape) -> dict[str, Raster]:
    """Return every raster of ``scene`` by asset key: (h, w), or (h, w, 3) for a picture."""
    sky = build_sky(scene)
    cover = landscape.cover[::2, ::2]
    rasters: dict[str, Raster] = {**_draw_bands(scene, landscape, sky)}
    # ESA's true-colour picture: 1..255, 0 no data.
    reflectances = (np.arange(2**15) + reflectance_offset_dn(scene.processing_baseline)) / 10_000
    table = np.clip(reflectances * (255 / _TRUE_COLOUR_WHITE), 1, 255).astype(np.uint8)
    table[0] = 0
    visual = np.stack([table[rasters[band]] for band in ("B04", "B03", "B02")], axis=-1)
    return {
        **rasters,
        "visual": visual,
        "preview": visual[_PREVIEW_STEP // 2 :: _PREVIEW_STEP, _PREVIEW_STEP // 2 :: _PREVIEW_STEP],
        PROBABILITY_ASSET: _draw_probability(landscape, sky),
        "SCL": _draw_scene_classes(cover, sky),
        "truth": _draw_truth(cover, sky),
    }


def _draw_bands(scene: SampleScene, landscape: Landscape, sky: Sky) -> dict[str, NDArray[np.uint16]]:
    """Return digital numbers of each band at 10 m, or at 20 m where the instrument has 20 m; 0 no data."""
    table, light = landscape.build_reflectances(scene.greenness), _build_light(scene, landscape)
    bands = {}
    for index, band in enumerate(BANDS):
        # Through the air, the ground is seen fainter and with the light of haze and clouds on it.
        through = 1 - np.float32(_HAZE_OPACITY[index]) * sky.haze
        added = (1 - through) * np.float32(_HAZE[index]) * (1 - sky.opacity)
        added += sky.opacity * np.float32(_CLOUD[index]) * sky.brightness
        through *= light * (1 - np.float32(1 - _DIFFUSE[index]) * sky.shade) * (1 - sky.opacity)
        through *= np.float32(10_000 / _STEP_DN)
        added = np.maximum(
            added * np.float32(10_000 / _STEP_DN), 0.51
        )  # rounds to 1 at least: 0 would be no data
        cover, valid = landscape.cover, sky.valid
        if band in COARSE_BANDS:
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
    """Return texture of the land times shading of its relief, a factor about 1: slopes toward the sun are brighter."""
    azimuth, slant = math.radians(scene.solar_azimuth_deg), math.tan(math.radians(scene.solar_zenith_deg))
    slope_south, slope_east = np.gradient(landscape.height_m, PIXEL_SIZE_M)
    shading = 1 - slant * (math.sin(azimuth) * slope_east - math.cos(azimuth) * slope_south)
    light = _round_to(landscape.texture * np.clip(shading, 0.85, 1.15), _LIGHT_STEPS)
    return np.where(landscape.cover[::2, ::2] < WATER.stop, np.float32(1), light)


def _draw_probability(landscape: Landscape, sky: Sky) -> NDArray[np.uint8]:
    """Return cloud probability in percent as s2cloudless would see it, (2h, 2w) at 10 m, 255 no data.

    Clear ground has a few percent, towns more; a cloud's fringe rises through 50 where it hides half the ground;
    haze stays below, but for its thickest parts.
    """
    clear = np.full(256, 4, np.float32)
    clear[TOWN.start : TOWN.stop] = 18
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
    table[WATER.start : WATER.stop], table[DARK.start : DARK.stop], table[TOWN.start : TOWN.stop] = 6, 2, 5
    classes: NDArray[np.uint8] = table[cover]
    land = classes != 6
    classes[land & (sky.haze >= 0.3)] = 10
    classes[land & (sky.shade >= _HALF)] = 3
    classes[sky.opacity >= 0.4] = 8
    classes[sky.opacity >= 0.8] = 9
    classes[~sky.valid] = 0
    return classes
