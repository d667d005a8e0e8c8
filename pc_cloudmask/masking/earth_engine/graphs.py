"""The expressions that Earth Engine computes: ours, and the s2cloudless tutorial's own.

Each of ours has one byte per pixel, with a value for no data, because Earth Engine downloads masked pixels as zeros.

Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless", in the form for one
image. As there, projections are the image's own *objects*: with a bare CRS string Earth Engine assumes that
rows grow northwards, and shadows come out mirrored. The sun's azimuth is the item's, a constant,
where the tutorial reads the image's property: a mosaic of a split datatake has no properties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ee

from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.classes import COARSE_PIXEL_M, PROBABILITY_NODATA, MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import DILATION_BUFFERS, EROSION_M, REFLECTANCE_SCALE, SCL_WATER
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import BAND, CLOUD_PROBABILITY, CLOUD_SCORE_PLUS, L1C, L2A
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import L1C_LEVEL, L2A_LEVEL, EarthEngineImage, Geometry
from pc_cloudmask.scene.scene import reflectance_offset_dn

#: The collection of each level of reflectance.
_REFLECTANCE = {L2A_LEVEL: L2A, L1C_LEVEL: L1C}
#: Pixel of the mask and of the tutorial's morphology.
PIXEL_M = 20.0
#: Set on a probability (0..100) whose pixel is dark.
DARK_BIT = 128
#: Bits of a pixel of Cloud Score+; 0 is no data.
VALID, NOT_CLEAR, DARK = 1, 2, 4
#: Where the near infrared has data and another input has none, instead of no data: of the packed inputs, of the
#: mask that Earth Engine computes, and of Cloud Score+. The cloud layer of an image may be masked temporarily.
LACKING_INPUT, LACKING_CLASS, LACKING_FLAG = 254, 4, 8
#: An address is ``(col + 11 * row) mod 127``: seven bits above a byte in int16, which the package
#: GEES2Downloader returns. Shifts of up to ten pixels along both axes change every address.
ADDRESS_MODULUS, ADDRESS_ROW_FACTOR = 127, 11


def build_server_mask(
    ee_image: EarthEngineImage, solar_azimuth_deg: float, parameters: MaskParameters
) -> ee.Image:
    """Return the image of the classes of ``MaskClass``, computed by Earth Engine at 20 m.

    The sun's azimuth is applied here: ``directionalDistanceTransform`` takes 90 degrees minus the azimuth.
    """
    projection = ee.Image(f"{L2A}/{ee_image.image_ids[0]}").select([0]).projection()
    clouds = _mosaic(CLOUD_PROBABILITY, ee_image, "probability").gt(parameters.cloud_probability_pct)
    candidates = (
        clouds.directionalDistanceTransform(
            90.0 - solar_azimuth_deg, math.floor(parameters.shadow_distance_m / COARSE_PIXEL_M)
        )
        .reproject(crs=projection, scale=COARSE_PIXEL_M)
        .select("distance")
        .mask()
    )
    shadows = candidates.multiply(_build_dark(ee_image, parameters))
    # Masked where one of the inputs is masked: there is no data.
    found = clouds.add(shadows).gt(0)
    reach_px = DILATION_BUFFERS * parameters.buffer_m / PIXEL_M
    masked = _grow(found.focalMin(EROSION_M / PIXEL_M), reach_px)
    near_cloud = _grow(clouds.updateMask(found.mask()), reach_px)
    # CLEAR 1; masked adds 1 near a cloud, 2 elsewhere: CLOUD 2, CLOUD_SHADOW 3.
    classes = masked.multiply(ee.Image(MaskClass.CLOUD).subtract(near_cloud)).add(MaskClass.CLEAR)
    nodata = _tell_lacking(ee_image, MaskClass.NO_DATA, LACKING_CLASS)
    return _as_byte(classes.updateMask(found.mask()), nodata).reproject(crs=projection, scale=PIXEL_M)


def build_packed_inputs(ee_image: EarthEngineImage, parameters: MaskParameters) -> ee.Image:
    """Return the cloud probability in percent, plus ``DARK_BIT`` where the ground is dark.

    255 is no data, ``LACKING_INPUT`` no data except in the near infrared.
    """
    dark = _build_dark(ee_image, parameters)
    nodata = _tell_lacking(ee_image, PROBABILITY_NODATA, LACKING_INPUT)
    probability = _read_probability(ee_image, parameters.cloud_probability_pct)
    return _as_byte(probability.add(dark.multiply(DARK_BIT)), nodata)


def build_coarse_probability_image(ee_image: EarthEngineImage, parameters: MaskParameters) -> ee.Image:
    """Return the cloud probability in percent, to be read at 100 m; 255 is no data."""
    return _as_byte(_read_probability(ee_image, parameters.cloud_probability_pct), PROBABILITY_NODATA)


def build_score_flags(ee_image: EarthEngineImage, parameters: MaskParameters) -> ee.Image:
    """Return ``VALID``, with ``NOT_CLEAR`` and ``DARK`` where they apply, from Cloud Score+.

    0 is no data, ``LACKING_FLAG`` no data except in the near infrared.
    """
    score = _mosaic(CLOUD_SCORE_PLUS, ee_image, parameters.clear_score_band)
    not_clear = score.lt(parameters.clear_score)
    dark = _build_dark(ee_image, parameters)
    nodata = _tell_lacking(ee_image, 0, LACKING_FLAG)
    return _as_byte(not_clear.multiply(NOT_CLEAR).add(dark.multiply(DARK)).add(VALID), nodata)


def stamp_address(image: ee.Image, grid: Grid) -> ee.Image:
    """Return ``image``, a byte, with each pixel's address on ``grid`` in the next seven bits: int16.

    Its bounds are those of the grid, for a downloader that asks the image how large it is.
    """
    projection = ee.Projection(grid.crs, list(grid.transform))
    place = ee.Image.pixelCoordinates(projection).floor()
    address = place.select("x").add(place.select("y").multiply(ADDRESS_ROW_FACTOR)).mod(ADDRESS_MODULUS)
    bounds = ee.Geometry.Rectangle(list(grid.bounds), proj=grid.crs, geodesic=False)
    stamped = image.add(address.multiply(256)).toInt16().rename(BAND)
    return stamped.reproject(crs=grid.crs, crsTransform=list(grid.transform)).clip(bounds)


def _read_probability(ee_image: EarthEngineImage, threshold_pct: float) -> ee.Image:
    """Return the probability in integer percent, on the same side of the threshold as the pyramid's mean.

    Means need not be integers. ``find_cloud`` compares with the threshold's integer part ``t``: exactly what exceeds
    ``t + f`` exceeds ``t`` after ``f`` is subtracted and the rest is rounded up.
    """
    probability = _mosaic(CLOUD_PROBABILITY, ee_image, "probability")
    fraction = round(threshold_pct - math.floor(threshold_pct), 6)
    return (probability.subtract(fraction) if fraction else probability).ceil()


def _mosaic(collection: str, ee_image: EarthEngineImage, band: str) -> ee.Image:
    """Return ``band`` of the pairing's image, or of its images mosaicked in order."""
    images: list[ee.Image] = [ee.Image(f"{collection}/{index}").select(band) for index in ee_image.image_ids]
    return images[0] if len(images) == 1 else ee.ImageCollection(images).mosaic()


def _build_dark(ee_image: EarthEngineImage, parameters: MaskParameters) -> ee.Image:
    """Return 1 where the near infrared is below the threshold and the ground is not water, otherwise 0.

    Level-1C does not identify water.
    """
    limit = round(parameters.dark_nir_reflectance * REFLECTANCE_SCALE, 6)
    dark: ee.Image = _read_nir(ee_image).lt(limit)
    if ee_image.level != L1C_LEVEL:
        dark = dark.multiply(_mosaic(L2A, ee_image, "SCL").neq(SCL_WATER))
    return dark


def _read_nir(ee_image: EarthEngineImage) -> ee.Image:
    return _mosaic(_REFLECTANCE[ee_image.level], ee_image, "B8")


def _grow(image: ee.Image, radius_px: float) -> ee.Image:
    # A disk smaller than a pixel is the pixel itself, which is not a kernel.
    return image.focalMax(radius_px) if radius_px >= 1 else image


def _tell_lacking(ee_image: EarthEngineImage, nodata: int, lacking: int) -> ee.Image:
    """Return ``lacking`` where the near infrared has data, ``nodata`` elsewhere, including beyond its footprint."""
    has_data = _read_nir(ee_image).gt(-1).unmask(0, sameFootprint=False)
    return has_data.multiply(lacking - nodata).add(nodata)


def _as_byte(image: ee.Image, nodata: int | ee.Image) -> ee.Image:
    """Return one byte, with ``nodata`` wherever the image is masked, including beyond its footprint."""
    return image.unmask(nodata, sameFootprint=False).toByte().rename(BAND)


# The tutorial's own way: two collections, joined, then mapped over. The calls, their order and their arguments are the
# tutorial's, so the client serialises the same graph. No published mask is made this way: it is what ``cloudmask
# prove`` compares ours with.
CLOUDY_PERCENTAGE = 60
CLOUD_PROBABILITY_PCT = 50
DARK_NIR_REFLECTANCE = 0.15
PROJECTION_DISTANCE_KM = 1
BUFFER_M = 50
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
    """Ask Earth Engine about an image of surface reflectance; raise EngineRefused if the answer has another form."""
    session.start()
    image = ee.Image(f"{L2A}/{index}").select("SCL")
    answer = session.compute(f"describing image {index}", image)
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
