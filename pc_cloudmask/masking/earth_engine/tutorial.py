"""The s2cloudless tutorial's own way to make a mask: two collections, joined, then mapped over.

The calls, their order and their arguments are those of Earth Engine's community tutorial "Sentinel-2 Cloud Masking
with s2cloudless", so the client serialises the same graph. No published mask is made this way: it is what
``cloudmask prove`` compares ours with, which ``graphs`` builds without collection, join and map.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import ee

from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import BAND, CLOUD_PROBABILITY, L2A
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import Geometry
from pc_cloudmask.scene.scene import reflectance_offset_dn
from pc_cloudmask.web import Deadline

CLOUDY_PERCENTAGE = 60
CLOUD_PROBABILITY_PCT = 50
DARK_NIR_REFLECTANCE = 0.15
PROJECTION_DISTANCE_KM = 1
BUFFER_M = 50
REFLECTANCE_SCALE = 1e4
#: Digital numbers as ESA distributes them: from processing baseline 04.00 on a reflectance of 0 is 1000.
_TUTORIAL_L2A = "COPERNICUS/S2_SR"
#: No image is cloudier: the filter lets all pass.
_ALL_CLOUDY = 100


def build_joined_collection(
    area: Any, start: str, end: str, reflectance: str = _TUTORIAL_L2A, cloudy_pct: float = CLOUDY_PERCENTAGE
) -> Any:
    """Return surface reflectance images, each with its probability image as the property ``s2cloudless``."""
    images = (
        ee.ImageCollection(reflectance)
        .filterBounds(area)
        .filterDate(start, end)
        .filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", cloudy_pct))
    )
    probability = ee.ImageCollection(CLOUD_PROBABILITY).filterBounds(area).filterDate(start, end)
    same_index = ee.Filter.equals(leftField="system:index", rightField="system:index")
    joined = ee.Join.saveFirst("s2cloudless").apply(
        primary=images, secondary=probability, condition=same_index
    )
    return ee.ImageCollection(joined)


def add_cloud_mask(image: Any) -> Any:
    """Return the image with ``cloudmask``, and what it is made from, as further bands; to be mapped."""
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


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """What Earth Engine says about one image of surface reflectance; ``grid`` is that of its 20 m bands."""

    index: str
    grid: Grid
    taken: datetime
    solar_azimuth_deg: float
    cloudy_pct: float
    baseline: str

    @property
    def cloudy_limit_pct(self) -> float:
        """Return the tutorial's filter, or one without effect if it would omit the image."""
        return CLOUDY_PERCENTAGE if self.cloudy_pct <= CLOUDY_PERCENTAGE else _ALL_CLOUDY

    @property
    def collection(self) -> str:
        """Return the tutorial's collection, or the one without the offset if the image would have it.

        The tutorial was written before there was an offset: its threshold is for digital numbers without it.
        """
        return L2A if reflectance_offset_dn(self.baseline) else _TUTORIAL_L2A


def describe_image(session: EarthEngineSession, index: str) -> ImageDescription:
    """Ask Earth Engine about an image of surface reflectance, in one request.

    Raises:
        EngineUnavailable: it may succeed later.
        EngineRefused: there is no such image, or the answer has another form.
    """
    session.start()
    image = ee.Image(f"{L2A}/{index}").select("SCL")
    deadline = Deadline(session.limits.pairing_deadline_s)
    answer = session.call(f"describing image {index}", partial(ee.data.computeValue, image), deadline)
    try:
        return _read_description(index, answer)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise EngineRefused(
            f"{index}: Earth Engine does not tell the image's grid, time, sun, cloudiness and baseline"
        ) from error


def _read_description(index: str, answer: Any) -> ImageDescription:
    band, properties = answer["bands"][0], answer["properties"]
    a, b, c, d, e, f = map(float, band["crs_transform"])
    width, height = map(int, band["dimensions"])
    return ImageDescription(
        index,
        Grid(str(band["crs"]), (a, b, c, d, e, f), (height, width)),
        datetime.fromtimestamp(properties["system:time_start"] / 1000, UTC),
        float(properties["MEAN_SOLAR_AZIMUTH_ANGLE"]),
        float(properties["CLOUDY_PIXEL_PERCENTAGE"]),
        str(properties["PROCESSING_BASELINE"]),
    )


def build_tutorial_mask(image: ImageDescription, footprint: Geometry) -> Any:
    """Return the tutorial's mask of ``image``, found in its joined collection of the day; one byte per pixel.

    1 is cloud or shadow, 0 neither, or no data. ``footprint`` is the scene's, in longitude and latitude.
    """
    day = image.taken.date()
    collection = build_joined_collection(
        ee.Geometry(dict(footprint)),
        day.isoformat(),
        (day + timedelta(days=1)).isoformat(),
        image.collection,
        image.cloudy_limit_pct,
    )
    masks = collection.map(add_cloud_mask).filter(ee.Filter.eq("system:index", image.index))
    mask = ee.Image(masks.first()).select("cloudmask")
    # As any downloader expects it: masked pixels as zeros, one byte each, and the usual band name.
    return mask.unmask(0, sameFootprint=False).toByte().rename(BAND)
