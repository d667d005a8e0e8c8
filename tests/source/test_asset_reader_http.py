"""Reading through HTTP: tokens, faults, what is logged."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetError, AssetRefused, AssetUnavailable
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.web import RetryPolicy
from tests.doubles.range_server import RangeServer
from tests.raster.rasters import grid_of, write_cog

GRID = grid_of((300, 200))
SECRET = "s3cr3t"  # pragma: allowlist secret


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``B08.tif``, a COG at 10 m."""
    root = tmp_path_factory.mktemp("archive")
    pixels = np.random.default_rng(0).integers(1, 4000, (600, 400)).astype(np.uint16)
    write_cog(root / "B08.tif", pixels)
    (root / "page.tif").write_bytes(b"<html>" * 100)
    (root / "cut.tif").write_bytes((root / "B08.tif").read_bytes()[:100_000])
    return root


@pytest.fixture
def server(archive: Path) -> Iterator[RangeServer]:
    with RangeServer(archive) as server:
        yield server


def sign(href: str) -> str:
    return f"{href}?se=2030-01-01&sig={SECRET}"


def sign_with_old_token(href: str) -> str:
    return f"{href}?se=2020-01-01&sig=0ld"


def make_reader(**options: Any) -> AssetReader:
    options = {"allow_loopback": True, "retry": RetryPolicy(attempts=3, sleep=lambda _: None)} | options
    return AssetReader(**options)


def read(reader: AssetReader, server: RangeServer, name: str = "B08.tif") -> NDArray[Any]:
    return reader.read_band(f"{server.url}/{name}", GRID, resampling="average", item_id="S2X")


def read_locally(archive: Path) -> NDArray[Any]:
    reader = AssetReader(local_root=archive)
    return reader.read_band(str(archive / "B08.tif"), GRID, resampling="average", item_id="S2X")


def test_a_remote_cog_reads_as_the_local_one(server: RangeServer, archive: Path) -> None:
    np.testing.assert_array_equal(read(make_reader(), server), read_locally(archive))


def test_only_the_header_and_the_overview_are_transferred(server: RangeServer, archive: Path) -> None:
    read(make_reader(), server)
    ranges = [tuple(int(n) for n in wanted[6:].split("-")) for *_, wanted in server.requests if wanted]
    assert sum(last - first + 1 for first, last in ranges) < (archive / "B08.tif").stat().st_size / 2
    assert len(server.requests) <= 6


def test_the_server_is_asked_once_for_many_windows(server: RangeServer) -> None:
    reader = make_reader()
    for window in GRID.blocks(64):
        grid = GRID.window_grid(window)
        reader.read_band(f"{server.url}/B08.tif", grid, resampling="average", item_id="S2X")
    probes = [wanted for *_, wanted in server.requests if wanted == "bytes=0-32767"]
    assert len(probes) == 1


def test_hrefs_are_signed_when_they_are_read(server: RangeServer, archive: Path) -> None:
    server.tokens = {SECRET}
    np.testing.assert_array_equal(read(make_reader(sign=sign), server), read_locally(archive))
    assert all(SECRET in query for _, _, query, _ in server.requests)


def test_an_expired_token_is_renewed_once(server: RangeServer, archive: Path) -> None:
    server.tokens = {SECRET}
    reader = make_reader(sign=sign_with_old_token, renew=sign)
    np.testing.assert_array_equal(read(reader, server), read_locally(archive))
    reader = make_reader(sign=sign_with_old_token, renew=sign_with_old_token)
    before = len(server.requests)
    with pytest.raises(AssetRefused, match=r"access denied \(HTTP 403\)"):
        read(reader, server)
    assert len(server.requests) == before + 2


def test_a_private_blob_without_a_token_says_so(server: RangeServer) -> None:
    server.tokens = {SECRET}
    with pytest.raises(AssetRefused, match=r"item S2X: .*/B08.tif: not public \(HTTP 409\); .* token"):
        read(make_reader(), server)


@pytest.mark.parametrize(
    ("name", "problem"), [("gone.tif", r"not there \(HTTP 404\)"), ("page.tif", "not a TIFF")]
)
def test_what_is_no_tiff_is_refused(server: RangeServer, name: str, problem: str) -> None:
    with pytest.raises(AssetRefused, match=problem):
        read(make_reader(), server, name)
    assert len(server.requests) == 1


def test_a_file_cut_short_is_unavailable(server: RangeServer) -> None:
    with pytest.raises(AssetUnavailable, match=r"cut\.tif: the transfer or the decoding failed"):
        read(make_reader(), server, "cut.tif")


def test_a_server_without_ranges_is_refused(server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(AssetRefused, match="no byte ranges"):
        read(make_reader(), server)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_refused_unread(
    server: RangeServer, archive: Path, status: int
) -> None:
    with RangeServer(archive) as other:
        server.plan = lambda path, number: (status, b"", {"Location": f"{other.url}/B08.tif"})
        with pytest.raises(AssetRefused, match="redirects to"):
            read(make_reader(), server)
        assert other.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: RangeServer, archive: Path, status: int) -> None:
    server.plan = lambda path, number: (status, b"", {}) if number < 3 else None
    np.testing.assert_array_equal(read(make_reader(), server), read_locally(archive))


def test_a_server_that_stays_busy_is_unavailable(server: RangeServer) -> None:
    server.plan = lambda path, number: (503, b"", {})
    with pytest.raises(AssetUnavailable, match="HTTP 503; gave up after 3 attempts"):
        read(make_reader(), server)


def test_a_server_that_is_not_there_is_unavailable(server: RangeServer) -> None:
    closed = RangeServer(server.root)
    with closed:
        pass
    with pytest.raises(AssetUnavailable, match="no connection"):
        read(make_reader(), closed)


@pytest.mark.parametrize("first_failure", [2, 3, 4])
def test_a_failure_half_way_is_not_remembered(
    server: RangeServer, archive: Path, tmp_path: Path, first_failure: int
) -> None:
    # A name of its own: GDAL's cache outlives a test.
    (archive / f"{tmp_path.name}.tif").write_bytes((archive / "B08.tif").read_bytes())
    reader = make_reader(sign=sign)
    server.plan = lambda path, number: (404, b"", {}) if number >= first_failure else None
    with pytest.raises(AssetUnavailable):
        read(reader, server, f"{tmp_path.name}.tif")
    server.plan = None
    np.testing.assert_array_equal(read(reader, server, f"{tmp_path.name}.tif"), read_locally(archive))


def test_threads_share_a_reader(server: RangeServer, archive: Path) -> None:
    reader, expected = make_reader(), read_locally(archive)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: read(reader, server), range(24)):
            np.testing.assert_array_equal(result, expected)


def plan_nothing(path: str, number: int) -> None:
    return None


def plan_denial(path: str, number: int) -> tuple[int, bytes, dict[str, str]]:
    return (403, b"", {})


def plan_failure_half_way(path: str, number: int) -> tuple[int, bytes, dict[str, str]] | None:
    return (404, b"", {}) if number >= 3 else None


@pytest.mark.parametrize("plan", [plan_nothing, plan_denial, plan_failure_half_way])
def test_no_signature_is_logged_or_raised(
    server: RangeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, plan: Any
) -> None:
    monkeypatch.setenv("CPL_DEBUG", "ON")
    caplog.set_level(logging.DEBUG)
    server.plan = plan
    reader = make_reader(sign=sign, renew=sign)
    shown = ""
    try:
        read(reader, server, "cut.tif" if plan is plan_nothing else "B08.tif")
    except AssetError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error.__context__)
    assert server.requests
    assert "cut.tif" in shown or "B08.tif" in shown
    assert SECRET not in shown
    assert SECRET not in caplog.text
    assert SECRET not in repr(vars(reader).get("_rules"))
