"""What other programs left in the environment: passwords, proxies, certificates, projections."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from pc_cloudmask.contact import find_ca_bundle, find_proxy
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.earth_engine.download import _without_netrc
from pc_cloudmask.masking.earth_engine.transport import BoundedHttp
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.web import Deadline, HttpClient, NoAnswer, RetryPolicy
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

FAR = "https://far.test/a"


class _Handler(QuietHandler):
    app: Recorder

    def do_GET(self) -> None:
        self.app.requests.append((self.path, dict(self.headers)))
        status, body = self.app.answers.pop(0) if self.app.answers else (200, b"{}")
        self.answer(status, body, "application/json")

    def do_CONNECT(self) -> None:
        self.app.requests.append((self.path, dict(self.headers)))
        self.answer(self.app.tunnel, b"", "text/plain")


class Recorder(LoopbackServer):
    """Remembers what it was asked; lets nobody through to another server."""

    handler = _Handler

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.tunnel = 407


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    with Recorder() as server:
        yield server


def get(url: str, slept: list[float] | None = None, attempts: int = 3) -> int:
    """The status of an answer through our client; pauses are noted in ``slept``."""
    client = HttpClient(RetryPolicy(attempts=attempts, sleep=([] if slept is None else slept).append))
    return client.get(url, deadline=Deadline(60), max_body_bytes=1000).status


def get_from_earth_engine(url: str) -> int:
    return int(BoundedHttp(10, 1).request(url)[0].status)


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home with passwords for every server, and for this one."""
    for text in ("default login me password s3cr3t\n", "machine 127.0.0.1 login me password s3cr3t\n"):
        with (tmp_path / ".netrc").open("a") as file:
            file.write(text)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("send", [get, get_from_earth_engine])
def test_no_password_of_netrc_goes_anywhere(server: Recorder, send: Any) -> None:
    assert send(f"{server.url}/a") == 200
    assert [headers.get("Authorization") for _, headers in server.requests] == [None]


@pytest.mark.usefixtures("netrc")
def test_the_password_of_a_url_itself_is_given(server: Recorder) -> None:
    get(server.url.replace("http://", "http://ana:pw@"))  # pragma: allowlist secret
    assert server.requests[0][1]["Authorization"] == "Basic YW5hOnB3"


@pytest.mark.usefixtures("netrc")
def test_a_package_with_requests_of_its_own_finds_no_netrc(monkeypatch: pytest.MonkeyPatch) -> None:
    from requests.utils import get_netrc_auth

    assert get_netrc_auth(FAR)
    with _without_netrc():
        assert get_netrc_auth(FAR) is None
    assert "NETRC" not in os.environ
    monkeypatch.setenv("NETRC", "mine")
    with _without_netrc():
        pass
    assert os.environ["NETRC"] == "mine"


@pytest.mark.parametrize("send", [get, get_from_earth_engine])
@pytest.mark.parametrize("status", [407, 403, 401, 404])
def test_a_proxy_that_refuses_is_named_at_once(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, send: Any, status: int
) -> None:
    server.tunnel = status
    proxy = server.url.replace("://", "://user:hunter2@")  # pragma: allowlist secret
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SettingsError, match=f"^proxy {server.url} answers HTTP {status} .*NO_PROXY") as error:
        send(FAR)
    assert "hunter2" not in str(error.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_proxy_that_is_busy_is_asked_again(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    server.tunnel = status
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(NoAnswer, match=f"the proxy {re.escape(server.url)} answers HTTP {status}"):
        get(FAR)
    assert len(server.requests) == 3


def test_a_proxy_that_wants_a_password_for_plain_http_is_named(
    server: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answers = [(407, b"")]
    with pytest.raises(SettingsError, match=f"proxy {server.url} answers HTTP 407"):
        get("http://far.test/a")


def test_a_proxy_that_is_not_there_is_named(server: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9")  # pragma: allowlist secret
    with pytest.raises(NoAnswer, match=r"no connection to the proxy http://127\.0\.0\.1:9;") as error:
        get(FAR)
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConnectionError, match=r"no connection to the proxy http://127\.0\.0\.1:9"):
        get_from_earth_engine(FAR)


def test_a_proxy_without_a_scheme_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "user:hunter2@proxy.test:8080")
    assert find_proxy(FAR) == "http://proxy.test:8080"
    monkeypatch.setenv("NO_PROXY", "far.test")
    assert find_proxy(FAR) is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit is exceeded. Try again in 23 seconds.", 23),
        ("Try again in 1 second.", 1),
        ("please retry after 7s", 7),
    ],
)
def test_the_wait_that_a_text_asks_for_is_heeded(
    server: Recorder, status: int, text: str, seconds: int
) -> None:
    server.answers = [(status, json.dumps({"statusCode": status, "message": text}).encode())]
    slept: list[float] = []
    assert get(f"{server.url}/a", slept) == 200
    assert slept[0] >= seconds


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine, and its key, that no bundle has."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", path, "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def put_behind_tls(server: LoopbackServer, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)


@pytest.fixture
def secure(server: Recorder, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the server behind TLS."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    put_behind_tls(server, certificate)
    return server.url.replace("http://", "https://")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("send", [get, get_from_earth_engine])
def test_the_users_certificates_are_trusted(
    secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str, send: Any
) -> None:
    monkeypatch.setenv(name, f"{certificate}.crt")
    assert send(f"{secure}/a") == 200


def test_assets_are_read_with_the_users_certificates(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{certificate}.crt")
    transform = (10.0, 0.0, 500_000.0, 0.0, -10.0, 7_000_000.0)
    with rasterio.open(
        *(tmp_path / "B08.tif", "w", "GTiff", 16, 16, 1),
        crs="EPSG:32606",
        transform=Affine(*transform),
        dtype=np.uint16,
    ) as file:
        file.write(np.full((16, 16), 7, np.uint16), 1)
    with RangeServer(tmp_path) as server:
        put_behind_tls(server, certificate)
        pixels = AssetReader(allow_loopback=True).read_band(
            f"{server.url.replace('http', 'https')}/B08.tif",
            Grid("EPSG:32606", transform, (16, 16)),
            resampling="nearest",
            item_id="S2X",
        )
    assert (pixels == 7).all()


def test_an_unknown_certificate_is_told_with_its_remedy(secure: str) -> None:
    with pytest.raises(NoAnswer, match=r"certificate was not accepted .*REQUESTS_CA_BUNDLE"):
        get(f"{secure}/a", attempts=1)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_that_are_not_there_are_named(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(other, raising=False)
    assert find_ca_bundle() is None
    monkeypatch.setenv(name, "/nowhere/ca.pem")
    with pytest.raises(SettingsError, match=f"{name} names /nowhere/ca.pem"):
        get(f"{server.url}/a")


USE_PROJECTIONS = """
import threading
from pc_cloudmask.raster.gdal import FOREIGN_PROJECTIONS, check_projections, gdal_environment
from rasterio.crs import CRS
def use():
    with gdal_environment():
        print(CRS.from_epsg(32606).to_epsg())
check_projections()
use()
thread = threading.Thread(target=use); thread.start(); thread.join()
print(*FOREIGN_PROJECTIONS)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "database"),
    [(("PROJ_DATA",), None), (("PROJ_LIB",), b"not SQLite at all"), (("PROJ_DATA", "PROJ_LIB"), b"")],
)
def test_another_programs_projections_are_passed_over(
    tmp_path: Path, names: tuple[str, ...], database: bytes | None
) -> None:
    if database is not None:
        (tmp_path / "proj.db").write_bytes(database)
    environment = {**os.environ, **dict.fromkeys(names, str(tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", USE_PROJECTIONS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["32606", "32606", *names]
