"""nginx serves the public catalog, from a directory and from a bucket, and nothing else of the store."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import requests

from pc_cloudmask.catalog.documents import PARQUET_MEDIA_TYPE
from pc_cloudmask.catalog.feed import NDJSON_MEDIA_TYPE
from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE
from pc_cloudmask.viewing.server import is_public_key
from pc_cloudmask.viewing.stac_browser import StacBrowser
from tests.doubles.s3_server import S3Server
from tests.published_demo import copy_catalog

pytestmark = pytest.mark.slow

NGINX = Path(__file__).parents[2] / "deploy" / "nginx"
POLICY = NGINX.parent / "s3" / "bucket-policy.json"
COLLECTION = "sentinel-2-l2a-cloudmask"
PARQUET = f"{COLLECTION}/items/items-0123456789abcdef.parquet"
MARK = f"{COLLECTION}/22K/22KFV/2018/S2X/withdrawn.json"
PRIVATE = (
    "_pending/S2A.json",
    "_waiting/S2A.json",
    "_failed/S2A.json",
    "_provisional/S2A.json",
    "_watch/areas.json",
    "_probe/1",
    f"{COLLECTION}/22K/_anything.json",
    f"{COLLECTION}/22K/.half-written.json",
    "sample-archive/items.json",
    "secret.key",
    f"{COLLECTION}/secret.json",
    f"{COLLECTION}/22K/notes.json",
    f"{COLLECTION}/22K/22KFV/2018/S2X/secret.key",
    f"{COLLECTION}/22K/22KFV/2018/S2X/cloudmask-0123456789abcdef.tif.bak",
    f"{COLLECTION}/items/secret.csv",
)
MEDIA_TYPES = {
    ".jsonl": NDJSON_MEDIA_TYPE,
    ".tif": COG_MEDIA_TYPE,
    ".parquet": PARQUET_MEDIA_TYPE,
    ".png": "image/png",
}


def media_type(path: Path) -> str:
    """What publishing says of such a file."""
    if path.suffix == ".json":
        return GEOJSON_MEDIA_TYPE if path.stem == path.parent.name else JSON_MEDIA_TYPE
    return MEDIA_TYPES[path.suffix]


@pytest.fixture(scope="module")
def root(published_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog as a store holds it, with private state and half-written files."""
    root = copy_catalog(published_demo, tmp_path_factory.mktemp("nginx") / "store")
    for key in (*PRIVATE, PARQUET, MARK):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text('{"secret": true}')
    return root


@pytest.fixture(scope="module")
def bucket(root: Path, s3_server: S3Server) -> str:
    """``SERVER/BUCKET`` that holds the same."""
    with pytest.MonkeyPatch.context() as patch:
        s3_server.use(patch)
        bucket, client = s3_server.create_bucket(), boto3.session.Session().client("s3")
        for path in root.rglob("*"):
            key = path.relative_to(root).as_posix()
            if path.is_file() and not key.startswith("sample-archive/S2"):
                kind = media_type(path) if path.suffix in {".json", *MEDIA_TYPES} else "text/plain"
                client.put_object(Bucket=bucket, Key=f"s2/{key}", Body=path.read_bytes(), ContentType=kind)
        # Of the committed policy what it allows: the server does not know what plain http is.
        policy = json.loads(POLICY.read_text().replace("BUCKET", bucket).replace("PREFIX", "s2"))
        policy["Statement"] = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        client.close()
    return f"{s3_server.url}/{bucket}"


@pytest.fixture(scope="module")
def nginx() -> str:
    """The executable."""
    found = shutil.which("nginx")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


@contextlib.contextmanager
def running(nginx: str, folder: Path, backend: str, replacements: dict[str, str]) -> Iterator[str]:
    """URL of an nginx with the committed configuration, told where this machine has what it names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    browser = folder / "stac-browser"
    browser.mkdir()
    (browser / "index.html").write_text("<!doctype html><title>STAC Browser</title>")
    replacements = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/etc/nginx/store.conf": str(folder / "store.conf"),
        "/srv/stac-browser": str(browser),
        "/tmp/": f"{folder}/",
        "/dev/stdout": str(folder / "access.log"),
        "/dev/stderr": str(folder / "error.log"),
        **replacements,
    }
    used = set()

    def replace(found: re.Match[str]) -> str:
        used.add(found[0])
        return replacements[found[0]]

    named = re.compile("|".join(map(re.escape, replacements)))
    # Whoever runs the tests may be root, whom nginx would change for another user.
    text = named.sub(replace, (NGINX / "nginx.conf").read_text())
    (folder / "nginx.conf").write_text(f"user {getpass.getuser()};\n{text}")
    (folder / "store.conf").write_text(named.sub(replace, (NGINX / backend).read_text()))
    assert used == set(replacements), "the configuration no longer names what is replaced here"
    command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=600)
    assert checked.returncode == 0, checked.stderr
    with subprocess.Popen([*command, "-g", "daemon off;"]) as process:
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "nginx did not start"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


@pytest.fixture(scope="module")
def folder_url(nginx: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(
        nginx, tmp_path_factory.mktemp("nginx-folder"), "folder.conf", {"/srv/catalog": str(root)}
    ) as url:
        yield url


@pytest.fixture(scope="module")
def bucket_url(nginx: str, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = urlsplit(bucket)
    replacements = {"/masks/s2": f"{server.path}/s2", "http://store:9000": f"http://{server.netloc}"}
    with running(nginx, tmp_path_factory.mktemp("nginx-bucket"), "bucket.conf", replacements) as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest) -> str:
    answer: str = request.getfixturevalue(f"{request.param}_url")
    return answer


def get(url: str, key: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/{key}", headers=headers, timeout=600)


def public_files(root: Path) -> list[Path]:
    keys = {path: path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return [
        path
        for path, key in keys.items()
        if key.startswith(("catalog.json", COLLECTION, "changes/")) and key not in PRIVATE
    ]


def test_every_public_file_is_served_as_what_it_is(url: str, root: Path) -> None:
    files = public_files(root)
    assert {path.suffix for path in files} == {".json", ".tif", ".png", ".parquet", ".jsonl"}
    for path in files:
        answer = get(url, path.relative_to(root).as_posix())
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()
        assert answer.headers["Content-Type"] == media_type(path)
        is_named_by_content = path.suffix not in {".json", ".jsonl"}
        assert ("immutable" in answer.headers["Cache-Control"]) == is_named_by_content


@pytest.mark.parametrize(
    "key", [*PRIVATE, f"{COLLECTION}/../_failed/S2A.json", f"{COLLECTION}/%2e%2e/_failed/S2A.json"]
)
def test_private_state_is_not_there(url: str, key: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    try:
        connection.putrequest("GET", f"/{key}")  # a path that no client library has tidied
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"secret" not in answer.read()
    finally:
        connection.close()


def test_it_serves_what_serve_does(url: str, root: Path) -> None:
    """But for the archive of the demo, which is in no bucket."""
    keys = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    for key in keys:
        is_served = is_public_key(key) and not key.startswith("sample-archive/")
        assert get(url, key).status_code == (200 if is_served else 404), key


def test_no_link_is_followed(folder_url: str, root: Path) -> None:
    year = f"{COLLECTION}/22K/22KFV/2018"
    (root.parent / "outside.json").write_text('{"secret": true}')
    links = {
        f"{year}/S2Y/S2Y.json": root.parent / "outside.json",
        f"{year}/S2Z": root.parent,
        f"{COLLECTION}/34U/catalog.json": "catalog.json",
    }
    keys = [*links, f"{year}/S2Z/outside.json"]
    with contextlib.ExitStack() as made:
        for key, target in links.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).symlink_to(target)
            made.callback((root / key).unlink)
        for key in keys:
            answer = get(folder_url, key)
            assert answer.status_code == 404, key
            assert "secret" not in answer.text


@pytest.mark.parametrize("key", ["", COLLECTION, f"{COLLECTION}/", f"{COLLECTION}/22K/", "?list-type=2"])
def test_nothing_is_listed(url: str, key: str) -> None:
    answer = get(url, key)
    assert "22KFV" not in answer.text
    assert "Contents" not in answer.text


def test_any_page_may_read_a_mask_by_ranges(url: str, root: Path) -> None:
    mask = next(path for path in public_files(root) if path.suffix == ".tif")
    answer = get(url, mask.relative_to(root).as_posix(), Range="bytes=16-31", Origin="https://example.com")
    assert answer.status_code == 206
    assert answer.content == mask.read_bytes()[16:32]
    assert answer.headers["Content-Range"] == f"bytes 16-31/{mask.stat().st_size}"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"ETag", "Content-Range"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))


def test_a_page_may_ask_beforehand(url: str) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Headers": "range"}
    answer = requests.options(f"{url}/catalog.json", headers=headers, timeout=600)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Range" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_nobody_writes(url: str, root: Path, method: str) -> None:
    before = (root / "catalog.json").read_bytes()
    assert requests.request(method, f"{url}/catalog.json", timeout=600).status_code == 405
    assert get(url, "catalog.json").content == before


def test_a_reader_asks_whether_its_copy_is_good(url: str) -> None:
    etag = get(url, "catalog.json").headers["ETag"]
    assert get(url, "catalog.json", **{"If-None-Match": etag}).status_code == 304


def test_stac_browser_is_at_the_root(url: str) -> None:
    assert "STAC Browser" in get(url, "").text


def test_stac_browser_is_told_what_serve_tells_it() -> None:
    assert (NGINX / "runtime-config.js").read_text() == StacBrowser.config_script()
