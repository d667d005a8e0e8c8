"""The further ways to what is published: the bucket's hrefs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pystac
import pytest

from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, AssetFile
from pc_cloudmask.catalog.item import ALTERNATE_URI, STORAGE_URI, build_scheme
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.storage.store import BucketPlace
from tests.catalog.items import derive, make_parts, make_source_item
from tests.offline_validator import OfflineValidator

AWS = BucketPlace("s3://masks/prod", "https://s3.eu-central-1.amazonaws.com", "eu-central-1")
OWN = BucketPlace("s3://masks", "https://objects.example.com:9000", "default", requester_pays=True)
AWS_SCHEME = {
    "type": "aws-s3",
    "platform": "https://{bucket}.s3.{region}.amazonaws.com",
    "bucket": "masks",
    "region": "eu-central-1",
}


@pytest.mark.parametrize(
    ("place", "scheme"),
    [
        (AWS, AWS_SCHEME),
        (replace(AWS, requester_pays=True), {**AWS_SCHEME, "requester_pays": True}),
        (
            replace(AWS, endpoint="https://s3.amazonaws.com", region=None),
            {"type": "custom-s3", "platform": "https://s3.amazonaws.com", "bucket": "masks"},
        ),
        (
            OWN,
            {
                "type": "custom-s3",
                "platform": "https://objects.example.com:9000",
                "bucket": "masks",
                "region": "default",
                "requester_pays": True,
            },
        ),
    ],
)
def test_a_scheme_tells_what_is_known_of_the_bucket(place: BucketPlace, scheme: dict[str, Any]) -> None:
    assert build_scheme(place) == scheme


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:9000",
        "http://localhost:9000",
        "http://[::1]:9000",
        "http://10.0.3.4:9000",
        "http://minio:9000",
        "http://minio.storage.svc.cluster.local",
        "https://user:word@objects.example.com",  # pragma: allowlist secret
        "https://objects.example.com?sig=abc",
    ],
)
def test_an_endpoint_that_is_nobody_s_business_is_not_published(endpoint: str) -> None:
    place = replace(OWN, endpoint=endpoint)
    assert build_scheme(place) is None
    item = derive(bucket=place)
    assert "storage" not in str(item)
    assert endpoint not in str(item)
    assert item["assets"]["cloudmask"]["alternate"]["s3"]["href"].startswith("s3://masks/")


def test_each_asset_of_ours_has_its_place_in_the_bucket(stac_validator: OfflineValidator) -> None:
    keys = make_parts().keys
    file = AssetFile(keys.asset("cloud-probability", "3c" * 32, "tif"), b"x", COG_MEDIA_TYPE, "3c" * 32)
    plain, item = derive(probability=file), derive(probability=file, bucket=AWS)
    assert item["stac_extensions"] == [*plain["stac_extensions"], ALTERNATE_URI, STORAGE_URI]
    assert item["properties"] == {**plain["properties"], "storage:schemes": {"cloudmask-store": AWS_SCHEME}}
    found = {name: asset.pop("alternate") for name, asset in item["assets"].items() if "alternate" in asset}
    assert item["assets"] == plain["assets"]
    assert list(item["assets"]) == list(plain["assets"])
    assert found == {
        name: {
            "s3": {
                "href": f"s3://masks/prod/{keys.prefix}{plain['assets'][name]['href'].removeprefix('./')}",
                "alternate:name": "S3",
                "storage:refs": ["cloudmask-store"],
            }
        }
        for name in ("cloudmask", "cloudmask-preview", "cloud-probability")
    }
    pystac.validation.validate_dict(derive(bucket=AWS), validator=stac_validator)


def test_an_item_without_a_bucket_is_as_ever() -> None:
    assert derive(bucket=None) == derive()
    assert "alternate" not in str(derive())


def test_what_the_source_says_of_its_own_storage_gives_way() -> None:
    source = make_source_item()
    source["properties"] |= {"storage:platform": "AZURE", "storage:schemes": {"aws": {"type": "aws-s3"}}}
    elsewhere = {"href": "s3://theirs/b04.tif", "storage:refs": ["aws"]}
    source["assets"]["B04"] |= {"storage:refs": ["aws"], "alternate": {"s3": elsewhere}}
    source["assets"]["B08"]["alternate"] = "no object"
    read_scene(source)
    item = derive(source, bucket=AWS)
    assert [name for name in item["properties"] if name.startswith("storage:")] == ["storage:schemes"]
    assert item["properties"]["storage:schemes"] == {"cloudmask-store": AWS_SCHEME}
    assert item["assets"]["B04"]["alternate"] == {"s3": {"href": "s3://theirs/b04.tif"}}
    assert "storage:refs" not in item["assets"]["B04"]
    assert "alternate" not in item["assets"]["B08"]
    local = derive(source, bucket=replace(OWN, endpoint="http://localhost"))
    assert local["assets"]["B04"]["alternate"] == {"s3": elsewhere}
