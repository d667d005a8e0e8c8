"""The policies of `deploy/s3` allow what each role asks of a bucket, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_ID, changes_key
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import Failure, clear_state, list_states, record_failed, record_waiting
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.storage.stores import open_store
from pc_cloudmask.viewing.library import find_items, read_classes
from tests.catalog.publications import CONTEXT, NOW, build_publication, keys_of, product_id
from tests.deploy.policies import (
    BUCKET,
    POLICIES,
    PREFIX,
    Call,
    Recorder,
    ask_of_ceph,
    call_list,
    call_object,
    read_policy,
    read_policy_for_ceph,
    recording_server,
)
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.slow

FIRST, SECOND = product_id(0), product_id(5)
REISSUED = product_id(0, made="20210101T000000")
TILE_FOLDER = f"{COLLECTION_ID}/22K/22KFV/2018"
PRIVATE = ("_pending/x.json", "_waiting/x.json", "_failed/x.json", "_provisional/x.json", "_watch/x.json")
Record = Callable[[], set[Call]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Recorder]]:
    with recording_server() as (url, recorder):
        S3Server(url).use(monkeypatch)
        client = boto3.session.Session().client("s3")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield url, recorder


@pytest.fixture
def store(server: tuple[str, Recorder]) -> ObjectStore:
    return open_store(f"s3://{BUCKET}/{PREFIX}")


@pytest.fixture
def record(server: tuple[str, Recorder]) -> Record:
    """What was asked since the last time."""
    _, recorder = server

    def take() -> set[Call]:
        calls, recorder.calls = recorder.calls, set()
        return calls

    return take


def build_publisher(store: ObjectStore) -> Publisher:
    return Publisher(store, CONTEXT, NOW)


def publish(store: ObjectStore, *item_ids: str) -> None:
    publisher = build_publisher(store)
    for item_id in item_ids:
        publication = build_publication(item_id)
        publication.item["properties"]["s2:mgrs_tile"] = publication.keys.year_keys.tile
        publisher.publish_item(publication)
    publisher.publish_catalogs(map(keys_of, item_ids))


def refused(policy: str, calls: set[Call]) -> set[Call]:
    """Those of the calls, and of what S3 asks on their account, that the policy does not allow."""
    rules = read_policy(policy)
    return {question for call in calls for question in call.questions if not rules.allows(question)}


def unused(policy: str, calls: set[Call]) -> set[tuple[str, str]]:
    """Rights, as statement and action, that none of the calls needs."""
    rules = read_policy(policy)
    questions = [question for call in calls for question in call.questions]
    used = {(sid, question.action) for question in questions for sid in rules.allowing(question)}
    given = set()
    for statement in rules.statements:
        actions = statement["Action"]
        if statement["Effect"] == "Allow":
            given |= {
                (statement["Sid"], each) for each in ([actions] if isinstance(actions, str) else actions)
            }
    return given - used


def test_the_writer_may_do_what_publishing_does_and_needs_every_right(
    store: ObjectStore, record: Record
) -> None:
    publish(store, FIRST, SECOND)
    publish(store, REISSUED)
    record_waiting(store, "late", "no image yet", NOW)
    record_failed(store, "broken", Failure("AssetRefused", "no TIFF", retryable=False), NOW)
    assert len(list(list_states(store))) == 2
    clear_state(store, "late")
    publisher = build_publisher(store)
    publisher.withdraw([keys_of(SECOND)], "gone")
    publisher.recover()
    rebuild_mirror(store, publisher)
    store.delete_object(keys_of(FIRST).year_keys.catalog)
    assert check_catalog(store, CONTEXT, repair=True, now=NOW).problems == 1
    calls = record()
    assert {call.action for call in calls} >= {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    assert not refused("writer", calls)
    assert not unused("writer", calls)


def test_the_writer_stays_below_its_prefix() -> None:
    writer = read_policy("writer")
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert not writer.allows(
            replace(call_object(action, ""), resource=f"arn:aws:s3:::{BUCKET}/other/key")
        )
        assert not writer.allows(replace(call_object(action, ""), resource="arn:aws:s3:::elsewhere/prod/key"))
    assert not writer.allows(call_list("")), "the names of other prefixes"


def test_the_withdrawer_may_withdraw_and_needs_every_right(store: ObjectStore, record: Record) -> None:
    publish(store, FIRST, SECOND)
    record()
    withdrawing = open_store(store.url)
    build_publisher(withdrawing).withdraw([keys_of(SECOND)], "gone")
    for call in (withdrawing.read_object, withdrawing.delete_object):
        call("_watch/area.json")
    withdrawing.write_object("_watch/area.json", b"{}", "application/json")
    list(withdrawing.list_objects("_watch/"))
    calls = record()
    assert any(call.resource.endswith("withdrawn.json") for call in calls)
    assert not refused("withdrawer", calls)
    assert not unused("withdrawer", calls)


@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("s3:PutObject", f"{TILE_FOLDER}/{FIRST}/cloudmask-0123456789abcdef.tif"),
        ("s3:PutObject", f"{COLLECTION_ID}/items/items-0123456789abcdef.parquet"),
        ("s3:PutObject", f"{COLLECTION_ID}/collection.json"),
        ("s3:PutObject", f"{COLLECTION_ID}/22K/22KFV/catalog.json"),
        ("s3:PutObject", CATALOG_KEY),
        ("s3:PutObject", "_failed/x.json"),
        ("s3:DeleteObject", f"{TILE_FOLDER}/{FIRST}/{FIRST}.json"),
        ("s3:DeleteObject", f"{TILE_FOLDER}/catalog.json"),
        ("s3:GetObject", "_failed/x.json"),
    ],
)
def test_the_withdrawer_may_do_nothing_else(action: str, key: str) -> None:
    assert not read_policy("withdrawer").allows(call_object(action, key))
    assert read_policy("writer").allows(call_object(action, key)), "the case itself is wrong"


@pytest.mark.parametrize("policy", ["reader", "bucket-policy"])
def test_readers_may_read_and_need_every_right(policy: str, store: ObjectStore, record: Record) -> None:
    publish(store, FIRST)
    record()
    (item,) = find_items("22KFV", store=store.url)
    with pytest.raises(Exception, match="mask"):
        read_classes(item)  # the publication's pixels are none
    assert find_items("33UUP", store=store.url) == [], "a tile that is not there is no error"
    today, tomorrow = (changes_key(NOW.date() + timedelta(days=number)) for number in (0, 1))
    assert store.read_part(today, 0, 10) is not None
    assert store.read_part(tomorrow, 0, 10) is None
    calls = record()
    assert not refused(policy, calls)
    assert not unused(policy, calls)


@pytest.mark.parametrize("policy", ["reader", "bucket-policy"])
def test_readers_see_what_is_public_and_nothing_else(policy: str) -> None:
    reader = read_policy(policy)
    for key in PRIVATE:
        assert not reader.allows(call_object("s3:GetObject", key))
        assert not reader.allows(call_list(key))
    for prefix in ("", "_", "_failed/", "sentinel-2-l2a-cloudmask-of-others/"):
        assert not reader.allows(call_list(f"{PREFIX}/{prefix}"))
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert not reader.allows(call_object(action, CATALOG_KEY))


@pytest.mark.parametrize("policy", ["reader", "writer", "bucket-policy"])
def test_ceph_says_of_a_missing_key_that_it_is_missing(policy: str) -> None:
    """Tried with a gateway of Ceph 16.2.15: without the statement it answers 403, which ends a run."""
    missing = ask_of_ceph(call_object("s3:GetObject", f"{TILE_FOLDER}/catalog.json"))
    assert len(missing) == 2
    assert not all(read_policy(policy).allows(question) for question in missing)
    assert all(read_policy_for_ceph(policy).allows(question) for question in missing)


@pytest.mark.parametrize("policy", ["reader", "bucket-policy"])
def test_the_statement_for_ceph_lists_and_reads_nothing(policy: str) -> None:
    plain, with_statement = read_policy(policy), read_policy_for_ceph(policy)
    for prefix in (
        "",
        "_failed/",
        f"{PREFIX}/",
        f"{PREFIX}/_failed/",
        "other/",
        f"{PREFIX}/{COLLECTION_ID}/",
    ):
        assert with_statement.allows(call_list(prefix)) == plain.allows(call_list(prefix))
    for key in PRIVATE:
        assert not with_statement.allows(call_object("s3:GetObject", key))


def test_nobody_reads_the_bucket_over_plain_http() -> None:
    statements = json.loads((POLICIES / "bucket-policy.json").read_text())["Statement"]
    (denied,) = (each for each in statements if each["Effect"] == "Deny")
    assert denied["Action"] == "s3:*"
    assert denied["Principal"] == "*"
    assert denied["Resource"] == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
