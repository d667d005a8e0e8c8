"""The demo's masks, found and read from Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio

import pc_cloudmask
from pc_cloudmask import ODC_STAC_CONFIG, find_item, find_items, read_mask
from pc_cloudmask.errors import AssetRefused, SettingsError, StoreRefused
from pc_cloudmask.masking.classes import measure_mask
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.storage.stores import open_store
from pc_cloudmask.viewing.pictures import draw_view
from tests.direct_runs import ignore_warnings_of_odc, run_directly
from tests.doubles.s3_server import S3Server
from tests.sample_archive import SAMPLE_IDS
from tests.viewing.conftest import Serve, serve

pytestmark = pytest.mark.usefixtures("fixed_clock")

__all__ = ["serve"]


def days(items: list[pystac.Item]) -> list[str]:
    return [f"{item.properties['s2:mgrs_tile']} {item.datetime:%Y-%m-%d}" for item in items]


def test_items_are_found_by_tile_and_time(out: Path) -> None:
    store = str(out)
    brazil = ["22KFV 2018-06-17", "22KFV 2018-09-15", "22KFV 2018-12-14"]
    bavaria = ["33UUP 2021-09-10", "33UUP 2022-04-18", "33UUP 2022-06-17"]
    everything = brazil + bavaria
    assert days(find_items(store=store)) == everything
    assert days(find_items("22KFV", store=store)) == brazil
    assert days(find_items(["33uup", "T22KFV"], store=store)) == everything
    assert days(find_items(store=store, datetime="2018-12/2021")) == [brazil[2], bavaria[0]]
    assert days(find_items("22KFV", store=store, datetime="2018-12-14")) == brazil[2:]
    assert days(find_items(store=store, bbox=(12, 48, 13, 49))) == bavaria
    assert find_items("22KFU", store=store) == []


def test_a_limit_of_cloud_counts_shadow_too(out: Path) -> None:
    items = find_items(store=str(out))
    covered = sorted(100 - item.properties["cloudmask:clear_percentage"] for item in items)
    limit = (covered[1] + covered[2]) / 2
    found = find_items(store=str(out), max_cloud_pct=limit)
    assert len(found) == 2
    assert all(100 - item.properties["cloudmask:clear_percentage"] <= limit for item in found)


def test_only_the_catalogs_concerned_are_read(out: Path, tmp_path: Path) -> None:
    """Whatever else there is may be broken, or a million items."""
    store = tmp_path / "out"
    shutil.copytree(out / "sentinel-2-l2a-cloudmask", store / "sentinel-2-l2a-cloudmask")
    shutil.copy(out / "catalog.json", store)
    collection = store / "sentinel-2-l2a-cloudmask"
    for path in (collection / "33U").rglob("*.json"):
        path.write_text("broken")
    (collection / "collection.json").write_text("broken")
    assert days(find_items("22KFV", datetime="2018-12", store=str(store))) == ["22KFV 2018-12-14"]


def test_every_href_is_absolute_and_resolves(out: Path) -> None:
    for item in find_items(store=str(out)):
        for key, asset in item.assets.items():
            assert Path(asset.href).is_absolute(), key
            assert Path(asset.href).is_file(), key


def test_a_mask_is_read_as_its_item_tells_it(out: Path) -> None:
    for item in find_items(store=str(out)):
        mask = read_mask(item)
        assert mask.dtype == np.uint8
        assert list(mask.shape) == item.assets["cloudmask"].extra_fields["proj:shape"]
        assert measure_mask(mask.values).cloud_percentage == item.properties["cloudmask:cloud_percentage"]


def test_one_item_is_found_by_its_id_alone(out: Path) -> None:
    for item in find_items(store=str(out)):
        assert find_item(item.id, store=str(out)).to_dict() == item.to_dict()
    with pytest.raises(StoreRefused, match="not published"):
        find_item("S2B_MSIL2A_20181214T133219_R081_T22KFV_20200101T000000", store=str(out))
    for absent in ("tells_nothing", "x_00010101", "x_99991231"):
        with pytest.raises(StoreRefused, match="not published"):
            find_item(absent, store=str(out))
    with pytest.raises(SettingsError, match="no item's id; write one such as S2"):
        find_item("no id at all", store=str(out))


@pytest.mark.slow
def test_a_web_server_and_a_bucket_give_what_the_folder_gives(
    out: Path, serve: Serve, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    bucket = open_store(f"s3://{s3_server.create_bucket()}/prefix")
    for path in out.rglob("*"):
        key = path.relative_to(out).as_posix()
        if path.is_file() and key.startswith(
            ("catalog.json", "sentinel-2-l2a-cloudmask/22K", "sentinel-2-l2a-cloudmask/collection")
        ):
            bucket.write_object(key, path.read_bytes(), "application/octet-stream")
    expected = find_items("22KFV", store=str(out))
    for store in (serve(out), bucket.url):
        items = find_items("22KFV", store=store)
        assert [item.id for item in items] == [item.id for item in expected]
        assert items[0].assets["cloudmask"].href.startswith(store)
        assert np.array_equal(read_mask(items[0]), read_mask(expected[0]))


def test_a_catalog_for_another_url_is_read_where_it_is(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing answers at the URL: a bucket may be private, or not uploaded yet."""
    monkeypatch.setenv("CLOUDMASK_PUBLIC_URL", "https://masks.invalid/catalog")
    store = str(tmp_path / "store")
    archive = shutil.copytree(out / "sample-archive", tmp_path / "store" / "sample-archive")
    assert len(run_directly(IngestRequest(items=str(archive), store=store, tiles=("22KFV",))).published) == 3
    for there in find_items("22KFV", store=store):
        here = find_item(there.id, store=str(out))
        assert Path(there.assets["cloudmask"].href).is_relative_to(store)
        assert np.array_equal(read_mask(there), read_mask(here))
        assert draw_view(there, 100, files=Path(store)).png == draw_view(here, 100).png


def test_the_store_of_the_settings_is_searched(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_STORE", str(out))
    assert len(find_items()) == len(SAMPLE_IDS)


def test_what_cannot_be_read_is_said_so(out: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no catalog"):
        find_items(store=str(tmp_path))
    with pytest.raises(SettingsError, match="99ZZZ"):
        find_items("99ZZZ", store=str(out))
    item = find_items("22KFV", store=str(out))[0]
    item.assets["cloudmask"].href = str(tmp_path / "cloudmask-0123456789abcdef.tif")
    with pytest.raises(StoreRefused, match="check --repair"):
        read_mask(item)
    Path(item.assets["cloudmask"].href).write_bytes(b"no TIFF")
    with pytest.raises(AssetRefused, match=item.id):
        read_mask(item)
    item.assets.clear()
    with pytest.raises(StoreRefused, match="cloudmask"):
        read_mask(item)


@ignore_warnings_of_odc
def test_three_lines_mask_a_cube(out: Path) -> None:
    """The recipe of ``pc_cloudmask.viewing.library``: odc-stac puts the mask on the grid of the bands."""
    items = find_items("22KFV", store=str(out))
    cube = odc.stac.load(
        items, bands=["B04", "cloudmask"], stac_cfg=dict(ODC_STAC_CONFIG), resolution=20, groupby="id"
    )
    clear = cube.where(cube.cloudmask == 1)
    assert cube.cloudmask.dtype == np.uint8
    for number, item in enumerate(items):
        mask = read_mask(item)
        assert np.array_equal(cube.cloudmask.values[number], mask)
        assert np.array_equal(np.isfinite(clear.B04.values[number]), mask == 1)
    with rasterio.open(items[0].assets["B04"].href) as band:
        assert band.crs.to_epsg() == cube.odc.crs.epsg


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; import pc_cloudmask; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pystac", "rasterio", "pc_cloudmask.viewing.library"} & set(loaded.split())
    with pytest.raises(AttributeError, match="find_nothing"):
        pc_cloudmask.find_nothing  # noqa: B018 - the access is what is tried
