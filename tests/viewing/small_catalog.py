"""A catalog of masks of any pixels, anywhere, put where publishing would have put them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform

from pc_cloudmask.catalog.documents import (
    build_collection,
    build_root_catalog,
    build_tile_catalog,
    build_year_catalog,
    build_zone_catalog,
)
from pc_cloudmask.catalog.fields import AssetFile, CatalogContext, build_mask_asset, encode_document
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY, item_keys
from pc_cloudmask.masking.files import build_mask_cog
from pc_cloudmask.scene.grid import Grid

Put = Callable[[str, bytes], object]


@dataclass(frozen=True)
class SmallScene:
    """A tile on a day; ``classes`` are the pixels of its mask from ``west_m``, ``north_m`` on."""

    tile: str
    day: str
    west_m: float
    north_m: float
    classes: NDArray[np.uint8]

    @property
    def id(self) -> str:
        stamp = self.day.replace("-", "")
        return f"S2B_MSIL2A_{stamp}T133219_R081_T{self.tile}_{stamp}T235959"

    @property
    def grid(self) -> Grid:
        zone, is_north = int(self.tile[:2]), self.tile[2] >= "N"
        crs = f"EPSG:{(32600 if is_north else 32700) + zone}"
        return Grid(crs, (20.0, 0.0, self.west_m, 0.0, -20.0, self.north_m), self.classes.shape)

    def put(self, put: Put) -> Path:
        """Put mask and item; return the mask's key."""
        keys = item_keys(self.id, self.tile, int(self.day[:4]))
        body = build_mask_cog(self.classes, self.grid)
        digest = sha256(body).hexdigest()
        mask = AssetFile(keys.mask(digest), body, "image/tiff", digest)
        put(mask.key, body)
        item: dict[str, Any] = {
            "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": self.id, "links": [],
            "geometry": shapely.geometry.mapping(self.footprint), "bbox": list(self.footprint.bounds),
            "properties": {
                "datetime": f"{self.day}T13:32:19Z", "s2:mgrs_tile": self.tile, "cloudmask:method": "csmask",
            },
            "assets": {"cloudmask": build_mask_asset(mask, f"./{Path(mask.key).name}", self.grid)},
        }  # fmt: skip
        put(keys.item, encode_document(item))
        return Path(mask.key)

    def put_mask(self, folder: Path) -> bytes:
        """Put mask and item into a folder; return the mask."""
        return (folder / self.put(put_files(folder))).read_bytes()

    @property
    def footprint(self) -> Any:
        west, south, east, north = self.grid.bounds
        lons, lats = transform(
            self.grid.crs, "EPSG:4326", [west, east, east, west, west], [south, south, north, north, south]
        )
        lons = lons[0] + (np.array(lons) - lons[0] + 180) % 360 - 180
        return shapely.Polygon(np.column_stack((lons, lats)))


def put_catalog(put: Put, scenes: list[SmallScene]) -> None:
    """Put the scenes and every catalog above them."""
    context = CatalogContext()
    for scene in scenes:
        scene.put(put)
    put(CATALOG_KEY, encode_document(build_root_catalog(context)))
    zones = sorted({scene.tile[:3] for scene in scenes})
    put(COLLECTION_KEY, encode_document(build_collection(context, zones, None, ())))
    for zone in zones:
        tiles = sorted({scene.tile for scene in scenes if scene.tile.startswith(zone)})
        document = build_zone_catalog(context, zone, tiles)
        put(f"sentinel-2-l2a-cloudmask/{zone}/catalog.json", encode_document(document))
    for tile in {scene.tile for scene in scenes}:
        years = {int(scene.day[:4]) for scene in scenes if scene.tile == tile}
        document = build_tile_catalog(context, tile, years)
        put(f"sentinel-2-l2a-cloudmask/{tile[:3]}/{tile}/catalog.json", encode_document(document))
        for year in years:
            of_year = [each for each in scenes if each.tile == tile and int(each.day[:4]) == year]
            year_keys = item_keys(of_year[0].id, tile, year).year_keys
            document = build_year_catalog(context, year_keys, [each.id for each in of_year])
            put(year_keys.catalog, encode_document(document))


def put_files(root: Path) -> Put:
    """Return what puts into a folder."""

    def put(key: str, body: bytes) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(body)

    return put
