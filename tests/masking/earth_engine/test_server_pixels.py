"""Pyramids, projections, masks and neighbourhoods as Earth Engine's documentation has them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.doubles.earth_engine.pyramid import Pyramiding
from tests.doubles.earth_engine.scenes import NORTH, SUNS, build_ragged_scene, split_datatake
from tests.doubles.earth_engine.sentinel2 import CLOUD_PROBABILITY, L2A, Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.pixels import build_grid, read_pixels


def build_product(**changes: Any) -> Sentinel2:
    """A tile of 160 x 240 pixels of 10 m without clouds."""
    product = Sentinel2(
        NORTH.tile,
        "20190401T101031",
        "20190401T101640",
        NORTH.crs,
        NORTH.origin,
        np.zeros((160, 240), np.uint8),
        {},
        150.0,
    )
    return replace(product, **changes)


def probability_of(client: Any, product: Sentinel2) -> Any:
    return client.Image(f"{CLOUD_PROBABILITY}/{product.index}").select("probability")


@pytest.fixture
def ramp(earth_engine: LocalEarthEngine) -> Sentinel2:
    """Probabilities that differ from pixel to pixel."""
    values = np.random.default_rng(5).integers(0, 101, (160, 240)).astype(np.uint8)
    product = build_product(probability=values)
    earth_engine.world.add_sentinel2(product)
    return product


def test_a_request_at_the_native_size_gives_the_stored_values(client: Any, ramp: Sentinel2) -> None:
    pixels = read_pixels(probability_of(client, ramp), build_grid(ramp, 10))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, ramp.probability)


def test_continuous_bands_are_averaged_on_the_way_up(client: Any, ramp: Sentinel2) -> None:
    means = ramp.probability.reshape(80, 2, 120, 2).mean(axis=(1, 3))
    pixels = read_pixels(probability_of(client, ramp), build_grid(ramp, 20))
    np.testing.assert_array_equal(pixels, np.floor(means + 0.5))


@pytest.mark.parametrize(
    ("asked_m", "level_m"), [(10, 10), (19, 10), (20, 20), (39, 20), (60, 40), (100, 80)]
)
def test_the_level_is_the_one_at_or_below_the_scale(
    client: Any, ramp: Sentinel2, asked_m: int, level_m: int
) -> None:
    """Nearest neighbour on that level: pixel i's centre is at (i + 0.5) * asked."""
    image = probability_of(client, ramp)
    level = read_pixels(image, build_grid(ramp, level_m))
    rows, cols = (int((i + 0.5) * asked_m / level_m) for i in (5, 9))
    asked = read_pixels(image, build_grid(ramp, asked_m, (0, 0, 10, 12)))
    assert asked[5, 9] == level[rows, cols]


def test_discrete_bands_are_sampled(earth_engine: LocalEarthEngine, client: Any) -> None:
    scl = np.random.default_rng(1).integers(0, 12, (80, 120)).astype(np.uint8)
    product = build_product(bands={"SCL": scl})
    earth_engine.world.add_sentinel2(product)
    image = client.Image(f"{L2A}/{product.index}").select("SCL")
    np.testing.assert_array_equal(read_pixels(image, build_grid(product, 40)), scl[::2, ::2])
    fine = read_pixels(image, build_grid(product, 10))
    np.testing.assert_array_equal(fine, scl.repeat(2, axis=0).repeat(2, axis=1))


def test_masked_pixels_do_not_count_in_means(earth_engine: LocalEarthEngine, client: Any) -> None:
    probability = np.full((160, 240), 10, np.uint8)
    valid = np.ones((160, 240), bool)
    probability[0, 0], valid[0, 0] = 90, False
    valid[2:4, 0:2] = False
    product = build_product(probability=probability, valid=valid)
    earth_engine.world.add_sentinel2(product)
    image = probability_of(client, product)
    grid = build_grid(product, 20, (0, 0, 3, 2))
    assert read_pixels(image, grid).tolist() == [[10, 10], [0, 10], [10, 10]]
    # A pixel on the edge of the data is partly masked, and valid.
    assert read_pixels(image.mask(), grid).tolist() == [[0.75, 1], [0, 1], [1, 1]]


def test_the_default_projection_is_that_of_the_first_band(client: Any, ramp: Sentinel2) -> None:
    image = client.Image(f"{L2A}/{ramp.index}")
    west, north = ramp.origin
    assert image.select(0).projection().getInfo()["transform"] == [60, 0, west, 0, -60, north]
    assert image.select("B8").projection().nominalScale().getInfo() == 10
    with pytest.raises(client.EEException, match="different projections"):
        image.projection().getInfo()


def test_means_of_integers_can_be_left_unrounded(earth_engine: LocalEarthEngine, client: Any) -> None:
    """Whether levels are rounded is not documented; what must not hang on it is tested with both."""
    probability = np.full((160, 240), 50, np.uint8)
    probability[::2, ::2] = 51
    product = build_product(probability=probability)
    grid = build_grid(product, 20, (0, 0, 1, 1))
    for pyramiding, mean in ((Pyramiding.MEAN, 50), (Pyramiding.EXACT_MEAN, 50.25)):
        earth_engine.world.add_sentinel2(replace(product, pyramiding=pyramiding))
        assert read_pixels(probability_of(client, product).toFloat(), grid).tolist() == [[mean]]


def test_a_computed_image_knows_its_block_of_pixels(client: Any, ramp: Sentinel2) -> None:
    west, north = ramp.origin
    image = probability_of(client, ramp)
    projection = image.projection()
    corner = [west + 400, north - 300, west + 700, north - 100]
    region = client.Geometry.Rectangle(corner, proj=projection.crs(), geodesic=False)
    (band,) = image.add(1).reproject(crs=projection, scale=20).clip(region).getInfo()["bands"]
    assert (band["dimensions"], band["origin"]) == ([15, 10], [20, 5])
    (band,) = client.Image(1).getInfo()["bands"]
    assert "dimensions" not in band


def test_pixel_coordinates_are_those_of_centres(client: Any, ramp: Sentinel2) -> None:
    coordinates = client.Image.pixelCoordinates(probability_of(client, ramp).projection())
    grid = build_grid(ramp, 20, (2, 3, 2, 2))
    assert read_pixels(coordinates.select("x"), grid).tolist() == [[7, 9], [7, 9]]
    assert read_pixels(coordinates.select("y"), grid).tolist() == [[5, 5], [7, 7]]


def test_reproject_keeps_the_corner_and_pins_the_grid(client: Any, ramp: Sentinel2) -> None:
    image = probability_of(client, ramp)
    pinned = image.reproject(crs=image.projection(), scale=40)
    coarse = read_pixels(image, build_grid(ramp, 40))
    np.testing.assert_array_equal(read_pixels(pinned, build_grid(ramp, 40)), coarse)
    fine = read_pixels(pinned, build_grid(ramp, 10))
    np.testing.assert_array_equal(fine, coarse.repeat(4, axis=0).repeat(4, axis=1))
    window = read_pixels(pinned, build_grid(ramp, 10, (33, 71, 20, 30)))
    np.testing.assert_array_equal(window, fine[33:53, 71:101])


def test_pixels_outside_the_raster_are_masked(client: Any, ramp: Sentinel2) -> None:
    image = probability_of(client, ramp).add(1)
    pixels = read_pixels(image, build_grid(ramp, 10, (-2, -3, 5, 6)))
    assert not pixels[:2].any()
    assert not pixels[:, :3].any()
    assert pixels[2:, 3:].all()


def test_unmask_stops_at_the_footprint_unless_told(earth_engine: LocalEarthEngine, client: Any) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(80, 120))
    earth_engine.world.add_sentinel2(product)
    image = probability_of(client, product)
    assert product.valid is not None
    outside = ~product.valid
    inside_only = read_pixels(image.unmask(255), build_grid(product, 10))
    assert not inside_only[outside].any()
    everywhere = read_pixels(image.unmask(255, False), build_grid(product, 10))
    assert (everywhere[outside] == 255).all()
    np.testing.assert_array_equal(everywhere[~outside], product.probability[~outside])


@pytest.mark.slow
@pytest.mark.parametrize("azimuth_deg", [38.0, 142.0, 217.0, 322.0, 0.0, 90.0, 180.0, 270.0])
@pytest.mark.parametrize("bare_crs", [False, True], ids=["projection", "bare-crs"])
def test_shadows_fall_away_from_the_sun(
    earth_engine: LocalEarthEngine, client: Any, azimuth_deg: float, bare_crs: bool
) -> None:
    """With a projection, north up. A bare CRS string has its rows grow northwards: mirrored."""
    probability = np.zeros((400, 520), np.uint8)
    probability[200:210, 260:270] = 100
    product = build_product(probability=probability, origin=(500_000.0, 5_200_000.0))
    earth_engine.world.add_sentinel2(product)
    cloud = probability_of(client, product).gt(50)
    crs = product.crs if bare_crs else cloud.projection()
    candidates = cloud.directionalDistanceTransform(90 - azimuth_deg, 10).reproject(crs=crs, scale=100)
    shadow = read_pixels(candidates.select("distance").mask(), build_grid(product, 100))
    assert shadow[20, 26]
    rows, cols = np.nonzero(shadow)
    south, east = rows.mean() - 20, cols.mean() - 26
    azimuth = math.radians(azimuth_deg)
    north_of_shadow = math.cos(azimuth) if bare_crs else -math.cos(azimuth)
    assert south == pytest.approx(-5 * north_of_shadow, abs=0.3)
    assert east == pytest.approx(-5 * math.sin(azimuth), abs=0.3)
    distance = read_pixels(candidates.select("distance"), build_grid(product, 100))
    assert sorted(distance[shadow > 0]) == list(range(11))


@pytest.mark.parametrize(("radius", "pixels"), [(1, 5), (2, 13), (5, 81)])
def test_a_circle_kernel_is_the_pixels_within_its_radius(
    earth_engine: LocalEarthEngine, client: Any, radius: int, pixels: int
) -> None:
    probability = np.zeros((160, 240), np.uint8)
    row, col = 41, 37
    probability[row, col] = 100
    product = build_product(probability=probability)
    earth_engine.world.add_sentinel2(product)
    image = probability_of(client, product).gt(50)
    grown = read_pixels(image.focalMax(radius), build_grid(product, 10))
    rows, cols = np.nonzero(grown)
    assert len(rows) == pixels
    assert ((rows - row) ** 2 + (cols - col) ** 2).max() <= radius**2
    back = read_pixels(image.focalMax(radius).focalMin(radius), build_grid(product, 10))
    np.testing.assert_array_equal(back, probability > 50)


def test_neighbourhoods_are_in_pixels_of_what_is_asked_for(
    earth_engine: LocalEarthEngine, client: Any
) -> None:
    probability = np.zeros((160, 240), np.uint8)
    probability[40:44, 60:64] = 100
    product = build_product(probability=probability)
    earth_engine.world.add_sentinel2(product)
    grown = probability_of(client, product).gt(50).focalMax(2)
    assert read_pixels(grown, build_grid(product, 40)).sum() == 13
    assert read_pixels(grown, build_grid(product, 10)).sum() > 13
    pinned = grown.reproject(crs=grown.projection(), scale=40)
    assert read_pixels(pinned, build_grid(product, 10)).sum() == 13 * 16


def test_masked_neighbours_are_skipped(earth_engine: LocalEarthEngine, client: Any) -> None:
    valid = np.zeros((160, 240), bool)
    valid[:, :100] = True
    product = build_product(probability=np.full((160, 240), 7, np.uint8), valid=valid)
    earth_engine.world.add_sentinel2(product)
    pixels = read_pixels(probability_of(client, product).focalMin(2), build_grid(product, 10))
    assert (pixels[10, :102] == 7).all()
    assert not pixels[10, 102:].any()


def test_a_mosaic_has_the_last_on_top_and_no_projection_of_its_own(
    earth_engine: LocalEarthEngine, client: Any
) -> None:
    whole = build_product()
    first, second = split_datatake(whole)
    first = replace(first, probability=np.full((160, 240), 10, np.uint8))
    second = replace(second, probability=np.full((160, 240), 20, np.uint8))
    for product in (first, second):
        earth_engine.world.add_sentinel2(product)
    images = [probability_of(client, product) for product in (first, second)]
    mosaic = client.ImageCollection(images).mosaic()
    pixels = read_pixels(mosaic, build_grid(whole, 10))
    assert (pixels[:70] == 10).all()
    assert (pixels[70:] == 20).all()
    assert mosaic.projection().getInfo() == {
        "type": "Projection",
        "crs": "EPSG:4326",
        "transform": [1, 0, 0, 0, 1, 0],
    }


def test_values_keep_to_the_range_of_their_operations(client: Any, ramp: Sentinel2) -> None:
    image = probability_of(client, ramp)
    grid = build_grid(ramp, 10, (0, 0, 2, 3))
    types = {
        "u1": image.gt(50).add(image.lt(20)),
        "i4": image.multiply(-1000),
        "u2": image.add(1000).toUint16(),
        "f4": image.divide(100).toFloat(),
        "f8": image.multiply(0.5),
    }
    for name, computed in types.items():
        assert read_pixels(computed, grid).dtype == np.dtype(name), name
    np.testing.assert_array_equal(
        read_pixels(image.multiply(3).toByte(), grid),
        np.minimum(ramp.probability[:2, :3] * 3.0, 255),
    )
    assert read_pixels(image.multiply(0).add(1.7).toByte(), grid).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_logic_and_conditions_follow_masks(earth_engine: LocalEarthEngine, client: Any) -> None:
    valid = np.ones((160, 240), bool)
    valid[0, 0] = False
    product = build_product(probability=np.full((160, 240), 60, np.uint8), valid=valid)
    earth_engine.world.add_sentinel2(product)
    image = probability_of(client, product)
    grid = build_grid(product, 10, (0, 0, 1, 2))
    cloudy = image.gt(50)
    assert read_pixels(cloudy.And(image.lt(70)).Or(0), grid).tolist() == [[0, 1]]
    assert read_pixels(cloudy.Not().unmask(3), grid).tolist() == [[3, 0]]
    assert read_pixels(client.Image(5).where(cloudy, 9), grid).tolist() == [[5, 9]]
    assert read_pixels(client.Image(5).updateMask(cloudy), grid).tolist() == [[0, 5]]
    assert read_pixels(image.addBands(cloudy.rename("cloudy")).select("cl.*"), grid).tolist() == [[0, 1]]
