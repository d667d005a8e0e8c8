"""Pixels in files: formats, grids, limits, download URLs."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import requests
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom

from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene
from tests.doubles.earth_engine.sentinel2 import CLOUD_PROBABILITY, L2A, Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.pixels import build_grid, read_pixels


@pytest.fixture
def product(earth_engine: LocalEarthEngine) -> Sentinel2:
    product = build_ragged_scene(SUNS[1], shape_20m=(80, 120), wedge=False)
    earth_engine.world.add_sentinel2(product)
    return product


def probability_of(client: Any, product: Sentinel2) -> Any:
    return client.Image(f"{CLOUD_PROBABILITY}/{product.index}").select("probability")


def download(url: str) -> bytes:
    response = requests.get(url, timeout=600)
    response.raise_for_status()
    return response.content


def test_npy_is_a_structured_array_of_the_picked_bands(client: Any, product: Sentinel2) -> None:
    request = {
        "expression": client.Image(f"{L2A}/{product.index}"),
        "bandIds": ["SCL", "B8"],
        "grid": build_grid(product, 20),
        "fileFormat": "NPY",
    }
    array = np.load(io.BytesIO(client.data.computePixels(request)))
    assert array.dtype == [("SCL", "u1"), ("B8", "u2")]
    assert array.shape == (80, 120)
    np.testing.assert_array_equal(array["SCL"], product.bands["SCL"])


def test_geotiff_has_the_grid_that_was_asked_for(client: Any, product: Sentinel2) -> None:
    grid = build_grid(product, 20, (10, 20, 30, 40))
    request = {"expression": probability_of(client, product), "grid": grid, "fileFormat": "GEO_TIFF"}
    with MemoryFile(client.data.computePixels(request)) as memory, memory.open() as dataset:
        assert dataset.crs == product.crs
        west, north = product.origin
        assert dataset.transform[:6] == (20, 0, west + 400, 0, -20, north - 200)
        np.testing.assert_array_equal(dataset.read(1), read_pixels(probability_of(client, product), grid))


def test_without_a_grid_the_image_has_its_own(client: Any, product: Sentinel2) -> None:
    request = {"expression": probability_of(client, product), "fileFormat": "NUMPY_NDARRAY"}
    np.testing.assert_array_equal(client.data.computePixels(request)["probability"], product.probability)
    stored = {"assetId": f"{L2A}/{product.index}", "bandIds": ["SCL"], "fileFormat": "NUMPY_NDARRAY"}
    grid = build_grid(product, 20)
    scl = client.data.getPixels({**stored, "grid": grid})["SCL"]
    np.testing.assert_array_equal(scl, product.bands["SCL"])


def test_a_request_is_limited_in_bytes_with_a_mask_byte_a_pixel(client: Any, product: Sentinel2) -> None:
    image = probability_of(client, product)
    with pytest.raises(
        client.EEException,
        match=r"Total request size \(60280200 bytes\) must be less than or equal to 50331648 bytes\.",
    ):
        read_pixels(image, build_grid(product, 20, (0, 0, 5490, 5490)))


def test_a_request_is_limited_in_sides(client: Any, product: Sentinel2) -> None:
    image = probability_of(client, product)
    with pytest.raises(
        client.EEException,
        match=r"Pixel grid dimensions \(32769x1\) must be less than or equal to 32768\.",
    ):
        read_pixels(image, build_grid(product, 20, (0, 0, 1, 32769)))
    with pytest.raises(client.EEException, match=r"must be less than or equal to 10000\."):
        image.getDownloadURL(
            {"crs": product.crs, "crs_transform": [1, 0, 0, 0, -1, 0], "dimensions": [10001, 1]}
        )


@pytest.mark.parametrize("file_format", ["NPY", "GEO_TIFF", "ZIPPED_GEO_TIFF", "ZIPPED_GEO_TIFF_PER_BAND"])
def test_a_download_url_gives_an_exact_rectangle(client: Any, product: Sentinel2, file_format: str) -> None:
    """CRS, transform and dimensions together mean exactly that block of pixels."""
    west, north = product.origin
    params = {
        "crs": product.crs,
        "crs_transform": [20, 0, west, 0, -20, north],
        "dimensions": [120, 80],
        "format": file_format,
    }
    body = download(probability_of(client, product).getDownloadURL(params))
    expected = read_pixels(probability_of(client, product), build_grid(product, 20))
    if file_format == "NPY":
        np.testing.assert_array_equal(np.load(io.BytesIO(body))["probability"], expected)
        return
    if file_format.startswith("ZIPPED"):
        archive = zipfile.ZipFile(io.BytesIO(body))
        (name,) = archive.namelist()
        assert name.endswith(".probability.tif" if "PER_BAND" in file_format else ".tif")
        body = archive.read(name)
    with MemoryFile(body) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)


def read_region(image: Any, product: Sentinel2) -> tuple[Any, tuple[float, ...]]:
    """Pixels and transform of the tile as geeS2downloader asks for it: corners in degrees, a scale."""
    assert image.bandNames().contains("probability").getInfo()
    info = image.get("system:bands").getInfo()["probability"]
    height, width = product.shape_10m
    assert info["dimensions"] == [width, height]
    assert info["data_type"]["max"] - info["data_type"]["min"] == 255
    scale = image.projection().nominalScale().getInfo()
    assert scale == 10
    west, north = product.origin
    east, south = west + 10 * width, north - 10 * height
    corners = [(west, north), (east, north), (east, south), (west, south), (west, north)]
    tile = {"type": "Polygon", "coordinates": [corners]}
    region = transform_geom(product.crs, "EPSG:4326", tile)
    archive = zipfile.ZipFile(io.BytesIO(download(image.getDownloadURL({"scale": scale, "region": region}))))
    with MemoryFile(archive.read(archive.namelist()[0])) as memory, memory.open() as dataset:
        return dataset.read(1), dataset.transform[:6]


def test_a_region_with_a_scale_gives_a_small_tile(client: Any, product: Sentinel2) -> None:
    pixels, transform = read_region(probability_of(client, product), product)
    np.testing.assert_array_equal(pixels, product.probability)
    west, north = product.origin
    assert transform == (10, 0, west, 0, -10, north)


def test_a_region_with_a_scale_shifts_a_large_tile(earth_engine: LocalEarthEngine, client: Any) -> None:
    """Its edges, straight in degrees, are curves in UTM: the block around them is larger than the tile."""
    product = build_ragged_scene(SUNS[1], shape_20m=(10, 10), wedge=False)
    large = replace(product, probability=np.broadcast_to(np.uint8(7), (2500, 2500)), bands={})
    earth_engine.world.add_sentinel2(large)
    pixels, transform = read_region(probability_of(client, large), large)
    assert pixels.shape > large.shape_10m
    assert transform[5] > large.origin[1]


def test_an_unbounded_image_needs_a_grid(client: Any) -> None:
    with pytest.raises(client.EEException, match="unbounded image"):
        client.data.computePixels({"expression": client.Image(1), "fileFormat": "NPY"})
