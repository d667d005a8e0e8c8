"""The sample archive: items and rasters of small synthetic scenes whose clouds and shadows are known."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from pc_cloudmask.demo.scenes import (
    PIXEL_SIZE_M,
    SAMPLE_SCENES,
    WINDOW_PX,
    Landscape,
    Raster,
    SampleScene,
    SampleTile,
    build_landscape,
    draw_rasters,
)
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import PROBABILITY_NODATA
from pc_cloudmask.raster.cog import COG_OPTIONS
from pc_cloudmask.scene.scene import PROBABILITY_ASSET
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import map_hrefs

logger = logging.getLogger(__name__)
ITEMS_NAME = "items.json"
_MARKER_NAME = "SYNTHETIC.txt"
_MARKER = "Synthetic Sentinel-2 scenes made by pc-cloudmask. This folder may be deleted at any time.\n"
#: To be raised with every change of a pixel or an item, so that existing archives are made again.
_VERSION_KEY, _VERSION = "sample_archive_version", 3
#: Assets of classes, whose overviews pick one pixel of several instead of their mean.
_CLASSES = ("SCL", "truth")


def build_sample_archive(folder: Path) -> Path:
    """Return the path of the archive's ItemCollection, whose asset hrefs are relative to it; make it if necessary.

    A complete archive in ``folder`` is left alone; a damaged one, or one of another version, is replaced. The
    bytes are the same every time.

    Raises:
        SettingsError: ``folder`` holds something else, or cannot be written.
    """
    if _is_complete(folder):
        return folder / ITEMS_NAME
    is_ours = folder.is_dir() and ((folder / _MARKER_NAME).is_file() or not any(folder.iterdir()))
    if folder.exists() and not is_ours:
        raise SettingsError(f"{folder}: is no sample archive and not empty; name a new or an empty folder")
    logger.info("making the sample archive in %s", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            partial = Path(temporary) / folder.name
            _write_archive(partial)
            _move_into_place(partial, folder)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder / ITEMS_NAME


def _is_complete(folder: Path) -> bool:
    """Return True if every file exists with the size in the archive's own list."""
    try:
        document = orjson.loads((folder / ITEMS_NAME).read_bytes())
        sizes = {name: (folder / name).stat().st_size for name in document["files"]}
        return bool(document[_VERSION_KEY] == _VERSION and sizes == document["files"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _write_archive(folder: Path) -> None:
    folder.mkdir()
    (folder / _MARKER_NAME).write_text(_MARKER, "utf-8")
    tiles = dict.fromkeys(scene.tile for scene in SAMPLE_SCENES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        landscapes = dict(zip(tiles, pool.map(build_landscape, tiles), strict=True))
        items = list(
            pool.map(lambda scene: _write_scene(scene, landscapes[scene.tile], folder), SAMPLE_SCENES)
        )
    hrefs = sorted(asset["href"] for item in items for asset in item["assets"].values())
    hrefs += [f"{item['id']}/{item['id']}.json" for item in items]
    document: dict[str, Any] = {
        "type": "FeatureCollection",
        "description": _MARKER.strip(),
        _VERSION_KEY: _VERSION,
        "features": items,
        "files": {href: (folder / href).stat().st_size for href in hrefs},
    }
    (folder / ITEMS_NAME).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _write_scene(scene: SampleScene, landscape: Landscape, folder: Path) -> Item:
    """Write ``scene`` into a folder of its own and return its item, with hrefs for the list in the folder above."""
    (folder / scene.id).mkdir()
    rasters = draw_rasters(scene, landscape)
    item = build_item(scene, rasters["SCL"])
    for key, asset in item["assets"].items():
        _write_cog(folder / scene.id / asset["href"], key, rasters[key], scene.tile)
    (folder / scene.id / f"{scene.id}.json").write_bytes(orjson.dumps(item, option=orjson.OPT_INDENT_2))
    return map_hrefs(item, lambda href: href if "://" in href else f"{scene.id}/{href}")


def _write_cog(path: Path, key: str, pixels: Raster, tile: SampleTile) -> None:
    bands = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    count, height, width = bands.shape
    grid = tile.grid(WINDOW_PX * PIXEL_SIZE_M // width)
    profile = {
        "dtype": bands.dtype.name,
        "count": count,
        "height": height,
        "width": width,
        "crs": grid.crs,
        "transform": Affine(*grid.transform),
        "nodata": PROBABILITY_NODATA if key == PROBABILITY_ASSET else 0,
        **COG_OPTIONS,
        "OVERVIEWS": "AUTO",
        "OVERVIEW_RESAMPLING": "NEAREST" if key in _CLASSES else "AVERAGE",
    }
    with MemoryFile(ext=".tif") as memory:
        with memory.open(driver="COG", **profile) as dataset:
            if count == 3:
                dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            dataset.write(bands)
        path.write_bytes(memory.read())


def _move_into_place(partial: Path, folder: Path) -> None:
    """Rename once, so that no reader ever sees half an archive."""
    if _is_complete(folder):
        return
    if folder.exists():
        shutil.rmtree(folder)
    try:
        os.replace(partial, folder)  # noqa: PTH105 - says that it replaces
    except OSError:
        if not _is_complete(folder):
            raise


# The percentages of the Planetary Computer's items, in the order of SCL's classes from 1 on.
_SCL_PERCENTAGES = (
    *("saturated_defective_pixel", "dark_features", "cloud_shadow", "vegetation", "not_vegetated", "water"),
    *("unclassified", "medium_proba_clouds", "high_proba_clouds", "thin_cirrus", "snow_ice"),
)


def build_item(scene: SampleScene, scene_classes: NDArray[np.unsignedinteger]) -> Item:
    """Return the item of ``scene``: ``item.json`` with values in place of its ``{words}``.

    Hrefs are relative to the item's file. ``scene_classes`` is the scene's SCL, (h, w).
    """
    words = {
        "scene": scene,
        "tile": scene.tile,
        "satellite": scene.tile.platform[1:],
        "datastrip": f"{scene.datetime + timedelta(seconds=2):%Y%m%dT%H%M%S}",
        "baseline_digits": scene.processing_baseline.replace(".", ""),
    }
    template = files(__package__).joinpath("item.json").read_text("utf-8")
    item: Item = orjson.loads(re.sub(r"\{\w[^}\n]*\}", lambda word: word[0].format_map(words), template))
    footprint = _build_footprint(scene)
    longitudes, latitudes = zip(*footprint["coordinates"][0], strict=True)
    item["bbox"] = [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
    item["geometry"] = footprint
    item["properties"] |= {
        "datetime": f"{scene.datetime:%Y-%m-%dT%H:%M:%S}.024000Z",
        "proj:epsg": scene.tile.epsg,
        "sat:relative_orbit": scene.tile.relative_orbit,
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


def _measure_classes(scene_classes: NDArray[np.unsignedinteger]) -> dict[str, float]:
    """Return percentages of the valid pixels, and of all pixels for no data."""
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
    degrees = transform_geom(f"EPSG:{scene.tile.epsg}", "EPSG:4326", polygon, precision=7)
    return {"type": "Polygon", "coordinates": [list(map(list, degrees["coordinates"][0]))]}
