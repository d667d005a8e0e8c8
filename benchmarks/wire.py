"""Bytes on the wire of a full tile's cloud inputs: as GeoTIFF, compared with the array.

Cloud inputs of 5490 x 5490 pixels of 20 m in the windows that are asked for, answered by the local Earth Engine, which
compresses by LZW. Earth Engine documents PNG and JPEG for display alone, so pixels are asked for as ``GEO_TIFF``;
whether and how the service compresses it is **not documented**. Whatever GDAL reads is read, and checked for type, size
and place; where no such GeoTIFF comes, pixels come as arrays (``NPY``). Clouds have ragged rims and a smooth
probability; *noisy*: each pixel's probability is drawn, so that nothing can be told from its neighbours.
"""

from __future__ import annotations

import numpy as np

from benchmarks.canned_engine import build_inputs
from benchmarks.measure import Peer, Row, compare_costs
from pc_cloudmask.masking.earth_engine.windows import plan_windows
from pc_cloudmask.scene.grid import Grid
from tests.doubles.earth_engine.downloads import write_file
from tests.doubles.earth_engine.grids import Projection, Window

GRID = Grid("EPSG:32632", (20.0, 0.0, 499_980.0, 0.0, -20.0, 5_200_020.0), (5490, 5490))
TILES = {"clear": 0.0, "mixed, 40 % cloud": 0.4, "cloudy": 1.0}
#: Of the clouds: smaller ones have more rim.
BLOB_PX = 90


def measure() -> list[Row]:
    """Compare the forms of a clear, a mixed, a cloudy and a noisy tile."""
    tiles = {
        name: build_inputs(GRID.shape, share, is_fine=True, blob_px=BLOB_PX) for name, share in TILES.items()
    }
    noise = np.random.default_rng(5).integers(0, 26, GRID.shape, np.uint8)
    tiles["noisy"] = tiles["mixed, 40 % cloud"] // 26 * 26 + noise
    return [
        compare_costs(
            f"{name}, GeoTIFF",
            _count_bytes(pixels, "GEO_TIFF") / 1e6,
            Peer("array", _count_bytes(pixels, "NPY") / 1e6),
            "MB",
            None,
        )
        for name, pixels in tiles.items()
    ]


def _count_bytes(pixels: np.ndarray, file_format: str) -> int:
    total = 0
    for part in plan_windows(GRID):
        window = Window(Projection(GRID.crs, GRID.window_grid(part).transform), 0, 0, part.width, part.height)
        total += len(write_file({"value": pixels[part.slices]}, window, file_format, "wire").body)
    return total
