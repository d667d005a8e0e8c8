"""The raster tile index opens all masks as one layer: from a folder, a bucket and over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window, from_bounds

from pc_cloudmask.catalog.export import build_rows, build_style, encode_rows, read_rows, update_tile_index
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import STYLE_KEY, TILE_INDEX_KEY, item_keys
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.settings import read_clock
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.stores import open_store
from tests.cli.test_serve_command import serving
from tests.doubles.s3_server import S3Server
from tests.published_demo import copy_catalog
from tests.sample_archive import BRAZIL, SAMPLE_IDS

#: Within the sample scenes of 22KFV.
AREA = (-50.0, -22.74, -49.9, -22.63)


def read_area(index: str, **options: Any) -> tuple[NDArray[np.uint8], Any, Window]:
    with rasterio.open(index, **options) as source:
        assert source.driver == "GTI"
        window = from_bounds(*AREA, transform=source.transform).round_offsets().round_lengths()
        pixels: NDArray[np.uint8] = source.read(1, window=window)
        return pixels, source.window_transform(window), window


def warp_latest(root: Path, pixels: NDArray[np.uint8], transform: Any) -> NDArray[np.uint8]:
    """What the index must give: the masks put onto its grid one after the other."""
    expected = np.zeros_like(pixels)
    for item_id in BRAZIL:
        (path,) = root.rglob(f"{item_id}/cloudmask-*.tif")
        with rasterio.open(path) as mask:
            one = np.zeros_like(pixels)
            reproject(
                rasterio.band(mask, 1),
                one,
                dst_transform=transform,
                dst_crs="EPSG:4326",
                dst_nodata=0,
                resampling=Resampling.nearest,
            )
        expected = np.where(one > 0, one, expected)
    return expected


def test_the_latest_mask_is_on_top(mirrored_demo: Path) -> None:
    pixels, transform, _ = read_area(str(mirrored_demo / TILE_INDEX_KEY))
    expected = warp_latest(mirrored_demo, pixels, transform)
    assert set(np.unique(pixels)) >= {1, 2, 3}
    # Two programs' nearest pixels differ by one at edges, where the grids' corners lie within a hair.
    assert np.mean(pixels != expected) < 0.01


def test_a_filter_chooses_dates_and_clear_shares(mirrored_demo: Path) -> None:
    index = str(mirrored_demo / TILE_INDEX_KEY)
    rows = {row.id: row for row in read_rows(Path(index).read_bytes())}
    assert sorted(rows) == sorted(SAMPLE_IDS)
    first = rows[BRAZIL[0]]
    alone, _, _ = read_area(index, FILTER=f"datetime < '2018-07' AND clear < {first.clear + 1}")
    latest, _, _ = read_area(index)
    none, _, _ = read_area(index, FILTER="clear > 100")
    assert alone.any()
    assert (alone != latest).any()
    assert not none.any()


@pytest.mark.slow
def test_it_opens_from_a_bucket(
    mirrored_demo: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _, _ = read_area(str(mirrored_demo / TILE_INDEX_KEY))
    bucket = s3_server.create_bucket()
    s3_server.use(monkeypatch)
    store = open_store(f"s3://{bucket}/prod")
    for path in mirrored_demo.rglob("*"):
        if path.is_file() and path.name.startswith(("masks.", "cloudmask-")):
            key = path.relative_to(mirrored_demo).as_posix()
            store.write_object(key, path.read_bytes(), "application/octet-stream")
    endpoint = s3_server.url.removeprefix("http://")
    with rasterio.Env(AWS_S3_ENDPOINT=endpoint, AWS_HTTPS="NO", AWS_VIRTUAL_HOSTING="FALSE"):
        found, _, _ = read_area(f"/vsis3/{bucket}/prod/{TILE_INDEX_KEY}")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_it_opens_over_http(mirrored_demo: Path) -> None:
    expected, _, _ = read_area(str(mirrored_demo / TILE_INDEX_KEY))
    # In a process of its own: rasterio holds this one's interpreter while it opens a file.
    with serving(mirrored_demo) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].removesuffix("/catalog.json")
        found, _, _ = read_area(f"/vsicurl/{url}/{TILE_INDEX_KEY}")
    np.testing.assert_array_equal(found, expected)


def test_other_programs_see_boxes(mirrored_demo: Path) -> None:
    frame = pyogrio.read_dataframe(mirrored_demo / TILE_INDEX_KEY)
    assert frame.crs.to_epsg() == 4326
    assert sorted(frame["id"]) == sorted(SAMPLE_IDS)
    assert set(frame["crs"]) == {"EPSG:32722", "EPSG:32633"}
    assert frame.clear.between(0, 100).all()
    assert (frame.clear + frame.cloud + frame.shadow).between(99.9, 100.1).all()


def test_a_run_brings_the_years_it_changed_up_to_date(mirrored_demo: Path, tmp_path: Path) -> None:
    root = copy_catalog(mirrored_demo, tmp_path / "catalog")
    store = LocalStore(root)
    before = (root / TILE_INDEX_KEY).read_bytes()
    rows = read_rows(before)
    gone, lost = BRAZIL[0], BRAZIL[1]
    keys = {each: item_keys(each, "22KFV", 2018) for each in BRAZIL}
    # One that a run which died has linked, and one that the source took back.
    (root / TILE_INDEX_KEY).write_bytes(encode_rows(row for row in rows if row.id != lost))
    publisher = Publisher(store, CatalogContext(), read_clock())
    publisher.withdraw([keys[gone]], "test")
    update_tile_index(store, publisher, [keys[gone]])
    after = read_rows((root / TILE_INDEX_KEY).read_bytes())
    assert {row.id for row in after} == set(SAMPLE_IDS) - {gone}
    assert [row for row in after if row.id == lost] == [row for row in rows if row.id == lost]
    update_tile_index(store, publisher, [])
    assert read_rows((root / TILE_INDEX_KEY).read_bytes()) == after


@pytest.mark.slow
def test_the_same_masks_give_the_same_bytes(mirrored_demo: Path, tmp_path: Path) -> None:
    root = copy_catalog(mirrored_demo, tmp_path / "catalog")
    before = {key: (root / key).read_bytes() for key in (TILE_INDEX_KEY, STYLE_KEY)}
    store = open_store(str(root))
    rebuild_mirror(store, Publisher(store, CatalogContext(), read_clock()))
    assert {key: (root / key).read_bytes() for key in before} == before
    rows = read_rows(before[TILE_INDEX_KEY])
    assert encode_rows(reversed(rows)) == before[TILE_INDEX_KEY]


def test_a_foreign_file_in_its_place_is_left_and_told(
    mirrored_demo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_catalog(mirrored_demo, tmp_path / "catalog")
    store = LocalStore(root)
    publisher = Publisher(store, CatalogContext(), read_clock())
    for body in (
        b"",
        b"hello",
        b"SQLite format 3\x00" + bytes(200),
        (root / TILE_INDEX_KEY).read_bytes()[:9000],
    ):
        (root / TILE_INDEX_KEY).write_bytes(body)
        update_tile_index(store, publisher, [item_keys(BRAZIL[0], "22KFV", 2018)])
        assert (root / TILE_INDEX_KEY).read_bytes() == body
        assert "cloudmask index makes it again" in caplog.text
        caplog.clear()


def test_a_scene_across_the_antimeridian_has_a_row_on_each_side(mirrored_demo: Path) -> None:
    (path,) = mirrored_demo.rglob(f"2018/*/{BRAZIL[0]}.json")
    item = json.loads(path.read_bytes())
    item["assets"]["cloudmask"] |= {
        "proj:code": "EPSG:32701",
        "proj:bbox": [170000, 8082000, 188000, 8100000],
    }
    east, west = sorted(build_rows(item))
    assert {east.id, west.id} == {BRAZIL[0]}
    boxes = [shapely.from_wkb(row.geometry).bounds for row in (east, west)]
    assert sorted((box[0], box[2]) for box in boxes) == [
        (-180, pytest.approx(-179.93, abs=0.01)),
        (pytest.approx(179.9, abs=0.01), 180),
    ]
    assert read_rows(encode_rows([west, east])) == [east, west]
    assert read_rows(encode_rows([])) == []


def test_the_style_names_every_class_and_shows_what_lies_below_clear_ground() -> None:
    entries = {
        entry.get("value"): entry.attrib for entry in ET.fromstring(build_style()).iter("paletteEntry")
    }
    assert {value: entry["label"] for value, entry in entries.items()} == {
        "0": "No data",
        "1": "Clear",
        "2": "Cloud",
        "3": "Cloud shadow",
    }
    assert [entries[value]["alpha"] for value in "0123"] == ["0", "0", "255", "255"]


def test_the_style_to_download_is_the_one_that_is_published() -> None:
    page = Path(__file__).parents[2] / "docs" / "tools" / "cloudmask.qml"
    assert page.read_bytes() == build_style()
