"""Hrefs lose what may open them and nothing else; what must not be published is refused."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import InvalidField, ItemError
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.runs.candidate import read_candidate
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import MAX_ASSETS, _tell_of_signatures, unsign_item
from pc_cloudmask.source.item import hash_item, read_scene
from pc_cloudmask.text import unsigned_href
from tests.catalog.items import delete_at, derive, list_paths, make_source_item, set_at, value_at

BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/22/K/FV/B02_10m.tif"
SAS = (
    "st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T00%3A00%3A00Z&sp=rl&sv=2024-05-04&sr=c"
    "&skoid=9c8ff44a&sktid=72f988bf&skt=2026-01-01T00%3A00%3A00Z&ske=2026-01-08T00%3A00%3A00Z&sks=b"
    "&skv=2024-05-04&sig=Zm9vYmFy%2Bx%3D%3D"
)
AMAZON = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101&X-Amz-Date=20260101T000000Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t&X-Amz-Signature=0a1b"
)

STRIPPED = [
    (f"{BLOB}?{SAS}", BLOB),
    (f"{BLOB}?{SAS.upper()}", BLOB),
    (f"{BLOB}?{SAS}#page", BLOB),
    (f"{BLOB}?format=png&{SAS}&nodata=0", f"{BLOB}?format=png&nodata=0"),
    (f"{BLOB}?{AMAZON}", BLOB),
    (f"{BLOB}?{AMAZON}&versionId=3", f"{BLOB}?versionId=3"),
    (f"{BLOB}?{AMAZON.replace('Amz', 'Goog')}", BLOB),
    (
        f"{BLOB}?AWSAccessKeyId=AKIA&Signature=0a%3D&x-amz-security-token=t&Expires=1700000000&a=1",
        BLOB,
    ),
    (f"{BLOB}?GoogleAccessId=x%40y.iam&Expires=1700000000&Signature=0a1b", BLOB),
    (f"{BLOB}?Policy=e30&Signature=0a1b&Key-Pair-Id=K2", BLOB),
    (f"{BLOB}?sig=x", BLOB),
    (f"{BLOB}?%73ig=x&s%65=1&format=png", f"{BLOB}?format=png"),
    (f"{BLOB}#{SAS}", BLOB),
    (f"{BLOB}#access_token=x", BLOB),
    (f"{BLOB};sig=x", BLOB),
    (f"{BLOB}&sig=x", BLOB),
    (f"{BLOB}?s3cr3t", BLOB),
    (f"{BLOB}?", BLOB),
    ("https://example.com/x?token=a&api_key=b&apikey=c&subscription-key=d&key=e", "https://example.com/x"),
    ("https://b.oss.example.com/x?OSSAccessKeyId=a&Expires=1&Signature=b", "https://b.oss.example.com/x"),
    (
        "https://example.com/x?url=https%3A%2F%2Fb.example.com%2Fy%3Fsig%3Da&format=png",
        "https://example.com/x?format=png",
    ),
    ("https://example.com/x?item=https%253A%252F%252Fa%2540b&assets=a%26sig%3Db", "https://example.com/x"),
    (
        "https://example.com/p/https%3A%2F%2Fu%3Ap%40h%2Fy%3Fsig%3Da",
        "https://example.com/p/https%3A%2F%2Fh%2Fy",
    ),
    (
        "https://example.com/p/https%253A%252F%252Fu%2540h%252Fy",
        "https://example.com/p/https%253A%252F%252Fh%252Fy",
    ),
    ("/vsicurl/https://u:p@example.com/x.tif?sig=a", "/vsicurl/https://example.com/x.tif"),
    ("/vsicurl?pc_url_signing=yes&url=https%3A%2F%2Fexample.com%2Fx%3Fsig%3Da", "/vsicurl"),
    ("s3://key:pw@bucket/x.tif", "s3://bucket/x.tif"),  # pragma: allowlist secret
    ("s3://AKIA:a/b+c@bucket/x.tif", "s3://bucket/x.tif"),  # pragma: allowlist secret
    ("https://user:p@ss@example.com/x", "https://example.com/x"),  # pragma: allowlist secret
    ("https:user:pass@example.com/x", "https:example.com/x"),  # pragma: allowlist secret
    (
        "abfs://container:pw@account.example.com/x",  # pragma: allowlist secret
        "abfs://container@account.example.com/x",
    ),  # pragma: allowlist secret
    ("https://example.com/x?a=%2B%2f&&b", "https://example.com/x"),
    ("https://example.com/x?sr=4326&st=open&se=2&sp=1", "https://example.com/x"),
    ("https://example.com/x#a?sig=b", "https://example.com/x"),
    ("B02.tif?token=x", "B02.tif"),
    ("B02.tif#token=x", "B02.tif"),
]
KEPT = [
    BLOB,
    "B02.tif",
    "/data/with a blank/B02.tif",
    "https://example.com/tilejson.json?collection=sentinel-2-l2a&item=a&assets=visual&asset_bidx=visual%7C1%2C2",
    "https://example.com/preview.png?collection=c&items=a&assets=visual&bidx=1,2,3&nodata=0&rescale=0%2C4000",
    "https://example.com/x?expression=(B08-B04)/(B08%2BB04)&colormap_name=rdylgn&tile_scale=2&tile_format=png",
    "https://example.com/x?versionId=3/L4kqtJlcpXroDTDmJ%2BrmSpXd3QmwHqbS",
    "https://example.com/stac-browser/#/external/example.com/catalog.json",
    "https://example.com/year=2019/a@b.tif",
    "abfs://container@account.dfs.core.windows.net/B02.tif",
    "/data/#1/B02.tif",
    "a#1.tif",
    "",
]


@pytest.mark.parametrize(("signed", "unsigned"), STRIPPED)
def test_what_opens_an_href_goes(signed: str, unsigned: str) -> None:
    assert unsigned_href(signed) == unsigned


@pytest.mark.parametrize("href", KEPT)
def test_everything_else_stays_as_it_is_written(href: str) -> None:
    assert unsigned_href(href) == href


queries = st.lists(
    st.sampled_from(
        [
            "sig=abc",
            "se=2026",
            "sv=1",
            "collection=s2",
            "st",
            "",
            "a=%2B",
            "X-Amz-Signature=1",
            "Key-Pair-Id=K",
            "assets=a%26sig%3Db",
        ]
    )
)


@given(st.sampled_from([BLOB, "B02.tif", ""]), queries, st.sampled_from(["", "#", "#a?sig=b"]))
def test_stripping_twice_is_stripping_once(base: str, query: list[str], fragment: str) -> None:
    once = unsigned_href(f"{base}?{'&'.join(query)}{fragment}")
    assert unsigned_href(once) == once
    assert once.partition("?")[0] == base
    kept = [part for part in query if part == "collection=s2"]
    assert once.partition("?")[2] == "&".join(kept)


def sign(item: Item) -> Item:
    """Every href with a signature, as the Planetary Computer's own client leaves an item."""
    signed = deepcopy(item)
    for holder in [*signed["assets"].values(), *signed["links"]]:
        holder["href"] += ("&" if "?" in holder["href"] else "?") + SAS
    return signed


def with_alternate(href: str) -> Item:
    return set_at(make_source_item(), ("assets", "B02", "alternate"), {"azure": {"href": href}})


def test_stripping_an_item_undoes_its_signing() -> None:
    item = make_source_item()
    assert unsign_item(sign(item)) == unsign_item(item) == item
    assert "sig=" not in str(unsign_item(with_alternate(f"{BLOB}?{SAS}")))


@pytest.mark.parametrize(
    "path",
    [
        ("properties", "rendered"),
        ("assets", "B02", "vrt"),
        ("assets", "B02", "table:columns"),
        ("links", 4, "title"),
    ],
)
def test_no_url_anywhere_keeps_its_signature(path: tuple[str | int, ...]) -> None:
    href = f"{BLOB}?{SAS}"
    item = set_at(make_source_item(), path, [{"url": [href]}] if path[-1] == "table:columns" else href)
    assert "sig=" not in str(unsign_item(item))
    assert "sig=" not in str(derive(unsign_item(item)))
    assert BLOB in str(unsign_item(item))


def test_stripping_changes_no_item_and_lets_the_copy_be_changed() -> None:
    item = sign(make_source_item())
    before = deepcopy(item)
    stripped = unsign_item(item)
    for holder in [*stripped["assets"].values(), *stripped["links"]]:
        holder["href"] = "elsewhere"
    assert item == before


def test_what_is_no_asset_or_link_stays_to_be_judged() -> None:
    item = {"id": "x", "assets": {"B02": "text", "B03": {"href": 3}}, "links": [None, {"rel": "self"}]}
    assert unsign_item(item) == item
    assert unsign_item({"assets": [], "links": {}}) == {"assets": [], "links": {}}


def test_a_source_s_items_are_unsigned_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pc_cloudmask.text")
    plain = read_candidate(make_source_item(), {"csmask": MaskParameters()})
    _tell_of_signatures.cache_clear()
    for _ in range(2):
        candidate = read_candidate(unsign_item(sign(make_source_item())), {"csmask": MaskParameters()})
        assert (candidate.item, candidate.fingerprint) == (plain.item, plain.fingerprint)
    assert caplog.text.count("lose users") == 1


def test_neither_order_nor_links_change_the_hash() -> None:
    item = make_source_item()
    expected = hash_item(item)
    assert hash_item(delete_at(item, ("links",))) == expected
    reordered = dict(reversed(item.items()))
    reordered["properties"] = dict(reversed(item["properties"].items()))
    reordered["assets"] = dict(reversed(item["assets"].items()))
    assert hash_item(reordered) == expected


PATHS = [path for path in list_paths(make_source_item()) if path[0] != "links"]


@given(st.sampled_from(PATHS), st.sampled_from(["another", 17.25, None, [1], {"a": 1}]))
def test_any_other_change_changes_the_hash(path: tuple[str | int, ...], value: Any) -> None:
    item = make_source_item()
    assert value_at(item, path) != value
    assert hash_item(set_at(item, path, value)) != hash_item(item)
    assert hash_item(delete_at(item, path)) != hash_item(item)


def test_an_archive_may_be_moved() -> None:
    hashes = {
        hash_item(set_at(make_source_item(), ("assets", "B02", "href"), href))
        for href in ("B02.tif", "/here/B02.tif", "../there/B02.tif")
    }
    assert len(hashes) == 1
    assert hash_item(set_at(make_source_item(), ("assets", "B02", "href"), "/here/B03.tif")) not in hashes


FIT = [
    BLOB,
    "http://127.0.0.1:8000/B02.tif",
    "s3://bucket/B02.jp2",
    "gs://bucket/B02.jp2",
    "abfs://container@account.dfs.core.windows.net/B02.tif",
    "B02.tif",
    "./B02.tif",
    "../B02.tif",
    "/data/with a blank/B02.tif",
    "folder/a:b.tif",
    "https://example.com/a@b.tif",
]
UNFIT = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "data:text/html;base64,PHNjcmlwdD4=",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:https://example.com/x",
    "C:\\images\\B02.tif",
    "a:b.tif",
    " javascript:alert(1)",
    "java\nscript:alert(1)",
    "\x01javascript:alert(1)",
    "https://example.com/a\r\nSet-Cookie: b",
    "https://example.com/\u202egnp.tif",
    "//example.com/B02.tif",
    "\\\\host\\B02.tif",
    "https://user:password@example.com/B02.tif",  # pragma: allowlist secret
    "HTTPS://token@example.com",
    "s3://key:password@bucket/B02.tif",  # pragma: allowlist secret
    "https://example.com/" + "x" * 5000,
    "B02.tif ",
    "",
    None,
    7,
    ["https://example.com"],
]
HOLDERS = {
    "an asset": ("assets", "B02", "href"),
    "the link to itself": ("links", 3, "href"),
    "the licence": ("links", 4, "href"),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("href", FIT)
def test_a_fit_href_is_published(path: tuple[str | int, ...], href: str) -> None:
    item = derive(set_at(make_source_item(), path, href))
    published = [holder["href"] for holder in (item["assets"]["B02"], *item["links"])]
    assert href in published


@pytest.mark.parametrize("path", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("href", UNFIT, ids=lambda href: ascii(href)[:40])
def test_an_unfit_href_refuses_the_item(path: tuple[str | int, ...], href: Any) -> None:
    with pytest.raises(ItemError) as caught:
        read_scene(set_at(make_source_item(), path, href))
    assert caught.value.field.startswith(".".join(map(str, path[:2])))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert "password" not in str(caught.value).replace("user name or password", "")


@pytest.mark.parametrize("href", UNFIT, ids=lambda href: ascii(href)[:40])
def test_an_unfit_alternate_refuses_the_item(href: Any) -> None:
    with pytest.raises(ItemError, match=r"assets\.B02\.alternate"):
        read_scene(with_alternate(href))


def test_links_that_are_not_published_may_lead_anywhere() -> None:
    item = derive(set_at(make_source_item(), ("links", 5, "href"), "javascript:alert(1)"))
    assert "javascript" not in str(item)


def test_more_assets_than_any_scene_has_are_refused() -> None:
    item = make_source_item()
    item["assets"] |= {f"x{number}": {"href": "x.tif"} for number in range(MAX_ASSETS)}
    with pytest.raises(InvalidField, match=": assets are more than"):
        read_scene(item)
