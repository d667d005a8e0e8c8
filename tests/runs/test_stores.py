"""The same run into a directory and into a bucket."""

from __future__ import annotations

from pathlib import Path

import boto3
import orjson
import pytest

from pc_cloudmask.errors import StoreRefused
from pc_cloudmask.runs.request import IngestRequest
from tests.direct_runs import read_tree, run_directly
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("fixed_clock")


@pytest.mark.slow
def test_a_bucket_holds_the_same_keys_and_bytes_as_a_directory_save_for_hrefs(
    served_items: str, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    bucket = s3_server.create_bucket()
    reports = [
        run_directly(IngestRequest(items=served_items, store=store))
        for store in (f"s3://{bucket}/masks", str(tmp_path))
    ]
    assert reports[0].published
    assert reports[0].published == reports[1].published
    assert _without_hrefs(_read_bucket(bucket)) == _without_hrefs(read_tree(tmp_path))


def test_a_store_for_a_single_writer_ends_a_run_before_any_scene_and_holds_nothing_against_one(
    served_items: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.use(monkeypatch)
    bucket = s3_server.create_bucket("careless")
    request = IngestRequest(items=served_items, store=f"s3://{bucket}/masks")
    with pytest.raises(StoreRefused, match="ignores conditional writes"):
        run_directly(request)
    client = boto3.session.Session().client("s3")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0  # no scene is noted as failed
    client.close()


def _read_bucket(bucket: str) -> dict[str, bytes]:
    client = boto3.session.Session().client("s3")
    listed = client.list_objects_v2(Bucket=bucket, Prefix="masks/")["Contents"]
    objects = {
        entry["Key"].removeprefix("masks/"): client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for entry in listed
    }
    client.close()
    return objects


def _without_hrefs(objects: dict[str, bytes]) -> dict[str, object]:
    return {
        key: _drop_hrefs([orjson.loads(line) for line in body.splitlines()])
        if key.endswith((".json", ".jsonl"))
        else body
        for key, body in objects.items()
    }


def _drop_hrefs(value: object) -> object:
    if isinstance(value, dict):
        # The id of an event of the change feed follows from its item, hrefs included.
        left_out = {"id"} if "specversion" in value else {"href"}
        return {key: _drop_hrefs(inner) for key, inner in value.items() if key not in left_out}
    return [_drop_hrefs(inner) for inner in value] if isinstance(value, list) else value
