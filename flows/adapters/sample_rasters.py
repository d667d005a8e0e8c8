"""The rasters of one sample scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.adapters.sample_clouds import CloudLayers, build_clouds
from flows.adapters.sample_noise import FloatArray, build_smooth_noise, repeat_twice, round_to
from flows.adapters.sample_scenes import PIXEL_SIZE_M, SampleScene
from flows.adapters.sample_terrain import BANDS, SHAPE_20M, Cover, Landscape, is_water
from flows.masking.classes import MaskClass
from flows.masking.inputs import PROBABILITY_NODATA

Raster = NDArray[np.uint8] | NDArray[np.uint16]

_DIFFUSE_SHARE = dict(zip(BANDS, (0.46, 0.40, 0.34, 0.25, 0.20, 0.17), strict=True))
"""Light that reaches the ground in a cloud's shadow: sky light, which is blue."""
_CLOUD_REFLECTANCE = dict(zip(BANDS, (0.40, 0.41, 0.42, 0.47, 0.36, 0.28), strict=True))
_BAND_STEP_DN = 20
_SHAPE_10M = (2 * SHAPE_20M[0], 2 * SHAPE_20M[1])
PREVIEW_PIXEL_M = 60
COARSE_BANDS = ("B11", "B12")
"""Bands of 20 m."""
SCL_SHADOW, SCL_WATER, SCL_CLOUD_MEDIUM, SCL_CLOUD_HIGH = 3, 6, 8, 9
_SCENE_CLASSES = {
    Cover.LAKE: 6,
    Cover.RIVER: 6,
    Cover.DARK: 2,
    Cover.TOWN: 5,
    Cover.STUBBLE: 5,
    Cover.SOIL: 5,
}
"""SCL of a cover; vegetation (4) is the rest."""
_CLEAR_PROBABILITY_PCT = {Cover.LAKE: 2, Cover.RIVER: 3, Cover.TOWN: 22, Cover.STUBBLE: 10, Cover.SOIL: 9}
_TRUE_COLOUR_WHITE = 0.3558
"""Reflectance at which ESA's true-colour image saturates."""


@dataclass(frozen=True, slots=True)
class SceneRasters:
    """One scene's ground, light, clouds, from which each of its rasters is drawn.

    The ground is known at 20 m, (h, w); clouds have their edges at 10 m, (2h, 2w).
    """

    scene: SampleScene
    landscape: Landscape
    clouds: CloudLayers
    coarse_clouds: CloudLayers
    """The clouds at 20 m."""
    light: FloatArray
    """float32 (h, w): texture of the ground times shading of its relief, a factor about 1."""
    probability_noise: FloatArray
    """float32 (h, w), about 0."""
    valid: NDArray[np.bool_]
    """Within the swath, whose edge keeps to pixels of 20 m, so that every band agrees on it."""

    def draw_band(self, band: str) -> NDArray[np.uint16]:
        """Digital numbers of one of ``BANDS``: 10 m, or 20 m where the instrument has 20 m; 0 no data."""
        reflectance = self._ground(band)[self.landscape.cover] * self.light
        clouds, valid = self.coarse_clouds, self.valid
        if band not in COARSE_BANDS:
            clouds, reflectance, valid = self.clouds, repeat_twice(reflectance), repeat_twice(valid)
        reflectance *= 1 - np.float32(1 - _DIFFUSE_SHARE[band]) * clouds.shade
        brightness = np.float32(0.42) + np.float32(0.75) * clouds.thickness
        cloud = np.float32(_CLOUD_REFLECTANCE[band]) * brightness
        reflectance += clouds.opacity * (cloud - reflectance)
        reflectance *= np.float32(10_000 / _BAND_STEP_DN)
        steps = np.maximum(np.rint(reflectance, out=reflectance), 1)  # 0 would be no data
        digital_numbers: NDArray[np.uint16] = steps.astype(np.uint16) * np.uint16(_BAND_STEP_DN)
        digital_numbers += np.uint16(-self.scene.reflectance_offset_dn)
        digital_numbers[~valid] = 0
        return digital_numbers

    def draw_visual(self, red: Raster, green: Raster, blue: Raster) -> NDArray[np.uint8]:
        """The true-colour picture, (2h, 2w, 3): 1..255, 0 no data."""
        picture = np.empty((*_SHAPE_10M, 3), np.uint8)
        reflectances = (np.arange(2**15) + self.scene.reflectance_offset_dn) / 10_000
        table = np.clip(reflectances * (255 / _TRUE_COLOUR_WHITE), 1, 255).astype(np.uint8)
        table[0] = 0
        for index, band in enumerate((red, green, blue)):
            picture[..., index] = table[band]
        return picture

    def draw_probability(self) -> NDArray[np.uint8]:
        """Cloud probability in percent as s2cloudless would see it, 255 no data.

        Clear ground has a few percent, bright or built-up ground more; a cloud's fringe rises through
        50 where the cloud hides half the ground.
        """
        clear = np.array([_CLEAR_PROBABILITY_PCT.get(cover, 4) for cover in Cover], np.float32)
        noise = self.probability_noise
        probability = repeat_twice(clear[self.landscape.cover] * (1 + noise))
        probability += self.clouds.opacity * (96 + 4 * repeat_twice(noise) - probability)
        probability_pct: NDArray[np.uint8] = np.clip(np.rint(probability), 0, 100).astype(np.uint8)
        probability_pct[repeat_twice(~self.valid)] = PROBABILITY_NODATA
        return probability_pct

    def draw_truth(self) -> NDArray[np.uint8]:
        """``MaskClass`` values without a buffer, (h, w) at 20 m.

        Cloud is where it hides half the ground, shadow where it takes half the direct sunlight, on land
        alone: the algorithm leaves out water (SCL 6) by definition, so shaded water counts as clear.
        """
        cloud = self.coarse_clouds.opacity >= 0.5
        shadow = (self.coarse_clouds.shade >= 0.5) & ~is_water(self.landscape.cover)
        truth = np.full(SHAPE_20M, MaskClass.CLEAR, np.uint8)
        truth[shadow] = MaskClass.CLOUD_SHADOW
        truth[cloud] = MaskClass.CLOUD
        truth[~self.valid] = MaskClass.NO_DATA
        return truth

    def draw_scene_classes(self) -> NDArray[np.uint8]:
        """Sen2Cor's scene classification (SCL), (h, w) at 20 m, 0 no data."""
        cover, opacity = self.landscape.cover, self.coarse_clouds.opacity
        table = np.array([_SCENE_CLASSES.get(kind, 4) for kind in Cover], np.uint8)
        classes: NDArray[np.uint8] = table[cover]
        classes[(self.coarse_clouds.shade >= 0.5) & (classes != SCL_WATER)] = SCL_SHADOW
        classes[opacity >= 0.4] = SCL_CLOUD_MEDIUM
        classes[opacity >= 0.8] = SCL_CLOUD_HIGH
        classes[~self.valid] = 0
        return classes

    def _ground(self, band: str) -> FloatArray:
        """Reflectance in ``band`` by ``Cover``; the season moves the near infrared of plants."""
        ground = self.landscape.reflectance[:, BANDS.index(band)].copy()
        if band == "B08":
            ground[Cover.CROP :] *= np.float32(self.scene.greenness)
        return ground


def build_scene_rasters(scene: SampleScene, landscape: Landscape) -> SceneRasters:
    """What ``scene`` sees of ``landscape``."""
    rng = np.random.default_rng([scene.absolute_orbit, scene.tile.seed])
    clouds = build_clouds(scene, _SHAPE_10M)
    return SceneRasters(
        scene,
        landscape,
        clouds,
        clouds.at_half(),
        light=_build_light(scene, landscape),
        probability_noise=round_to(build_smooth_noise(rng, SHAPE_20M, octaves=4, persistence=0.5), 4),
        valid=_build_swath(scene),
    )


def _build_light(scene: SampleScene, landscape: Landscape) -> FloatArray:
    """Slopes that face the sun are brighter; no shadows of hills."""
    azimuth, zenith = math.radians(scene.solar_azimuth_deg), math.radians(scene.solar_zenith_deg)
    toward_east, toward_south = math.sin(azimuth) * math.tan(zenith), -math.cos(azimuth) * math.tan(zenith)
    rise = np.float32(toward_east) * landscape.slope_east + np.float32(toward_south) * landscape.slope_south
    return round_to(landscape.texture * np.clip(1 - rise, 0.85, 1.15), 12)


def _build_swath(scene: SampleScene) -> NDArray[np.bool_]:
    if scene.swath_edge_m is None:
        return np.ones(SHAPE_20M, np.bool_)
    height, width = SHAPE_20M
    upper_m, lower_m = scene.swath_edge_m
    edge_m = upper_m + (lower_m - upper_m) * (np.arange(height)[:, None] + 0.5) / height
    return (np.arange(width)[None, :] + 0.5) * PIXEL_SIZE_M >= edge_m
