"""What the change feed tells is pushed to a topic, and a topic that is out of reach stops nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.push import TopicPush
from pc_cloudmask.settings import read_settings
from tests.catalog.publications import CONTEXT, NOW, build_publication, keys_of, product_id, read_feed
from tests.doubles.memory_store import MemoryStore
from tests.doubles.s3_server import S3Server

IDS = [product_id(number) for number in range(12)]


@pytest.fixture
def topic(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The ARN of a topic and the URL of a queue that takes of it what has few clouds."""
    s3_server.use(monkeypatch)
    sns, sqs = (boto3.session.Session().client(name) for name in ("sns", "sqs"))
    arn = sns.create_topic(Name="masks")["TopicArn"]
    url = sqs.create_queue(QueueName="masks")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wanted = {"cloud_cover": [{"numeric": ["<", 10]}], "bbox.ur_lat": [{"numeric": ["<", 0]}]}
    attributes = {"FilterPolicy": json.dumps(wanted), "RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue, Attributes=attributes)
    yield arn, url
    for client in (sns, sqs):
        client.close()


def publish(store: MemoryStore, push: TopicPush, *item_ids: str) -> None:
    publisher = Publisher(store, CONTEXT, NOW)
    publisher.push = push
    for item_id in item_ids:
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs(map(keys_of, item_ids))


def receive(url: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    client = boto3.session.Session().client("sqs")
    while found := client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
    ).get("Messages"):
        messages += found
    client.close()
    return messages


@pytest.mark.slow
def test_a_queue_gets_the_events_that_its_filter_wants(topic: tuple[str, str]) -> None:
    arn, url = topic
    store, push = MemoryStore(), TopicPush(arn)
    publish(store, push, *IDS)
    events = {event["id"]: event for event in read_feed(store)}
    wanted = {each for each, event in events.items() if event["data"]["cloud_percentage"] < 10}
    messages = receive(url)
    got = {event["id"]: event for event in (json.loads(message["Body"]) for message in messages)}
    assert got == {each: events[each] for each in wanted}
    assert 0 < len(wanted) < len(IDS)
    assert push.unpushed == 0
    attributes = messages[0]["MessageAttributes"]
    assert {name: each["DataType"] for name, each in attributes.items()} == {
        **dict.fromkeys(("collection", "datetime", "start_datetime", "end_datetime", "status"), "String"),
        **dict.fromkeys(
            ("bbox.ll_lon", "bbox.ll_lat", "bbox.ur_lon", "bbox.ur_lat", "cloud_cover"), "Number"
        ),
    }
    assert attributes["status"]["StringValue"] == "created"


def test_a_topic_that_is_not_there_stops_nothing_and_is_counted(
    topic: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    store, push = MemoryStore(), TopicPush(topic[0].replace(":masks", ":nobody"))
    publish(store, push, *IDS)
    assert [event["subject"] for event in read_feed(store)] == IDS
    assert push.unpushed == len(IDS)
    assert "10 events were not pushed" in caplog.text
    assert "the change feed has them" in caplog.text


@pytest.mark.parametrize("topic", ["masks", "arn:aws:sqs:us-east-1:123456789012:masks"])
def test_a_topic_that_is_none_is_named(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_SNS_TOPIC", topic)
    with pytest.raises(SettingsError, match=r"CLOUDMASK_SNS_TOPIC.*ARN"):
        read_settings()
