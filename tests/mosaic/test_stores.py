"""Mosaics of catalogs in buckets and on servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio

from pc_cloudmask.errors import AssetRefused, SettingsError, StoreRefused
from pc_cloudmask.mosaic.mosaic import build_mosaic
from pc_cloudmask.mosaic.plan import MosaicRequest, plan_mosaic
from pc_cloudmask.scene.query import build_query
from pc_cloudmask.settings import read_settings
from pc_cloudmask.storage.stores import open_reader, open_store
from tests.doubles.range_server import RangeServer
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.slow

CORNER = "-49.99,-22.66,-49.96,-22.635"


def make(store: str, out: Path, api: str | None = None) -> bytes:
    """The raster's bytes."""
    reader = open_reader(store)
    request = MosaicRequest(out, build_query(bbox=CORNER), bands=("B11",))
    plan = plan_mosaic(reader, request)
    build_mosaic(reader, read_settings(stac_api_url=api), request, plan)
    return out.read_bytes()


def upload(root: Path, bucket: str, replaced: dict[str, str]) -> str:
    """The catalog and its files in a bucket, its sources elsewhere; the store's URL."""
    store = open_store(f"s3://{bucket}/masks")
    for path in (root / "sentinel-2-l2a-cloudmask").rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            if path.suffix == ".json":
                for old, new in replaced.items():
                    body = body.replace(old.encode(), new.encode())
            store.write_object(path.relative_to(root).as_posix(), body, "application/octet-stream")
    return store.url


def test_masks_in_a_bucket_and_bands_on_a_server(
    published_demo: Path, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    with RangeServer(published_demo) as server:
        replaced = {"../../../../../sample-archive/": f"{server.url}/sample-archive/"}
        store = upload(published_demo, s3_server.create_bucket(), replaced)
        raster = make(store, tmp_path / "m.tif", server.url)
        assert raster == make(str(published_demo), tmp_path / "local.tif")
        assert not [path for _, path, _, _ in server.requests if "cloudmask" in path]
        # A server on loopback is read only for a source that is there itself.
        with pytest.raises(AssetRefused, match="loopback"):
            make(store, tmp_path / "m.tif")


def test_sources_within_a_bucket_are_not_read(
    published_demo: Path, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    store = upload(published_demo, s3_server.create_bucket(), {})
    with pytest.raises(SettingsError, match=r"lies in s3://.* itself"):
        make(store, tmp_path / "m.tif")


def test_a_mask_that_is_missing_is_named(
    published_demo: Path, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    replaced = {"../../../../../sample-archive/": "https://sentinel2l2a01.blob.core.windows.net/x/"}
    url = upload(published_demo, s3_server.create_bucket(), replaced)
    store = open_store(url)
    for info in list(store.list_objects("sentinel-2-l2a-cloudmask/")):
        if info.key.endswith("tif"):
            store.delete_object(info.key)
    with pytest.raises(StoreRefused, match=r"the mask of S2B_\w+ is missing"):
        make(url, tmp_path / "m.tif")


def test_a_catalog_on_a_server_with_the_archive_beside_it(
    published_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMASK_PUBLIC_URL", "https://mine.example.org")
    with RangeServer(published_demo) as server:
        raster = make(server.url, tmp_path / "m.tif")
    sources = json.loads((tmp_path / "m.json").read_bytes())["links"]
    assert all(link["href"].startswith(f"{server.url}/sentinel-2") for link in sources), "not mine"
    assert raster == make(str(published_demo), tmp_path / "local.tif")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.read(2).min() >= 1
