"""The s2cloudless tutorial's way to a mask: two collections, joined, then mapped over.

The calls, their order and their arguments are those of Earth Engine's community tutorial "Sentinel-2
Cloud Masking with s2cloudless", so the client serialises the same graph.
"""

from __future__ import annotations

from typing import Any

import ee

CLOUDY_PERCENTAGE = 60
CLOUD_PROBABILITY_PCT = 50
DARK_NIR_REFLECTANCE = 0.15
PROJECTION_DISTANCE_KM = 1
BUFFER_M = 50
REFLECTANCE_SCALE = 1e4


def build_joined_collection(area: Any, start: str, end: str) -> Any:
    """Surface reflectance images; each has its probability image as the property ``s2cloudless``."""
    reflectance = (
        ee.ImageCollection("COPERNICUS/S2_SR")
        .filterBounds(area)
        .filterDate(start, end)
        .filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", CLOUDY_PERCENTAGE))
    )
    probability = (
        ee.ImageCollection("COPERNICUS/S2_CLOUD_PROBABILITY").filterBounds(area).filterDate(start, end)
    )
    same_index = ee.Filter.equals(leftField="system:index", rightField="system:index")
    joined = ee.Join.saveFirst("s2cloudless").apply(
        primary=reflectance, secondary=probability, condition=same_index
    )
    return ee.ImageCollection(joined)


def add_cloud_mask(image: Any) -> Any:
    """The image with ``cloudmask``, and what it is made of, as further bands; to be mapped."""
    with_shadows = _add_shadow_bands(_add_cloud_bands(image))
    masked = with_shadows.select("clouds").add(with_shadows.select("shadows")).gt(0)
    opened = (
        masked.focalMin(2)
        .focalMax(BUFFER_M * 2 / 20)
        .reproject(crs=image.select([0]).projection(), scale=20)
        .rename("cloudmask")
    )
    return with_shadows.addBands(opened)


def _add_cloud_bands(image: Any) -> Any:
    probability = ee.Image(image.get("s2cloudless")).select("probability")
    clouds = probability.gt(CLOUD_PROBABILITY_PCT).rename("clouds")
    return image.addBands(ee.Image([probability, clouds]))


def _add_shadow_bands(image: Any) -> Any:
    not_water = image.select("SCL").neq(6)
    dark = (
        image.select("B8")
        .lt(DARK_NIR_REFLECTANCE * REFLECTANCE_SCALE)
        .multiply(not_water)
        .rename("dark_pixels")
    )
    azimuth = ee.Number(90).subtract(ee.Number(image.get("MEAN_SOLAR_AZIMUTH_ANGLE")))
    projected = (
        image.select("clouds")
        .directionalDistanceTransform(azimuth, PROJECTION_DISTANCE_KM * 10)
        .reproject(crs=image.select(0).projection(), scale=100)
        .select("distance")
        .mask()
        .rename("cloud_transform")
    )
    shadows = projected.multiply(dark).rename("shadows")
    return image.addBands(ee.Image([dark, projected, shadows]))
