"""``cloudmask evaluate``, from the command line to its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from pc_cloudmask import find_items, read_mask
from pc_cloudmask.cli import main  # noqa: F401 - adds the commands
from pc_cloudmask.cli.app import app
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.viewing.library import find_mask_grid
from tests.doubles.command import run
from tests.evaluate.plain import TRANSFORM, assert_same, expect, random_classes, write_raster
from tests.raster.test_png import decode
from tests.sample_archive import BRAZIL, SAMPLE_IDS, read_pixels

SCENE = BRAZIL[-1]
TRUTH = """
[rasters]
files = "**/*_TRUTH_20m.tif"
[classes]
0 = "nodata"
1 = "clear"
2 = "cloud"
3 = "shadow"
4 = "shadow"
5 = "clear"
"""
MEANT = np.array([0, 1, 2, 3, 3, 1])


def invoke(*arguments: str | Path) -> dict[str, Any]:
    answer = CliRunner().invoke(app, ["evaluate", "--json", *map(str, arguments)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return {**json.loads(answer.stdout), "status": answer.exit_code, "stderr": answer.stderr}


def pairs(labels: NDArray, mask: NDArray[np.uint8]) -> list[tuple[int, int]]:
    return list(zip(labels.ravel().tolist(), mask.ravel().tolist(), strict=True))


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.toml"
    path.write_text(TRUTH)
    return path


@pytest.mark.slow
def test_published_masks_against_rasters_beside_the_scenes(out: Path, truth: Path) -> None:
    found = invoke("--store", out, "--labels", out / "sample-archive", "--classes", truth)
    (comparison,) = found["comparisons"]
    assert comparison["mask"] == {"origin": "published", "method": None, "buffer_m": None}
    assert {scene["id"] for scene in comparison["scenes"]} == set(SAMPLE_IDS)
    every: list[tuple[int, int]] = []
    items = {item.id: item for item in find_items(store=str(out))}
    for scene in comparison["scenes"]:
        item = items[scene["id"]]
        every += pairs(MEANT[read_pixels(item.assets["truth"].href)], read_mask(item).values)
        assert (scene["method"], scene["buffer_m"]) == ("s2cloudless", 50)
        assert_same(scene, expect(every[-810_000:]))
    assert_same(comparison["all"], expect(every))
    assert (found["left_out"], found["status"]) == ([], 0)


def test_two_methods_disagree_where_their_masks_do(out: Path) -> None:
    """Of one method with two buffers, which need no other package."""
    found = invoke(SCENE, "--store", out, "--method", "s2cloudless", "--buffer", "0,50")
    (comparison,) = found["comparisons"]
    assert comparison["mask"] == {"origin": "made", "method": "s2cloudless", "buffer_m": 50}
    assert comparison["reference"] == {"origin": "made", "method": "s2cloudless", "buffer_m": 0}
    published = invoke(SCENE, "--store", out, "--method", "s2cloudless", "--buffer", "0")["comparisons"][0]
    assert published["reference"]["origin"] == "published"
    # The published mask has a buffer of 50 m: the same two masks, the other way round.
    counts, turned = comparison["all"]["confusion"], published["all"]["confusion"]
    assert {row: {column: turned[column][row] for column in turned} for row in counts} == counts
    assert counts["clear"]["cloud"] > 0
    assert counts["cloud"]["clear"] == 0


@pytest.mark.slow
def test_csmask_and_s2cloudless_on_one_item(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("ukis_csmask")
    arguments = [SCENE, "--store", out, "--method", "s2cloudless", "--method", "csmask"]
    found = invoke(*arguments, "--picture", tmp_path / "p.png")
    assert 90 < found["comparisons"][0]["all"]["agreement_percentage"] < 100
    assert decode((tmp_path / "p.png").read_bytes()).shape[1] > 1500


def test_an_items_file_and_a_folder_of_items_need_no_catalog(out: Path, truth: Path, tmp_path: Path) -> None:
    folder = out / "sample-archive"
    labels = ["--labels", folder, "--classes", truth, "--method", "s2cloudless", "--store", tmp_path / "none"]
    by_file = invoke(folder / SCENE / f"{SCENE}.json", *labels)
    by_id = invoke(SCENE, "--items", folder / "items.json", *labels)
    assert by_file["comparisons"] == by_id["comparisons"]
    published = invoke(SCENE, "--store", out, "--labels", folder, "--classes", truth)
    assert by_file["comparisons"][0]["all"] == published["comparisons"][0]["all"]


def test_mask_files_against_a_table_of_points(tmp_path: Path) -> None:
    mask = random_classes((50, 60), 1)
    write_raster(tmp_path / "masks" / f"{SCENE}.tif", mask)
    rng, lines, expected = np.random.default_rng(2), ["x,y,class,item"], []
    for row, column, label in zip(
        rng.integers(0, 50, 90), rng.integers(0, 60, 90), rng.integers(0, 4, 90), strict=True
    ):
        lines.append(f"{TRANSFORM[2] + 20 * column + 3},{TRANSFORM[5] - 20 * row - 5},{label},{SCENE}")
        expected.append((label, mask[row, column]))
    (tmp_path / "points.csv").write_text("\n".join(lines))
    points = ["--labels", tmp_path / "points.csv", "--classes", "cloudmask", "--crs", "EPSG:32722"]
    found = invoke("--masks", tmp_path / "masks", *points, "--picture", tmp_path / "p.png")
    assert_same(found["comparisons"][0]["all"], expect(expected))
    assert decode((tmp_path / "p.png").read_bytes()).size
    grown = invoke("--masks", tmp_path / "masks", *points, "--buffer", "0", "--buffer", "40")
    without, with_buffer = grown["comparisons"]
    assert without["all"] == found["comparisons"][0]["all"]
    assert with_buffer["all"]["scores"]["masked"]["recall"] > without["all"]["scores"]["masked"]["recall"]


def test_scenes_that_cannot_be_compared_are_left_out_by_name(tmp_path: Path) -> None:
    mask = random_classes((20, 30), 1)
    for name in BRAZIL[:2]:
        write_raster(tmp_path / "masks" / f"{name}.tif", mask)
    write_raster(tmp_path / "labels" / f"{BRAZIL[0]}.tif", mask)
    elsewhere = (20.0, 0.0, 800_000.0, 0.0, -20.0, 7_500_040.0)
    write_raster(tmp_path / "labels" / f"{BRAZIL[1]}.tif", mask, elsewhere)
    found = invoke(
        *("--masks", tmp_path / "masks", "--labels", tmp_path / "labels", "--classes", "cloudmask")
    )
    assert found["status"] == 1
    (comparison,) = found["comparisons"]
    assert [scene["id"] for scene in comparison["scenes"]] == [BRAZIL[0]]
    assert comparison["all"]["agreement_percentage"] == 100
    assert found["left_out"][0]["id"] == BRAZIL[1]
    assert f"cloudmask: left out: {BRAZIL[1]}: " in found["stderr"]
    assert "lies nowhere on the mask's grid" in found["stderr"]


def test_the_terminal_has_a_table_a_sum_and_a_dash_for_what_is_no_share(tmp_path: Path) -> None:
    clear = np.ones((4, 5), np.uint8)
    write_raster(tmp_path / f"{SCENE}.tif", clear)
    result = run(
        *("evaluate", "--masks", f"{SCENE}.tif", "--labels", f"{SCENE}.tif", "--classes", "cloudmask"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "22KFV 2018-12-14" in result.stdout
    assert result.stdout.count("-") > 15
    assert "100.00 % of 20 pixels are of the same class" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--labels", "absent", "--classes", "cloudmask"], "--labels absent: is not there"),
        (["--labels", "."], "--labels needs --classes"),
        (["--labels", ".", "--classes", "absent.toml"], "--classes absent.toml: cannot be read"),
        (["--labels", "empty", "--classes", "cloudmask"], "--labels empty: no file there is **/*.tif"),
        (["--labels", "named", "--classes", "cloudmask"], "name none of 1 scenes, such as "),
        (["--labels", "wrong", "--classes", "cloudmask"], "does not say what 9 means"),
        ([], "give --labels, or two masks to compare"),
        (["--buffer", "wide"], "--buffer 'wide': write metres"),
        (["--buffer", "-1"], "--buffer -1: must be 0 to 1000 metres"),
        (["--method", "csmask"], "--masks are there already"),
        (["--picture", "p.jpg"], "--picture p.jpg: name a file that ends in .png"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    write_raster(tmp_path / "masks" / f"{SCENE}.tif", np.ones((4, 4), np.uint8))
    write_raster(tmp_path / "named" / "somebody.tif", np.ones((4, 4), np.uint8))
    write_raster(tmp_path / "wrong" / f"{SCENE}.tif", np.full((4, 4), 9, np.uint8))
    (tmp_path / "empty").mkdir()
    result = run("evaluate", "--masks", "masks", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_wrong_usage_of_a_catalog_is_one_line(out: Path, tmp_path: Path, truth: Path) -> None:
    labels = ["--labels", out / "sample-archive", "--classes", truth]
    with pytest.raises(
        SettingsError, match=r"was published with a buffer of 50\.0 m, which cannot be taken off"
    ):
        invoke("--store", out, *labels, "--buffer", "0")
    with pytest.raises(SettingsError, match="--method: must be"):
        invoke("--store", out, *labels, "--method", "magic")
    with pytest.raises(CloudmaskError, match="is not published there"):
        invoke(SCENE.replace("22KFV", "22KFX"), "--store", out, *labels)
    with pytest.raises(CloudmaskError, match="holds no catalog"):
        invoke("--store", tmp_path / "none", *labels)
    with pytest.raises(SettingsError, match=f"{SCENE}: is not published"):
        invoke(SCENE, "--items", out / "sample-archive" / "items.json", "--store", tmp_path / "none", *labels)


def test_a_mask_file_holds_classes(tmp_path: Path) -> None:
    for name, pixels, says in (
        ("values", np.full((4, 4), 9, np.uint8), "holds 9: a mask has 0 to 3"),
        ("floats", np.ones((4, 4), np.uint16), "holds uint16"),
    ):
        path = write_raster(tmp_path / f"{name}.tif", pixels)
        found = invoke("--masks", path, "--labels", path, "--classes", "cloudmask")
        assert found["status"] == 1
        assert says in found["stderr"]


def test_the_grid_of_a_published_mask(out: Path) -> None:
    item = find_items(BRAZIL[0].split("_T")[1][:5], store=str(out))[0]
    assert find_mask_grid(item) == Grid("EPSG:32722", TRANSFORM, (900, 900))


def test_cloudsen12_labels_are_found_by_datatake_and_tile(tmp_path: Path) -> None:
    """GeoTIFFs of the collection's form: 509 pixels of 10 m, thick and thin clouds, a name of their own."""
    item_id = "S2A_MSIL2A_20200127T075201_R135_T37PCM_20200930T120000"
    mask, labels = random_classes((300, 300), 1), random_classes((509, 509), 2)
    write_raster(tmp_path / "masks" / f"{item_id}.tif", mask)
    west, north = TRANSFORM[2] + 200, TRANSFORM[5] - 300
    name = "ROI_4437__20200127T075201_20200127T075525_T37PCM"
    write_raster(tmp_path / "high" / name / "label.tif", labels, (10, 0, west, 0, -10, north))
    found = invoke("--masks", tmp_path / "masks", "--labels", tmp_path / "high", "--classes", "cloudsen12")
    (scene,) = found["comparisons"][0]["scenes"]
    assert scene["id"] == item_id
    # The centre of a pixel of 20 m is the corner of four of 10 m: the one to its lower right is taken.
    meant, part = np.array([1, 2, 2, 3])[labels[1::2, 1::2]], mask[15 : 15 + 254, 10 : 10 + 254]
    assert_same(scene, expect(pairs(meant, part)))


def test_an_item_that_is_not_published_is_asked_of_the_source_api(out: Path, tmp_path: Path) -> None:
    from tests.doubles.stac_api.server import StacApiServer

    with StacApiServer([]) as api:
        result = run(
            *("evaluate", SCENE, "--method", "s2cloudless", "--method", "csmask"),
            cwd=tmp_path,
            CLOUDMASK_STAC_API_URL=api.url,
        )
    assert result.returncode == 2
    assert result.stderr == f"cloudmask: no scene matches: {SCENE}\n"


def test_more_than_a_picture_holds_is_told_before_anything_is_compared(out: Path, truth: Path) -> None:
    labels = ["--labels", out / "sample-archive", "--classes", truth]
    with pytest.raises(SettingsError, match="has room for 8 comparisons, these are 12"):
        invoke("--store", out, *labels, "--method", "s2cloudless", "--buffer", "0,50", "--picture", "p.png")
    with pytest.raises(SettingsError, match=r"ITEM absent/item\.json: no such file"):
        invoke("absent/item.json", "--method", "csmask")
