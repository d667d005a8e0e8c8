"""ukis-csmask's network on an item's own bands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject
from ukis_csmask.mask import CSmask

from pc_cloudmask.errors import AssetRefused, MissingField, SettingsError
from pc_cloudmask.masking import csmask
from pc_cloudmask.masking.classes import COARSE_MODEL, MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import build_reflectance_table, compose_classes
from pc_cloudmask.masking.csmask import (
    PROVIDERS,
    Classifier,
    ModelFile,
    find_model_file,
    label_scene,
    list_providers,
    load_network,
    open_rows,
)
from pc_cloudmask.masking.methods import DerivedMask
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.source.item import read_scene
from tests.masking.chip_item import BANDS, Item, read_chip, write_chip_item

PARAMETERS = MaskParameters()
UKIS_BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def chip(shared_data: Path) -> dict[str, NDArray[np.uint16]]:
    return read_chip(shared_data)


@pytest.fixture(scope="module")
def ukis_label(chip: dict[str, NDArray[np.uint16]]) -> NDArray[np.uint8]:
    """What ukis-csmask itself says of the whole chip: 1 cloud, 2 cloud shadow."""
    image = (np.stack([chip[band] for band in BANDS], axis=-1) / 10_000).astype(np.float32)
    return CSmask(image, UKIS_BANDS, product_level="l2a", nodata_value=0, intra_op_num_threads=1).csm[..., 0]


@pytest.fixture(scope="module", autouse=True)
def networks_loaded_once() -> Iterator[None]:
    """Loading one takes longer than most scenes of these tests."""

    networks: dict[tuple[Path, str], Any] = {}

    def load(model: ModelFile, device: Any) -> Any:
        key = model.path, device
        if key not in networks:
            networks[key] = load_network(model, device)
        return networks[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csmask, "load_network", load)
        yield


def derive(item: Item, folder: Path, parameters: MaskParameters = PARAMETERS) -> DerivedMask:
    classifier = Classifier(AssetReader(local_root=folder), parameters)
    return classifier.derive_mask(read_scene(item), EarthEngineImage())


@pytest.mark.slow
def test_the_mask_of_the_chip_is_ukis_csmask_own(
    shared_data: Path, chip: dict, ukis_label: NDArray[np.uint8], tmp_path: Path
) -> None:
    item = write_chip_item(shared_data, tmp_path, chip)

    mask = derive(item, tmp_path)

    everywhere = np.ones(ukis_label.shape, np.bool_)
    expected = compose_classes(ukis_label == 1, ukis_label == 2, everywhere, PARAMETERS)
    np.testing.assert_array_equal(mask.classes, expected)
    assert mask.ee_image == EarthEngineImage()
    assert mask.software == {"ukis-csmask": version("ukis-csmask"), "onnxruntime": version("onnxruntime")}


@pytest.mark.slow
def test_the_labels_of_the_chip_are_ukis_csmask_own_before_any_buffer(
    chip: dict, ukis_label: NDArray[np.uint8]
) -> None:
    pixels = np.stack([chip[band] for band in BANDS])
    model = find_model_file()
    tables = model.build_tables(build_reflectance_table("02.12"))
    network = load_network(model)

    found = label_scene(network, tables, lambda top, bottom: pixels[:, top:bottom], ukis_label.shape)

    assert model.bands == BANDS
    np.testing.assert_array_equal(found, ukis_label)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(385, 460), (512, 512)])
def test_the_coarse_model_is_ukis_csmask_own_at_30_m(
    shared_data: Path, chip: dict, tmp_path: Path, shape: tuple[int, int]
) -> None:
    """Both bring the bands to 30 m by the mean, the expectation through GDAL; no data is told at 20 m."""
    pixels = {band: values[: shape[0], : shape[1]].copy() for band, values in chip.items()}
    for values in pixels.values():
        values[:50, :70] = 0
    item = write_chip_item(shared_data, tmp_path, pixels)
    at_30_m = [average_to_30_m(pixels[band]) for band in BANDS[:4]]
    image = (np.stack(at_30_m, axis=-1) / 10_000).astype(np.float32)
    label = CSmask(image, UKIS_BANDS[:4], product_level="l2a", nodata_value=0, intra_op_num_threads=1).csm[
        ..., 0
    ]
    rows, cols = (((np.arange(size) + 0.5) / 1.5).astype(int) for size in shape)
    label = label[np.ix_(rows, cols)]
    valid = np.ones(shape, np.bool_)
    valid[:50, :70] = False
    parameters = MaskParameters(csmask_model=COARSE_MODEL, buffer_m=0)

    mask = derive(item, tmp_path, parameters)

    expected = compose_classes(label == 1, label == 2, valid, parameters)
    np.testing.assert_array_equal(mask.classes == MaskClass.NO_DATA, ~valid)
    assert (mask.classes != expected).mean() < 0.002  # GDAL rounds half a digital number in its own way


def average_to_30_m(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    coarse = np.zeros([-(-2 * size // 3) for size in values.shape], np.uint16)
    grids = {"src_transform": Affine.scale(20), "dst_transform": Affine.scale(30)}
    crs = {"src_crs": "EPSG:32633", "dst_crs": "EPSG:32633", "src_nodata": 0, "dst_nodata": 0}
    reproject(values, coarse, **grids, **crs, resampling=Resampling.average)
    return coarse


@pytest.mark.slow
def test_each_strip_of_a_band_is_read_once(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bands are what a scene costs on the way."""
    pixels = {band: np.full((1300, 24), 900, np.uint16) for band in BANDS}
    item = write_chip_item(shared_data, tmp_path, pixels)
    for model, bands in (("6-bands-20m", 6), (COARSE_MODEL, 4)):
        reader = CountingReader(local_root=tmp_path)
        Classifier(reader, MaskParameters(csmask_model=model)).derive_mask(
            read_scene(item), EarthEngineImage()
        )
        assert reader.rows == bands * 1300


def test_a_pixel_with_one_band_is_valid(shared_data: Path, tmp_path: Path) -> None:
    pixels = {band: np.zeros((30, 20), np.uint16) for band in BANDS}
    pixels["B11"][17, 3] = 7
    scene = read_scene(write_chip_item(shared_data, tmp_path, pixels))
    valid = np.zeros((30, 20), np.bool_)

    open_rows(AssetReader(local_root=tmp_path), scene, BANDS, valid)(0, 30)

    assert np.argwhere(valid).tolist() == [[17, 3]]


class CountingReader(AssetReader):
    """Count rows of the scene's grid."""

    rows = 0

    def read_band(self, href: str, grid: Grid, **options: Any) -> NDArray[np.generic]:
        self.rows += grid.shape[0]
        return super().read_band(href, grid, **options)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_onnxruntime_lacks_is_told(device: Any) -> None:
    if PROVIDERS[device] in list_providers("auto"):
        pytest.skip("this machine has it")
    with pytest.raises(
        SettingsError, match=f"^CLOUDMASK_DEVICE: onnxruntime .* has nothing for {device}: it has cpu"
    ):
        Classifier(AssetReader(), PARAMETERS, device)


@pytest.mark.slow
def test_the_processor_may_be_asked_for() -> None:
    assert list_providers("cpu") == ["CPUExecutionProvider"]
    assert load_network(find_model_file(), "cpu")


@pytest.mark.slow
def test_the_same_ground_gives_the_same_mask_in_every_baseline(
    shared_data: Path, chip: dict, tmp_path: Path
) -> None:
    ground = {band: pixels[60:290, 120:500] for band, pixels in chip.items()}
    masks = []
    for baseline, offset_dn in (("03.00", 0), ("04.00", 1000)):
        folder = tmp_path / baseline
        folder.mkdir()
        pixels = {band: values + np.uint16(offset_dn) for band, values in ground.items()}
        for values in pixels.values():
            values[:, :30] = 0  # no data is 0 whatever the offset
        masks.append(derive(write_chip_item(shared_data, folder, pixels, baseline), folder).classes)

    np.testing.assert_array_equal(*masks)
    assert set(np.unique(masks[0])) == set(MaskClass)


@pytest.mark.slow
def test_no_data_stays_no_data_to_the_pixel(shared_data: Path, chip: dict, tmp_path: Path) -> None:
    rows, cols = np.indices((200, 310))
    no_data = cols < rows  # the edge of a swath
    pixels = {band: np.where(no_data, 0, values[100:300, 150:460]) for band, values in chip.items()}

    mask = derive(write_chip_item(shared_data, tmp_path, pixels), tmp_path)

    np.testing.assert_array_equal(mask.classes == MaskClass.NO_DATA, no_data)
    assert {MaskClass.CLOUD, MaskClass.CLOUD_SHADOW} <= set(np.unique(mask.classes))


@pytest.mark.slow
def test_a_scene_without_data_is_all_no_data(shared_data: Path, tmp_path: Path) -> None:
    nothing = {band: np.zeros((70, 30), np.uint16) for band in BANDS}

    mask = derive(write_chip_item(shared_data, tmp_path, nothing), tmp_path)

    assert mask.classes.shape == (70, 30)
    assert not mask.classes.any()


@pytest.mark.slow
def test_a_tall_scene_is_read_in_strips_that_fit_together(
    shared_data: Path, chip: dict, tmp_path: Path
) -> None:
    """One band declares data in a pattern that only the right rows reproduce."""
    shape = (1300, 24)
    pattern = np.random.default_rng(1).random(shape) < 0.5
    pixels = {band: np.zeros(shape, np.uint16) for band in BANDS}
    pixels["B12"] = np.where(pattern, np.uint16(800), np.uint16(0))

    mask = derive(write_chip_item(shared_data, tmp_path, pixels), tmp_path)

    np.testing.assert_array_equal(mask.classes != MaskClass.NO_DATA, pattern)


@pytest.mark.slow
@pytest.mark.parametrize("band", BANDS)
def test_a_missing_band_is_named(shared_data: Path, tmp_path: Path, band: str) -> None:
    item = write_chip_item(shared_data, tmp_path, {each: np.ones((8, 8), np.uint16) for each in BANDS})
    del item["assets"][band]

    with pytest.raises(MissingField, match=rf"item {item['id']}: assets\.{band} is missing"):
        derive(item, tmp_path)


def test_a_band_of_another_type_is_refused(shared_data: Path, tmp_path: Path) -> None:
    pixels = {each: np.ones((8, 8), np.uint16) for each in BANDS}
    item = write_chip_item(shared_data, tmp_path, pixels | {"B11": np.ones((8, 8), np.uint8)})

    with pytest.raises(AssetRefused, match=rf"item {item['id']}: asset B11 holds uint8, not uint16"):
        derive(item, tmp_path)


@pytest.mark.parametrize("module", ["ukis_csmask", "onnxruntime"])
def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SettingsError, match="with its extra csmask"):
        Classifier(AssetReader(), PARAMETERS)
