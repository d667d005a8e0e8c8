"""The items of the sample archive, in the form of the Planetary Computer's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_geom

from flows.adapters.sample_scenes import PIXEL_SIZE_M, WINDOW_PX, SampleScene
from flows.ports import Item
from flows.stac.asset_fields import COG_MEDIA_TYPE
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE

_COLLECTION_URL = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a"
_LICENCE_URL = "https://www.apache.org/licenses/LICENSE-2.0"
_EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.0.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
)
_DESCRIPTION = (
    "Synthetic: neither this ground nor these clouds exist. Made by pc-cloudmask for its demonstration,"
    " on the grid of a real tile, with clouds of known height and their true shadows."
)

# eo:bands as the Planetary Computer gives them: common name, title, centre and width in micrometres.
_BANDS: Mapping[str, tuple[str, str, float, float]] = {
    "B02": ("blue", "Blue", 0.49, 0.098),
    "B03": ("green", "Green", 0.56, 0.045),
    "B04": ("red", "Red", 0.665, 0.038),
    "B08": ("nir", "NIR", 0.842, 0.145),
    "B11": ("swir16", "SWIR (1.6)", 1.61, 0.143),
    "B12": ("swir22", "SWIR (2.2)", 2.19, 0.242),
}
_TITLES: Mapping[str, str] = {
    "SCL": "Scene classification map (SCL)",
    "visual": "True color image",
    "preview": "Thumbnail",
    "cloud-probability": "Cloud probability (percent, as of s2cloudless)",
    "truth": "Known truth: 1 clear, 2 cloud, 3 cloud shadow on land, without a buffer",
}
# The percentages of the Planetary Computer's items, by class of SCL.
_SCL_PERCENTAGES: Mapping[str, int] = {
    "s2:saturated_defective_pixel_percentage": 1,
    "s2:dark_features_percentage": 2,
    "s2:cloud_shadow_percentage": 3,
    "s2:vegetation_percentage": 4,
    "s2:not_vegetated_percentage": 5,
    "s2:water_percentage": 6,
    "s2:unclassified_percentage": 7,
    "s2:medium_proba_clouds_percentage": 8,
    "s2:high_proba_clouds_percentage": 9,
    "s2:thin_cirrus_percentage": 10,
    "s2:snow_ice_percentage": 11,
}


def build_item(scene: SampleScene, hrefs: Mapping[str, str], scene_classes: NDArray[np.uint8]) -> Item:
    """The item of ``scene``.

    ``hrefs`` by asset key are relative to the item's file; ``scene_classes`` is its SCL, uint8 (h, w).
    """
    footprint = _build_footprint(scene)
    longitudes, latitudes = zip(*footprint["coordinates"][0], strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": scene.id,
        "collection": "sentinel-2-l2a",
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "geometry": footprint,
        "properties": _build_properties(scene) | _measure_classes(scene_classes),
        "links": [
            {"rel": "self", "type": GEOJSON_MEDIA_TYPE, "href": f"{scene.id}.json"},
            {"rel": "collection", "type": JSON_MEDIA_TYPE, "href": _COLLECTION_URL},
            {"rel": "license", "type": "text/html", "href": _LICENCE_URL},
        ],
        "assets": {key: _build_asset(scene, key, href) for key, href in hrefs.items()},
    }


def _build_properties(scene: SampleScene) -> dict[str, Any]:
    platform, baseline, tile = scene.platform, scene.processing_baseline, scene.tile.name
    processed = scene.processing_time
    datastrip_start = scene.datetime + timedelta(seconds=2)
    return {
        "title": f"Synthetic scene on {tile}, {scene.datetime:%Y-%m-%d}",
        "description": _DESCRIPTION,
        "synthetic": True,
        "datetime": f"{scene.datetime:%Y-%m-%dT%H:%M:%S}.024000Z",
        "platform": f"Sentinel-{platform[1:]}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "proj:epsg": scene.tile.epsg,
        "sat:orbit_state": "descending",
        "sat:relative_orbit": scene.relative_orbit,
        "s2:mgrs_tile": tile,
        "s2:granule_id": (
            f"{platform}_OPER_MSI_L2A_TL_SYNT_{processed}_A{scene.absolute_orbit:06d}_T{tile}_N{baseline}"
        ),
        "s2:datatake_id": f"G{platform}_{scene.datatake_time}_{scene.absolute_orbit:06d}_N{baseline}",
        "s2:datatake_type": "INS-NOBS",
        "s2:datastrip_id": (
            f"{platform}_OPER_MSI_L2A_DS_SYNT_{processed}_S{datastrip_start:%Y%m%dT%H%M%S}_N{baseline}"
        ),
        "s2:product_uri": (
            f"{platform}_MSIL2A_{scene.datatake_time}_N{baseline.replace('.', '')}"
            f"_R{scene.relative_orbit:03d}_T{tile}_{processed}.SAFE"
        ),
        "s2:product_type": "S2MSI2A",
        "s2:generation_time": f"{scene.datetime:%Y-%m-%d}T23:59:59.000Z",
        "s2:processing_baseline": baseline,
        "s2:mean_solar_azimuth": scene.solar_azimuth_deg,
        "s2:mean_solar_zenith": scene.solar_zenith_deg,
        "s2:degraded_msi_data_percentage": 0.0,
    }


def _measure_classes(scene_classes: NDArray[np.uint8]) -> dict[str, float]:
    """Percentages of the valid pixels, of all pixels for no data."""
    counts = np.bincount(scene_classes.ravel(), minlength=12)
    valid = int(counts[1:].sum())
    shares = {name: round(100 * int(counts[value]) / valid, 6) for name, value in _SCL_PERCENTAGES.items()}
    clouds = int(counts[8:11].sum())
    return {
        "eo:cloud_cover": round(100 * clouds / valid, 6),
        "s2:nodata_pixel_percentage": round(100 * int(counts[0]) / scene_classes.size, 6),
        **shares,
    }


def _build_asset(scene: SampleScene, key: str, href: str) -> dict[str, Any]:
    band = _BANDS.get(key)
    title = _TITLES.get(key) or f"Band {int(key[1:])} - {_BANDS[key][1]}"
    asset: dict[str, Any] = {"href": href, "type": COG_MEDIA_TYPE}
    if key == "preview":
        return {**asset, "title": title, "roles": ["thumbnail"]}
    pixel_size_m = 20 if key in {"B11", "B12", "SCL", "truth"} else 10
    grid = scene.tile.grid(pixel_size_m)
    asset |= {
        "title": f"{title} - {pixel_size_m}m" if band else title,
        "roles": _ROLES.get(key, ["data"]),
        "gsd": float(pixel_size_m),
        "proj:bbox": list(grid.bounds),
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform),
    }
    if band or key == "visual":
        asset["eo:bands"] = [
            _build_band(name) for name in (("B04", "B03", "B02") if key == "visual" else (key,))
        ]
    return asset


_ROLES: Mapping[str, list[str]] = {"cloud-probability": ["data", "cloud"], "truth": ["metadata"]}


def _build_band(name: str) -> dict[str, Any]:
    common_name, title, centre_um, width_um = _BANDS[name]
    return {
        "name": name,
        "common_name": common_name,
        "description": f"Band {int(name[1:])} - {title}",
        "center_wavelength": centre_um,
        "full_width_half_max": width_um,
    }


def _build_footprint(scene: SampleScene) -> dict[str, Any]:
    """GeoJSON polygon of the ground that has data, counterclockwise, degrees to a centimetre."""
    west, north = scene.tile.corner_m
    edge = float(WINDOW_PX * PIXEL_SIZE_M)
    upper, lower = scene.swath_edge_m or (0.0, 0.0)
    corners = [(max(upper, 0.0), 0.0), (max(lower, 0.0), edge), (edge, edge), (edge, 0.0)]
    if lower < 0 < upper:
        corners.insert(1, (0.0, edge * upper / (upper - lower)))
    ring = [(west + east, north - south) for east, south in [*corners, corners[0]]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    degrees = transform_geom(f"EPSG:{scene.tile.epsg}", "EPSG:4326", polygon)
    coordinates = [[[round(x, 7), round(y, 7)] for x, y in line] for line in degrees["coordinates"]]
    return {"type": "Polygon", "coordinates": coordinates}
