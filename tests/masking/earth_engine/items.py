"""Items of the Planetary Computer for the local Earth Engine's products."""

from __future__ import annotations

from typing import Any

from pc_cloudmask.scene.geometry import build_tile_box
from pc_cloudmask.scene.scene import Scene


def build_item(scene: Scene) -> dict[str, Any]:
    """The Planetary Computer's item of ``scene``, with the one asset that tells its grid."""
    west, south, east, north = build_tile_box(scene.tile)
    lon, lat = (west + east) / 2, (south + north) / 2
    west, south, east, north = lon - 0.1, lat - 0.05, lon + 0.1, lat + 0.05
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.id,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": scene.datetime.isoformat().replace("+00:00", "Z"),
            "platform": scene.platform,
            "proj:epsg": int(scene.grid.crs.removeprefix("EPSG:")),
            "s2:mgrs_tile": scene.tile,
            "s2:datatake_id": scene.datatake_id,
            "s2:datastrip_id": scene.datastrip_id,
            "s2:mean_solar_azimuth": scene.solar_azimuth_deg,
            "s2:mean_solar_zenith": scene.solar_zenith_deg,
            "s2:processing_baseline": scene.processing_baseline,
        },
        "links": [],
        "assets": {
            "SCL": {
                "href": "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/SCL_20m.tif",
                "proj:shape": list(scene.grid.shape),
                "proj:transform": list(scene.grid.transform),
            }
        },
    }
