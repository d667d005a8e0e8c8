"""What is published of a scene, beside the golden item that ``tests/data`` holds.

To change that one on purpose, run with ``CLOUDMASK_UPDATE_GOLDEN=1``: it is written again, the run fails,
and the difference is there to be read before the next one.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import pystac
import pytest

from pc_cloudmask.catalog.fields import (
    COG_MEDIA_TYPE,
    AssetFile,
    CatalogContext,
    decode_document,
    encode_document,
)
from pc_cloudmask.catalog.item import build_fingerprint, select_parameters
from pc_cloudmask.masking.classes import MaskParameters, MaskStatistics
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.source.fields import Item
from stac_ext.cloudmask import CloudmaskExtension, Percentages
from tests.catalog.items import (
    DATA,
    GRANULE,
    NOW,
    SECOND_GRANULE,
    delete_at,
    derive,
    make_parts,
    make_source_item,
    set_at,
)
from tests.offline_validator import OfflineValidator

UPDATE = "CLOUDMASK_UPDATE_GOLDEN"
GOLDEN = DATA / "derived-item.json"
PUBLIC_URL = "https://masks.example.com/s2"


def validate(item: Item, validator: OfflineValidator) -> None:
    """The document as it is written, by core and every extension that it lists."""
    pystac.validation.validate_dict(decode_document(encode_document(item), "item"), validator=validator)


def test_the_derived_item_is_as_it_was() -> None:
    text = json.dumps(derive(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get(UPDATE):
        GOLDEN.write_text(text, "utf-8")
        pytest.fail(f"{GOLDEN.name} was written: read its difference, then run without {UPDATE}")
    assert text == GOLDEN.read_text("utf-8"), (
        f"the published item changed; if that is meant, run with {UPDATE}=1"
    )


def test_the_derived_item_is_valid(stac_validator: OfflineValidator) -> None:
    validate(derive(), stac_validator)


def test_building_changes_no_part() -> None:
    source = make_source_item()
    derive(source)
    assert source == make_source_item()


def test_every_property_of_the_source_is_there() -> None:
    source, item = make_source_item()["properties"], derive()["properties"]
    assert source.pop("proj:epsg") == 32722
    assert item["proj:code"] == "EPSG:32722"
    assert "proj:epsg" not in item
    assert {name: item[name] for name in source} == source


def test_place_and_identity_are_the_source_s() -> None:
    source, item = make_source_item(), derive()
    for name in ("id", "geometry", "bbox"):
        assert item[name] == source[name]
    assert item["collection"] == "sentinel-2-l2a-cloudmask"


def test_every_asset_of_the_source_is_there_after_the_mask() -> None:
    source, item = make_source_item()["assets"], derive()["assets"]
    assert list(item) == ["cloudmask", "cloudmask-preview", *source]
    assert {name: item[name] for name in source} == source


def test_the_mask_says_what_readers_need() -> None:
    mask = derive()["assets"]["cloudmask"]
    assert mask["href"] == "./cloudmask-1a1a1a1a1a1a1a1a.tif"
    assert mask["roles"] == ["data", "data-mask", "cloud", "cloud-shadow", "overview"]
    assert mask["proj:code"] == "EPSG:32722"
    assert mask["proj:shape"] == [4500, 5000]
    assert mask["proj:transform"] == [20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0]
    assert mask["proj:bbox"] == [600_000.0, 7_410_040.0, 700_000.0, 7_500_040.0]
    assert (mask["data_type"], mask["nodata"]) == ("uint8", 0)
    assert (mask["file:size"], mask["file:checksum"]) == (270_123, "1220" + "1a" * 32)
    classes = {style["name"]: style for style in mask["classification:classes"]}
    assert {name: style["value"] for name, style in classes.items()} == {
        "no-data": 0,
        "clear": 1,
        "cloud": 2,
        "cloud-shadow": 3,
    }
    assert {name for name, style in classes.items() if "color_hint" in style} == {"cloud", "cloud-shadow"}


def test_the_shares_of_valid_pixels_sum_to_the_whole() -> None:
    extension = CloudmaskExtension.ext(pystac.Item.from_dict(derive()))
    assert extension.percentages == Percentages(23.41, 3.72, 72.87, 0.03)


def test_a_mask_without_a_valid_pixel_has_no_shares(stac_validator: OfflineValidator) -> None:
    item = derive(statistics=MaskStatistics(0.0, 0.0, 0.0, 100.0))
    percentages = {name for name in item["properties"] if name.startswith("cloudmask:") and "percent" in name}
    assert percentages == {"cloudmask:nodata_percentage"}
    assert item["properties"]["cloudmask:nodata_percentage"] == 100.0
    validate(item, stac_validator)


def test_few_valid_pixels_have_their_shares_though_no_data_rounds_to_all() -> None:
    properties = derive(statistics=MaskStatistics(0.0, 0.0, 100.0, 100.0))["properties"]
    assert properties["cloudmask:clear_percentage"] == properties["cloudmask:nodata_percentage"] == 100.0


@pytest.mark.parametrize(
    ("image_ids", "ee_image", "ee_images"),
    [
        ((), None, None),
        ((GRANULE,), GRANULE, None),
        ((GRANULE, SECOND_GRANULE), GRANULE, [GRANULE, SECOND_GRANULE]),
    ],
    ids=["none", "one", "two of a split datatake"],
)
def test_the_images_of_earth_engine_are_named_where_there_are_any(
    image_ids: tuple[str, ...], ee_image: Any, ee_images: Any, stac_validator: OfflineValidator
) -> None:
    item = derive(ee_image=EarthEngineImage(image_ids))
    assert item["properties"].get("cloudmask:granule") == ee_image
    assert item["properties"].get("cloudmask:granules") == ee_images
    validate(item, stac_validator)


@pytest.mark.parametrize("method", METHODS)
def test_the_thresholds_are_those_that_the_method_uses(method: str, stac_validator: OfflineValidator) -> None:
    item = derive(method=method)
    assert item["properties"]["cloudmask:method"] == method
    assert set(item["properties"]["cloudmask:parameters"]) == set(METHODS[method].parameters)
    validate(item, stac_validator)


def test_kept_inputs_come_third(stac_validator: OfflineValidator) -> None:
    keys = make_parts().keys
    file = AssetFile(
        keys.asset("cloud-probability", "3c" * 32, "tif"), bytes(1_234_567), COG_MEDIA_TYPE, "3c" * 32
    )
    item = derive(probability=file)
    assert list(item["assets"])[:3] == ["cloudmask", "cloudmask-preview", "cloud-probability"]
    probability = item["assets"]["cloud-probability"]
    assert probability["href"] == "./cloud-probability-3c3c3c3c3c3c3c3c.tif"
    assert (probability["data_type"], probability["nodata"]) == ("uint8", 255)
    assert probability["proj:shape"] == item["assets"]["cloudmask"]["proj:shape"]
    validate(item, stac_validator)


def test_a_probability_of_the_source_stays_unless_ours_takes_its_place() -> None:
    asset = {"href": "https://example.com/probability.tif"}
    source = set_at(make_source_item(), ("assets", "cloud-probability"), asset)
    assert derive(source)["assets"]["cloud-probability"] == asset
    keys = make_parts().keys
    file = AssetFile(keys.asset("cloud-probability", "3c" * 32, "tif"), b"x", COG_MEDIA_TYPE, "3c" * 32)
    assert derive(source, probability=file)["assets"]["cloud-probability"]["file:size"] == 1


def test_links_are_relative_without_a_public_url() -> None:
    links = {link["rel"]: link for link in derive()["links"]}
    assert links["root"]["href"] == "../../../../../catalog.json"
    assert links["parent"]["href"] == "../catalog.json"
    assert links["collection"]["href"] == "../../../../collection.json"
    assert "self" not in links
    assert links["derived_from"]["href"] == make_source_item()["links"][3]["href"]
    assert links["license"]["href"] == make_source_item()["links"][4]["href"]
    assert set(links) == {"root", "parent", "collection", "derived_from", "license"}
    assert all(link["title"] for link in links.values())


def test_every_href_is_absolute_with_a_public_url(stac_validator: OfflineValidator) -> None:
    item = derive(context=CatalogContext(PUBLIC_URL))
    hrefs = [holder["href"] for holder in (*item["links"], *item["assets"].values())]
    assert all(href.startswith("https://") for href in hrefs)
    folder = f"{PUBLIC_URL}/sentinel-2-l2a-cloudmask/22K/22KFV/2018/{item['id']}"
    own = {link["rel"]: link["href"] for link in item["links"]}
    assert own["self"] == f"{folder}/{item['id']}.json"
    assert item["assets"]["cloudmask"]["href"] == f"{folder}/cloudmask-1a1a1a1a1a1a1a1a.tif"
    validate(item, stac_validator)


def test_a_link_s_own_title_stays_and_nothing_unknown_is_published() -> None:
    licence = {"rel": "license", "href": "https://example.com", "title": "CC0", "type": 7, "method": "POST"}
    links = {link["rel"]: link for link in derive(set_at(make_source_item(), ("links", 4), licence))["links"]}
    assert links["license"] == {"rel": "license", "href": "https://example.com", "title": "CC0"}


def test_when_it_was_first_published_stays() -> None:
    created = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    properties = derive(created=created)["properties"]
    assert properties["created"] == "2024-05-06T07:08:09Z"
    assert properties["updated"] == properties["processing:datetime"] == "2026-01-02T03:04:05Z"
    assert derive()["properties"]["created"] == "2026-01-02T03:04:05Z"


def test_the_source_s_own_software_and_title_stay() -> None:
    source = make_source_item()
    source["properties"] |= {"title": "Ours", "processing:software": {"sen2cor": "2.11", "pc-cloudmask": "0"}}
    item = derive(source)
    assert item["properties"]["title"] == "Ours"
    assert item["properties"]["processing:software"] == {
        "sen2cor": "2.11",
        "pc-cloudmask": "0.1.0",
        "earthengine-api": "1.6.0",
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"proj:epsg": 32721}, "EPSG:32721"),
        ({"proj:epsg": None}, None),
        ({"proj:epsg": 32721, "proj:code": "EPSG:32720"}, "EPSG:32720"),
        ({"proj:epsg": "32721"}, None),
    ],
)
def test_the_projection_of_assets_is_brought_up_to_date_too(
    fields: dict[str, Any], code: str | None, stac_validator: OfflineValidator
) -> None:
    source = make_source_item()
    source["assets"]["B02"] |= fields
    item = derive(source)
    assert item["assets"]["B02"]["proj:code"] == code
    assert "proj:epsg" not in item["assets"]["B02"]
    validate(item, stac_validator)


def test_a_published_item_may_be_the_source_of_another(stac_validator: OfflineValidator) -> None:
    """Of the first mask nothing is left: neither its images nor its file."""
    first = derive(ee_image=EarthEngineImage((GRANULE, SECOND_GRANULE)), context=CatalogContext(PUBLIC_URL))
    second = derive(first, method="csmask", ee_image=EarthEngineImage())
    assert "cloudmask:granules" not in second["properties"]
    assert second["assets"]["cloudmask"]["href"].startswith("./")
    assert (
        len(second["stac_extensions"]) == len(set(second["stac_extensions"])) == len(first["stac_extensions"])
    )
    validate(second, stac_validator)


@pytest.mark.parametrize("name", ["links", "stac_extensions", "bbox"])
def test_a_source_may_lack_what_a_scene_does_not_need(name: str, stac_validator: OfflineValidator) -> None:
    validate(derive(delete_at(make_source_item(), (name,))), stac_validator)


def test_the_fingerprint_follows_what_the_mask_follows() -> None:
    source, parameters = make_source_item(), MaskParameters()
    base = build_fingerprint(source, "csmask", parameters)
    assert base == build_fingerprint(source, "csmask", MaskParameters(clear_score=0.1))
    others = {
        build_fingerprint(source, "csmask", MaskParameters(buffer_m=100)),
        build_fingerprint(source, "s2cloudless", parameters),
        build_fingerprint(set_at(source, ("properties", "s2:mean_solar_azimuth"), 95), "csmask", parameters),
    }
    assert len(others | {base}) == 4
    assert select_parameters("csmask", parameters) == {"buffer_m": 50.0}


def test_the_encoded_item_is_the_same_once_it_was_read() -> None:
    body = encode_document(derive())
    assert encode_document(decode_document(body, "item")) == body
    assert derive() == derive(now=NOW)
