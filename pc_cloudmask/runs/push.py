"""Push events of the change feed to an SNS topic, with the message attributes of Earth Search.

A message is an event of the feed. Subscribers filter by attributes, which are those of Earth Search, named by Cirrus. A
topic that cannot be reached stops nothing: the feed has every event.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

import orjson

from pc_cloudmask.catalog.feed import ChangeKind, Event, find_kind
from pc_cloudmask.contact import find_ca_bundle
from pc_cloudmask.source.fields import is_number

#: Limit of SNS for one request.
_BATCH = 10
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _ATTEMPTS = 5, 20, 3
#: As in Earth Search; it announces no deletions.
_STATUS = {ChangeKind.PUBLISHED: "created", ChangeKind.REPLACED: "updated", ChangeKind.WITHDRAWN: "deleted"}
_CORNERS = ("bbox.ll_lon", "bbox.ll_lat", "bbox.ur_lon", "bbox.ur_lat")
logger = logging.getLogger(__name__)


class TopicPush:
    """Sends events to the topic; safe to share between threads. ``unpushed`` counts events that it did not accept."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._client: Any = None
        self._lock = threading.Lock()
        self.unpushed = 0

    def __call__(self, events: Sequence[Event]) -> None:
        """Send the events; failures are logged and counted."""
        for first in range(0, len(events), _BATCH):
            batch = events[first : first + _BATCH]
            lost, reason = self._send(batch)
            if lost:
                with self._lock:
                    self.unpushed += lost
                logger.warning(
                    "%d events were not pushed to %s (%s); the change feed has them",
                    lost,
                    self._topic,
                    reason,
                )

    def _send(self, batch: Sequence[Event]) -> tuple[int, str]:
        """Return how many of the batch were not accepted, and why."""
        # boto3 takes a third of a second to import: only runs that push pay for it.
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        entries = [self._build_entry(number, event) for number, event in enumerate(batch)]
        try:
            answer = self._open().publish_batch(TopicArn=self._topic, PublishBatchRequestEntries=entries)
        except (BotoCoreError, ClientError, ValueError) as error:
            return len(batch), f"{type(error).__name__}: {error}"
        failed = answer.get("Failed", [])
        return len(failed), ", ".join(sorted({str(each.get("Code")) for each in failed}))

    def _open(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _build_client(self._topic.split(":")[3])
            return self._client

    def _build_entry(self, number: int, event: Event) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "Id": str(number),
            "Message": orjson.dumps(event).decode(),
            "MessageAttributes": build_attributes(event),
        }
        if self._topic.endswith(".fifo"):
            entry |= {"MessageGroupId": str(event["subject"]), "MessageDeduplicationId": str(event["id"])}
        return entry


def build_attributes(event: Event) -> dict[str, dict[str, str]]:
    """Return the message attributes of an event, at most ten: SQS keeps no more."""
    data = event["data"]
    kind, bbox, moment = find_kind(event), data["bbox"], data["datetime"]
    values: dict[str, Any] = {"collection": data["collection"]}
    if isinstance(bbox, list) and len(bbox) in {4, 6} and all(map(is_number, bbox)):
        half = len(bbox) // 2
        values |= zip(_CORNERS, (bbox[0], bbox[1], bbox[half], bbox[half + 1]), strict=True)
    if isinstance(moment, str) and moment:
        values |= dict.fromkeys(("datetime", "start_datetime", "end_datetime"), moment)
    if is_number(data["cloud_percentage"]):
        values["cloud_cover"] = data["cloud_percentage"]
    if kind is not None:
        values["status"] = _STATUS[kind]
    return {
        name: {"DataType": "Number" if is_number(value) else "String", "StringValue": str(value)}
        for name, value in values.items()
    }


def _build_client(region: str) -> Any:
    """Return an SNS client for the topic's region, configured by the ``AWS_*`` variables and the AWS configuration."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
    )
    verify = os.environ.get("AWS_CA_BUNDLE") or find_ca_bundle()
    return boto3.session.Session(region_name=region).client("sns", config=config, verify=verify)
