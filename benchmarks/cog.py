"""Encoding a full tile's mask, compared with rio-cogeo; reading a band, compared with reading all its pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

from benchmarks.mask_core import PARAMETERS, SHAPE, SOLAR_AZIMUTH_DEG, draw_terrain
from benchmarks.measure import Peer, Row, compare_costs, measure_cpu_ms
from pc_cloudmask.masking.classes import CLASS_STYLES, PROBABILITY_NODATA, CloudInputs
from pc_cloudmask.masking.clouds_and_shadows import compose_mask
from pc_cloudmask.masking.files import LEGEND, MASK_STYLE, build_mask_cog, build_preview
from pc_cloudmask.raster.cog import BLOCK_PX
from pc_cloudmask.raster.read import average_valid
from pc_cloudmask.scene.grid import Grid, Shape
from pc_cloudmask.source.assets import AssetReader
from tests.masking.chip_item import write_cog

EPSG = 32722
SPEED_TARGET = 2.5
SIZE_TARGET = 0.9
"""Level 5 of deflate instead of the peer's 6: a few percent more bytes, for a quarter of the time."""
PREVIEW_BUDGET_MS = 50.0
CLOUD_SIZES = {600: 1.0, 200: 0.6, 60: 0.35, 20: 0.15}
"""Share of each size, in pixels, in what the clouds are made of: edges take most of a mask's bytes."""


def measure() -> list[Row]:
    """CPU time and size of the COG, CPU time of the preview and of reading through an overview.

    Raises:
        RuntimeError: the peer's COG holds other pixels than ours.
    """
    classes = build_mask()
    grid = _grid_of(SHAPE)
    ours, theirs = build_mask_cog(classes, grid), translate_cog(classes, grid)
    if not np.array_equal(_read_pixels(ours), _read_pixels(theirs)):
        raise RuntimeError("rio-cogeo's COG holds other pixels than ours")
    cog_ms = measure_cpu_ms(lambda: build_mask_cog(classes, grid))
    peer_ms = measure_cpu_ms(lambda: translate_cog(classes, grid), repeats=5)
    preview_ms = measure_cpu_ms(lambda: build_preview(classes))
    name = f"COG of a mask of {SHAPE[0]} x {SHAPE[1]} px, equal pixels"
    return [
        compare_costs(name, cog_ms, Peer("rio_cogeo.cog_translate", peer_ms), "CPU ms", SPEED_TARGET),
        compare_costs("its size", len(ours) / 1e3, Peer("rio_cogeo", len(theirs) / 1e3), "kB", SIZE_TARGET),
        compare_costs("preview of the mask", preview_ms, Peer("budget", PREVIEW_BUDGET_MS), "CPU ms", 1),
        measure_reading(),
    ]


def build_mask() -> NDArray[np.uint8]:
    """Draw a mask, a fifth of it cloud: clouds of all sizes with ragged edges, shadows, a wedge without data."""
    rng = np.random.default_rng(20181214)
    thickness = sum(share * draw_terrain(rng, SHAPE, size_px) for size_px, share in CLOUD_SIZES.items())
    probability_pct = np.clip(50 + 40 * (thickness / np.std(thickness) - 0.9), 0, 100).astype(np.uint8)
    rows, cols = np.ogrid[: SHAPE[0], : SHAPE[1]]
    probability_pct[2 * rows + cols < SHAPE[0] // 2] = PROBABILITY_NODATA
    dark = (draw_terrain(rng, SHAPE, 30) > 0.5) | np.roll(probability_pct > 50, (40, 30), (0, 1))
    inputs = CloudInputs(probability_pct, dark, probability_pct[::5, ::5].copy())
    return compose_mask(inputs, SOLAR_AZIMUTH_DEG, PARAMETERS)


def measure_reading() -> Row:
    """Read a 10 m band at 20 m: through the overview, and as the mean of all pixels."""
    pixels = np.random.default_rng(8).integers(1000, 2000, SHAPE, dtype=np.uint16)
    grid = _grid_of((SHAPE[0] // 2, SHAPE[1] // 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "B08.tif"
        write_cog(path, pixels, Affine(10.0, 0.0, grid.transform[2], 0.0, -10.0, grid.transform[5]), EPSG)
        reader = AssetReader(local_root=path.parent)

        def read_overview() -> NDArray[np.generic]:
            return reader.read_band(str(path), grid, resampling="average", item_id="benchmark")

        def read_all() -> NDArray[np.generic]:
            with rasterio.open(path) as dataset:
                return average_valid(dataset.read(1), 2, 0)

        ours_ms, peer_ms = measure_cpu_ms(read_overview, repeats=5), measure_cpu_ms(read_all, repeats=5)
    name = f"a band of {SHAPE[0]} x {SHAPE[1]} px at half its resolution"
    return compare_costs(name, ours_ms, Peer("mean of all pixels", peer_ms), "CPU ms", target=3)


def translate_cog(classes: NDArray[np.uint8], grid: Grid) -> bytes:
    """Write the same COG by rio-cogeo, as its documentation shows it for an array."""
    height, width = classes.shape
    deflate: dict[str, Any] = cog_profiles.get("deflate")  # type: ignore[no-untyped-call]  # as it is
    profile = deflate | {"blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "zlevel": 6}
    with MemoryFile() as source, MemoryFile() as target:
        with source.open(
            driver="GTiff",
            count=1,
            dtype="uint8",
            height=height,
            width=width,
            crs=grid.crs,
            transform=Affine(*grid.transform),
            nodata=0,
        ) as dataset:
            dataset.write(classes, 1)
            dataset.write_colormap(1, {int(value): style.color for value, style in CLASS_STYLES.items()})
            dataset.update_tags(1, legend=LEGEND)
            dataset.set_band_description(1, MASK_STYLE.name)
        with source.open() as dataset:
            cog_translate(
                dataset,
                target.name,
                profile,
                overview_resampling="nearest",
                in_memory=True,
                quiet=True,
                forward_band_tags=True,
            )
        return bytes(target.read())


def _grid_of(shape: Shape) -> Grid:
    return Grid(f"EPSG:{EPSG}", (20.0, 0.0, 600000.0, 0.0, -20.0, 7500040.0), shape)


def _read_pixels(cog: bytes) -> NDArray[np.uint8]:
    with MemoryFile(cog) as file, file.open() as dataset:
        pixels: NDArray[np.uint8] = dataset.read(1)
    return pixels
