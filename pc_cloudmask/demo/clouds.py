"""The rasters of one sample scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.demo.ground import (
    BANDS,
    SHAPE_20M,
    Cover,
    FloatArray,
    Landscape,
    build_noise,
    build_smooth_noise,
    is_water,
    mean_of_four,
    repeat_twice,
    round_to,
    smooth_step,
    upsample_twice,
)
from pc_cloudmask.demo.scenes import PIXEL_SIZE_M, SampleCloud, SampleScene
from pc_cloudmask.masking.classes import PROBABILITY_NODATA, MaskClass
from pc_cloudmask.scene.grid import Shape

_PIXEL_M = 10
#: Width over which a cloud's edge goes from nothing to opaque.
_FRINGE_M = np.float32(90)
#: Amplitude of the coarsest bulge of a cloud's edge, in radii; finer ones are smaller in proportion.
_RAGGEDNESS = np.float32(0.42)
#: Amplitude of the fine tatters of a cloud's edge.
_BILLOW_M = np.float32(70)
#: How far a thin veil reaches around a cloud; it hides too little ground to count as cloud.
_VEIL_M, _VEIL_OPACITY = np.float32(500), np.float32(0.22)
#: Half the edge of the square that a cloud is drawn in: radii, and what its veil needs.
_EXTENT, _MARGIN_M = 1.5, 700


@dataclass(frozen=True, slots=True)
class CloudLayers:
    """What the clouds of a scene do to the light, float32 (2h, 2w) at 10 m, 0..1.

    ``opacity``   how much of the ground a cloud hides.
    ``shade``     how much of the direct sunlight a cloud takes from the ground.
    ``thickness`` how thick, hence how bright, the cloud is.
    """

    opacity: FloatArray
    shade: FloatArray
    thickness: FloatArray

    def at_half(self) -> CloudLayers:
        """The same at 20 m, (h, w)."""
        return CloudLayers(*(mean_of_four(layer) for layer in (self.opacity, self.shade, self.thickness)))


def build_clouds(scene: SampleScene, shape: Shape) -> CloudLayers:
    """Each cloud, and its shadow: the same outline, moved by height times tangent of the zenith."""
    layers = CloudLayers(*(np.zeros(shape, np.float32) for _ in range(3)))
    for number, cloud in enumerate(scene.clouds):
        rng = np.random.default_rng([scene.absolute_orbit, scene.tile.seed, number])
        opacity, thickness = _build_cloud(cloud, rng)
        row, col = _pixels(cloud.south_m), _pixels(cloud.east_m)
        _paste(layers.opacity, opacity, row, col)
        _paste(layers.thickness, thickness, row, col)
        east_m, south_m = scene.shadow_shift_m(cloud)
        _paste(layers.shade, opacity, row + _pixels(south_m), col + _pixels(east_m))
    return layers


def _build_cloud(cloud: SampleCloud, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Opacity and thickness of one cloud in a square around its centre."""
    half = math.ceil((_EXTENT * cloud.radius_m + _MARGIN_M) / (2 * _PIXEL_M)) * 2
    octaves = max(4, half.bit_length() - 1)
    ragged = build_noise(rng, (2 * half, 2 * half), octaves, persistence=0.6)
    billows = upsample_twice(build_noise(rng, (half // 2, half // 2), octaves - 3, persistence=0.6))
    radii = 1 - _build_distance(cloud, half, rng) + _RAGGEDNESS * ragged
    inside_m: FloatArray = np.float32(cloud.radius_m) * radii + _BILLOW_M * repeat_twice(billows)
    core = smooth_step(inside_m / _FRINGE_M + np.float32(0.5))
    coarse_m = mean_of_four(inside_m)
    veil = _VEIL_OPACITY * smooth_step(coarse_m / _VEIL_M + 1) * np.clip(1 + 2 * billows, 0, 1)
    reach_m = np.float32(min(cloud.radius_m, 900.0))
    thickness = smooth_step(coarse_m / reach_m + np.float32(0.2)) + np.float32(0.7) * billows
    opacity = np.maximum(round_to(core, 8), repeat_twice(round_to(veil, 16)))
    return opacity, repeat_twice(round_to(np.clip(thickness, 0, 1), 8))


def _build_distance(cloud: SampleCloud, half: int, rng: np.random.Generator) -> FloatArray:
    """Distance from the centre in radii, along an ellipse that is turned and stretched at random."""
    turn, stretch = rng.random() * math.pi, np.float32(1 + 0.35 * rng.random())
    cosine, sine = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    offsets = (np.arange(2 * half, dtype=np.float32) + 0.5 - half) * np.float32(_PIXEL_M / cloud.radius_m)
    along = cosine * offsets[None, :] + sine * offsets[:, None]
    across = cosine * offsets[:, None] - sine * offsets[None, :]
    return np.sqrt((along / stretch) ** 2 + (across * stretch) ** 2)


def _paste(layer: FloatArray, values: FloatArray, row: int, col: int) -> None:
    """Lay ``values``, centred on ``(row, col)``, over ``layer``; what lies outside is cut off."""
    top, left = row - values.shape[0] // 2, col - values.shape[1] // 2
    rows = slice(max(top, 0), min(top + values.shape[0], layer.shape[0]))
    cols = slice(max(left, 0), min(left + values.shape[1], layer.shape[1]))
    part = values[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    np.maximum(layer[rows, cols], part, out=layer[rows, cols])


def _pixels(metres: float) -> int:
    return round(metres / _PIXEL_M)


Raster = NDArray[np.uint8] | NDArray[np.uint16]
#: Light that reaches the ground in a cloud's shadow: sky light, which is blue.
_DIFFUSE_SHARE = dict(zip(BANDS, (0.46, 0.40, 0.34, 0.25, 0.20, 0.17), strict=True))
_CLOUD_REFLECTANCE = dict(zip(BANDS, (0.40, 0.41, 0.42, 0.47, 0.36, 0.28), strict=True))
_BAND_STEP_DN = 20
_SHAPE_10M = (2 * SHAPE_20M[0], 2 * SHAPE_20M[1])
PREVIEW_PIXEL_M = 60
#: Bands of 20 m.
COARSE_BANDS = ("B11", "B12")
SCL_SHADOW, SCL_WATER, SCL_CLOUD_MEDIUM, SCL_CLOUD_HIGH = 3, 6, 8, 9
#: SCL of a cover; vegetation (4) is the rest.
_SCENE_CLASSES = {
    Cover.LAKE: 6,
    Cover.RIVER: 6,
    Cover.DARK: 2,
    Cover.TOWN: 5,
    Cover.STUBBLE: 5,
    Cover.SOIL: 5,
}
_CLEAR_PROBABILITY_PCT = {Cover.LAKE: 2, Cover.RIVER: 3, Cover.TOWN: 22, Cover.STUBBLE: 10, Cover.SOIL: 9}
#: Reflectance at which ESA's true-colour image saturates.
_TRUE_COLOUR_WHITE = 0.3558


@dataclass(frozen=True, slots=True)
class SceneRasters:
    """One scene's ground, light, clouds, from which each of its rasters is drawn.

    The ground is known at 20 m, (h, w); clouds have their edges at 10 m, (2h, 2w).
    """

    scene: SampleScene
    landscape: Landscape
    clouds: CloudLayers
    #: The clouds at 20 m.
    coarse_clouds: CloudLayers
    #: float32 (h, w): texture of the ground times shading of its relief, a factor about 1.
    light: FloatArray
    #: float32 (h, w), about 0.
    probability_noise: FloatArray
    #: Within the swath, whose edge keeps to pixels of 20 m, so that every band agrees on it.
    valid: NDArray[np.bool_]

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
