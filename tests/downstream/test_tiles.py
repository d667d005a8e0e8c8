"""rio-tiler renders a mask in its classes' colours, titiler serves a tile of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from fastapi import FastAPI
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from rasterio.warp import transform_bounds
from rio_tiler.io import Reader
from titiler.core.factory import TilerFactory

from pc_cloudmask.masking.classes import CLASS_STYLES

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

COLOURS = {int(value): (*style.color, 255) for value, style in CLASS_STYLES.items()} | {0: (0, 0, 0, 0)}


def decode_png(body: bytes) -> np.ndarray:
    """``(height, width, 4)``."""
    with MemoryFile(body) as memory, memory.open() as dataset:
        return dataset.read().transpose(1, 2, 0)


def test_rio_tiler_renders_a_mask_in_its_colours(mask_path: Path) -> None:
    with Reader(str(mask_path)) as source:
        image = source.preview(max_size=1098, resampling_method="nearest")
        picture = decode_png(image.render(img_format="PNG", colormap=source.colormap))
    with rasterio.open(mask_path) as dataset:
        classes = dataset.read(1)
    expected = np.zeros((*classes.shape, 4), np.uint8)
    for value, colour in COLOURS.items():
        expected[classes == value] = colour
    # What is transparent may have any colour.
    np.testing.assert_array_equal(picture[..., 3], expected[..., 3])
    np.testing.assert_array_equal(picture[classes > 0], expected[classes > 0])


def test_titiler_serves_a_tile_in_the_same_colours(mask_path: Path) -> None:
    app = FastAPI()
    app.include_router(TilerFactory().router)
    with rasterio.open(mask_path) as dataset:
        west, south, east, north = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    column, row, zoom = find_tile((west + east) / 2, (south + north) / 2, 12)
    with TestClient(app) as client:
        answer = client.get(
            f"/tiles/WebMercatorQuad/{zoom}/{column}/{row}.png",
            params={"url": str(mask_path), "resampling": "nearest", "reproject": "nearest"},
        )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    drawn = {tuple(pixel) for pixel in decode_png(answer.content).reshape(-1, 4).tolist()}
    assert drawn <= set(COLOURS.values())
    assert COLOURS[1] in drawn
    assert len(drawn) >= 3


def find_tile(lon: float, lat: float, zoom: int) -> tuple[int, int, int]:
    """Column, row and zoom of the web map's tile at a place."""
    count = 2**zoom
    mercator = np.arcsinh(np.tan(np.radians(lat))) / np.pi
    return int((lon + 180) / 360 * count), int((1 - mercator) / 2 * count), zoom
