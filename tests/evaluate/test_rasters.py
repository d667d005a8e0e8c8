"""Labels as rasters: on the mask's grid, on another one, of whatever extent and CRS."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.warp import transform as transform_points

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.evaluate.labels import PRESETS, Label, LabelLayout, SceneNames, read_layout
from pc_cloudmask.evaluate.references import RasterReference
from tests.evaluate.plain import CRS, TRANSFORM, assert_same, expect, grid_of, random_classes, write_raster

OURS = read_layout("cloudmask").classes
OTHERS = {"10": Label.CLEAR, "20": Label.CLOUD, "30": Label.CLOUD, "200": Label.SHADOW, "0": Label.UNKNOWN}


def count(mask: NDArray[np.uint8], *paths: Path, classes: dict[str, Label] = OURS) -> dict:
    return RasterReference(paths, classes).count(mask, grid_of(mask)).as_json()


def pairs(labels: NDArray, mask: NDArray[np.uint8]) -> list[tuple[int, int]]:
    return list(zip(labels.ravel().tolist(), mask.ravel().tolist(), strict=True))


@pytest.mark.parametrize("shape", [(3, 5), (512, 40), (1300, 31)])
def test_labels_on_the_masks_grid(tmp_path: Path, shape: tuple[int, int]) -> None:
    mask, labels = random_classes(shape, 1), random_classes(shape, 2)
    assert_same(count(mask, write_raster(tmp_path / "l.tif", labels)), expect(pairs(labels, mask)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_other_values_mean_what_the_layout_says(tmp_path: Path, dtype: str) -> None:
    mask, drawn = random_classes((60, 50), 1), random_classes((60, 50), 2, 5)
    path = write_raster(tmp_path / "l.tif", np.array([0, 10, 20, 30, 200])[drawn].astype(dtype))
    meant = np.array([0, 1, 2, 2, 3])[drawn]
    assert_same(count(mask, path, classes=OTHERS), expect(pairs(meant, mask)))


def test_finer_labels_elsewhere_are_read_at_the_centres_of_the_masks_pixels(tmp_path: Path) -> None:
    """Pixels of 8 m, their corner off the grid, over a part of the mask and beyond it."""
    mask, labels = random_classes((80, 60), 1), random_classes((150, 130), 2)
    west, north = TRANSFORM[2] + 403, TRANSFORM[5] - 407
    path = write_raster(tmp_path / "l.tif", labels, (8, 0, west, 0, -8, north))
    expected = []
    for row in range(80):
        for column in range(60):
            x, y = TRANSFORM[2] + 20 * column + 10, TRANSFORM[5] - 20 * row - 10
            i, j = int((north - y) // 8), int((x - west) // 8)
            inside = 0 <= i < 150 and 0 <= j < 130
            expected.append((labels[i, j] if inside else 0, mask[row, column]))
    assert sum(label > 0 for label, _ in expected) > 1000
    assert_same(count(mask, path), expect(expected))


def test_coarser_labels_in_another_zone(tmp_path: Path) -> None:
    """Blocks of 300 m, whose edges alone may be told otherwise by another projection's arithmetic."""
    mask, labels = random_classes((90, 90), 1), random_classes((12, 12), 2)
    (x,), (y,) = transform_points(CRS, "EPSG:32723", [TRANSFORM[2] - 300], [TRANSFORM[5] + 300])
    path = write_raster(tmp_path / "l.tif", labels, (300, 0, x, 0, -300, y), "EPSG:32723")
    rows, columns = np.mgrid[:90, :90]
    xs, ys = TRANSFORM[2] + 20 * columns + 10, TRANSFORM[5] - 20 * rows - 10
    there = [np.array(part) for part in transform_points(CRS, "EPSG:32723", xs.ravel(), ys.ravel())]
    i, j = np.floor((y - there[1]) / 300).astype(int), np.floor((there[0] - x) / 300).astype(int)
    expected = expect(zip(labels[i, j], mask.ravel(), strict=True))
    found = count(mask, path)
    assert abs(found["judged"] - expected["judged"]) <= 20
    assert abs(found["agreement_percentage"] - expected["agreement_percentage"]) < 0.5


def test_declared_no_data_is_not_labelled_unless_the_layout_names_it(tmp_path: Path) -> None:
    mask, labels = random_classes((40, 40), 1), random_classes((40, 40), 2) + np.uint8(1)
    path = write_raster(tmp_path / "l.tif", labels, nodata=4)
    three = {str(value): Label(value) for value in (1, 2, 3)}
    assert_same(count(mask, path, classes=three), expect(pairs(np.where(labels == 4, 0, labels), mask)))
    named = {**three, "4": Label.CLOUD}
    assert_same(count(mask, path, classes=named), expect(pairs(np.where(labels == 4, 2, labels), mask)))


def test_several_files_of_a_scene_count_together(tmp_path: Path) -> None:
    mask, labels = random_classes((40, 60), 1), random_classes((40, 60), 2)
    left = write_raster(tmp_path / "l.tif", labels[:, :25])
    right = write_raster(
        tmp_path / "r.tif", labels[:, 25:], (20, 0, TRANSFORM[2] + 25 * 20, 0, -20, TRANSFORM[5])
    )
    assert_same(count(mask, left, right), expect(pairs(labels, mask)))


def test_values_that_the_layout_does_not_name_are_listed(tmp_path: Path) -> None:
    labels = np.array([[1, 7], [9, 2]], np.uint8)
    with pytest.raises(SettingsError, match=r"l.tif: \[classes\] of --classes does not say what 7, 9 means"):
        count(np.ones((2, 2), np.uint8), write_raster(tmp_path / "l.tif", labels))


@pytest.mark.parametrize(
    ("transform", "crs", "says"),
    [
        ((20.0, 0.0, 800_000.0, 0.0, -20.0, 7_500_040.0), CRS, "lies nowhere on the mask's grid"),
        (TRANSFORM, "EPSG:32733", "lies nowhere on the mask's grid"),
        (TRANSFORM, None, "has no CRS"),
    ],
)
def test_labels_that_lie_elsewhere_are_refused(
    tmp_path: Path, transform: tuple[float, ...], crs: str | None, says: str
) -> None:
    mask = np.ones((4, 4), np.uint8)
    path = write_raster(tmp_path / "l.tif", mask, transform, crs)
    with pytest.raises(AssetRefused, match=f"l.tif: {says}"):
        count(mask, path)


def test_what_is_no_raster_of_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.tif").write_bytes(b"no TIFF")
    with pytest.raises(AssetRefused, match=r"l\.tif"):
        count(np.ones((4, 4), np.uint8), tmp_path / "l.tif")
    floats = write_raster(tmp_path / "f.tif", np.ones((4, 4), np.float32))
    with pytest.raises(AssetRefused, match="holds float32"):
        count(np.ones((4, 4), np.uint8), floats)


@pytest.mark.slow
def test_a_full_tile_is_compared_in_bounded_memory(tmp_path: Path) -> None:
    mask = np.tile(random_classes((549, 549), 1), (10, 10))
    path = write_raster(tmp_path / "l.tif", np.tile(random_classes((549, 549), 2), (10, 10)))
    tracemalloc.start()
    found = count(mask, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    part = expect(pairs(random_classes((549, 549), 2), mask[:549, :549]))
    assert found["judged"] == 100 * part["judged"]
    assert found["agreement_percentage"] == pytest.approx(part["agreement_percentage"])
    assert peak < 80e6  # an int64 of every pixel would be 241 MB


def test_the_layouts_that_come_along_can_be_read() -> None:
    assert {name: len(read_layout(name).classes) for name in PRESETS} == {
        "cloudmask": 4,
        "cloudsen12": 5,
        "pixbox-s2-cmix": 13,
    }
    assert len(read_layout("pixbox-s2-cmix").items) == 29


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[classes]\n1 = 'fog'",
            r"classes: fog: must be one of nodata, clear, cloud, shadow, cloud-and-shadow",
        ),
        ("[classes]", "classes: must be a table"),
        ("", "classes: Field required"),
        ("[classes]\n1 = 'clear'\n[point]\nx = 'lon'", "point: Extra inputs"),
        ("[classes]\n1 = 'clear'\n[points]\nlon = 'x'", r"points.lon: Extra inputs"),
        ("classes = ", "not valid TOML"),
        ("[classes]\n1 = ['clear']", "must be one of"),
    ],
)
def test_a_wrong_layout_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(SettingsError, match=says) as caught:
        read_layout(str(tmp_path / "c.toml"))
    assert "\n" not in str(caught.value)
    assert f"--classes {tmp_path}/c.toml: " in str(caught.value)


def test_a_layout_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match=re.escape(", ".join(PRESETS))):
        read_layout("cloudsen13")


SCENES = (
    "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849",
    "S2A_MSIL2A_20181219T133221_R081_T22KFV_20201008T212349",
    "S2B_MSIL2A_20181214T133219_R081_T22KGV_20201008T100849",
)


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        (SCENES[0], 0),
        (f"labels/{SCENES[1]}/manual.tif", 1),
        ("S2B_MSIL2A_20181214T133219_N0211_R081_T22KFV_20201008T100849", 0),
        ("S2B_MSIL1C_20181214T133219_N0207_R081_T22KGV_20181214T150000_label.tif", 2),
        ("ROI_0001__20181214T133219_20181214T133222_T22KFV.tif", 0),
        ("high/ROI_1/20181219T133221_20181219T133305_T22KFV/manual_hq.tif", 1),
        ("ROI_0001__20181214T133219_20181214T133222_T22KFW.tif", None),
        ("ROI_0001__20181214T133220_20181214T133222_T22KFV.tif", None),
        ("T22KFV.tif", None),
    ],
)
def test_labels_find_their_scene_by_its_id_or_its_datatake_and_tile(name: str, scene: int | None) -> None:
    assert SceneNames(SCENES).find(name) == (None if scene is None else SCENES[scene])


def test_a_name_that_fits_two_scenes_fits_none() -> None:
    again = SCENES[0].replace("20201008T100849", "20230101T000000")
    assert SceneNames([*SCENES, again]).find("20181214T133219_20181214T133222_T22KFV") is None
    assert SceneNames([*SCENES, again]).find(again) == again


def test_a_layout_knows_classes_alone() -> None:
    assert LabelLayout.model_validate({"classes": {"1": "cloud"}}).classes == {"1": Label.CLOUD}
