"""Servers that accept a connection and never answer: every network call of ours ends, as try-again-later."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pc_cloudmask import web as http_retry
from pc_cloudmask.errors import AssetUnavailable, EngineUnavailable, SourceUnavailable, StoreUnavailable
from pc_cloudmask.masking.earth_engine.pacing import Limits
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.raster import gdal
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.source import assets as our_sas
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.source.item_files import ItemFilesSource
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.storage import stores
from pc_cloudmask.storage.stores import HttpStore
from pc_cloudmask.web import RetryPolicy
from tests.doubles.earth_engine.fixtures import reset_client
from tests.doubles.range_server import RangeServer
from tests.raster.rasters import grid_of, write_cog

SHORT_S = 0.3
HANGS_S = 30
"""A call that takes longer did not end by its time-out."""
ONCE = RetryPolicy(attempts=1)
LIMITS = Limits(request_timeout_s=SHORT_S, attempts=1)


@pytest.fixture
def silent() -> Iterator[str]:
    """Where a server listens whose connections are accepted, by the system, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time-outs as they are, but shorter; no test takes longer than one that hangs."""
    monkeypatch.setattr(http_retry, "READ_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(stores, "_READ_TIMEOUT_S", SHORT_S)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(our_sas, "TOKEN_DEADLINE_S", SHORT_S)
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANGS_S


def test_a_stac_api(silent: str) -> None:
    source = PlanetaryComputerSource(silent, "sentinel-2-l2a", retry=ONCE)
    with pytest.raises(SourceUnavailable, match="timed out"):
        list(source.find_items(SceneQuery()))


def test_a_document_of_items(silent: str) -> None:
    with pytest.raises(SourceUnavailable, match="timed out"):
        list(ItemFilesSource(f"{silent}/items.json", retry=ONCE).find_items(SceneQuery()))


def test_a_token_service(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{silent}/token")
    our_sas.Settings.get.cache_clear()
    our_sas.sas.TOKEN_CACHE.clear()
    with pytest.raises(AssetUnavailable, match=r"no token: .* timed out"):
        our_sas.sign_href("https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/22/K/FV/B08.tif")
    our_sas.Settings.get.cache_clear()


def test_an_asset_before_it_is_opened(silent: str) -> None:
    reader = AssetReader(allow_loopback=True, retry=ONCE)
    with pytest.raises(AssetUnavailable, match="timed out"):
        reader.read_band(f"{silent}/a.tif", grid_of((10, 10)), resampling="nearest", item_id="S2X")


@pytest.mark.slow
def test_an_asset_while_gdal_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answers are honest; then the server keeps GDAL's connection and says nothing."""
    monkeypatch.setitem(gdal.GDAL_OPTIONS, "GDAL_HTTP_TIMEOUT", 1)
    monkeypatch.setitem(gdal.GDAL_OPTIONS, "GDAL_HTTP_MAX_RETRY", 0)
    rng = np.random.default_rng(7)
    write_cog(tmp_path / "a.tif", rng.integers(1, 200, (1024, 1024), np.uint8))

    def fall_silent(_path: str, number: int) -> None:
        if number > 2:
            time.sleep(3 * SHORT_S + 2)

    with RangeServer(tmp_path) as server:
        server.plan = fall_silent
        reader = AssetReader(allow_loopback=True, retry=ONCE)
        with pytest.raises(AssetUnavailable, match="transfer or the decoding failed"):
            reader.read_band(f"{server.url}/a.tif", grid_of((512, 512)), resampling="nearest", item_id="S2X")
        assert len(server.requests) > 2


def test_every_time_limit_of_gdal_is_set() -> None:
    limits = {"GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_TIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME"}
    assert limits <= gdal.GDAL_OPTIONS.keys()


def test_earth_engine(silent: str) -> None:
    session = EarthEngineSession("p", silent, "anonymous", 1, LIMITS)
    with pytest.raises(EngineUnavailable, match="no answer within"):
        session.start()
    session.close()
    reset_client()


def test_a_service_accounts_token(silent: str, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "masks@p.iam.gserviceaccount.com",
        "token_uri": f"{silent}/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    session = EarthEngineSession("p", "http://127.0.0.1:9", str(path), 1, LIMITS)
    with pytest.raises(EngineUnavailable, match="no answer within"):
        session.start()
    session.close()
    reset_client()


def test_a_bucket(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        stores.open_store("s3://bucket/masks")


def test_a_catalog_on_a_server(silent: str) -> None:
    with pytest.raises(StoreUnavailable, match="timed out"):
        HttpStore(silent, ONCE).read_object("catalog.json")
