"""GeoTIFFs that are read in parts, by many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

from pc_cloudmask.masking.files import MASK_STYLE
from pc_cloudmask.raster.cog import _GDAL, PartsFile, build_cog, open_parts
from pc_cloudmask.scene.grid import Grid, Window

GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (1200, 1200))
BLOCK = Window(512, 512, 512, 512)


@pytest.mark.slow
def test_no_file_is_opened_or_closed_while_another_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each opening and closing changes a list of GDAL's that has no lock: threads that met there crashed."""
    pixels = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(np.uint8)
    body = build_cog(pixels, GRID, MASK_STYLE)
    at_once, most = 0, 0
    counting = threading.Lock()
    really_open = rasterio.open

    def count_open(*args: object, **options: object) -> object:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        try:
            return really_open(*args, **options)
        finally:
            with counting:
                at_once -= 1

    monkeypatch.setattr("pc_cloudmask.raster.cog.rasterio.open", count_open)

    def read(number: int) -> int:
        file = PartsFile(lambda offset, length: (body[offset : offset + length], len(body)))
        with open_parts(file, f"{number}.tif") as parts:
            return int(parts.read_block(BLOCK).sum())

    with ThreadPoolExecutor(8) as pool:
        sums = set(pool.map(read, range(64)))
    assert sums == {int(pixels[512:1024, 512:1024].sum())}
    assert most == 1


def test_a_small_mask_is_opened_by_one_request() -> None:
    body = build_cog(np.ones(GRID.shape, np.uint8), GRID, MASK_STYLE)
    file = PartsFile(lambda offset, length: (body[offset : offset + length], len(body)))
    with open_parts(file, "one.tif") as parts:
        assert parts.header.shape == GRID.shape
    assert file.requests == 1


def test_nothing_is_asked_for_while_others_wait_for_gdal() -> None:
    body = build_cog(np.random.default_rng(1).integers(0, 4, GRID.shape).astype(np.uint8), GRID, MASK_STYLE)

    def read_part(offset: int, length: int) -> tuple[bytes, int]:
        assert not _GDAL.locked()
        return body[offset : offset + length], len(body)

    file = PartsFile(read_part)
    with open_parts(file, "one.tif") as parts:
        parts.read_block(BLOCK)
    assert file.requests == 2
    assert file.error is None
