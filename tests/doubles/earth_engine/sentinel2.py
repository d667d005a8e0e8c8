"""A Sentinel-2 product as Earth Engine holds it: one image in each of four collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.grids import Projection
from tests.doubles.earth_engine.pyramid import Pyramiding, StoredRaster

L2A = "COPERNICUS/S2_SR_HARMONIZED"
L1C = "COPERNICUS/S2_HARMONIZED"
CLOUD_PROBABILITY = "COPERNICUS/S2_CLOUD_PROBABILITY"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

PIXEL_SIZES_M = {
    "B1": 60, "B2": 10, "B3": 10, "B4": 10, "B8": 10, "B8A": 20, "B11": 20, "B12": 20, "SCL": 20,
}  # fmt: skip
"""Bands in the order of the service, some left out. The first has 60 m, so the default projection has."""
DISCRETE_BANDS = frozenset({"SCL"})
"""Classes: their levels are sampled, not averaged."""
PLAIN_REFLECTANCE = 1200
"""Value of the bands that a product does not bring."""

Raster = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sentinel2:
    """One product of one tile.

    ``origin`` is the upper-left corner in ``crs``. Arrays are ``(height, width)`` of any band of
    ``PIXEL_SIZES_M``, each at its own pixel size; those left out hold a plain value. ``probability``
    (uint8, 0..100), ``clear_score`` and ``clear_score_cs`` (float32, 0..1; Cloud Score+'s bands ``cs_cdf`` and
    ``cs``) and ``valid`` (bool) are at 10 m. ``pyramiding`` is that of the continuous bands. ``cloud_valid``
    masks probability and score further, as Earth Engine's are for a while, ``masked_bands`` are reflectance
    that is masked everywhere.
    """

    tile: str
    datatake: str
    datastrip: str
    crs: str
    origin: tuple[float, float]
    probability: NDArray[np.uint8]
    bands: Mapping[str, Raster]
    solar_azimuth_deg: float
    solar_zenith_deg: float = 35.0
    clear_score: NDArray[np.float32] | None = None
    clear_score_cs: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    cloud_valid: NDArray[np.bool_] | None = None
    masked_bands: frozenset[str] = frozenset()
    spacecraft: str = "S2B"
    baseline: str = "02.12"
    cloudy_pixel_percentage: float = 30.0
    outline: shapely.Geometry | None = None
    pyramiding: Pyramiding = Pyramiding.MEAN
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> str:
        """``system:index``."""
        return f"{self.datatake}_{self.datastrip}_T{self.tile}"

    @property
    def shape_10m(self) -> tuple[int, int]:
        height, width = self.probability.shape
        return height, width

    @property
    def footprint(self) -> Geometry:
        """The outline, in the product's CRS; the tile's rectangle by default."""
        height, width = self.shape_10m
        west, north = self.origin
        tile = shapely.box(west, north - 10 * height, west + 10 * width, north)
        return Geometry(self.outline or tile, self.crs)

    @property
    def time_start_millis(self) -> int:
        moment = datetime.strptime(self.datastrip, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)

    @property
    def datatake_id(self) -> str:
        """As the Planetary Computer's ``s2:datatake_id`` has it too."""
        return f"G{self.spacecraft}_{self.datatake}_009268_N{self.baseline}"

    @property
    def datastrip_id(self) -> str:
        return f"{self.spacecraft}_OPER_MSI_L2A_DS_ESRI_20201008T100849_S{self.datastrip}_N{self.baseline}"


def build_assets(product: Sentinel2) -> dict[str, tuple[dict[str, StoredRaster], dict[str, Any]]]:
    """By collection, the rasters by band and the properties of the product's image."""
    time = {"system:time_start": product.time_start_millis, "system:time_end": product.time_start_millis}
    reflectance = _reflectance(product)
    level1 = {name: raster for name, raster in reflectance.items() if name != "SCL"}
    clouds = _mask_clouds(product)
    probability = _raster(clouds, product.probability, 10, "probability")
    score = _clear_score(clouds, clouds.clear_score)
    return {
        L2A: (reflectance, _metadata(product, "MSIL2A") | time),
        L1C: (level1, _metadata(product, "MSIL1C") | time),
        CLOUD_PROBABILITY: ({"probability": probability}, time),
        CLOUD_SCORE_PLUS: ({"cs": _clear_score(clouds, clouds.clear_score_cs), "cs_cdf": score}, time),
    }


def _reflectance(product: Sentinel2) -> dict[str, StoredRaster]:
    unknown = set(product.bands) - set(PIXEL_SIZES_M)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no bands of this Sentinel-2")
    height, width = product.shape_10m
    rasters = {}
    for name, size in PIXEL_SIZES_M.items():
        shape = (-(-height * 10 // size), -(-width * 10 // size))
        default = np.uint8(4) if name in DISCRETE_BANDS else np.uint16(PLAIN_REFLECTANCE)
        array = product.bands.get(name, np.broadcast_to(default, shape))
        if array.shape != shape:
            raise ValueError(f"{name} at {size} m must have shape {shape}, not {array.shape}")
        nothing = np.zeros(product.shape_10m, bool)
        masked = replace(product, valid=nothing) if name in product.masked_bands else product
        rasters[name] = _raster(masked, array, size, name)
    return rasters


def _mask_clouds(product: Sentinel2) -> Sentinel2:
    """The product as its cloud layers are masked."""
    if product.cloud_valid is None:
        return product
    valid = product.cloud_valid if product.valid is None else product.valid & product.cloud_valid
    return replace(product, valid=valid)


def _raster(product: Sentinel2, array: Raster, pixel_size_m: int, name: str) -> StoredRaster:
    west, north = product.origin
    projection = Projection(product.crs, (pixel_size_m, 0, west, 0, -pixel_size_m, north))
    pyramiding = Pyramiding.SAMPLE if name in DISCRETE_BANDS else product.pyramiding
    return StoredRaster(array, projection, _valid(product, array.shape, pixel_size_m), pyramiding)


def _valid(product: Sentinel2, shape: tuple[int, ...], pixel_size_m: int) -> NDArray[np.bool_] | None:
    """A coarse pixel is valid where the 10 m pixel in its upper-left corner is."""
    if product.valid is None:
        return None
    step = pixel_size_m // 10
    return product.valid[::step, ::step][: shape[0], : shape[1]]


def _clear_score(product: Sentinel2, score: NDArray[np.float32] | None) -> StoredRaster:
    """By default the clearness that the probability leaves."""
    if score is None:
        score = (1 - product.probability / 100).astype(np.float32)
    return _raster(product, score, 10, "cs")


def _metadata(product: Sentinel2, level: str) -> dict[str, Any]:
    baseline = f"N{product.baseline.replace('.', '')}"
    mission, tile = product.spacecraft, product.tile
    short = level.removeprefix("MSI")
    return {
        "MGRS_TILE": tile,
        "DATATAKE_IDENTIFIER": product.datatake_id,
        "DATASTRIP_ID": (
            f"{mission}_OPER_MSI_{short}_DS_SGS__20181214T164232_S{product.datastrip}_N{product.baseline}"
        ),
        "GRANULE_ID": f"{short}_T{tile}_A009268_{product.datastrip}",
        "PRODUCT_ID": f"{mission}_{level}_{product.datatake}_{baseline}_R081_T{tile}_20181214T164232",
        "SPACECRAFT_NAME": f"Sentinel-{mission.removeprefix('S')}",
        "PROCESSING_BASELINE": product.baseline,
        "SENSING_ORBIT_NUMBER": 81,
        "CLOUDY_PIXEL_PERCENTAGE": product.cloudy_pixel_percentage,
        "MEAN_SOLAR_AZIMUTH_ANGLE": product.solar_azimuth_deg,
        "MEAN_SOLAR_ZENITH_ANGLE": product.solar_zenith_deg,
        **product.properties,
    }
