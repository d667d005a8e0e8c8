"""Hrefs and files that lead elsewhere."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import example, given
from hypothesis import strategies as st

from pc_cloudmask.errors import AssetRefused
from pc_cloudmask.raster import read as tiff_directories
from pc_cloudmask.raster.read import MAX_DIRECTORIES, TooManyDirectories, check_directories
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, HrefRules
from tests.doubles.range_server import RangeServer
from tests.raster.rasters import CRS, NORTH, WEST, grid_of, write_tiff

GRID = grid_of((10, 10), 10.0)
BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/22/K/FV/B08.tif"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The folder that may be read below, and a secret raster next to it."""
    root = tmp_path / "items"
    root.mkdir()
    pixels = np.full((20, 30), 77, np.uint8)
    write_tiff(root / "good.tif", pixels)
    secret = write_tiff(tmp_path / "secret.tif", pixels)
    return root, secret


@pytest.fixture
def bystander(folders: tuple[Path, Path]) -> Iterator[RangeServer]:
    """A server on loopback that holds the secret and must never be asked."""
    with RangeServer(folders[1].parent) as server:
        yield server
        assert server.requests == []


def refuse(reader: AssetReader, href: str, match: str | None = None) -> None:
    with pytest.raises(AssetRefused, match=match) as caught:
        reader.read_band(href, GRID, resampling="nearest", item_id="S2X")
    assert "\n" not in str(caught.value)


VRT = """<VRTDataset rasterXSize="30" rasterYSize="20"><SRS>{crs}</SRS>
<GeoTransform>{west}, 10, 0, {north}, 0, -10</GeoTransform><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        "{secret}",
        "{root}/../secret.tif",
        "{root}/link.tif",
        "{root}/linked/secret.tif",
        "{root}/loop.tif",
        "../secret.tif",
        "good.tif",
        "file://{secret}",
        "file:{secret}",
        "/vsisubfile/0_100,{secret}",
        "/vsizip/{secret}",
        "/vsicurl/{server}/secret.tif",
        "/vsicurl?url={server}/secret.tif",
        "/vsimem/secret.tif",
        "vrt://{secret}",
        "vrt://{root}/good.tif",
        "GTIFF_DIR:1:{root}/good.tif",
        "GTIFF_RAW:{root}/good.tif",
        "zip://{secret}",
        "{root}/../../../../../../etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "{root}",
        "{root}/none.tif",
        "{root}/good.tif\0{secret}",
        "{root}/good.tif\n",
        "",
        VRT,
        "{server}/secret.tif",
        "http://localhost:80/secret.tif",
        "http://127.0.0.1.nip.io/secret.tif",
        "https://169.254.169.254/latest/meta-data.tif",
        "https://[::1]/secret.tif",
        "https://[::ffff:127.0.0.1]/secret.tif",
        "https://2130706433/secret.tif",
        "https://user:pass@sentinel2l2a01.blob.core.windows.net/a.tif",  # pragma: allowlist secret
        "https://sentinel2l2a01.blob.core.windows.net@evil.example/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net.evil.example/a.tif",
        "https://evil.blob.core.windows.net/a.tif",
        "https://evil.example/sentinel2l2a01.blob.core.windows.net/a.tif",
        "https://evil.example\\@sentinel2l2a01.blob.core.windows.net/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net:8443/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net:99999/a.tif",
        "http://sentinel2l2a01.blob.core.windows.net/a.tif",
        "https://sentinel2l2a01.blob.core.windows.net/a.vrt",
        "https://sentinel2l2a01.blob.core.windows.net/a.xml?x=.tif",
        "https://sentinel2l2a01.blob.core.windows.net/a b.tif",
        "https://sentinel2l2a01.blob.core.windows.net/a.tif#.tif",
        "https://sentinel2l2a01.blob.core.windows.net/" + "a" * 3000 + ".tif",
        "ftp://sentinel2l2a01.blob.core.windows.net/a.tif",
        "s3://bucket/a.tif",
        "gopher://127.0.0.1:70/a.tif",
        "//sentinel2l2a01.blob.core.windows.net/a.tif",
    ],
)
def test_an_href_that_leads_elsewhere_is_refused_unread(
    folders: tuple[Path, Path], bystander: RangeServer, form: str
) -> None:
    root, secret = folders
    (root / "link.tif").symlink_to(secret)
    (root / "linked").symlink_to(secret.parent)
    (root / "loop.tif").symlink_to(root / "loop.tif")
    names = {
        "crs": CRS,
        "west": WEST,
        "north": NORTH,
        "root": root,
        "secret": secret,
        "server": bystander.url,
    }
    refuse(AssetReader(local_root=root), form.format(**names))


def test_a_vrt_in_disguise_is_refused(folders: tuple[Path, Path]) -> None:
    root, secret = folders
    path = root / "disguised.tif"
    path.write_text(VRT.format(crs=CRS, west=WEST, north=NORTH, secret=secret))
    with rasterio.open(path) as dataset:  # what an unguarded reader would do
        assert dataset.read(1)[0, 0] == 77
    refuse(AssetReader(local_root=root), str(path), "not a TIFF")


def test_a_vrt_in_disguise_on_a_server_is_refused(folders: tuple[Path, Path]) -> None:
    root, secret = folders
    (root / "disguised.tif").write_text(VRT.format(crs=CRS, west=WEST, north=NORTH, secret=secret))
    with RangeServer(root) as server:
        refuse(AssetReader(allow_loopback=True), f"{server.url}/disguised.tif", "not a TIFF")


def test_side_files_are_not_read(folders: tuple[Path, Path]) -> None:
    root, secret = folders
    (root / "good.tif.ovr").write_bytes(secret.read_bytes())
    (root / "good.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32723</SRS></PAMDataset>")
    (root / "good.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    reader = AssetReader(local_root=root)
    coarse = grid_of((10, 15))
    assert (reader.read_band(str(root / "good.tif"), coarse, resampling="average", item_id="S2X") == 77).all()


def test_a_pipe_is_refused_and_not_waited_for(folders: tuple[Path, Path]) -> None:
    root, _ = folders
    os.mkfifo(root / "pipe.tif")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket.tif"))
    refuse(AssetReader(local_root=root), str(root / "pipe.tif"), "not a regular file")
    refuse(AssetReader(local_root=root), str(root / "socket.tif"), "not a regular file")
    listener.close()


def test_local_files_are_for_items_from_local_files(folders: tuple[Path, Path]) -> None:
    refuse(AssetReader(), str(folders[0] / "good.tif"), "only for items that come from local files")


@pytest.mark.parametrize(
    ("width", "height"), [(200_000, 200_000), (32_769, 512), (512, 32_769), (32_768, 31_000)]
)
def test_a_tiff_that_claims_too_many_pixels_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "huge.tif"
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint8",
        "crs": CRS,
    }
    with rasterio.open(
        path, "w", **profile, transform=rasterio.Affine(10, 0, WEST, 0, -10, NORTH), tiled=True,
        blockxsize=512, blockysize=512, sparse_ok=True,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 10_000_000
    refuse(AssetReader(local_root=tmp_path), str(path), f"claims {width} x {height} pixels")


def test_a_tiff_of_huge_blocks_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "blocks.tif"
    profile = {"driver": "GTiff", "width": 30_000, "height": 30_000, "count": 1, "dtype": "uint8", "crs": CRS}
    with rasterio.open(
        path, "w", **profile, transform=rasterio.Affine(10, 0, WEST, 0, -10, NORTH), tiled=True,
        blockxsize=8192, blockysize=8192, sparse_ok=True,
    ):  # fmt: skip
        pass
    refuse(AssetReader(local_root=tmp_path), str(path), "blocks of 8192 x 8192")


def add_directories(path: Path, count: int, *, back: bool = False) -> Path:
    """The TIFF with so many false overviews behind it; ``back`` leads from the last to the first."""
    whole = bytearray(path.read_bytes())
    (first,) = struct.unpack("<I", whole[4:8])
    (entries,) = struct.unpack("<H", whole[first : first + 2])
    link, end = first + 2 + 12 * entries, len(whole)
    whole[link : link + 4] = struct.pack("<I", end)
    overview = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((254, 1), (256, 29), (257, 19))
    )
    step = len(overview) + 4
    links = [end + step * number for number in range(1, count)] + [end if back else 0]
    path.write_bytes(whole + b"".join(overview + struct.pack("<I", link) for link in links))
    return path


@pytest.mark.parametrize(("count", "back"), [(60_000, False), (MAX_DIRECTORIES, False), (1, True)])
@pytest.mark.parametrize("served", [True, False])
def test_a_tiff_of_false_overviews_is_refused_before_gdal_opens_it(
    folders: tuple[Path, Path], count: int, back: bool, served: bool
) -> None:
    path = add_directories(folders[0] / "good.tif", count, back=back)
    with RangeServer(folders[0]) as server:
        reader = AssetReader(local_root=folders[0], allow_loopback=True)
        href = f"{server.url}/good.tif" if served else str(path)
        refuse(reader, href, "more than 32 images and overviews")
        with pytest.raises(AssetRefused, match="more than 32 images and overviews"):
            reader.find_readable(href, item_id="S2X")


@pytest.mark.parametrize("bigtiff", ["yes", "no"])
@pytest.mark.parametrize("endianness", ["little", "big"])
def test_directories_are_counted_in_any_form_of_tiff(
    tmp_path: Path, bigtiff: str, endianness: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(
        tmp_path / "a.tif", np.full((600, 600), 7, np.uint8), overviews=(2, 4, 8), BIGTIFF=bigtiff,
        ENDIANNESS=endianness,
    )  # fmt: skip
    body = path.read_bytes()
    check_directories(lambda offset: body[offset : offset + 100])
    monkeypatch.setattr(tiff_directories, "MAX_DIRECTORIES", 3)
    with pytest.raises(TooManyDirectories):
        check_directories(lambda offset: body[offset : offset + 100])


@pytest.mark.parametrize("cut", [4, 8, 100, 400])
def test_a_tiff_cut_short_is_refused(folders: tuple[Path, Path], cut: int) -> None:
    root, secret = folders
    (root / "cut.tif").write_bytes(secret.read_bytes()[:cut])
    refuse(AssetReader(local_root=root), str(root / "cut.tif"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # rasterio's, of such a file
@given(st.binary(max_size=400), st.integers(0, 399))
@example(bytes(9) + b"\xba\x7f" + bytes(14), 247)  # pixels of next to no size
@example(bytes(9) + b"\xba\x7f", 247)
def test_a_damaged_tiff_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int
) -> None:
    root = tmp_path_factory.getbasetemp() / "damaged"
    root.mkdir(exist_ok=True)
    whole = bytearray(write_tiff(root / "whole.tif", np.full((20, 30), 77, np.uint8)).read_bytes())
    whole[at : at + len(damage)] = damage
    (root / "damaged.tif").write_bytes(whole)
    reader = AssetReader(local_root=root)
    try:
        pixels = reader.read_band(str(root / "damaged.tif"), GRID, resampling="nearest", item_id="S2X")
    except AssetRefused:
        return
    assert pixels.shape == GRID.shape


RULES = HrefRules()


@given(st.text() | st.from_regex(r"https?://[\w.:@\\/\[\]%-]{0,60}\.tif", fullmatch=True))
@example(BLOB)
@example(BLOB + "?sig=a")
def test_only_allowed_hosts_pass(href: str) -> None:
    try:
        location = RULES.find_tiff(href)
    except AssetRefused:
        return
    assert location == href
    host = href.removeprefix("https://").split("/")[0].lower().removesuffix(":443")
    assert host in PLANETARY_COMPUTER_HOSTS


def test_a_blob_of_the_planetary_computer_passes() -> None:
    assert RULES.find_tiff(BLOB) == BLOB
