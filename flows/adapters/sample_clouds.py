"""The clouds of the sample archive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flows.adapters.sample_noise import (
    FloatArray,
    build_noise,
    mean_of_four,
    repeat_twice,
    round_to,
    smooth_step,
    upsample_twice,
)
from flows.adapters.sample_scenes import SampleCloud, SampleScene
from flows.scene.grid import Shape

_PIXEL_M = 10
_FRINGE_M = np.float32(90)
"""Width over which a cloud's edge goes from nothing to opaque."""
_RAGGEDNESS = np.float32(0.42)
"""Amplitude of the coarsest bulge of a cloud's edge, in radii; finer ones are smaller in proportion."""
_BILLOW_M = np.float32(70)
"""Amplitude of the fine tatters of a cloud's edge."""
_VEIL_M, _VEIL_OPACITY = np.float32(500), np.float32(0.22)
"""How far a thin veil reaches around a cloud; it hides too little ground to count as cloud."""
_EXTENT, _MARGIN_M = 1.5, 700
"""Half the edge of the square that a cloud is drawn in: radii, and what its veil needs."""


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
