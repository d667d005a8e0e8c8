"""Labels as points of a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.warp import transform as transform_points

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.evaluate.labels import LabelLayout, read_layout
from pc_cloudmask.evaluate.references import read_points
from tests.evaluate.plain import CRS, TRANSFORM, assert_same, expect, grid_of, random_classes

SCENES = (
    "S2A_MSIL2A_20171205T143751_R096_T19KEU_20201014T000000",
    "S2A_MSIL2A_20170929T211511_R143_T06VWN_20201014T000000",
)
OURS = read_layout("cloudmask")
MASK = random_classes((40, 50), 1)


def centre(row: int, column: int) -> tuple[float, float]:
    """Somewhere in the pixel."""
    return TRANSFORM[2] + 20 * (column + 0.3), TRANSFORM[5] - 20 * (row + 0.8)


def draw_points(count: int = 300) -> list[tuple[int, int, int]]:
    """Row, column and label: some pixels have several."""
    rng = np.random.default_rng(3)
    return [
        (int(row), int(column), int(label))
        for row, column, label in zip(
            rng.integers(0, 40, count), rng.integers(0, 50, count), rng.integers(0, 4, count), strict=True
        )
    ]


def expected(points: list[tuple[int, int, int]]) -> dict:
    return expect((label, MASK[row, column]) for row, column, label in points)


def count(path: Path, layout: LabelLayout = OURS, crs: str | None = None) -> dict:
    reference = read_points(path, layout, crs).match(SCENES[:1], only=True)[SCENES[0]]
    return reference.count(MASK, grid_of(MASK)).as_json()


def write(path: Path, header: str, *lines: object) -> Path:
    path.write_text("\n".join([header, *map(str, lines)]) + "\n")
    return path


def test_points_in_the_masks_crs(tmp_path: Path) -> None:
    points = draw_points()
    lines = [",".join(map(str, (*centre(row, column), label))) for row, column, label in points]
    path = write(tmp_path / "p.csv", "x,y,class", *lines)
    assert_same(count(path, crs=CRS), expected(points))


def test_points_tell_their_own_crs_each(tmp_path: Path) -> None:
    points, lines = draw_points(), []
    for number, (row, column, label) in enumerate(points):
        x, y = centre(row, column)
        if number % 2:
            (x,), (y,) = transform_points(CRS, "EPSG:32723", [x], [y])
        lines.append(f"{x};{y};{label};{32723 if number % 2 else CRS}")
    path = write(tmp_path / "p.csv", "X; Y; Label; EPSG", *lines)
    assert_same(count(path), expected(points))


def test_points_are_longitude_and_latitude_by_default_and_those_elsewhere_do_not_count(
    tmp_path: Path,
) -> None:
    points = draw_points()
    xs, ys = zip(*(centre(row, column) for row, column, _ in points), strict=True)
    lons, lats = transform_points(CRS, "EPSG:4326", xs, ys)
    lines = [f"{lon},{lat},{p[2]}" for lon, lat, p in zip(lons, lats, points, strict=True)]
    path = write(tmp_path / "p.csv", "longitude,latitude,class", *lines, "-48.0,-22.0,2")
    assert_same(count(path), expected(points))


def test_pixbox_has_cloud_and_shadow_apart_and_numbers_its_products(tmp_path: Path) -> None:
    """A table of PixBox-S2-CMIX's form: its columns, ids of classes, a product of its list and one of another scene."""
    cloud = {0: [1], 1: [1], 2: [2], 3: [2], 6: [2], 7: [1], 8: [2], 12: [2]}
    rows, lines = [], []
    rng = np.random.default_rng(5)
    for number in range(400):
        row, column = int(rng.integers(40)), int(rng.integers(50))
        cloud_id, shadow_id = int(rng.choice(list(cloud))), int(rng.integers(0, 5))
        x, y = centre(row, column)
        (lon,), (lat,) = transform_points(CRS, "EPSG:4326", [x], [y])
        product = 5472572 if number % 4 else 183807605
        lines.append(f"{number},{product},{column},{row},{lat},{lon},{cloud_id},{shadow_id},1")
        label = cloud[cloud_id][0]
        if shadow_id == 3:
            label = 4 if label == 2 else 3
        if product == 5472572:
            rows.append((label, MASK[row, column]))
    header = "ID,PRODUCT_ID,PIXEL_X,PIXEL_Y,LATITUDE,LONGITUDE,CLOUD_CHARACTERISTICS_ID,SHADOW_ID,SURFACE_ID"
    path = write(tmp_path / "pixbox.csv", header, *lines)
    references = read_points(path, read_layout("pixbox-s2-cmix")).match(SCENES, only=False)
    assert set(references) == set(SCENES)
    found = references[SCENES[0]].count(MASK, grid_of(MASK)).as_json()
    assert found["confusion"]["cloud-and-shadow"]["cloud"] > 0
    assert_same(found, expect(rows))


def test_classes_may_be_words(tmp_path: Path) -> None:
    layout = LabelLayout.model_validate(
        {"classes": {"Opaque cloud": "cloud", "ground": "clear"}, "points": {"class": "what"}}
    )
    x, y = centre(1, 1)
    path = write(tmp_path / "p.csv", "x,y,what", f'{x},{y},"Opaque cloud"', f"{x},{y},ground ")
    assert_same(count(path, layout, CRS), expect([(2, MASK[1, 1]), (1, MASK[1, 1])]))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["x,y", "1,2"], "no column class or label, only x, y"),
        (["x,y,class", "1,2,9", "1,2,"], r"does not say what 9, an empty cell means"),
        (["x,y,class", "1,2,1", "1,north,1"], r"line 3: y 'north' is no number"),
        (["x,y,class", "nan,2,1"], "line 2: x 'nan' is no number"),
        (
            ["x,y,class", "600000,7500000,1"],
            "line 2: 600000, 7.5e.06 is no longitude and latitude: give --crs",
        ),
        (["x,y,class,crs", "1,2,1,EPSG:0"], "'EPSG:0' is no CRS"),
        ([""], "no column x or lon or longitude, only none"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        read_points(write(tmp_path / "p.csv", *lines), OURS)
    assert "\n" not in str(caught.value)


def test_a_column_that_the_layout_names_must_be_there(tmp_path: Path) -> None:
    layout = LabelLayout.model_validate({"classes": {"1": "cloud"}, "points": {"item": "scene"}})
    with pytest.raises(SettingsError, match="no column scene, only x, y, class"):
        read_points(write(tmp_path / "p.csv", "x,y,class", "1,2,1"), layout)


def test_points_that_do_not_say_whose_they_are_need_one_scene(tmp_path: Path) -> None:
    points = read_points(write(tmp_path / "p.csv", "x,y,class", "1,2,1"), OURS)
    with pytest.raises(SettingsError, match="no column says to which item a point belongs"):
        points.match(SCENES, only=False)


def test_points_elsewhere_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "x,y,class", "1,2,1")
    with pytest.raises(AssetRefused, match="no point lies on the mask's grid"):
        count(path)


def test_points_of_other_scenes_name_none(tmp_path: Path) -> None:
    points = read_points(write(tmp_path / "p.csv", "x,y,class,item", "1,2,1,elsewhere"), OURS)
    with pytest.raises(
        SettingsError, match=f"elsewhere and its like name none of 2 scenes, such as {SCENES[0]}"
    ):
        points.match(SCENES, only=False)
