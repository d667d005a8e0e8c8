"""Pictures and counts of the demo's masks, by the command line and by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pc_cloudmask import find_items, read_mask
from pc_cloudmask.errors import AssetRefused, MissingField
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.files import reduce_classes
from pc_cloudmask.viewing.pictures import draw_view
from tests.doubles.command import run
from tests.raster.test_png import decode
from tests.sample_archive import read_pixels
from tests.viewing.conftest import Serve, serve

pytestmark = pytest.mark.usefixtures("fixed_clock")

__all__ = ["serve"]

SCENE = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959"


def test_a_view_is_the_scene_with_lines_at_the_edges_of_its_classes(out: Path) -> None:
    item = find_items("22KFV", datetime="2018-12-14", store=str(out))[0]
    view = draw_view(item, size_px=400)
    picture = decode(view.png)
    classes = reduce_classes(read_mask(item).values, 3)
    assert picture.shape == (*view.shape, 3) == (300, 300, 3) == (*classes.shape, 3)
    lines = np.zeros(classes.shape, bool)
    for mask_class in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW):
        drawn = (picture == CLASS_STYLES[mask_class].color).all(axis=-1)
        assert drawn.sum() > 200
        assert (classes[drawn] == mask_class).all()
        lines |= drawn
    visual = read_pixels(item.assets["visual"].href)
    cells = visual.reshape(3, 300, 6, 300, 6).mean(axis=(2, 4)).transpose(1, 2, 0)
    difference = np.abs(picture.astype(float) - cells)[~lines & (classes != MaskClass.NO_DATA)]
    assert np.median(difference) <= 2


def test_a_view_through_a_web_server_is_the_same(out: Path, serve: Serve) -> None:
    here, there = (
        find_items("22KFV", datetime="2018-06", store=store)[0] for store in (str(out), serve(out))
    )
    assert draw_view(here, 200).png == draw_view(there, 200).png


def test_a_folder_may_have_any_name(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a#b?c=%41&d" / "out"
    shutil.copytree(out, copy)
    here, there = (find_items("22KFV", datetime="2018-06", store=str(store))[0] for store in (out, copy))
    assert all(Path(asset.href).is_relative_to(copy) for asset in there.assets.values())
    assert draw_view(here, 200).png == draw_view(there, 200).png


def test_sources_outside_the_catalog_are_read_only_where_a_user_says_so(out: Path, tmp_path: Path) -> None:
    item = find_items("22KFV", datetime="2018-06", store=str(out))[0]
    elsewhere = tmp_path / "elsewhere.tif"
    shutil.copy(item.assets["visual"].href, elsewhere)
    item.assets["visual"].href = str(elsewhere)
    with pytest.raises(AssetRefused, match="leads out"):
        draw_view(item, 100)
    assert draw_view(item, 100, files=tmp_path).shape == (100, 100)


def test_what_is_no_picture_is_refused(out: Path) -> None:
    item = find_items("22KFV", datetime="2018-06", store=str(out))[0]
    item.assets["visual"].href = item.assets["B04"].href
    with pytest.raises(AssetRefused, match="1 bands of uint16"):
        draw_view(item, 100)
    for key in ("visual", "B02", "B03", "B04"):
        del item.assets[key]
    with pytest.raises(MissingField, match=r"assets\.visual"):
        draw_view(item, 100)


def test_without_a_picture_the_bands_make_one(out: Path) -> None:
    item = find_items("22KFV", datetime="2018-06", store=str(out))[0]
    expected = decode(draw_view(item, 300).png).astype(int)
    del item.assets["visual"]
    drawn = decode(draw_view(item, 300).png).astype(int)
    assert drawn.shape == expected.shape
    assert np.median(np.abs(drawn - expected)) <= 2
    del item.assets["B03"]
    with pytest.raises(MissingField, match=r"assets\.B03"):
        draw_view(item, 100)


def test_the_command_writes_a_picture_and_says_what_is_on_it(out: Path, tmp_path: Path) -> None:
    result = run("--json", "view", SCENE, "--size", "300", "--store", out, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["out"] == f"{SCENE}.png"
    assert told["cloud_percentage"] + told["shadow_percentage"] + told["clear_percentage"] == pytest.approx(
        100
    )
    assert list(decode((tmp_path / told["out"]).read_bytes()).shape) == [*told["shape"], 3]


@pytest.mark.slow
def test_the_calendar_counts_what_is_published(out: Path, tmp_path: Path) -> None:
    result = run("stats", "--store", out, "--out", "calendar.png", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    months = json.loads(result.stdout)["months"]
    assert [(month["tile"], month["month"], month["scenes"]) for month in months] == [
        ("22KFV", "2018-06", 1), ("22KFV", "2018-09", 1), ("22KFV", "2018-12", 1),
        ("33UUP", "2021-09", 1), ("33UUP", "2022-04", 1), ("33UUP", "2022-06", 1),
    ]  # fmt: skip
    assert decode((tmp_path / "calendar.png").read_bytes()).size
    shown = run("stats", "--store", out, "--tile", "22KFV", "--max-cloud", "36", cwd=tmp_path).stdout
    assert "22KFV 2018" in shown
    assert "33UUP" not in shown
    assert "2/3" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["view", "S2B_nowhere"], "S2B_nowhere is not published"),
        (["view", SCENE.replace("2018", "0001"), "--out", "x.png"], "is not published"),
        (["view", SCENE, "--out", "x.jpg"], ".png"),
        (["view", SCENE, "--out", "folder.png"], "folder.png"),
        (["stats", "--out", "folder.png"], "folder.png"),
        (["stats", "--store", "absent"], "absent"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    out: Path, tmp_path: Path, arguments: list[str], hint: str
) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    result = run(*arguments, cwd=tmp_path, CLOUDMASK_STORE=str(out))
    assert result.returncode == 2
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.rglob("*")) == [folder]
