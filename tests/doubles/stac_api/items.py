"""Items of the Planetary Computer's shape."""

from __future__ import annotations

from typing import Any

ACCOUNT = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2"


def make_item(
    item_id: str = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849",
    datetime: str = "2018-12-14T13:32:19.024000Z",
    tile: str = "22KFV",
    bbox: tuple[float, float, float, float] = (-50.0, -23.0, -49.0, -22.0),
    **properties: Any,
) -> dict[str, Any]:
    """An item with what searches look at, and two assets."""
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(bbox),
        "properties": {"datetime": datetime, "s2:mgrs_tile": tile, **properties},
        "links": [],
        "assets": {
            "SCL": {"href": f"{ACCOUNT}/{tile}/{item_id}_SCL.tif", "type": "image/tiff"},
            "B08": {"href": f"{ACCOUNT}/{tile}/{item_id}_B08.tif", "type": "image/tiff"},
        },
    }
