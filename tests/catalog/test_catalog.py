"""Every catalog is a pure function of what it links, valid, titled and small."""

from __future__ import annotations

import posixpath
import random
import re
from dataclasses import replace
from itertools import permutations
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog import documents as catalog
from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.fields import CatalogContext, encode_document
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_KEY,
    YearKeys,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.masking.methods import METHODS
from stac_ext import cloudmask
from tests.catalog.items import derive
from tests.offline_validator import OfflineValidator

Document = dict[str, Any]

LEAF = YearKeys("22KFV", 2018)
PUBLIC_URL = "https://masks.example.com/s2"
CONTEXTS = [CatalogContext(), CatalogContext(PUBLIC_URL)]
MIRROR = ("sentinel-2-l2a-cloudmask/items/b.parquet", "sentinel-2-l2a-cloudmask/items/a.parquet")


def item_id(day: int, made: str = "20201008T100849") -> str:
    """The id of a scene on one of the days of 2018, by number."""
    month, day_of_month = day // 28 % 12 + 1, day % 28 + 1
    return f"S2B_MSIL2A_2018{month:02d}{day_of_month:02d}T133219_R081_T22KFV_{made}"


def build_all(context: CatalogContext) -> dict[str, Document]:
    """One document of each kind, by its key."""
    coverage = read_coverage(derive())
    return {
        CATALOG_KEY: catalog.build_root_catalog(context),
        COLLECTION_KEY: catalog.build_collection(context, ["22K", "01C"], coverage, MIRROR),
        zone_catalog_key(LEAF.zone): catalog.build_zone_catalog(context, "22K", ["22KGV", "22KFV"]),
        tile_catalog_key(LEAF.tile): catalog.build_tile_catalog(context, "22KFV", [2019, 2018]),
        LEAF.catalog: catalog.build_year_catalog(context, LEAF, [item_id(3), item_id(1)]),
    }


KEYS = sorted(build_all(CONTEXTS[0]))


@pytest.fixture(params=CONTEXTS, ids=["relative", "absolute"])
def context(request: pytest.FixtureRequest) -> CatalogContext:
    chosen: CatalogContext = request.param
    return chosen


@pytest.mark.parametrize("key", KEYS)
def test_a_document_is_valid(key: str, context: CatalogContext, stac_validator: OfflineValidator) -> None:
    document = build_all(context)[key]
    pystac.validation.validate_dict(document, validator=stac_validator)
    read = pystac.read_dict(document, href=f"{PUBLIC_URL}/{key}")
    # pystac would open these two to say where they lead.
    read.remove_links("root")
    read.remove_links("parent")
    read.validate(validator=stac_validator)


def test_an_empty_collection_is_valid(context: CatalogContext, stac_validator: OfflineValidator) -> None:
    document = catalog.build_collection(context, [], None)
    pystac.validation.validate_dict(document, validator=stac_validator)
    assert document["extent"]["temporal"]["interval"] == [["2015-06-27T00:00:00Z", None]]
    assert "assets" not in document


@pytest.mark.parametrize("key", KEYS)
def test_every_link_has_a_title_and_a_type(key: str, context: CatalogContext) -> None:
    links = build_all(context)[key]["links"]
    assert all(link["title"].strip() and link["type"] for link in links)
    assert len({(link["rel"], link["href"]) for link in links}) == len(links)


def test_links_lead_to_the_documents_they_name(context: CatalogContext) -> None:
    documents = build_all(context)
    met = set()
    for key, document in documents.items():
        for link in document["links"]:
            target = resolve(key, link["href"])
            if link["rel"] in ("root", "parent", "child", "self") and target in documents:
                assert link["title"] == documents[target]["title"]
                met.add((link["rel"], target))
    assert {target for rel, target in met if rel == "child"} == set(documents) - {CATALOG_KEY}
    assert {target for rel, target in met if rel == "parent"} == set(documents) - {LEAF.catalog}
    assert {target for rel, target in met if rel == "root"} == {CATALOG_KEY}
    assert ("self" in {rel for rel, _ in met}) == (context.public_url is not None)


def resolve(key: str, href: str) -> str:
    """The key that ``href`` means in the document at ``key``."""
    if "://" in href:
        return href.removeprefix(f"{PUBLIC_URL}/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(key), href))


def test_every_link_is_absolute_with_a_public_url() -> None:
    for key, document in build_all(CatalogContext(PUBLIC_URL)).items():
        holders = [*document["links"], *document.get("assets", {}).values()]
        assert all(holder["href"].startswith("https://") for holder in holders)
        own = {link["rel"]: link["href"] for link in document["links"]}
        assert own["self"] == f"{PUBLIC_URL}/{key}"
        assert own["root"] == f"{PUBLIC_URL}/{CATALOG_KEY}"


def test_the_items_of_a_year_come_by_time_whatever_their_platform() -> None:
    ids = [item_id(5), item_id(1).replace("S2B", "S2C"), item_id(3).replace("S2B", "S2A")]
    links = catalog.build_year_catalog(CatalogContext(), LEAF, ids)["links"][2:]
    assert [link["title"] for link in links] == [
        "2018-01-02 13:32 Sentinel-2C R081",
        "2018-01-04 13:32 Sentinel-2A R081",
        "2018-01-06 13:32 Sentinel-2B R081",
    ]
    assert links[0]["href"] == f"./{ids[1]}/{ids[1]}.json"
    assert {link["type"] for link in links} == {"application/geo+json"}


@given(st.lists(st.integers(0, 335), max_size=6), st.randoms())
def test_order_and_repetition_change_no_byte_of_a_leaf(days: list[int], shuffle: random.Random) -> None:
    ids = [item_id(day) for day in days]
    expected = encode_document(catalog.build_year_catalog(CatalogContext(), LEAF, sorted(set(ids))))
    shuffle.shuffle(ids)
    assert encode_document(catalog.build_year_catalog(CatalogContext(), LEAF, ids + ids[:2])) == expected


def test_order_changes_no_byte_of_the_catalogs_above() -> None:
    context, coverage = CatalogContext(), read_coverage(derive())
    for names in permutations(["22K", "01C", "60X"]):
        assert catalog.build_collection(context, names, coverage, MIRROR) == catalog.build_collection(
            context, sorted(names), coverage, sorted(MIRROR)
        )
    for tiles in permutations(["22KFV", "22KGV", "22KAB"]):
        assert catalog.build_zone_catalog(context, "22K", tiles) == catalog.build_zone_catalog(
            context, "22K", sorted(tiles)
        )
    assert catalog.build_tile_catalog(context, "22KFV", {2019, 2018}) == catalog.build_tile_catalog(
        context, "22KFV", [2018, 2019, 2018]
    )


def test_building_leaves_no_trace_in_the_next(context: CatalogContext) -> None:
    first = encode_document(catalog.build_collection(context, [], None))
    document = catalog.build_collection(context, ["22K"], read_coverage(derive()), MIRROR)
    document["summaries"].clear()
    document["item_assets"]["cloudmask"].clear()
    catalog.build_root_catalog(context)["links"].clear()
    assert encode_document(catalog.build_collection(context, [], None)) == first


def test_what_a_publication_writes_beside_the_cog_stays_small() -> None:
    """At most 60 kB with 146 scenes a year: those of two satellites where two orbits see the tile."""
    zones = [f"{zone:02d}K" for zone in range(1, 11)]
    collection = catalog.build_collection(CatalogContext(), zones, read_coverage(derive()))
    rest = len(encode_document(collection)) + 20_000 + 300  # the item (see test_real_items), the marker
    year_keys = catalog.build_year_catalog(CatalogContext(), LEAF, [item_id(day) for day in range(146)])
    assert len(encode_document(year_keys)) + rest < 60_000
    fullest = [item_id(day % 150, f"20201008T{day:06d}") for day in range(299)]
    assert len(encode_document(catalog.build_year_catalog(CatalogContext(), LEAF, fullest))) < 66_000


def test_the_collection_says_what_its_items_hold() -> None:
    collection = catalog.build_collection(CatalogContext(), [], read_coverage(derive()))
    mask, described = derive()["assets"]["cloudmask"], collection["item_assets"]["cloudmask"]
    assert {name: mask[name] for name in described} == described
    preview = collection["item_assets"]["cloudmask-preview"]
    assert {name: derive()["assets"]["cloudmask-preview"][name] for name in preview} == preview
    assert collection["renders"]["cloudmask"]["colormap"] == {
        "0": [0, 0, 0, 0],
        "1": [232, 240, 226, 0],
        "2": [255, 64, 160, 255],
        "3": [80, 60, 220, 255],
    }
    assert collection["license"] == "other"
    assert "license" in {link["rel"] for link in collection["links"]}


def test_the_description_tells_of_every_method() -> None:
    description = catalog.build_collection(CatalogContext(), [], None)["description"]
    assert re.findall(r"^- `([a-z0-9-]+)`: \w", description, re.M) == list(METHODS)


def test_only_methods_that_are_there_are_summed_up() -> None:
    everything = catalog.build_collection(CatalogContext(), [], None)["summaries"][cloudmask.METHOD_PROP]
    assert everything == list(METHODS)
    summaries = catalog.build_collection(CatalogContext(), [], read_coverage(derive()))["summaries"]
    assert summaries[cloudmask.METHOD_PROP] == ["s2cloudless"]
    assert summaries["instruments"] == ["msi"]


def test_the_mirror_is_an_asset_for_each_part() -> None:
    collection = catalog.build_collection(CatalogContext(), [], None, MIRROR)
    assert [asset["href"] for asset in collection["assets"].values()] == [
        "./items/a.parquet",
        "./items/b.parquet",
    ]
    assert {tuple(asset["roles"]) for asset in collection["assets"].values()} == {("collection-mirror",)}


@pytest.mark.parametrize(
    ("method", "uses_earth_engine", "has_probability"),
    [("s2cloudless", True, True), ("cloud-score-plus", True, False), ("csmask", False, False)],
)
def test_the_collection_speaks_of_the_methods_that_made_its_masks(
    method: str, uses_earth_engine: bool, has_probability: bool
) -> None:
    coverage = replace(read_coverage(derive()), values={cloudmask.METHOD_PROP: frozenset({method})})
    collection = catalog.build_collection(CatalogContext(), ["22K"], coverage)
    others = METHODS.keys() - {method}
    assert f"- `{method}`" in collection["description"]
    assert METHODS[method].citation in collection["description"]
    assert not any(f"- `{other}`" in collection["description"] for other in others)
    assert method in collection["keywords"]
    assert not others.intersection(collection["keywords"])
    dois = [each["doi"] for each in collection["sci:publications"]]
    assert [link["href"] for link in collection["links"] if link["rel"] == "cite-as"] == [
        f"https://doi.org/{doi}" for doi in dois
    ]
    assert dois == [METHODS[method].doi]
    assert re.fullmatch(r"10[.][0-9]{4,}/\S+", dois[0])
    assert ("Google Earth Engine" in {each["name"] for each in collection["providers"]}) == uses_earth_engine
    assert ("cloud-probability" in collection["item_assets"]) == has_probability
    assert "{methods}" not in collection["description"]
