"""A bucket whose answers break off: asked again, then unavailable, never taken for an answer."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from pc_cloudmask.errors import StoreError, StoreRefused, StoreUnavailable
from pc_cloudmask.storage.s3 import proves_absence
from pc_cloudmask.storage.store import ObjectStore, StoreCapabilities
from pc_cloudmask.storage.stores import open_store
from tests.doubles.breaking_front import Script, running_breaking_front
from tests.doubles.s3_server import S3Server

KEYS = ["a/b/c", "a/d", "e/f"]
BODY = b"x" * 100_000
READS: dict[str, tuple[str, Callable[[ObjectStore], object]]] = {
    "list_objects": ("list", lambda store: [info.key for info in store.list_objects("")]),
    "list_folders": ("list", lambda store: sorted(store.list_folders(""))),
    "read_object": ("get", lambda store: getattr(store.read_object("a/d"), "body", None)),
    "find_object": ("head", lambda store: getattr(store.find_object("a/d"), "size", None)),
}
ANSWERS: dict[str, object] = {
    "list_objects": KEYS,
    "list_folders": ["a", "e"],
    "read_object": BODY,
    "find_object": len(BODY),
}
CUTS = [
    *((name, fault) for name in ("list_objects", "list_folders") for fault in ("status", "headers", "half")),
    *((name, fault) for name in ("list_objects", "list_folders") for fault in ("rootless", "endless")),
    *(("read_object", fault) for fault in ("status", "headers", "half", "etagless", "page")),
    *(("find_object", fault) for fault in ("status", "headers", "etagless", "page")),
]


@pytest.fixture(scope="module")
def front(s3_server: S3Server) -> Iterator[tuple[str, Script]]:
    with running_breaking_front(s3_server.url) as running:
        yield running


@pytest.fixture
def script(front: tuple[str, Script], s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Script:
    """The front's script, with the environment that leads to it and a client that does not wait."""
    url, script = front
    s3_server.use(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    script.faults.clear()
    script.always.clear()
    return script


@pytest.fixture
def store(script: Script, s3_server: S3Server) -> ObjectStore:
    store = open_store(f"s3://{s3_server.create_bucket()}/prefix")
    for key in KEYS:
        store.write_object(key, BODY, "text/plain")
    return store


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), CUTS)
def test_what_breaks_off_is_asked_for_again(
    script: Script, store: ObjectStore, name: str, fault: str
) -> None:
    kind, read = READS[name]
    script.faults[kind] = deque([fault])
    assert read(store) == ANSWERS[name]
    assert script.seen.count(kind) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), CUTS)
def test_what_breaks_off_for_ever_is_unavailable(
    script: Script, store: ObjectStore, name: str, fault: str
) -> None:
    kind, read = READS[name]
    script.always[kind] = fault
    with pytest.raises(StoreUnavailable, match="try again") as raised:
        read(store)
    assert "\n" not in str(raised.value)


def test_a_404_page_is_absence_where_a_listing_confirms_it(script: Script, store: ObjectStore) -> None:
    script.always |= {"get": "page", "head": "page"}
    assert store.read_object("a/absent") is None
    assert store.find_object("a") is None


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["undelimited", "prefixless"])
def test_folders_are_told_by_keys_where_a_store_knows_no_delimiters(
    script: Script, store: ObjectStore, fault: str
) -> None:
    script.always["list"] = fault
    assert sorted(store.list_folders("")) == ["a", "e"]
    assert list(store.list_folders("a/")) == ["b"]
    assert list(store.list_folders("e/")) == []


def test_a_listing_goes_on_over_broken_pages(
    script: Script, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"s3://{s3_server.create_bucket()}")
    events = store._client.meta.events  # type: ignore[attr-defined]
    events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    keys = [f"{number:04d}" for number in range(9)]
    for key in keys:
        store.write_object(key, b"", "text/plain")
    script.faults["list"] = deque(["half", "none", "status"])
    assert [info.key for info in store.list_objects("")] == keys


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["status", "headers", "half"])
def test_a_write_whose_answer_breaks_off_is_looked_at(script: Script, store: ObjectStore, fault: str) -> None:
    store.probe_capabilities()
    script.faults["put"] = deque([fault])
    store.create_object("new", b"new", "text/plain")
    script.faults["delete"] = deque([fault])
    store.delete_object("new")
    assert store.read_object("new") is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["get", "put", "delete"])
@pytest.mark.parametrize("fault", ["status", "page"])
def test_a_probe_under_faults_never_says_that_conditions_are_ignored(
    script: Script, s3_server: S3Server, kind: str, fault: str
) -> None:
    for number in range(4):
        bucket = s3_server.create_bucket()
        script.faults[kind] = deque(["none"] * number + [fault] * 2)
        capabilities = open_store(f"s3://{bucket}").probe_capabilities()
        assert capabilities == StoreCapabilities(create_only=True, compare_and_swap=True)


@pytest.mark.slow
def test_a_probe_that_finds_nothing_out_says_so(script: Script, store: ObjectStore) -> None:
    script.always["get"] = "half"
    with pytest.raises(StoreUnavailable, match="could not find out whether it honours conditional writes"):
        store.probe_capabilities()
    script.always.clear()
    assert store.probe_capabilities() == StoreCapabilities(create_only=True, compare_and_swap=True)
    assert list(store.list_objects("_probe/")) == []


def test_a_probe_of_credentials_that_may_only_read_is_refused(script: Script, store: ObjectStore) -> None:
    script.always["put"] = "denied"
    with pytest.raises(StoreRefused, match="look at the credentials"):
        store.probe_capabilities()
    assert list(store.list_objects("_probe/")) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["status", "headers", "half", "page", "denied", "rootless", "etagless"])
def test_no_error_of_the_client_comes_out_raw(script: Script, store: ObjectStore, fault: str) -> None:
    for kind in ("list", "get", "head", "put", "delete"):
        script.always[kind] = fault
    for call in (
        lambda: list(store.list_objects("")),
        lambda: list(store.list_folders("")),
        lambda: store.read_object("a/d"),
        lambda: store.find_object("a/d"),
        lambda: store.write_object("a/d", b"", "text/plain"),
        lambda: store.delete_object("a/d"),
        store.probe_capabilities,
    ):
        with contextlib.suppress(StoreError):
            call()


@pytest.mark.parametrize(
    ("headers", "proves"),
    [
        ({"x-amz-request-id": "1"}, True),
        ({"x-amz-cf-id": "1", "x-amz-cf-pop": "FRA2"}, False),
        ({"x-amz-cf-id": "1", "x-amz-request-id": "1"}, True),
        ({}, False),
    ],
)
def test_a_404_of_cloudfront_is_a_proxys(headers: dict[str, str], proves: bool) -> None:
    answer = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404, "HTTPHeaders": headers}}
    assert proves_absence(ClientError(answer, "HeadObject")) is proves  # type: ignore[arg-type]
