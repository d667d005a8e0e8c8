"""How much of an area is clear, against the same counted pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from pc_cloudmask import measure_area
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.storage.stores import open_store
from pc_cloudmask.viewing.clear import AreaReport, ClearScene
from tests.doubles.command import run
from tests.doubles.range_server import RangeServer
from tests.doubles.s3_server import S3Server
from tests.viewing.small_catalog import SmallScene, put_catalog, put_files

RANDOM = np.random.default_rng(1)


def make_classes(height: int, width: int) -> Any:
    """Fields of classes, and an edge of the swath."""
    coarse = RANDOM.integers(1, 4, (-(-height // 7), -(-width // 7)))
    classes = coarse.repeat(7, 0).repeat(7, 1)[:height, :width].astype(np.uint8)
    classes[:, : width // 8] = 0
    return classes


BRAZIL = [
    SmallScene("22KFV", day, 600_000, 7_500_040, make_classes(300, 400))
    for day in ("2018-06-17", "2019-01-03")
]
BAVARIA = [
    SmallScene("32UQU", "2018-06-17", 716_000, 5_380_000, make_classes(400, 400)),
    SmallScene("33UTP", "2018-06-17", 276_000, 5_380_000, make_classes(400, 500)),
]
FIJI = [
    SmallScene("60KZG", "2018-06-18", 814_000, 8_120_000, make_classes(300, 400)),
    SmallScene("01KAB", "2018-06-17", 180_000, 8_120_000, make_classes(300, 300)),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clear") / "out"
    put_catalog(put_files(root), [*BRAZIL, *BAVARIA, *FIJI])
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cloudmask" / "clear"


def count_slowly(scene: SmallScene, area: Any, around_px: int = 300) -> tuple[list[int], int]:
    """Pixels whose centres lie in the area by class, no data first; how many centres lie within a metre of its edge."""
    padded = np.pad(scene.classes, around_px)
    rows, cols = np.indices(padded.shape)
    x = scene.west_m + (cols.ravel() - around_px + 0.5) * 20
    y = scene.north_m - (rows.ravel() - around_px + 0.5) * 20
    lons, lats = Transformer.from_crs(scene.grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    inside, near = np.zeros(len(x), bool), np.zeros(len(x), bool)
    edge = area.boundary.buffer(1e-5)
    for turn in (-360, 0, 360):
        inside |= shapely.contains_xy(area, lons + turn, lats)
        near |= shapely.contains_xy(edge, lons + turn, lats)
    counts = np.bincount(padded.ravel()[inside], minlength=4)
    return counts.tolist(), int(near.sum())


def check(found: ClearScene, scene: SmallScene, area: Any) -> None:
    (nodata, clear, cloud, shadow), edge_px = count_slowly(scene, area)
    assert found.item.id == scene.id
    assert clear + cloud + shadow + nodata > 0
    counts = (found.nodata_px, found.clear_px, found.cloud_px, found.shadow_px)
    assert np.abs(np.subtract(counts, (nodata, clear, cloud, shadow))).sum() <= edge_px
    assert found.area_px == sum(counts)
    assert sum(found.percentages.values()) == pytest.approx(100)
    assert found.percentages["clear"] == pytest.approx(100 * found.clear_px / found.area_px, abs=0.011)


def at(dx: float, dy: float) -> tuple[float, float]:
    """A place in Brazil, in metres from the corner of the grid."""
    lon, lat = Transformer.from_crs("EPSG:32722", "EPSG:4326", always_xy=True).transform(
        600_000 + dx, 7_500_040 - dy
    )
    return (lon, lat)


def make_star(points: int) -> Any:
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = 1500 + 900 * np.sin(angles * 37)
    return shapely.Polygon(
        [at(4000 + r * np.cos(a), 3000 + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]
    )


SQUARE = shapely.Polygon([at(1000, 1000), at(3333, 1234), at(3000, 4000), at(900, 3500)])
AREAS = {
    "square": SQUARE,
    "hole": shapely.Polygon(
        [at(500, 500), at(6000, 600), at(5500, 5000), at(700, 4500)],
        [[at(2000, 2000), at(3000, 2000), at(2500, 3000)], [at(4000, 1000), at(4500, 1000), at(4250, 1500)]],
    ),
    "parts": shapely.MultiPolygon([SQUARE, shapely.box(*at(6000, 5500), *at(7000, 4000))]),
    "vertices": make_star(10_000),
    "partly outside": shapely.box(*at(-3000, 4000), *at(2000, 1000)),
    "all of it and more": shapely.box(*at(-1000, 7000), *at(9000, -1000)),
    "crossed": shapely.Polygon([at(1000, 1000), at(4000, 4000), at(4000, 1000), at(1000, 4000)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("area", AREAS.values(), ids=AREAS.keys())
def test_shares_are_those_of_the_pixels_whose_centres_lie_inside(catalog: Path, area: Any) -> None:
    report = measure_area(area, store=str(catalog))
    assert len(report.scenes) == 2
    for found, scene in zip(report.scenes, BRAZIL, strict=True):
        check(found, scene, shapely.make_valid(area))
    assert report.left_out == {}


def test_every_form_of_an_area_is_the_same_area(catalog: Path, tmp_path: Path) -> None:
    plain = shapely.geometry.mapping(AREAS["parts"])
    feature = {"type": "Feature", "geometry": plain, "properties": {"crop": "soy"}}
    path = tmp_path / "field.geojson"
    path.write_text(json.dumps(feature))
    members = [shapely.geometry.mapping(part) for part in AREAS["parts"].geoms]
    features = [{"type": "Feature", "geometry": member, "properties": None} for member in members]
    forms = (
        plain, feature, path, str(path), json.dumps(plain), {"type": "FeatureCollection", "features": features},
        {"type": "GeometryCollection", "geometries": members},
    )  # fmt: skip
    expected = measure_area(AREAS["parts"], store=str(catalog)).scenes
    for form in forms:
        assert measure_area(form, store=str(catalog)).scenes == expected


@pytest.mark.slow
def test_an_area_in_two_zones_has_the_scenes_of_both(catalog: Path) -> None:
    area = shapely.box(11.96, 48.46, 12.03, 48.50)
    report = measure_area(area, store=str(catalog))
    for found, scene in zip(report.scenes, BAVARIA, strict=True):
        check(found, scene, area)
    assert all(0 < found.nodata_px < found.area_px for found in report.scenes)


@pytest.mark.slow
def test_an_area_at_the_antimeridian_is_in_one_piece(catalog: Path) -> None:
    halves = [shapely.box(179.96, -17.03, 180, -17.01), shapely.box(-180, -17.03, -179.96, -17.01)]
    area = shapely.MultiPolygon(halves)
    report = measure_area(area, store=str(catalog))
    assert [found.item.tile for found in report.scenes] == ["01KAB", "60KZG"]
    for found, scene in zip(report.scenes, reversed(FIJI), strict=True):
        check(found, scene, area)


def test_what_has_no_centre_inside_is_what_it_touches(catalog: Path) -> None:
    classes = BRAZIL[0].classes
    (found, _) = measure_area(shapely.Point(at(2010, 3010)), store=str(catalog)).scenes
    assert found.area_px == 1
    assert (found.nodata_px, found.clear_px, found.cloud_px, found.shadow_px)[classes[150, 100]] == 1
    (found, _) = measure_area(shapely.box(*at(2001, 3004), *at(2004, 3001)), store=str(catalog)).scenes
    assert found.area_px == 1
    (found, _) = measure_area(shapely.LineString([at(1001, 3010), at(2999, 3010)]), store=str(catalog)).scenes
    assert 100 <= found.area_px <= 203  # a parallel in the one plane is none in the other
    counts = np.bincount(classes[150, 50:150], minlength=4)
    assert abs(found.cloud_px - counts[2]) <= 0.3 * found.area_px
    (found, _) = measure_area(
        shapely.LineString([at(-1000, 3010), at(1999, 3010)]), store=str(catalog)
    ).scenes
    assert found.nodata_px >= 50


def test_an_area_without_a_scene_has_none_and_an_empty_one_is_refused(catalog: Path) -> None:
    assert measure_area(shapely.box(10, 10, 11, 11), store=str(catalog)) == AreaReport(())
    assert measure_area(SQUARE, datetime="2020", store=str(catalog)).scenes == ()
    assert measure_area(SQUARE, tiles="33UUP", store=str(catalog)).scenes == ()
    for empty in (
        {"type": "Polygon", "coordinates": []},
        {"type": "FeatureCollection", "features": []},
        {"type": "Feature", "geometry": None, "properties": {}},
        "",
        "absent.geojson",
        7,
    ):
        with pytest.raises(SettingsError):
            measure_area(empty, store=str(catalog))


def test_an_area_too_large_to_count_is_measured(catalog: Path) -> None:
    country = shapely.box(-55, -28, -45, -20)
    for found, scene in zip(measure_area(country, store=str(catalog)).scenes, BRAZIL, strict=True):
        counts = np.bincount(scene.classes.ravel(), minlength=4)
        assert (found.clear_px, found.cloud_px, found.shadow_px) == tuple(counts[1:])
        # By the area between parallels of a sphere, whose squares are 0.3 % off the ellipsoid's.
        km2 = 6371.007**2 * np.radians(10) * (np.sin(np.radians(28)) - np.sin(np.radians(20)))
        assert found.area_px == pytest.approx(km2 * 1e6 / 400, rel=0.005)


@pytest.mark.slow
def test_only_blocks_with_pixels_of_the_area_are_read(tmp_path: Path) -> None:
    noise = RANDOM.integers(0, 4, (2300, 2300)).astype(np.uint8)
    scene = SmallScene("22KFV", "2018-06-17", 600_000, 7_500_040, noise)
    root = tmp_path / "out"
    put_catalog(put_files(root), [scene])
    report = measure_area(SQUARE, store=str(root))
    size = next(root.rglob("*.tif")).stat().st_size
    assert report.mask_bytes == size
    assert report.bytes_read < size / 10
    # Two fields in opposite corners: nothing between them.
    two = shapely.MultiPolygon([SQUARE, shapely.box(*at(45_000, 45_500), *at(45_500, 45_000))])
    assert measure_area(two, store=str(root)).bytes_read < size / 5
    whole = measure_area(shapely.box(*at(0, 46_000), *at(46_000, 0)), store=str(root))
    assert whole.bytes_read <= size


def test_counts_are_kept_by_the_masks_content(tmp_path: Path, own_cache: Path) -> None:
    root = tmp_path / "out"
    scene = BRAZIL[0]
    put_catalog(put_files(root), [scene])
    first = measure_area(SQUARE, store=str(root))
    assert (first.kept, first.requests > 0) == (0, True)
    again = measure_area(SQUARE, store=str(root))
    assert (again.kept, again.requests, again.bytes_read, again.scenes) == (1, 1, 1, first.scenes)
    assert measure_area(AREAS["hole"], store=str(root)).kept == 0
    (kept, _) = sorted(own_cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for broken in (b"{", b"[]", b'{"x": [1, 2]}', kept.read_bytes().replace(b"[", b"[-1,", 1)):
        kept.write_bytes(broken)
        assert measure_area(SQUARE, store=str(root)).scenes == first.scenes
    assert measure_area(SQUARE, store=str(root), keep=False).kept == 0
    put_catalog(
        put_files(root),
        [SmallScene(scene.tile, scene.day, scene.west_m, scene.north_m, scene.classes * 0 + 2)],
    )
    (replaced,) = measure_area(SQUARE, store=str(root)).scenes
    assert replaced.percentages["cloud"] == 100


def test_a_folder_that_takes_nothing_costs_nothing(catalog: Path, own_cache: Path) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text("in the way")
    assert len(measure_area(SQUARE, store=str(catalog)).scenes) == 2


def break_masks(root: Path) -> dict[str, str]:
    """Break masks in every way; return what is said of each."""
    days = [f"2018-06-{number:02d}" for number in range(10, 17)]
    scenes = [SmallScene("22KFV", day, 600_000, 7_500_040, make_classes(300, 400)) for day in days]
    put = put_files(root)
    put_catalog(put, scenes)
    said = [
        "is missing",
        "no mask of ours",
        "not on the grid",
        "no class has",
        "bytes, not the",
        "tell its grid",
    ]
    moved = SmallScene("22KFV", "2018-06-12", 600_020, 7_500_040, BRAZIL[0].classes)
    odd = SmallScene("22KFV", "2018-06-13", 600_000, 7_500_040, BRAZIL[0].classes * 0 + 9)
    other = root.parent / "other"
    strange = {1: b"no TIFF", 2: moved.put_mask(other), 3: odd.put_mask(other)}
    for number, scene in enumerate(scenes[: len(said)]):
        item = next(root.rglob(f"{scene.id}.json"))
        mask = next(item.parent.glob("*.tif"))
        if number == 0:
            mask.unlink()
        elif number in strange:
            document = json.loads(item.read_text())
            document["assets"]["cloudmask"]["file:size"] = len(strange[number])
            item.write_text(json.dumps(document))
            mask.write_bytes(strange[number])
        elif number == 4:
            mask.write_bytes(mask.read_bytes()[:1500])
        else:
            item.write_text(item.read_text().replace("EPSG:32722", "EPSG:3857"))
    return {scene.id: text for scene, text in zip(scenes, said, strict=False)}


def test_a_broken_mask_costs_its_scene_alone(tmp_path: Path) -> None:
    expected = break_masks(tmp_path / "out")
    report = measure_area(SQUARE, store=str(tmp_path / "out"))
    assert [found.item.datetime for found in report.scenes] == ["2018-06-16T13:32:19Z"]
    assert report.left_out.keys() == expected.keys()
    for item_id, text in expected.items():
        assert text in str(report.left_out[item_id])
    (tmp_path / "field.geojson").write_text(json.dumps(shapely.geometry.mapping(SQUARE)))
    result = run("clear", "--intersects", "field.geojson", "--json", cwd=tmp_path)
    assert result.returncode == 1
    assert {each["id"] for each in json.loads(result.stdout)["left_out"]} == expected.keys()
    assert len(result.stderr.splitlines()) == len(expected)


@pytest.mark.slow
def test_servers_and_buckets_give_the_same(
    catalog: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    bucket = open_store(f"s3://{s3_server.create_bucket()}/prefix")
    for path in catalog.rglob("*"):
        if path.is_file():
            bucket.write_object(
                path.relative_to(catalog).as_posix(), path.read_bytes(), "application/octet-stream"
            )
    expected = measure_area(SQUARE, store=str(catalog))
    with RangeServer(catalog) as server:
        for store in (bucket.url, server.url):
            report = measure_area(SQUARE, store=store, keep=False)
            assert [each.as_json() | {"mask": ""} for each in report.scenes] == [
                each.as_json() | {"mask": ""} for each in expected.scenes
            ]
            assert report.bytes_read == expected.bytes_read
        ranges = [wanted for _, path, _, wanted in server.requests if path.endswith(".tif")]
        assert len(ranges) == expected.requests
        assert all(ranges)


@pytest.mark.slow
def test_the_command_sorts_and_chooses(catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "field.geojson").write_text(json.dumps(shapely.geometry.mapping(SQUARE)))
    arguments = ("clear", "--intersects", "field.geojson", "--store", catalog)
    report = json.loads(run(*arguments, "--json", cwd=tmp_path).stdout)
    shares = {scene["id"]: scene["clear_percentage"] for scene in report["scenes"]}
    best = max(shares, key=lambda item_id: shares[item_id])
    limit = str((min(shares.values()) + max(shares.values())) / 2)
    table = run(*arguments, "--min-clear", limit, cwd=tmp_path).stdout.splitlines()
    assert table[0].split()[:3] == ["DATETIME", "TILE", "CLEAR"]
    assert table[1].endswith(best)
    assert "1 scene of 2" in table[2]
    assert "2 known from before" in table[3]
    rows = run(*arguments, "--csv", "--sort", "clear", cwd=tmp_path).stdout.splitlines()
    assert rows[0].startswith("id,tile,datetime,method,provisional,clear_percentage")
    assert rows[1].startswith(best)
    assert len(rows) == 3
    assert "no scene" in run(*arguments, "--datetime", "2031", cwd=tmp_path).stdout
    for wrong, hint in (("--sort=size", "date or clear"), ("--min-clear=101", "--min-clear")):
        result = run(*arguments, wrong, cwd=tmp_path)
        assert result.returncode == 2
        assert hint in result.stderr
    result = run("clear", "--intersects", '{"type": "Point"}', "--store", catalog, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
