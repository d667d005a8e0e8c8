"""Masks of the sample scenes, and where their inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_cloudmask.demo.demo import TARGETS, score_mask
from pc_cloudmask.demo.scenes import SAMPLE_SCENES
from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.classes import CloudInputs, MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_mask
from pc_cloudmask.masking.methods import DerivedMask
from pc_cloudmask.masking.s2cloudless import LocalEngine
from pc_cloudmask.scene.image import EarthEngineImage, Pairing, Waiting
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader
from tests.sample_archive import read_pixels, read_scenes

PARAMETERS = MaskParameters()
WATER = 6
by_id = pytest.mark.parametrize("scene_id", [sample.id for sample in SAMPLE_SCENES])


@pytest.fixture(scope="module")
def scenes(sample_items: Path) -> dict[str, Scene]:
    return {scene.id: scene for scene in read_scenes(sample_items)}


@pytest.fixture(scope="module")
def reader(sample_items: Path) -> AssetReader:
    return AssetReader(local_root=sample_items.parent)


@pytest.fixture(scope="module")
def masks(scenes: Mapping[str, Scene], reader: AssetReader) -> dict[str, DerivedMask]:
    engine = LocalEngine(reader, PARAMETERS, None)
    ee_images = engine.find_images(list(scenes.values()))
    assert set(ee_images.values()) == {EarthEngineImage()}
    return {scene_id: engine.begin_mask(scene, EarthEngineImage())() for scene_id, scene in scenes.items()}


def read_truth(scene: Scene) -> NDArray[np.uint8]:
    return read_pixels(scene.asset_hrefs["truth"])


class TestSampleMasks:
    @by_id
    def test_it_meets_the_known_truth(
        self, scenes: Mapping[str, Scene], masks: Mapping[str, DerivedMask], scene_id: str
    ):
        score = score_mask(masks[scene_id].classes, read_truth(scenes[scene_id]), PARAMETERS)
        assert score.meets(TARGETS), score

    @by_id
    def test_no_data_stays_no_data(
        self, scenes: Mapping[str, Scene], masks: Mapping[str, DerivedMask], scene_id: str
    ):
        np.testing.assert_array_equal(masks[scene_id].classes == 0, read_truth(scenes[scene_id]) == 0)

    @by_id
    @pytest.mark.parametrize("turn", ["opposite", "mirrored"])
    def test_a_wrong_azimuth_would_be_noticed(
        self, scenes: Mapping[str, Scene], masks: Mapping[str, DerivedMask], scene_id: str, turn: str
    ):
        scene, inputs = scenes[scene_id], masks[scene_id].inputs
        assert inputs is not None
        azimuth_deg = scene.solar_azimuth_deg + 180 if turn == "opposite" else -scene.solar_azimuth_deg
        classes = compose_mask(inputs, azimuth_deg, PARAMETERS)
        assert score_mask(classes, read_truth(scene), PARAMETERS).shadow_recall < TARGETS.shadow_recall

    @by_id
    def test_dark_ground_that_no_cloud_shades_stays_clear(
        self, scenes: Mapping[str, Scene], masks: Mapping[str, DerivedMask], scene_id: str
    ):
        inputs, truth = masks[scene_id].inputs, read_truth(scenes[scene_id])
        assert inputs is not None
        unshaded = inputs.dark & (truth == MaskClass.CLEAR)
        assert (masks[scene_id].classes[unshaded] == MaskClass.CLEAR).mean() > 0.75

    @pytest.mark.parametrize("tile", ["22KFV", "33UUP"])
    def test_every_place_is_clear_on_one_of_the_dates(
        self, scenes: Mapping[str, Scene], masks: Mapping[str, DerivedMask], tile: str
    ):
        """So that a mosaic without clouds can be made of them."""
        clear = [
            mask.classes == MaskClass.CLEAR
            for scene_id, mask in masks.items()
            if scenes[scene_id].tile == tile
        ]
        assert len(clear) == 3
        assert np.logical_or.reduce(clear).mean() > 0.999

    def test_the_inputs_come_with_the_mask(self, masks: Mapping[str, DerivedMask]):
        for mask in masks.values():
            assert mask.inputs is not None
            assert mask.inputs.probability_pct.shape == mask.classes.shape


class OtherInputs:
    """A source that has an image for every scene but one, and says what it was asked for."""

    def __init__(self, inputs: CloudInputs) -> None:
        self.inputs = inputs
        self.asked: list[tuple[str, ...]] = []

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        self.asked.append(tuple(scene.id for scene in scenes))
        return {
            scene.id: Waiting("no image yet")
            if scene.id == "late"
            else EarthEngineImage((f"image of {scene.id}",))
            for scene in scenes
        }

    def download_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> Callable[[], CloudInputs]:
        assert ee_image == EarthEngineImage((f"image of {scene.id}",))
        return lambda: self.inputs


class TestInputs:
    @pytest.fixture
    def own(self, scenes: Mapping[str, Scene]) -> Scene:
        return next(iter(scenes.values()))

    @pytest.fixture
    def bare(self, own: Scene) -> Scene:
        """A real item: it has bands, and no probability."""
        hrefs = {key: href for key, href in own.asset_hrefs.items() if key != "cloud-probability"}
        return replace(own, id="bare", asset_hrefs=hrefs)

    @pytest.fixture
    def other(self, masks: Mapping[str, DerivedMask]) -> OtherInputs:
        inputs = next(iter(masks.values())).inputs
        assert inputs is not None
        return OtherInputs(inputs)

    def test_a_scene_with_its_own_inputs_needs_no_earth_engine(
        self, reader: AssetReader, own: Scene, other: OtherInputs
    ):
        engine = LocalEngine(reader, PARAMETERS, other)
        assert engine.find_images([own]) == {own.id: EarthEngineImage()}
        assert engine.begin_mask(own, EarthEngineImage())().inputs is not other.inputs
        assert other.asked == []

    def test_the_others_are_asked_for_in_one_round_trip(
        self, reader: AssetReader, own: Scene, bare: Scene, other: OtherInputs
    ):
        engine = LocalEngine(reader, PARAMETERS, other)
        late = replace(bare, id="late")
        assert engine.find_images([bare, own, late]) == {
            "bare": EarthEngineImage(("image of bare",)),
            own.id: EarthEngineImage(),
            "late": Waiting("no image yet"),
        }
        assert other.asked == [("bare", "late")]
        assert engine.begin_mask(bare, EarthEngineImage(("image of bare",)))().inputs is other.inputs

    def test_without_earth_engine_nothing_can_be_done_and_the_error_says_how_to_mend_it(
        self, reader: AssetReader, bare: Scene
    ):
        engine = LocalEngine(reader, PARAMETERS, None)
        with pytest.raises(EngineRefused, match="set CLOUDMASK_EARTHENGINE_PROJECT, or use --method csmask"):
            engine.find_images([bare])

    def test_without_earth_engine_the_scenes_that_can_go_on_do(
        self, reader: AssetReader, own: Scene, bare: Scene
    ):
        engine = LocalEngine(reader, PARAMETERS, None)
        assert engine.find_images([own, bare]).keys() == {own.id, "bare"}
        with pytest.raises(EngineRefused, match=r"^item bare: carries no cloud probability"):
            engine.begin_mask(bare, EarthEngineImage())

    def test_no_scenes_ask_for_nothing(self, reader: AssetReader):
        assert LocalEngine(reader, PARAMETERS, None).find_images([]) == {}
