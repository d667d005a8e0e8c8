"""Files over HTTP, asked for as readers, browsers and strangers do."""

from __future__ import annotations

import errno
import http.client
import os
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pc_cloudmask.catalog.layout import COLLECTION_ID as COLLECTION
from tests.viewing.conftest import ITEM, MASK, MASK_BYTES, Serve


@pytest.fixture
def url(root: Path, serve: Serve) -> str:
    return serve(root)


def get(url: str, key: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/{key}", headers=headers, timeout=600)


def ask_raw(url: str, path: str) -> tuple[int, bytes]:
    """The answer to a path that no client library has tidied."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    try:
        connection.putrequest("GET", path, skip_host=False)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [
            ("bytes=0-3", 0, 4),
            ("bytes=16384-32767", 16384, 32768),
            ("bytes=76796-", 76796, 76800),
            ("bytes=-4", 76796, 76800),
            ("bytes=76798-99999", 76798, 76800),
        ],
    )
    def test_a_range_is_sent_alone(self, url: str, asked: str, start: int, end: int) -> None:
        answer = get(url, MASK, Range=asked)
        assert answer.status_code == 206
        assert answer.content == MASK_BYTES[start:end]
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(MASK_BYTES)}"
        assert answer.headers["Content-Length"] == str(end - start)

    def test_without_a_range_the_file_is_sent_whole_and_ranges_are_offered(self, url: str) -> None:
        answer = get(url, MASK)
        assert (answer.status_code, answer.content) == (200, MASK_BYTES)
        assert answer.headers["Accept-Ranges"] == "bytes"

    def test_a_range_beyond_the_end_is_refused_with_the_size(self, url: str) -> None:
        answer = get(url, MASK, Range="bytes=76800-")
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(MASK_BYTES)}"

    def test_head_tells_the_size_alone(self, url: str) -> None:
        for key, size in ((MASK, len(MASK_BYTES)), (ITEM, 19)):
            answer = requests.head(f"{url}/{key}", timeout=600)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["Content-Length"] == str(size)

    def test_a_range_of_a_file_that_changed_is_not_mixed_with_the_old_one(self, url: str, root: Path) -> None:
        key = "sample-archive/S2B_X/B04.tif"
        etag = get(url, key).headers["ETag"]
        assert get(url, key, Range="bytes=0-1", **{"If-Range": etag}).status_code == 206
        (root / key).write_bytes(b"II*\0longer")
        answer = get(url, key, Range="bytes=0-1", **{"If-Range": etag})
        assert (answer.status_code, answer.content) == (200, b"II*\0longer")


class TestCaching:
    def test_a_file_named_by_its_content_is_kept_and_a_document_asked_for_again(self, url: str) -> None:
        assert "immutable" in get(url, MASK).headers["Cache-Control"]
        for key in (ITEM, "catalog.json", "sample-archive/S2B_X/B04.tif"):
            assert get(url, key).headers["Cache-Control"] == "no-cache"

    @pytest.mark.parametrize("key", [ITEM, MASK])
    def test_a_copy_that_is_still_good_is_not_sent_again(self, url: str, root: Path, key: str) -> None:
        etag = get(url, key).headers["ETag"]
        answer = get(url, key, **{"If-None-Match": etag})
        assert (answer.status_code, answer.content) == (304, b"")
        (root / key).write_bytes(b'{"type": "Other"}')
        assert get(url, key, **{"If-None-Match": etag}).status_code == 200

    def test_a_document_that_is_replaced_all_the_time_is_never_torn(self, url: str, root: Path) -> None:
        """Its length goes ahead of its bytes: those of one file, these of another, would break off."""
        bodies = [b'{"a": 1}', b'{"a": 1, "much": "longer than before"}']
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.wait(0.0003):
                number += 1
                (root / "new").write_bytes(bodies[number % 2])
                (root / "new").replace(root / "catalog.json")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with requests.Session() as session:
                answers = [session.get(f"{url}/catalog.json", timeout=600).content for _ in range(60)]
        finally:
            stop.set()
            writer.join()
        assert set(answers[1:]) <= set(bodies)


class TestOtherPages:
    """What a web map or STAC Browser on another site needs."""

    def test_any_page_may_read_and_sees_where_a_range_lies(self, url: str) -> None:
        for key in (ITEM, MASK, "absent.json"):
            answer = get(url, key, Origin="https://radiantearth.github.io", Range="bytes=0-3")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            exposed = answer.headers["Access-Control-Expose-Headers"]
            assert "Content-Range" in exposed
            assert "Accept-Ranges" in exposed

    def test_a_browser_that_asks_first_may_send_ranges_and_nothing_that_writes(self, url: str) -> None:
        def preflight(method: str) -> requests.Response:
            headers = {
                "Origin": "https://radiantearth.github.io",
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "range,if-range",
            }
            return requests.options(f"{url}/{MASK}", headers=headers, timeout=600)

        allowed = preflight("GET")
        assert allowed.status_code == 200
        assert "range" in allowed.headers["Access-Control-Allow-Headers"].lower()
        assert preflight("PUT").status_code == 400
        for method in ("PUT", "DELETE", "POST"):
            assert requests.request(method, f"{url}/{MASK}", timeout=600).status_code == 405

    @pytest.mark.parametrize(
        ("key", "media_type"),
        [
            (ITEM, "application/geo+json"),
            ("catalog.json", "application/json"),
            (MASK, "image/tiff; application=geotiff; profile=cloud-optimized"),
            ("sentinel-2-l2a-cloudmask/items/part.parquet", "application/vnd.apache.parquet"),
            ("sentinel-2-l2a-cloudmask/masks.gti.gpkg", "application/geopackage+sqlite3"),
            ("sentinel-2-l2a-cloudmask/masks.gti.qml", "application/xml"),
            ("changes/2026/11/28.jsonl", "application/x-ndjson"),
        ],
    )
    def test_media_types_are_those_of_the_catalog(self, url: str, key: str, media_type: str) -> None:
        assert get(url, key).headers["Content-Type"] == media_type


class TestPrivacy:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "path",
        [
            "/_pending/S2B_X.json",
            "/changes/2026/11/secret.jsonl",
            "/_waiting/S2B_X.json",
            "/_failed/S2B_X.json",
            "/_probe/x",
            "/.tmp/half-written",
            "/.env",
            "/sentinel-2-l2a-cloudmask/.hidden",
            "/%5fpending/S2B_X.json",
            "/./_pending/S2B_X.json",
            "//_pending/S2B_X.json",
            "/sample-archive/../_pending/S2B_X.json",
            "/sample-archive/%2e%2e/_pending/S2B_X.json",
            "/sample-archive/..%2f_pending/S2B_X.json",
            "/../outside.json",
            "/%2e%2e/outside.json",
            "/..%2foutside.json",
            "/sample-archive/..%5c..%5coutside.json",
            "/%2fetc/passwd",
            "//etc/passwd",
            "/catalog.json%00",
            "/" + "x" * 4000,
            "/sample-archive",
            "/sample-archive/",
            "/secret.key",
            "/secret.json",
            "/cloudmask.toml",
            "/cloudmask-0123456789abcdef.tif",
            "/sample-archive/notes.txt",
            "/sentinel-2-l2a-cloudmask/secret.json",
            "/sentinel-2-l2a-cloudmask/22K/notes.json",
            "/sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/secret.key",
            "/sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/cloudmask-0123456789abcdef.tif.bak",
            "/sentinel-2-l2a-cloudmask/items/secret.csv",
        ],
    )
    def test_state_and_strangers_files_are_not_there(self, url: str, path: str) -> None:
        status, body = ask_raw(url, path)
        assert status == 404
        assert b"secret" not in body

    def test_links_are_followed_to_what_is_public_and_nowhere_else(self, url: str, root: Path) -> None:
        year = root / COLLECTION / "22K" / "22KFV" / "2018"
        (root / COLLECTION / "collection.json").symlink_to(root / "catalog.json")
        links = {
            COLLECTION + "/22K/catalog.json": root.parent / "outside.json",
            COLLECTION + "/22K/22KFV/catalog.json": root / "_pending" / "S2B_X.json",
            COLLECTION + "/22K/22KFV/2018/catalog.json": root / "secret.json",
            COLLECTION + "/22K/22KFV/2018/S2B_X/preview-0123456789abcdef.png": root / "secret.key",
            COLLECTION + "/22K/22KFV/2018/S2B_Y": root / "_pending",
            COLLECTION + "/22K/22KFV/2017": root.parent,
        }
        for key, target in links.items():
            (root / key).symlink_to(target)
        assert get(url, f"{COLLECTION}/collection.json").content == b'{"type": "Catalog"}'
        for key in (*links, f"{COLLECTION}/22K/22KFV/2018/S2B_Y/S2B_X.json"):
            assert get(url, key).status_code == 404
        assert year.is_dir()

    def test_a_loop_of_links_is_not_there(self, url: str, root: Path) -> None:
        (root / COLLECTION / "collection.json").symlink_to("collection.json")
        (root / COLLECTION / "33U").symlink_to("33V")
        (root / COLLECTION / "33V").symlink_to("33U")
        for key in ("collection.json", "33U/catalog.json", "33V/33VUC/2018/S2B_X/S2B_X.json"):
            assert get(url, f"{COLLECTION}/{key}").status_code == 404

    def test_what_is_no_file_is_not_there(self, url: str, root: Path) -> None:
        os.mkfifo(root / COLLECTION / "collection.json")
        (root / COLLECTION / "22K" / "catalog.json").mkdir()
        for key in ("collection.json", "22K/catalog.json"):
            assert get(url, f"{COLLECTION}/{key}").status_code == 404

    def test_a_file_that_fails_is_not_said_to_be_absent(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: Path) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(Path, "read_bytes", fail)
        answer = get(url, "catalog.json", Origin="https://radiantearth.github.io")
        assert answer.status_code == 503
        assert answer.headers["Access-Control-Allow-Origin"] == "*"

    def test_the_root_is_a_page_that_reads_the_catalog(self, url: str) -> None:
        answer = get(url, "")
        assert answer.url == f"{url}/"
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "catalog.json" in answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    parts=st.lists(
        st.sampled_from(
            [
                "..",
                ".",
                "",
                "_pending",
                "_failed",
                ".tmp",
                ".env",
                "%2e%2e",
                "%5fpending",
                "%2f",
                "sample-archive",
            ]
        ),
        max_size=5,
    ),
    last=st.sampled_from(["S2B_X.json", "outside.json", ".env", "half-written", "catalog.json"]),
)
def test_no_spelling_of_a_path_gives_a_secret(url: str, parts: list[str], last: str) -> None:
    status, body = ask_raw(url, "/" + "/".join([*parts, last]))
    assert status in {200, 404}
    assert b"secret" not in body
