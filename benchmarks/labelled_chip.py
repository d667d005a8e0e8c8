"""The labelled Sentinel-2 chip of ukis-csmask's own tests, as an item with labels, for ``cloudmask evaluate``.

``python -m benchmarks.labelled_chip sentinel2.npz chip`` writes both into the folder ``chip``; the file is
``tests/testfiles/sentinel2.npz`` of https://github.com/dlr-eoc/ukis-csmask. ``--picture FILE.png`` draws the README's
picture, too. The chip tells neither place nor time: those of the item are made up, its pixels are taken for 20 m.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from pc_cloudmask.evaluate.masks import ItemMasks, MaskChoice, Subject
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import read_settings
from pc_cloudmask.source.assets import build_reader
from pc_cloudmask.source.item_files import ItemFilesSource

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
ITEM_ID = "ukis-csmask-sentinel2"
_CRS, _CORNER, _PIXEL_M = 32633, (500_000.0, 5_000_000.0), 20.0
#: ukis-csmask's ``tests/test_mask.py``: 0 becomes shadow, 4 cloud, the others clear.
LABELS = '[classes]\n0 = "shadow"\n1 = "clear"\n2 = "clear"\n3 = "clear"\n4 = "cloud"\n'
_GAP_PX, _COLOURS = 12, 128


def write_chip(source: Path, folder: Path) -> Path:
    """Write bands, labels, layout and item of the chip in ``source`` into ``folder``; return the item's path."""
    folder.mkdir(parents=True, exist_ok=True)
    chip = np.load(source)
    for band, reflectance in zip(BANDS, np.moveaxis(chip["img"], -1, 0), strict=True):
        _write(folder / f"{band}.tif", np.rint(reflectance * 10_000).astype(np.uint16))
    _write(folder / "labels.tif", chip["msk"][..., 0])
    (folder / "labels.toml").write_text(LABELS, "utf-8")
    path = folder / "item.json"
    path.write_bytes(orjson.dumps(_build_item(chip["msk"].shape[:2]), option=orjson.OPT_INDENT_2))
    return path


def _write(path: Path, pixels: NDArray[Any]) -> None:
    height, width = pixels.shape
    transform = Affine(_PIXEL_M, 0, _CORNER[0], 0, -_PIXEL_M, _CORNER[1])
    profile = {"driver": "GTiff", "count": 1, "dtype": pixels.dtype, "compress": "deflate"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(
        path, "w", **profile, **tiles, height=height, width=width, crs=f"EPSG:{_CRS}", transform=transform
    ) as dataset:
        dataset.write(pixels, 1)


def _build_item(shape: tuple[int, int]) -> dict[str, Any]:
    west, south, east, north = 15.0, 45.05, 15.13, 45.153
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    fields = {
        "proj:shape": list(shape),
        "proj:transform": [_PIXEL_M, 0.0, _CORNER[0], 0.0, -_PIXEL_M, _CORNER[1]],
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": ITEM_ID,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": "2018-07-01T10:00:00Z",
            "platform": "Sentinel-2A",
            "proj:epsg": _CRS,
            "s2:mgrs_tile": "33TWL",
            "s2:mean_solar_azimuth": 150.0,
            "s2:mean_solar_zenith": 30.0,
            "s2:datatake_id": "GS2A_20180701T100000_015800_N02.08",
            "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_ESRI_20201008T100000_S20180701T100000_N02.12",
            "s2:processing_baseline": "02.12",
        },
        "links": [],
        "assets": {
            band: {"href": f"{band}.tif", "type": "image/tiff; application=geotiff", **fields}
            for band in BANDS
        },
    }


def draw_chip(item: Path) -> bytes:
    """Return the PNG of the chip in true colour beside its csmask mask without a buffer."""
    source = ItemFilesSource(str(item))
    choice = MaskChoice("csmask", 0.0, "made")
    settings = {choice: read_settings(method="csmask", buffer_m=0.0), MaskChoice(): read_settings()}
    subject = Subject(next(source.find_items(SceneQuery())), build_reader((), source.local_root))
    masks = ItemMasks({ITEM_ID: subject}, settings)
    mask = masks.read(ITEM_ID, choice)
    picture = masks.read_true_colour(ITEM_ID, Grid(mask.grid.crs, mask.grid.transform, mask.grid.shape))
    masked = picture.copy()
    for mask_class in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW):
        masked[mask.classes == mask_class] = CLASS_STYLES[mask_class].color
    gap = np.full((len(picture), _GAP_PX, 3), 255, np.uint8)
    png = BytesIO()
    both = Image.fromarray(np.concatenate([picture, gap, masked], axis=1))
    both.quantize(_COLOURS, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return png.getvalue()


def main() -> None:
    """Write the chip, and its picture if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelled_chip", description=__doc__)
    parser.add_argument("source", type=Path, metavar="sentinel2.npz")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    arguments = parser.parse_args()
    item = write_chip(arguments.source, arguments.folder)
    print(item)
    if arguments.picture:
        arguments.picture.write_bytes(draw_chip(item))
        print(arguments.picture)


if __name__ == "__main__":
    main()
