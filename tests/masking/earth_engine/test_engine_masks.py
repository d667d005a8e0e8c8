"""Masks from the local Earth Engine: computed there, computed here, and by the tutorial's own code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import ee
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking import cloud_score_plus
from pc_cloudmask.masking.classes import MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_mask
from pc_cloudmask.masking.earth_engine import graphs
from pc_cloudmask.masking.earth_engine.download import ComputePixels
from pc_cloudmask.masking.earth_engine.graphs import add_cloud_mask, build_joined_collection
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import Raster
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.masking.s2cloudless import EarthEngineInputs
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.scene import Scene
from tests.doubles.earth_engine.pyramid import Pyramiding
from tests.doubles.earth_engine.scenes import SUNS, Sun, build_ragged_scene, build_scene, split_datatake
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.pixels import build_grid, read_pixels
from tests.masking.earth_engine.sessions import run_session

pytestmark = pytest.mark.slow

Mask = NDArray[np.uint8]
DEFAULTS = MaskParameters()
OTHERS = MaskParameters(40, 0.1, 640, 0)


@pytest.fixture
def session(earth_engine: LocalEarthEngine) -> Iterator[EarthEngineSession]:
    with run_session(earth_engine) as session:
        yield session


def pair(session: EarthEngineSession, scene: Scene) -> EarthEngineImage:
    inputs = EarthEngineInputs(ComputePixels(session), DEFAULTS)
    ee_image = inputs.find_images([scene])[scene.id]
    assert isinstance(ee_image, EarthEngineImage), ee_image
    return ee_image


def derive_here(session: EarthEngineSession, scene: Scene, parameters: MaskParameters = DEFAULTS) -> Mask:
    source = EarthEngineInputs(ComputePixels(session), parameters)
    inputs = source.download_inputs(scene, pair(session, scene))()
    return compose_mask(inputs, scene.solar_azimuth_deg, parameters)


def derive_there(session: EarthEngineSession, scene: Scene, parameters: MaskParameters = DEFAULTS) -> Mask:
    engine = EarthEngineInputs(ComputePixels(session), parameters)
    return engine.download_mask(scene, pair(session, scene))().classes


@pytest.mark.parametrize("sun", SUNS, ids=str)
def test_both_modes_and_the_tutorial_give_one_mask(
    sun: Sun, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(sun)
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    here, there = derive_here(session, scene), derive_there(session, scene)
    assert {*np.unique(there)} == {0, 1, 2, 3}
    np.testing.assert_array_equal(here, there)
    collection = build_joined_collection(ee.Geometry(scene.footprint), "2018-12-01", "2018-12-31")
    tutorial = read_pixels(
        ee.Image(collection.map(add_cloud_mask).first()).select("cloudmask"), build_grid(product, 20)
    )
    np.testing.assert_array_equal(tutorial[there > 0], there[there > 0] >= MaskClass.CLOUD)


@pytest.mark.parametrize("threshold", [0.5, 40.25, 40.5, 40.9, 41, 63.333, 90.75])
@pytest.mark.parametrize("pyramiding", [Pyramiding.MEAN, Pyramiding.EXACT_MEAN])
def test_both_modes_agree_on_thresholds_that_are_not_whole(
    threshold: float, pyramiding: Pyramiding, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[1], seed=1, shape_20m=(153, 207))
    rng = np.random.default_rng(5)
    close = rng.integers(max(0, int(threshold) - 1), min(101, int(threshold) + 3), product.shape_10m)
    ragged = np.where(rng.random(product.shape_10m) < 0.2, product.probability, close).astype(np.uint8)
    product = replace(product, probability=ragged, pyramiding=pyramiding)
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    parameters = replace(DEFAULTS, cloud_probability_pct=threshold, buffer_m=10)
    here, there = derive_here(session, scene, parameters), derive_there(session, scene, parameters)
    np.testing.assert_array_equal(here, there)
    assert {*np.unique(there)} >= {1, 2}


@pytest.mark.parametrize("parameters", [OTHERS, replace(DEFAULTS, buffer_m=30)], ids=["all", "buffer"])
def test_both_modes_agree_on_other_thresholds(
    parameters: MaskParameters, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[1], seed=1, shape_20m=(253, 307))
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    here, there = derive_here(session, scene, parameters), derive_there(session, scene, parameters)
    np.testing.assert_array_equal(here, there)
    assert (there != derive_there(session, scene)).any()


def test_what_is_outside_the_swath_is_no_data_in_every_mode(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(253, 307))
    assert product.valid is not None
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    masks = [
        derive_here(session, scene),
        derive_there(session, scene),
        cloud_score_plus.download_flags(
            ComputePixels(session), DEFAULTS, scene, pair(session, scene)
        )().classes,
    ]
    # A 20 m pixel has data where one of its 10 m pixels has, and SCL, which is sampled.
    valid = product.valid[::2, ::2]
    for mask in masks:
        np.testing.assert_array_equal(mask == MaskClass.NO_DATA, ~valid)


def test_an_inset_window_and_small_windows_are_cut_from_the_whole_mask(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[3], shape_20m=(400, 470))
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    ee_image = pair(session, scene)
    for image in (
        graphs.build_server_mask(ee_image, scene.solar_azimuth_deg, DEFAULTS),
        graphs.build_packed_inputs(ee_image, DEFAULTS),
    ):
        (whole,) = ComputePixels(session).read_rasters(scene.id, [Raster("mask", image, scene.grid)])
        window = Window(97, 133, 256, 256)
        (inset,) = ComputePixels(session).read_rasters(
            scene.id, [Raster("mask", image, scene.grid.window_grid(window))]
        )
        np.testing.assert_array_equal(inset, whole[window.slices])
        with run_session(earth_engine, window_bytes=256 * 512 * 2) as careful:
            (pieces,) = ComputePixels(careful).read_rasters(scene.id, [Raster("mask", image, scene.grid)])
            assert careful.statistics.requests == 1 * 2
        np.testing.assert_array_equal(pieces, whole)
        session.start()


def build_lone_cloud(sun: Sun) -> Sentinel2:
    """One cloud in the middle of dark ground."""
    product = build_ragged_scene(sun, shape_20m=(200, 240), wedge=False)
    probability = np.zeros_like(product.probability)
    probability[180:220, 220:260] = 100
    dark = np.full_like(product.bands["B8"], 500)
    return replace(
        product, probability=probability, bands={"B8": dark, "SCL": np.full_like(product.bands["SCL"], 4)}
    )


def shadow_bearing_deg(mask: Mask) -> float:
    """Where the shadow lies as seen from the cloud, clockwise from north; rows grow southwards."""
    (cloud_row, cloud_col), (row, col) = (
        np.argwhere(mask == value).mean(axis=0) for value in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW)
    )
    return math.degrees(math.atan2(col - cloud_col, cloud_row - row)) % 360


def is_away_from_the_sun(mask: Mask, sun: Sun) -> bool:
    off = (shadow_bearing_deg(mask) - sun.azimuth_deg - 180 + 180) % 360 - 180
    return abs(off) < 10


@pytest.mark.parametrize("sun", SUNS, ids=str)
@pytest.mark.parametrize("derive", [derive_here, derive_there])
def test_shadows_lie_away_from_the_sun(
    sun: Sun,
    derive: Callable[[EarthEngineSession, Scene], Mask],
    earth_engine: LocalEarthEngine,
    session: EarthEngineSession,
) -> None:
    product = build_lone_cloud(sun)
    earth_engine.world.add_sentinel2(product)
    assert is_away_from_the_sun(derive(session, build_scene(product)), sun)


@pytest.mark.parametrize("sun", SUNS, ids=str)
@pytest.mark.parametrize("mutant", ["SAA - 90", "a bare CRS string"])
def test_a_mirrored_direction_would_be_seen(
    sun: Sun, mutant: str, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_lone_cloud(sun)
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    ee_image = pair(session, scene)
    azimuth_deg = 180 - sun.azimuth_deg if mutant == "SAA - 90" else sun.azimuth_deg
    image = graphs.build_server_mask(ee_image, azimuth_deg, DEFAULTS)
    if mutant == "a bare CRS string":
        image = _with_bare_crs(image, scene.grid.crs)
    (mask,) = ComputePixels(session).read_rasters(scene.id, [Raster("mutant", image, scene.grid)])
    assert not is_away_from_the_sun(mask, sun)
    assert is_away_from_the_sun(mask, replace(sun, azimuth_deg=180 - sun.azimuth_deg))


def _with_bare_crs(image: Any, crs: str) -> Any:
    """The same graph whose reprojections name the CRS in place of the image's projection."""

    def rebuild(node: Any) -> Any:
        if isinstance(node, ee.ComputedObject) and node.func is not None:
            args = {name: rebuild(value) for name, value in node.args.items()}
            if node.func.getSignature()["name"] == "Image.reproject":
                args["crs"] = ee.Projection(crs)
            return type(node)(node.func, args) if type(node) is ee.ComputedObject else node.func.apply(args)
        return node

    return rebuild(image)


@pytest.mark.parametrize("derive", [derive_here, derive_there])
def test_a_split_datatake_is_masked_as_one_image(
    derive: Callable[[EarthEngineSession, Scene], Mask],
    earth_engine: LocalEarthEngine,
    session: EarthEngineSession,
) -> None:
    product = build_ragged_scene(SUNS[2], shape_20m=(253, 307))
    halves = split_datatake(product)
    for half in halves:
        earth_engine.world.add_sentinel2(half)
    # An item of the whole tile whose own datastrip is none of the two.
    scene = replace(
        build_scene(product), datastrip_id=build_scene(product).datastrip_id.replace("T133217", "T133216")
    )
    assert pair(session, scene).image_ids == tuple(half.index for half in halves)
    mosaicked = derive(session, scene)
    earth_engine.world.add_sentinel2(product)
    whole = derive(session, build_scene(product))
    np.testing.assert_array_equal(mosaicked == 0, whole == 0)
    # Along the seam alone, levels of the pyramid average fewer pixels.
    assert np.count_nonzero(mosaicked != whole) < 0.02 * whole.size
    seam = product.shape_10m[0] // 4
    np.testing.assert_array_equal(mosaicked[: seam - 80], whole[: seam - 80])
    np.testing.assert_array_equal(mosaicked[seam + 80 :], whole[seam + 80 :])


def test_cloud_score_plus_is_split_into_cloud_and_shadow(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    sun = SUNS[1]
    product = build_ragged_scene(sun, shape_20m=(253, 307), wedge=False)
    row, col = np.mgrid[: product.shape_10m[0], : product.shape_10m[1]]
    azimuth = math.radians(sun.azimuth_deg)
    # 700 m from the cloud, away from the sun.
    down, right = 70 * math.cos(azimuth), -70 * math.sin(azimuth)
    cloud, shadow, dark_elsewhere = (
        np.hypot(row - at_row, col - at_col) < 40
        for at_row, at_col in ((250, 200), (250 + down, 200 + right), (250, 450))
    )
    shadow &= ~cloud
    not_clear, dark = cloud | shadow | dark_elsewhere, shadow | dark_elsewhere
    product = replace(
        product,
        clear_score=np.where(not_clear, 0.3, 0.9).astype(np.float32),
        bands={
            "B8": np.where(dark, 800, 3000).astype(np.uint16),
            "SCL": np.full_like(product.bands["SCL"], 4),
        },
    )
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    tools = SimpleNamespace(downloader=ComputePixels(session), read_parameters=lambda _method: DEFAULTS)
    engine = METHODS["cloud-score-plus"].open_engine(tools)
    ee_image = engine.find_images([scene])[scene.id]
    assert ee_image == EarthEngineImage((product.index,))
    classes = engine.derive_mask(scene, ee_image).classes
    cloud, shadow, dark_elsewhere, not_clear = (
        area[::2, ::2] for area in (cloud, shadow, dark_elsewhere, not_clear)
    )
    assert (classes[cloud] == MaskClass.CLOUD).all()
    near_cloud = ndimage.distance_transform_edt(~cloud) <= 6
    assert (shadow & ~near_cloud).any()
    assert (classes[shadow & ~near_cloud] == MaskClass.CLOUD_SHADOW).all()
    # Dark and not clear, but no cloud stands before it: the rule calls it cloud.
    assert (classes[dark_elsewhere] == MaskClass.CLOUD).all()
    assert (classes[ndimage.distance_transform_edt(~not_clear) > 6] == MaskClass.CLEAR).all()


def test_the_threshold_of_cloud_score_plus_is_exact(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(50, 60), wedge=False)
    score = np.where(np.arange(120) < 60, 0.57, 0.5699).astype(np.float32)
    product = replace(product, clear_score=np.broadcast_to(score, product.shape_10m).copy())
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    parameters = replace(DEFAULTS, clear_score=float(np.float32(0.57)), buffer_m=0)
    classes = cloud_score_plus.download_flags(
        ComputePixels(session), parameters, scene, EarthEngineImage((product.index,))
    )().classes
    assert (classes[:, :30] == MaskClass.CLEAR).all()
    assert (classes[:, 32:] >= MaskClass.CLOUD).all()


def test_a_probability_beyond_a_hundred_is_refused(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(50, 60), wedge=False)
    probability = product.probability.copy()
    probability[40:60, 40:60] = 120
    earth_engine.world.add_sentinel2(replace(product, probability=probability))
    scene = build_scene(product)
    with pytest.raises(EngineRefused, match=f"^{scene.id}: Earth Engine gave a cloud probability of 120 %"):
        derive_here(session, scene)
