"""Items from files, folders, URLs, static catalogs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import SettingsError, SourceRefused, SourceUnavailable
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.source.fields import Item, build_filter
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS
from pc_cloudmask.source.item_files import FolderDocuments, ItemFilesSource, ServerDocuments
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.web import RetryPolicy
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api import StacApiServer, make_item

QUICK = RetryPolicy(attempts=2, sleep=lambda _: None)


def find(location: str | Path, query: SceneQuery | None = None) -> list[Item]:
    return list(ItemFilesSource(str(location), retry=QUICK).find_items(query or SceneQuery()))


def find_ids(location: str | Path, query: SceneQuery | None = None) -> list[str]:
    return [item["id"] for item in find(location, query)]


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def make_catalog(kind: str = "Catalog", **links: list[str]) -> dict[str, Any]:
    pairs = [{"rel": rel, "href": href} for rel, hrefs in links.items() for href in hrefs]
    return {"type": kind, "id": "c", "stac_version": "1.1.0", "description": "d", "links": pairs}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A static catalog of three items in two tiles, assets next to the items."""
    root = tmp_path / "catalog"
    for name, tile, day in [("a", "22KFV", 3), ("b", "22KFV", 1), ("c", "22KGV", 2)]:
        item = make_item(name, f"2019-01-0{day}T10:00:00Z", tile)
        item["assets"] = {"SCL": {"href": f"./{name}_SCL.tif"}, "far": {"href": "https://example.org/x.tif"}}
        item["links"] = [
            {"rel": "self", "href": f"{name}.json"},
            {"rel": "parent", "href": "../catalog.json"},
        ]
        write(root / tile / name / f"{name}.json", item)
    write(
        root / "22KFV" / "catalog.json",
        make_catalog(item=["./a/a.json", "b/b.json"], parent=["../catalog.json"]),
    )
    write(root / "22KGV" / "catalog.json", make_catalog("Collection", item=["c/c.json"]))
    write(
        root / "catalog.json",
        make_catalog(child=["./22KFV/catalog.json", "22KGV/catalog.json"], self=["catalog.json"]),
    )
    return root


@pytest.mark.parametrize("location", ["", "catalog.json"])
def test_a_static_catalog_is_walked(tree: Path, location: str) -> None:
    items = find(tree / location)
    assert [item["id"] for item in items] == ["b", "c", "a"]
    assert items[0]["assets"]["SCL"]["href"] == str(tree / "22KFV/b/b_SCL.tif")
    assert items[0]["assets"]["far"]["href"] == "https://example.org/x.tif"
    assert items[0]["links"][0]["href"] == str(tree / "22KFV/b/b.json")
    assert items[0]["links"][1]["href"] == str(tree / "22KFV/catalog.json")


def test_a_static_catalog_on_a_server_is_walked(tree: Path) -> None:
    with RangeServer(tree) as server:
        source = ItemFilesSource(f"{server.url}/catalog.json", retry=QUICK)
        items = list(source.find_items(SceneQuery()))
        assert source.local_root is None
        assert source.allow_loopback
        assert source.asset_hosts == PLANETARY_COMPUTER_HOSTS | {"127.0.0.1"}
    assert [item["id"] for item in items] == ["b", "c", "a"]
    assert items[0]["assets"]["SCL"]["href"] == f"{server.url}/22KFV/b/b_SCL.tif"


def test_a_single_item_or_an_item_collection_is_read(tmp_path: Path) -> None:
    item, other = make_item("a"), make_item("b", "2018-01-01T00:00:00Z")
    other["assets"]["SCL"]["href"] = "sub/../SCL.tif?sig=s3cr3t&se=1"
    write(tmp_path / "one" / "item.json", item)
    path = write(tmp_path / "all.json", {"type": "FeatureCollection", "features": [item, other, item]})
    assert find(tmp_path / "one" / "item.json") == [item]
    assert [found["id"] for found in find(path)] == ["b", "a"]
    assert find(path)[0]["assets"]["SCL"]["href"] == str(tmp_path / "SCL.tif")
    with RangeServer(tmp_path) as server:
        assert find(f"{server.url}/one/item.json") == [item]
        assert find(f"{server.url}/all.json")[0]["assets"]["SCL"]["href"] == f"{server.url}/SCL.tif"


def test_a_byte_order_mark_before_an_item_or_catalog_is_skipped(tmp_path: Path) -> None:
    catalog = {"type": "Catalog", "links": [{"rel": "item", "href": "a/item.json"}]}
    for path, document in (("a/item.json", make_item("a")), ("catalog.json", catalog)):
        write(tmp_path / path, document)
        (tmp_path / path).write_bytes(b"\xef\xbb\xbf" + (tmp_path / path).read_bytes())
    with RangeServer(tmp_path) as server:
        for location in (tmp_path / "a" / "item.json", tmp_path, f"{server.url}/catalog.json"):
            assert find_ids(location) == ["a"]


@pytest.mark.parametrize("form", ["file://{}", "file:{}", "file://localhost{}"])
def test_file_uris_lead_to_items_and_assets(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "mes données #1"
    item = make_item("a")
    item["assets"]["SCL"]["href"] = form.format(quote(str(folder / "SCL.tif")))
    path = write(folder / "item.json", item)
    (found,) = find(form.format(quote(str(path))))
    assert found["assets"]["SCL"]["href"] == str(folder / "SCL.tif")


def test_an_id_finds_its_item_whether_either_names_the_baseline(tmp_path: Path) -> None:
    esa, other = (f"S2B_MSIL2A_20240629T212529_{n}R043_T06VVN_20240630T010203" for n in ("N0510_", ""))
    for item_id in (esa, other):
        path = write(tmp_path / f"{item_id}.json", make_item(item_id))
        for text in (esa, f"{other}.SAFE"):
            assert find_ids(path, build_query(ids=[text])) == [item_id]


def test_a_relative_location_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = make_item("a")
    item["assets"]["SCL"]["href"] = "SCL.tif"
    write(tmp_path / "item.json", item)
    monkeypatch.chdir(tmp_path)
    source = ItemFilesSource("item.json")
    (found,) = source.find_items(SceneQuery())
    assert found["assets"]["SCL"]["href"] == str(tmp_path / "SCL.tif")
    assert source.local_root == tmp_path


def test_assets_may_be_allowed_from_a_folder_above(tmp_path: Path) -> None:
    write(tmp_path / "items" / "a.json", make_item("a"))
    assert ItemFilesSource(str(tmp_path / "items"), local_root=tmp_path).local_root == tmp_path


def test_a_folder_without_catalog_is_its_items_alone(tmp_path: Path) -> None:
    write(tmp_path / "b.json", make_item("b"))
    write(tmp_path / "a.geojson", make_item("a"))
    write(tmp_path / "two.json", {"type": "FeatureCollection", "features": [make_item("c"), make_item("d")]})
    write(tmp_path / "collection.json", make_catalog("Collection", item=["elsewhere.json"]))
    write(tmp_path / "below" / "e.json", make_item("e"))
    (tmp_path / "notes.txt").write_text("no item")
    assert find_ids(tmp_path) == ["a", "b", "c", "d"]


BROKEN = [
    b"{",
    b"",
    b"[1]",
    b'{"a": 1}',
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"type": ["Feature"]}',
]


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_item_stops_no_other(tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "good.json", make_item("good"))
    (tmp_path / "S2_broken.json").write_bytes(body)
    caplog.set_level(logging.WARNING)
    assert find(tmp_path)[0] == {"type": "Feature", "id": "S2_broken"}
    assert find_ids(tmp_path, build_query(tiles=["22KFV"], datetime="2018", bbox="-50,-23,-49,-22")) == [
        "S2_broken",
        "good",
    ]
    assert find_ids(tmp_path, SceneQuery(ids=("good",))) == ["good"]
    assert str(tmp_path / "S2_broken.json") in caplog.text


def test_a_value_that_json_has_not_costs_its_item_alone(tmp_path: Path) -> None:
    bad, good = make_item("bad"), make_item("good")
    bad["properties"]["gsd"] = float("nan")
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [bad, good]}))
    assert find_ids(path) == ["bad", "good"]


def test_a_collection_with_something_else_in_it_keeps_its_items(tmp_path: Path) -> None:
    path = write(
        tmp_path / "all.json", {"type": "FeatureCollection", "features": [1, make_item("good"), None]}
    )
    assert find_ids(path) == ["all-0", "all-2", "good"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"[" * 5000 + b"]" * 5000, "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"a": 1}', "neither an item, an ItemCollection nor a catalog"),
        (b'{"type": {"a": 1}}', "neither"),
        (b" " * (65 << 20), "larger than 64 MB"),
    ],
)
def test_a_location_that_holds_no_items_is_named(tmp_path: Path, body: bytes, problem: str) -> None:
    path = tmp_path / "items.json"
    path.write_bytes(body)
    with pytest.raises(SourceRefused, match=f"items.json: .*{problem}"):
        find(path)


def test_places_that_are_none_are_wrong_usage(tmp_path: Path) -> None:
    for location in [
        str(tmp_path / "none.json"),
        "a\0b",
        "ftp://example.org/a.json",
        "http://example.org/a.json",
        "s3://b/k",
        "https://[",
        "https:///x",
    ]:
        with pytest.raises(SettingsError, match="--items"):
            ItemFilesSource(location)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceRefused, match="no JSON files"):
        find(tmp_path / "empty")


def test_servers_answers_are_named(tmp_path: Path) -> None:
    with RangeServer(tmp_path) as server:
        with pytest.raises(SourceRefused, match=r"none\.json: HTTP 404"):
            find(f"{server.url}/none.json?sig=s3cr3t")
        server.plan = lambda path, number: (503, b"", {})
        with pytest.raises(SourceUnavailable, match="HTTP 503"):
            find(f"{server.url}/none.json")
        server.plan = lambda path, number: (302, b"", {"Location": "http://169.254.169.254/x"})
        with pytest.raises(SourceRefused, match="redirects to"):
            find(f"{server.url}/none.json")


@pytest.mark.parametrize("href", ["//[", "https://[", "//[x]/a.json"])
def test_an_href_that_is_no_url_stops_no_other_item(tmp_path: Path, href: str) -> None:
    links = [{"rel": "item", "href": href}, {"rel": "item", "href": "items.json"}]
    write(tmp_path / "catalog.json", {"type": "Catalog", "links": links})
    bad = make_item("bad") | {"assets": {"B02": {"href": href}}}
    write(tmp_path / "items.json", {"type": "FeatureCollection", "features": [bad, make_item("good")]})
    with RangeServer(tmp_path) as server:
        found = find_ids(f"{server.url}/catalog.json")
    assert {"bad", "good"} < set(found)
    assert len(found) == 3


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "secret.json", make_item("secret"))
    root = tmp_path / "root"
    write(root / "good.json", make_item("good"))
    (root / "link.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(root / "pipe.json")
    hrefs = [
        "../secret.json",
        str(tmp_path / "secret.json"),
        "link.json",
        "pipe.json",
        "file:///etc/passwd",
        "/dev/zero",
        "\0",
    ]
    write(root / "catalog.json", make_catalog(item=["good.json", *hrefs]))
    ids = find_ids(root)
    assert "secret" in ids, "the stand-in is named after the file"
    assert all(item == {"type": "Feature", "id": item["id"]} for item in find(root) if item["id"] != "good")
    write(root / "catalog.json", make_catalog(child=["../secret.json"]))
    with pytest.raises(SourceRefused, match="leads out of"):
        find(root)


def test_links_to_another_server_are_not_followed(tree: Path) -> None:
    with RangeServer(tree) as server, RangeServer(tree) as other:
        write(tree / "catalog.json", make_catalog(child=[f"{other.url}/22KFV/catalog.json"]))
        with pytest.raises(SourceRefused, match="leads to another server"):
            find(f"{server.url}/catalog.json")
        assert other.requests == []


def test_catalogs_that_contain_each_other_end(tree: Path) -> None:
    write(
        tree / "22KFV" / "catalog.json",
        make_catalog(child=["../catalog.json", "catalog.json"], item=["a/a.json"]),
    )
    assert find_ids(tree) == ["c", "a"]


def test_catalogs_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    for level in range(20):
        write(tmp_path / f"{level}.json", make_catalog(child=[f"{level + 1}.json"]))
    with pytest.raises(SourceRefused, match="nested deeper"):
        find(tmp_path / "0.json")


NO_PATHS = [
    "/vsicurl/http://127.0.0.1/x.tif",
    "GTIFF_DIR:1:x.tif",
    "vrt://x.tif",
    "<VRTDataset/>",
    "C:\\x.tif",
    "\\\\host\\x.tif",
]


@pytest.mark.parametrize("href", NO_PATHS)
def test_hrefs_that_are_no_paths_stay_to_be_refused(tmp_path: Path, href: str) -> None:
    assert FolderDocuments(tmp_path).resolve(str(tmp_path / "a.json"), href) == href


def test_hrefs_are_resolved_as_their_document_means_them(tmp_path: Path) -> None:
    folder, server = FolderDocuments(tmp_path), ServerDocuments("https://example.org/")
    assert folder.resolve("/data/items/a.json", "../x.tif") == "/data/x.tif"
    assert folder.resolve("/data/items/a.json", "/x.tif") == "/x.tif"
    assert server.resolve("https://example.org/b/a.json", "./x.tif") == "https://example.org/b/x.tif"
    assert server.resolve("https://example.org/b/a.json", "/x.tif") == "https://example.org/x.tif"
    assert (
        server.resolve("https://example.org/b/a.json", "https://other.org/x.tif") == "https://other.org/x.tif"
    )


NO_URLS = ["//[x", "https://[x", "http://[::1", "https://ex\u2100mple.com/x"]


@pytest.mark.parametrize("href", NO_URLS)
@pytest.mark.parametrize("served", [True, False])
def test_a_link_that_is_no_url_stops_no_other_item(tmp_path: Path, href: str, served: bool) -> None:
    odd = {**make_item("odd", "2018-12-14T00:00:00Z"), "assets": {"visual": {"href": href}}}
    write(tmp_path / "odd.json", odd)
    write(tmp_path / "catalog.json", make_catalog(item=[href, "odd.json"]))
    with RangeServer(tmp_path) as server:
        found = find_ids(f"{server.url}/catalog.json" if served else tmp_path)
    assert "odd" in found
    assert len(found) == 2


def test_a_redirect_to_what_is_no_url_is_refused(tmp_path: Path) -> None:
    with RangeServer(tmp_path) as server:
        server.plan = lambda *_: (302, b"", {"Location": "//[x"})
        with pytest.raises(SourceRefused, match="redirects"):
            find_ids(f"{server.url}/catalog.json")


def test_a_location_that_is_no_url_is_named() -> None:
    with pytest.raises(SettingsError, match="--items"):
        find_ids("https://[x/catalog.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
odd_hrefs = st.fixed_dictionaries({"rel": st.just("item"), "href": json_values})
odd_items = st.fixed_dictionaries(
    {},
    optional={
        "type": json_values | st.sampled_from(["Feature", "FeatureCollection", "Catalog", "Collection"]),
        "id": json_values,
        "geometry": json_values | st.builds(dict, type=st.just("Polygon"), coordinates=json_values),
        "properties": json_values
        | st.dictionaries(st.sampled_from(["datetime", "s2:mgrs_tile"]), json_values),
        "assets": json_values | st.dictionaries(st.text(max_size=3), odd_hrefs),
        "links": json_values | st.lists(odd_hrefs),
        "features": json_values | st.lists(json_values, max_size=3),
    },
)
QUERY = build_query(tiles=["22KFV"], datetime="2018", bbox="-50,-23,-49,-22", ids=["a"])


@pytest.mark.slow
@given(odd_items)
def test_any_json_is_items_or_a_named_error(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(document))
    for query in (SceneQuery(), QUERY):
        try:
            items = find(path, query)
        except SourceRefused:
            continue
        assert all(isinstance(item, dict) for item in items)
    build_filter(QUERY)(document)


QUERIES = [
    SceneQuery(),
    build_query(bbox="-51,-24,-48,-21"),
    build_query(bbox="178,-19,-178,-16"),
    build_query(tiles=["22KGV", "01KAB"]),
    build_query(datetime="2019-01-02/2019-01-04"),
    build_query(datetime="../2019-01-03"),
    build_query(datetime="2019-01-05/..", limit=4),
    build_query(ids=["S2_3", "S2_5", "nowhere"]),
    build_query(limit=3),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_file_answers_as_an_api_does(tmp_path: Path, query: SceneQuery) -> None:
    boxes = [(-50.0, -23.0, -49.0, -22.0), (179.1, -18.0, 179.9, -17.0), (10.0, 40.0, 11.0, 41.0)]
    tiles = ["22KFV", "01KAB", "22KGV"]
    items = [
        make_item(f"S2_{i}", f"2019-01-0{1 + i % 7}T10:00:00.5Z", tiles[i % 3], boxes[i % 3])
        for i in range(20)
    ]
    path = write(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    with StacApiServer(items) as api:
        source = PlanetaryComputerSource(api.url, "sentinel-2-l2a")
        assert find(path, query) == list(source.find_items(query))


@pytest.mark.shared
def test_real_items_are_found_in_a_folder(shared_data: Path) -> None:
    folder = shared_data / "pc-items"
    assert len(find_ids(folder)) == 12
    assert find_ids(folder, build_query(tiles=["06VVN"])) == find_ids(folder, build_query(datetime="2019-06"))
    assert find_ids(folder, build_query(bbox="-148,60.5,-147,61")) == [
        "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531"
    ]


def test_the_pages_of_a_server_are_followed_to_their_end() -> None:
    items = [make_item(f"S2_{number:03d}", f"2019-01-01T10:{number:02d}:00Z") for number in range(37)]
    with StacApiServer(items) as api:
        url = f"{api.url}/search?limit=10"
        assert find_ids(url) == [item["id"] for item in items]
        api.search = lambda query, method: {
            "type": "FeatureCollection",
            "features": items[:1],
            "links": [{"rel": "next", "href": url}],
        }
        with pytest.raises(SourceRefused, match="further pages"):
            find(url)


@pytest.mark.parametrize("links", [None, {}, "item.json", 5])
def test_a_catalog_without_a_list_of_links_is_not_taken_to_be_empty(links: Any, tmp_path: Path) -> None:
    write(tmp_path / "catalog.json", {**make_catalog(), "links": links})
    with pytest.raises(SourceRefused, match="list of links"):
        find(tmp_path)
    write(tmp_path / "catalog.json", make_catalog())
    assert find(tmp_path) == []
