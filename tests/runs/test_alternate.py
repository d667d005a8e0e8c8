"""A bucket whose items tell their place in it, next to items that do not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import boto3
import orjson
import pytest

from pc_cloudmask.catalog.check import CheckOptions, check_catalog
from pc_cloudmask.catalog.export import ITEMS_NAME, export_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.viewing.library import find_items, read_classes
from tests.direct_runs import run_directly
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("fixed_clock")


def test_an_item_s_alternates_are_the_same_files_by_another_way(
    served_items: str, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    url = f"s3://{s3_server.create_bucket()}/masks"
    request = IngestRequest(items=served_items, store=url, limit=2)
    first, *others = run_directly(request).published
    monkeypatch.setenv("CLOUDMASK_ALTERNATE", "s3")
    again = request.model_copy(update={"ids": (first,), "force": True})
    assert not run_directly(request).published  # no reason to make masks again
    assert run_directly(again).published == (first,)

    assert others
    context = RunContext.of(request)
    for repair in (False, True):
        options = CheckOptions(deep=True)
        report = check_catalog(
            context.store, CatalogContext(), repair=repair, now=context.now, options=options
        )
        assert not report.findings
    items = {item.id: item for item in find_items(store=url)}
    assert items.keys() == {first, *others}
    assert not any("alternate" in items[each].assets["cloudmask"].extra_fields for each in others)
    client = boto3.session.Session().client("s3")
    for name in ("cloudmask", "cloudmask-preview"):
        asset = items[first].assets[name]
        href = urlsplit(asset.extra_fields["alternate"]["s3"]["href"])
        body = client.get_object(Bucket=href.netloc, Key=href.path[1:])["Body"].read()
        assert asset.extra_fields["file:size"] == len(body)
        assert asset.href == href.geturl()
    client.close()
    assert read_classes(items[first]).shape

    assert rebuild_mirror(context.store, context.publisher).left_out == ()
    export_catalog(context.store, tmp_path, "https://masks.example.com")
    lines = (tmp_path / ITEMS_NAME).read_bytes().splitlines()
    exported = {item["id"]: item["assets"]["cloudmask"] for item in map(orjson.loads, lines)}
    assert exported[first]["alternate"]["s3"]["href"].startswith(f"{url}/")
    assert exported[first]["href"].startswith("https://masks.example.com/")


def test_a_directory_has_no_such_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_ALTERNATE", "s3")
    assert RunContext.of(IngestRequest(store=str(tmp_path))).bucket is None


def test_what_is_known_of_a_bucket_is_what_it_says_itself(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    monkeypatch.setenv("CLOUDMASK_ALTERNATE", "s3")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    bucket = s3_server.create_bucket()
    place = RunContext.of(IngestRequest(store=f"s3://{bucket}/masks")).bucket
    assert place is not None
    assert (place.url, place.bucket, place.endpoint) == (f"s3://{bucket}/masks", bucket, s3_server.url)
    assert (place.region, place.requester_pays) == ("us-east-1", True)  # moto's, not this client's
