"""The sample archive: small synthetic scenes whose clouds and shadows are known."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE
from pc_cloudmask.demo.clouds import COARSE_BANDS, PREVIEW_PIXEL_M, SceneRasters, build_scene_rasters
from pc_cloudmask.demo.ground import BANDS, Landscape, build_landscape
from pc_cloudmask.demo.scenes import PIXEL_SIZE_M, SAMPLE_SCENES, WINDOW_PX, SampleScene
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import PROBABILITY_NODATA
from pc_cloudmask.raster.cog import COG_OPTIONS, overview_factors
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import map_hrefs

# These files are read a few times, and deflate's level 6 takes three times as long to save a tenth of the
# bytes.
_COG_OPTIONS: Mapping[str, str] = {**COG_OPTIONS, "LEVEL": "5"}


@dataclass(frozen=True, slots=True)
class SampleRaster:
    """One asset's pixels: (h, w), or (h, w, 3) for a picture."""

    key: str
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    pixel_size_m: int
    nodata: int
    overviews: Resampling

    @property
    def suffix(self) -> str:
        """How the file's name ends, in the manner of Sentinel-2's products."""
        return _SUFFIXES.get(self.key, f"{self.key}_{self.pixel_size_m}m")


_SUFFIXES: Mapping[str, str] = {
    "visual": "TCI_10m",
    "preview": "PVI",
    "cloud-probability": "CLDPRB_10m",
    "truth": "TRUTH_20m",
}


def draw_rasters(rasters: SceneRasters) -> Iterator[SampleRaster]:
    """Every raster of a scene."""
    bands = {band: rasters.draw_band(band) for band in BANDS}
    for band, pixels in bands.items():
        yield SampleRaster(band, pixels, 20 if band in COARSE_BANDS else 10, 0, Resampling.average)
    visual = rasters.draw_visual(bands["B04"], bands["B03"], bands["B02"])
    yield SampleRaster("visual", visual, 10, 0, Resampling.average)
    step = PREVIEW_PIXEL_M // 10
    yield SampleRaster(
        "preview", visual[step // 2 :: step, step // 2 :: step], PREVIEW_PIXEL_M, 0, Resampling.average
    )
    probability = rasters.draw_probability()
    yield SampleRaster("cloud-probability", probability, 10, PROBABILITY_NODATA, Resampling.average)
    yield SampleRaster("SCL", rasters.draw_scene_classes(), 20, 0, Resampling.nearest)
    yield SampleRaster("truth", rasters.draw_truth(), 20, 0, Resampling.nearest)


def write_rasters(rasters: SceneRasters, folder: Path) -> dict[str, Path]:
    """Write every raster of a scene into ``folder``; by asset key, the path."""
    scene = rasters.scene
    paths = {}
    for raster in draw_rasters(rasters):
        path = folder / f"T{scene.tile.name}_{scene.datatake_time}_{raster.suffix}.tif"
        grid = scene.tile.grid(raster.pixel_size_m)
        _write_cog(path, raster, grid.crs, Affine(*grid.transform))
        paths[raster.key] = path
    return paths


def _write_cog(path: Path, raster: SampleRaster, crs: str, transform: Affine) -> None:
    """A COG through an uncompressed file in memory that brings its overviews (see ``cog``)."""
    bands = raster.pixels[np.newaxis] if raster.pixels.ndim == 2 else np.moveaxis(raster.pixels, -1, 0)
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype.name,
        "count": count,
        "height": height,
        "width": width,
        "crs": crs,
        "transform": transform,
        "nodata": raster.nodata,
    }
    with MemoryFile(ext=".tif") as memory:
        with memory.open(**profile) as dataset:
            dataset.write(bands)
            if factors := overview_factors((height, width)):
                dataset.build_overviews(factors, raster.overviews)
        with MemoryFile(ext=".tif") as target:
            rasterio.shutil.copy(memory.name, target.name, driver="COG", **_COG_OPTIONS)
            path.write_bytes(target.read())


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


logger = logging.getLogger(__name__)
ITEMS_NAME = "items.json"
_MARKER_NAME = "SYNTHETIC.txt"
_MARKER = "Synthetic Sentinel-2 scenes made by pc-cloudmask. This folder may be deleted at any time.\n"
#: Raised with every change of a pixel or an item, so that archives on disk are made again.
_VERSION_KEY, _VERSION = "sample_archive_version", 2


def build_sample_archive(folder: Path) -> Path:
    """Path of the archive's ItemCollection, whose asset hrefs are relative to it; made if need be.

    A complete archive in ``folder`` is left alone; one that is damaged or of another version is
    replaced. The bytes are the same every time.

    Raises:
        SettingsError: ``folder`` holds something else, or cannot be written.
    """
    if _is_complete(folder):
        return folder / ITEMS_NAME
    if folder.exists() and not _is_ours(folder):
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
    """Whether every file is there in the size that the archive's own list says."""
    try:
        document = orjson.loads((folder / ITEMS_NAME).read_bytes())
        if document[_VERSION_KEY] != _VERSION:
            return False
        return all((folder / name).stat().st_size == size for name, size in document["files"].items())
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False


def _is_ours(folder: Path) -> bool:
    """Whether ``folder`` may be replaced: it is empty, or what an earlier run made."""
    return folder.is_dir() and ((folder / _MARKER_NAME).is_file() or not any(folder.iterdir()))


def _write_archive(folder: Path) -> None:
    folder.mkdir()
    (folder / _MARKER_NAME).write_text(_MARKER, "utf-8")
    landscapes = {
        tile: build_landscape(tile) for tile in dict.fromkeys(scene.tile for scene in SAMPLE_SCENES)
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        items = list(
            pool.map(lambda scene: _write_scene(scene, landscapes[scene.tile], folder), SAMPLE_SCENES)
        )
    _write_items(folder, items)


def _write_scene(scene: SampleScene, landscape: Landscape, folder: Path) -> Item:
    """The item of ``scene``, whose files are in a folder of its own."""
    (folder / scene.id).mkdir()
    rasters = build_scene_rasters(scene, landscape)
    paths = write_rasters(rasters, folder / scene.id)
    item = build_item(scene, {key: path.name for key, path in paths.items()}, rasters.draw_scene_classes())
    (folder / scene.id / f"{scene.id}.json").write_bytes(orjson.dumps(item, option=orjson.OPT_INDENT_2))
    # The list of items stands in the folder above.
    return map_hrefs(item, lambda href: href if "://" in href else f"{scene.id}/{href}")


def _write_items(folder: Path, items: list[Item]) -> None:
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


def _move_into_place(partial: Path, folder: Path) -> None:
    """One rename, so that no reader ever sees half an archive."""
    if _is_complete(folder):
        return
    if folder.exists():
        shutil.rmtree(folder)
    try:
        os.replace(partial, folder)  # noqa: PTH105 - says that it replaces
    except OSError:
        if not _is_complete(folder):
            raise
