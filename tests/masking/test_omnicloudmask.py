"""The method omnicloudmask without its package: its row, its settings, what it says, and what it does to pixels."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, MissingField, SettingsError
from pc_cloudmask.masking.classes import MaskClass, MaskParameters
from pc_cloudmask.masking.methods import METHODS, DerivedMask, NetworkOptions
from pc_cloudmask.masking.omnicloudmask import BANDS, OmniCloudMask, classify, find_weights, read_pixels
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.settings import read_settings
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.source.item import read_scene
from tests.masking.chip_item import Item, write_chip_item

CLEAR, THICK, THIN, SHADOW = 0, 1, 2, 3


@pytest.mark.parametrize("module", ["omnicloudmask", "torch"])
def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SettingsError, match=r"^method omnicloudmask: .*with its extra omnicloudmask"):
        read_settings(method="omnicloudmask").read_parameters("omnicloudmask")
    with pytest.raises(SettingsError, match="with its extra omnicloudmask"):
        METHODS["omnicloudmask"].list_checks(NetworkOptions())["device"]()
    assert read_settings().read_parameters("csmask") == MaskParameters(buffer_m=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "tpu"), ("batch_size", 0), ("model_version", 0), ("model_version", "newest")],
)
def test_a_setting_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        read_settings(**{name: value})


def test_settings_reach_the_network() -> None:
    given = read_settings(device="cuda", batch_size=4, model_version=3, weights=Path("w"))
    assert given.network == NetworkOptions("cuda", 4, 3.0, Path("w"))


def write_pixels(
    shared_data: Path, folder: Path, pixels: NDArray[np.uint16], baseline: str = "02.12"
) -> Item:
    """An item of red, green and near infrared, uint16 ``(3, height, width)``."""
    return write_chip_item(shared_data, folder, dict(zip(BANDS, pixels, strict=True)), baseline)


def derive(item: Item, folder: Path, labels: NDArray[np.uint8], buffer_m: float = 0) -> DerivedMask:
    """The mask where the networks answer ``labels``."""
    method = OmniCloudMask(
        AssetReader(local_root=folder), MaskParameters(buffer_m=buffer_m), lambda _: labels
    )
    return method.derive_mask(read_scene(item), EarthEngineImage())


@pytest.fixture(autouse=True)
def _software(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of packages that are not installed here."""
    monkeypatch.setattr("pc_cloudmask.masking.omnicloudmask.version", lambda name: "1.8.1")


def test_thin_cloud_is_cloud_and_every_pixel_is_the_networks_own(shared_data: Path, tmp_path: Path) -> None:
    """Not even a single pixel is eroded, as long as no buffer is asked for."""
    labels = np.random.default_rng(5).integers(0, 4, (70, 50), np.uint8)
    item = write_pixels(shared_data, tmp_path, np.full((3, 70, 50), 900, np.uint16))

    mask = derive(item, tmp_path, labels)

    of_class = np.array([MaskClass.CLEAR, MaskClass.CLOUD, MaskClass.CLOUD, MaskClass.CLOUD_SHADOW], np.uint8)
    np.testing.assert_array_equal(mask.classes, of_class[labels])
    assert mask.ee_image == EarthEngineImage()
    assert mask.software == {
        "omnicloudmask": "1.8.1",
        "torch": "1.8.1",
        "omnicloudmask-weights": "4.0 sha256:",
    }


def test_a_buffer_grows_what_the_networks_tell(shared_data: Path, tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[20, 20] = THICK
    item = write_pixels(shared_data, tmp_path, np.full((3, 40, 40), 900, np.uint16))
    rows, cols = np.indices(labels.shape)
    expected = np.where(np.hypot(rows - 20, cols - 20) <= 5, MaskClass.CLOUD, MaskClass.CLEAR)

    np.testing.assert_array_equal(derive(item, tmp_path, labels, 50).classes, expected)


def test_no_data_stays_no_data_to_the_pixel(shared_data: Path, tmp_path: Path) -> None:
    """A pixel has data where one band has: as the package itself sees it."""
    rows, cols = np.indices((60, 80))
    outside = cols < rows
    pixels = np.where(outside, 0, np.full((3, 60, 80), 900)).astype(np.uint16)
    pixels[:2, 0, 40:50] = 0
    item = write_pixels(shared_data, tmp_path, pixels)

    mask = derive(item, tmp_path, np.full((60, 80), THIN, np.uint8))

    np.testing.assert_array_equal(mask.classes, np.where(outside, MaskClass.NO_DATA, MaskClass.CLOUD))


def test_a_scene_without_data_asks_nothing(shared_data: Path, tmp_path: Path) -> None:
    item = write_pixels(shared_data, tmp_path, np.zeros((3, 40, 35), np.uint16))
    assert not derive(item, tmp_path, np.zeros((0, 0), np.uint8)).classes.any()


def test_the_same_ground_gives_the_same_pixels_in_every_baseline(shared_data: Path, tmp_path: Path) -> None:
    ground = np.random.default_rng(7).integers(1, 9000, (3, 40, 50)).astype(np.uint16)
    ground[:, :, :9] = 0
    found = []
    for baseline, offset_dn in (("03.00", 0), ("05.09", 1000)):
        folder = tmp_path / baseline
        folder.mkdir()
        written = np.where(ground > 0, ground + offset_dn, 0).astype(np.uint16)
        written[0, 20, 20] = 1 + offset_dn if offset_dn == 0 else 400  # darker than black
        item = write_pixels(shared_data, folder, written, baseline)
        found.append(read_pixels(AssetReader(local_root=folder), read_scene(item)))

    assert found[0].dtype == np.uint16
    np.testing.assert_array_equal(*found)
    assert found[0][0, 20, 20] == 1


def test_a_small_scene_is_made_large_enough_with_no_data() -> None:
    pixels = np.ones((3, 7, 45), np.uint16)

    def predict(asked: NDArray[np.uint16]) -> NDArray[np.uint8]:
        assert asked.shape == (3, 32, 45)
        assert not asked[:, 7:].any()
        return np.full(asked.shape[1:], SHADOW, np.uint8)

    assert classify(predict, pixels).shape == (7, 45)


@pytest.mark.parametrize("band", BANDS)
def test_a_missing_band_is_named(shared_data: Path, tmp_path: Path, band: str) -> None:
    item = write_pixels(shared_data, tmp_path, np.ones((3, 8, 8), np.uint16))
    del item["assets"][band]
    with pytest.raises(MissingField, match=rf"item {item['id']}: assets\.{band} is missing"):
        derive(item, tmp_path, np.zeros((8, 8), np.uint8))


def test_a_band_of_another_type_is_refused(shared_data: Path, tmp_path: Path) -> None:
    item = write_pixels(shared_data, tmp_path, np.ones((3, 8, 8), np.uint8))
    with pytest.raises(AssetRefused, match="asset B04 holds uint8, not uint16"):
        derive(item, tmp_path, np.zeros((8, 8), np.uint8))


def test_the_table_names_the_module() -> None:
    assert find_weights.__module__ == METHODS["omnicloudmask"].module
