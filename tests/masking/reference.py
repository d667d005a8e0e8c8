"""The mask as its definitions say it, with scipy's filters and plain loops: slow, and easy to believe.

Written from the tutorial "Sentinel-2 Cloud Masking with s2cloudless" (Earth Engine community), not
from ``pc_cloudmask.masking``, of which it imports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from math import ceil, cos, radians, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]

NO_DATA, CLEAR, CLOUD, CLOUD_SHADOW = 0, 1, 2, 3


@dataclass(frozen=True)
class Thresholds:
    """The tutorial's constants."""

    cloud_probability_pct: float = 50.0
    shadow_distance_m: float = 1000.0
    buffer_m: float = 50.0


def disk(radius_px: float) -> Bools:
    """Earth Engine's circle kernel as a footprint."""
    reach = ceil(radius_px)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return dy * dy + dx * dx <= radius_px * radius_px


@dataclass(frozen=True)
class Image:
    """Earth Engine's image of one binary band: values, and where there are any."""

    values: Bools
    valid: Bools

    def pad(self, margin: int) -> Image:
        """The image with what lies beyond its edge: pixels without a value."""
        return Image(np.pad(self.values, margin), np.pad(self.valid, margin))

    def focal_min(self, radius_px: float) -> Image:
        """At every pixel the least of the values in its disk, if there are any."""
        least = ndimage.minimum_filter(
            np.where(self.valid, self.values, 1).astype(np.uint8), **_filter_options(radius_px, cval=1)
        )
        return Image(least == 1, self._reach(radius_px))

    def focal_max(self, radius_px: float) -> Image:
        """At every pixel the greatest of the values in its disk, if there are any."""
        greatest = ndimage.maximum_filter(
            np.where(self.valid, self.values, 0).astype(np.uint8), **_filter_options(radius_px, cval=0)
        )
        return Image(greatest == 1, self._reach(radius_px))

    def _reach(self, radius_px: float) -> Bools:
        """Pixels in whose disk there is a value: masked pixels get one from their neighbours."""
        options = _filter_options(radius_px, cval=0)
        return ndimage.maximum_filter(self.valid.astype(np.uint8), **options) == 1


def _filter_options(radius_px: float, cval: int) -> dict[str, Any]:
    return {"footprint": disk(radius_px), "mode": "constant", "cval": cval}


def nearest(value: float) -> int:
    """The nearest whole number, halves away from zero; float noise does not unmake a half."""
    return int(Decimal(f"{value:.9f}").quantize(Decimal(1), ROUND_HALF_UP))


def project_shadows(coarse_cloud: Bools, solar_azimuth_deg: float, reach_px: float) -> Bools:
    """Pixels from which a cloud is met on the way to the sun."""
    height, width = coarse_cloud.shape
    angle = radians(90 - solar_azimuth_deg)
    steps = [(nearest(k * cos(angle)), nearest(-k * sin(angle))) for k in range(int(reach_px) + 1)]
    candidates = np.zeros_like(coarse_cloud)
    for row in range(height):
        for col in range(width):
            for d_col, d_row in steps:
                inside = 0 <= row + d_row < height and 0 <= col + d_col < width
                if inside and coarse_cloud[row + d_row, col + d_col]:
                    candidates[row, col] = True
    return candidates


def expand(coarse: Bools, factor: int, shape: tuple[int, int]) -> Bools:
    """Each pixel as ``factor`` x ``factor`` pixels, cut to ``shape``."""
    return np.kron(coarse, np.ones((factor, factor), np.bool_))[: shape[0], : shape[1]]


def mask_classes(cloud: Bools, shadow: Bools, valid: Bools, buffer_m: float) -> NDArray[np.uint8]:
    """Classes from raw clouds and shadows at 20 m."""
    radius_px = buffer_m * 2 / 20
    margin = 2
    inner = (slice(margin, -margin), slice(margin, -margin))
    masked = Image(cloud | shadow, valid).pad(margin).focal_min(2).focal_max(radius_px).values[inner]
    near_cloud = Image(cloud, valid).focal_max(radius_px).values
    classes = np.full(valid.shape, CLEAR, np.uint8)
    classes[masked] = CLOUD_SHADOW
    classes[masked & near_cloud] = CLOUD
    classes[~valid] = NO_DATA
    return classes


def mask_scene(
    probability_pct: NDArray[np.uint8],
    dark: Bools,
    coarse_probability_pct: NDArray[np.uint8],
    solar_azimuth_deg: float,
    thresholds: Thresholds,
) -> NDArray[np.uint8]:
    """Classes of a scene at 20 m, shadows projected at 100 m."""
    valid = probability_pct != 255
    cloud = (probability_pct > thresholds.cloud_probability_pct) & valid
    coarse_cloud = (coarse_probability_pct > thresholds.cloud_probability_pct) & (
        coarse_probability_pct != 255
    )
    candidates = project_shadows(coarse_cloud, solar_azimuth_deg, thresholds.shadow_distance_m / 100)
    shadow = expand(candidates, 5, cloud.shape) & dark
    return mask_classes(cloud, shadow, valid, thresholds.buffer_m)
