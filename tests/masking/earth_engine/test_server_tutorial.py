"""The tutorial's own collection, join and map, evaluated by the server, against plain arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pc_cloudmask.masking.earth_engine.graphs import add_cloud_mask, build_joined_collection
from tests.doubles.earth_engine.scenes import SUNS, Sun, build_ragged_scene
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.pixels import build_grid, read_pixels

Array = NDArray[Any]

SHAPE_20M = (253, 307)
"""Odd, and cut by the 100 m pixels."""


def halve(values: Array, valid: Array) -> tuple[Array, Array]:
    """The next level: means of the valid pixels of each 2 x 2, rounded half up."""
    padding = [(0, size % 2) for size in values.shape]
    values, valid = np.pad(values.astype(int), padding), np.pad(valid, padding)
    blocks = (values.shape[0] // 2, 2, values.shape[1] // 2, 2)
    total = (values * valid).reshape(blocks).sum(axis=(1, 3))
    count = valid.reshape(blocks).sum(axis=(1, 3))
    return (2 * total + count) // np.maximum(2 * count, 1), count > 0


def disk(radius: int) -> Array:
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + cols**2 <= radius**2


def build_reference_mask(product: Sentinel2) -> Array:
    """The tutorial's mask by its definition: uint8, 0 where it is masked too."""
    assert product.valid is not None
    probability, valid = halve(product.probability, product.valid)
    nir, _ = halve(product.bands["B8"], product.valid)
    dark = (nir < 1500) & (product.bands["SCL"] != 6)
    cloud = (probability > 50) & valid
    candidates = build_reference_candidates(probability, valid, product.solar_azimuth_deg)
    masked = cloud | (candidates & dark)
    # Nothing ends at the tile's edge: filters give a value wherever one of their inputs has one.
    beyond = 2
    valid = np.pad(valid & product.valid[::2, ::2], beyond)
    seen = ndimage.binary_dilation(valid, disk(2))
    opened = ~ndimage.binary_dilation(valid & ~np.pad(masked, beyond), disk(2)) & seen
    grown = ndimage.binary_dilation(opened, disk(5))
    return grown[beyond:-beyond, beyond:-beyond].astype(np.uint8)


def build_reference_candidates(probability: Array, valid: Array, azimuth_deg: float) -> Array:
    """Pixels of 20 m within 10 pixels of 100 m of a cloud, looking towards the sun."""
    height, width = probability.shape
    at_80m = halve(*halve(probability, valid))
    rows, cols = ((np.arange(-(-size // 5)) * 100 + 50) // 80 for size in (height, width))
    cloud = (at_80m[0] > 50)[np.ix_(rows, cols)] & at_80m[1][np.ix_(rows, cols)]
    candidates = np.zeros_like(cloud)
    east, north = math.sin(math.radians(azimuth_deg)), math.cos(math.radians(azimuth_deg))
    for row, col in np.ndindex(*cloud.shape):
        for step in range(11):
            towards = (row - round(step * north), col + round(step * east))
            if all(0 <= at < size for at, size in zip(towards, cloud.shape, strict=True)):
                candidates[row, col] |= cloud[towards]
    return candidates.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]


def build_tutorial_mask(client: Any, product: Sentinel2) -> Any:
    area = client.Geometry(product.footprint.to_geojson()).centroid()
    collection = build_joined_collection(area, "2018-12-14", "2018-12-15")
    return collection.map(add_cloud_mask).first().select("cloudmask")


@pytest.mark.slow
@pytest.mark.parametrize("sun", SUNS, ids=str)
def test_the_tutorials_mask_is_the_one_that_its_definition_gives(
    earth_engine: LocalEarthEngine, client: Any, sun: Sun
) -> None:
    product = build_ragged_scene(sun, shape_20m=SHAPE_20M)
    earth_engine.world.add_sentinel2(product)
    mask = read_pixels(build_tutorial_mask(client, product), build_grid(product, 20))
    assert 0.05 < mask.mean() < 0.6
    np.testing.assert_array_equal(mask, build_reference_mask(product))


def test_windows_have_no_seams(earth_engine: LocalEarthEngine, client: Any) -> None:
    product = build_ragged_scene(SUNS[2], shape_20m=SHAPE_20M)
    earth_engine.world.add_sentinel2(product)
    image = build_tutorial_mask(client, product)
    whole = read_pixels(image, build_grid(product, 20))
    pieces = np.full_like(whole, 255)
    height, width = SHAPE_20M
    for row in range(0, height, 96):
        for col in range(0, width, 128):
            window = (row, col, min(96, height - row), min(128, width - col))
            piece = read_pixels(image, build_grid(product, 20, window))
            pieces[row : row + window[2], col : col + window[3]] = piece
    np.testing.assert_array_equal(pieces, whole)


def test_a_join_leaves_out_what_has_no_probability(earth_engine: LocalEarthEngine, client: Any) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(20, 30), wedge=False)
    earth_engine.world.add_sentinel2(product, without=["COPERNICUS/S2_CLOUD_PROBABILITY"])
    area = client.Geometry(product.footprint.to_geojson())
    collection = build_joined_collection(area, "2018-12-14", "2018-12-15")
    assert collection.size().getInfo() == 0
    with pytest.raises(client.EEException, match="Parameter 'input' is required and may not be null"):
        collection.map(add_cloud_mask).first().select("cloudmask").getInfo()
