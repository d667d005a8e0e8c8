"""The items of the sample archive, in the form of the Planetary Computer's."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rasterio.warp import transform_geom

from pc_cloudmask.demo.scenes import PIXEL_SIZE_M, WINDOW_PX, SampleScene
from pc_cloudmask.source.fields import Item

# The percentages of the Planetary Computer's items, in the order of SCL's classes from 1 on.
_SCL_PERCENTAGES = (
    *("saturated_defective_pixel", "dark_features", "cloud_shadow", "vegetation", "not_vegetated", "water"),
    *("unclassified", "medium_proba_clouds", "high_proba_clouds", "thin_cirrus", "snow_ice"),
)


def build_item(scene: SampleScene, scene_classes: NDArray[np.uint8]) -> Item:
    """Return the item of ``scene``: ``item.json``, its strings formatted with what is true of the scene.

    Hrefs are relative to the item's file. ``scene_classes`` is the scene's SCL, uint8 (h, w).
    """
    item: Item = _fill(_read_template(), _describe(scene))
    footprint = _build_footprint(scene)
    longitudes, latitudes = zip(*footprint["coordinates"][0], strict=True)
    item["bbox"] = [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
    item["geometry"] = footprint
    item["properties"] |= {
        "datetime": f"{scene.datetime:%Y-%m-%dT%H:%M:%S}.024000Z",
        "proj:epsg": scene.tile.epsg,
        "sat:relative_orbit": scene.relative_orbit,
        "s2:mean_solar_azimuth": scene.solar_azimuth_deg,
        "s2:mean_solar_zenith": scene.solar_zenith_deg,
        **_measure_classes(scene_classes),
    }
    for asset in item["assets"].values():
        if "gsd" in asset:
            grid = scene.tile.grid(int(asset["gsd"]))
            asset["proj:bbox"] = list(grid.bounds)
            asset["proj:shape"] = list(grid.shape)
            asset["proj:transform"] = list(grid.transform)
    return item


@cache
def _read_template() -> Item:
    template: Item = orjson.loads(files("pc_cloudmask.demo").joinpath("item.json").read_bytes())
    return template


def _fill(part: Any, words: dict[str, Any]) -> Any:
    """Return a copy of a JSON value whose strings are formatted with ``words``."""
    if isinstance(part, dict):
        return {key: _fill(value, words) for key, value in part.items()}
    if isinstance(part, list):
        return [_fill(value, words) for value in part]
    return part.format_map(words) if isinstance(part, str) else part


def _describe(scene: SampleScene) -> dict[str, Any]:
    return {
        "id": scene.id,
        "tile": scene.tile.name,
        "platform": scene.platform,
        "satellite": scene.platform[1:],
        "day": f"{scene.datetime:%Y-%m-%d}",
        "datatake": scene.datatake_time,
        "datastrip": f"{scene.datetime + timedelta(seconds=2):%Y%m%dT%H%M%S}",
        "processed": scene.processing_time,
        "relative_orbit": scene.relative_orbit,
        "absolute_orbit": scene.absolute_orbit,
        "baseline": scene.processing_baseline,
        "baseline_digits": scene.processing_baseline.replace(".", ""),
    }


def _measure_classes(scene_classes: NDArray[np.uint8]) -> dict[str, float]:
    """Return percentages of the valid pixels, of all pixels for no data."""
    counts = np.bincount(scene_classes.ravel(), minlength=12).tolist()
    valid = sum(counts[1:])
    shares = [round(100 * count / valid, 6) for count in counts[1:]]
    return {
        "eo:cloud_cover": round(100 * sum(counts[8:11]) / valid, 6),
        "s2:nodata_pixel_percentage": round(100 * counts[0] / scene_classes.size, 6),
        **{f"s2:{name}_percentage": share for name, share in zip(_SCL_PERCENTAGES, shares, strict=True)},
    }


def _build_footprint(scene: SampleScene) -> dict[str, Any]:
    """Return the ground that has data as a GeoJSON polygon, counterclockwise, in degrees to a centimetre."""
    west, north = scene.tile.corner_m
    edge = float(WINDOW_PX * PIXEL_SIZE_M)
    upper, lower = scene.swath_edge_m or (0.0, 0.0)
    corners = [(max(upper, 0.0), 0.0), (max(lower, 0.0), edge), (edge, edge), (edge, 0.0)]
    if lower < 0 < upper:
        corners.insert(1, (0.0, edge * upper / (upper - lower)))
    ring = [(west + east, north - south) for east, south in [*corners, corners[0]]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    degrees = transform_geom(f"EPSG:{scene.tile.epsg}", "EPSG:4326", polygon)
    return {
        "type": "Polygon",
        "coordinates": [[[round(x, 7), round(y, 7)] for x, y in line] for line in degrees["coordinates"]],
    }
