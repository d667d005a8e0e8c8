"""What every object store does, whatever it is made of."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_cloudmask.errors import KeyExists, StoreRefused, WriteConflict
from pc_cloudmask.storage.s3 import S3Store
from pc_cloudmask.storage.store import ObjectStore, StoreCapabilities
from pc_cloudmask.storage.stores import open_store
from tests.doubles.memory_store import MemoryStore
from tests.doubles.s3_server import S3Server

OpenStore = Callable[[], ObjectStore]
STRANGE_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../../b",
    "a/..",
    "./a",
    "a/.hidden",
    "a\\b",
    "a\0b",
    "a b",
    "a?b",
]


@pytest.fixture(params=["memory", "local", "s3", "s3-ceph"])
def open_empty(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStore:
    """Opens a new empty store at each call."""
    if request.param == "memory":
        return MemoryStore
    if request.param == "local":
        return lambda: open_store(f"file:{tmp_path / uuid.uuid4().hex}")
    server: S3Server = request.getfixturevalue("s3_server")
    server.use(monkeypatch)
    bucket = server.create_bucket("ceph" if request.param == "s3-ceph" else "plain")
    return lambda: open_store(f"s3://{bucket}/some/{uuid.uuid4().hex}")


@pytest.fixture
def store(open_empty: OpenStore) -> ObjectStore:
    return open_empty()


def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list_objects(prefix)]


@pytest.mark.slow
def test_an_absent_object_is_none(store: ObjectStore) -> None:
    assert store.read_object("a/b.json") is None
    assert store.find_object("a/b.json") is None
    assert keys_of(store) == []
    assert list(store.list_folders("")) == []
    store.delete_object("a/b.json")


@pytest.mark.slow
def test_a_written_object_reads_back(store: ObjectStore) -> None:
    store.write_object("a/b.json", b"first", "application/json")
    store.write_object("a/b.json", b"second, longer", "application/json")

    stored = store.read_object("a/b.json")
    found = store.find_object("a/b.json")
    assert stored is not None
    assert (stored.key, stored.body) == ("a/b.json", b"second, longer")
    assert stored.etag
    assert found is not None
    assert (found.key, found.size) == ("a/b.json", 14)
    assert found.modified is not None
    assert found.modified.tzinfo is not None


@pytest.mark.slow
def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.create_object("empty", b"", "text/plain")
    stored = store.read_object("empty")
    assert stored is not None
    assert stored.body == b""


@pytest.mark.slow
def test_create_refuses_other_content_and_accepts_its_own(store: ObjectStore) -> None:
    store.create_object("a", b"one", "text/plain")
    store.create_object("a", b"one", "text/plain")
    with pytest.raises(KeyExists, match="a exists in"):
        store.create_object("a", b"two", "text/plain")
    stored = store.read_object("a")
    assert stored is not None
    assert stored.body == b"one"


@pytest.mark.slow
def test_replace_needs_the_present_etag(store: ObjectStore) -> None:
    store.write_object("a", b"one", "text/plain")
    first = store.read_object("a")
    assert first is not None
    store.replace_object("a", b"two", "text/plain", first.etag)
    with pytest.raises(WriteConflict, match="read it again"):
        store.replace_object("a", b"three", "text/plain", first.etag)
    second = store.read_object("a")
    assert second is not None
    assert second.body == b"two"
    assert second.etag != first.etag


@pytest.mark.slow
def test_replace_by_what_is_there_already_is_no_conflict(store: ObjectStore) -> None:
    """A writer whose first answer was lost meets its own success."""
    store.write_object("a", b"one", "text/plain")
    first = store.read_object("a")
    assert first is not None
    store.replace_object("a", b"two", "text/plain", first.etag)
    store.replace_object("a", b"two", "text/plain", first.etag)


@pytest.mark.slow
def test_replace_of_a_deleted_object_is_a_conflict(store: ObjectStore) -> None:
    store.write_object("a", b"one", "text/plain")
    first = store.read_object("a")
    assert first is not None
    store.delete_object("a")
    with pytest.raises(WriteConflict):
        store.replace_object("a", b"two", "text/plain", first.etag)
    assert store.read_object("a") is None


@pytest.mark.slow
def test_both_capabilities_are_seen_and_the_probe_leaves_nothing(store: ObjectStore) -> None:
    assert store.probe_capabilities() == StoreCapabilities(create_only=True, compare_and_swap=True)
    assert keys_of(store) == []


@pytest.mark.slow
def test_listings_are_in_the_order_of_whole_keys(store: ObjectStore) -> None:
    keys = ["a-b/x", "a/x", "a.x", "a/b/c", "a/b-c", "b", "A"]
    for key in keys:
        store.write_object(key, key.encode(), "text/plain")
    assert keys_of(store) == sorted(keys)
    assert keys_of(store, "a") == sorted(key for key in keys if key.startswith("a"))
    assert keys_of(store, "a/b") == ["a/b-c", "a/b/c"]
    assert keys_of(store, "a/b/") == ["a/b/c"]
    assert set(store.list_folders("")) == {"a", "a-b"}
    assert list(store.list_folders("a/")) == ["b"]
    assert list(store.list_folders("nowhere/")) == []


def test_a_folder_goes_with_its_last_object(store: ObjectStore) -> None:
    store.write_object("a/b/c/d", b"1", "text/plain")
    store.write_object("a/e", b"1", "text/plain")
    store.delete_object("a/b/c/d")
    assert list(store.list_folders("a/")) == []
    store.write_object("a/b/c/d", b"2", "text/plain")
    assert list(store.list_folders("a/")) == ["b"]


@pytest.mark.slow
def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore) -> None:
    for key in STRANGE_KEYS:
        for call in (
            partial(store.read_object, key),
            partial(store.find_object, key),
            partial(store.create_object, key, b"", "text/plain"),
            partial(store.write_object, key, b"", "text/plain"),
            partial(store.replace_object, key, b"", "text/plain", "etag"),
            partial(store.delete_object, key),
        ):
            with pytest.raises(StoreRefused, match="refused"):
                call()


def test_prefixes_that_could_leave_the_store_are_refused(store: ObjectStore) -> None:
    for prefix in ("/", "../", "a//", "a/../"):
        with pytest.raises(StoreRefused):
            list(store.list_objects(prefix))
        with pytest.raises(StoreRefused):
            list(store.list_folders(prefix))


@pytest.mark.slow
def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    won = run_together(8, lambda number: store.create_object("a/key", f"{number}".encode(), "text/plain"))
    stored = store.read_object("a/key")
    assert len(won) == 1
    assert stored is not None
    assert stored.body == f"{won[0]}".encode()


@pytest.mark.slow
def test_concurrent_updates_by_compare_and_swap_are_all_kept(store: ObjectStore) -> None:
    store.create_object("list", b"", "text/plain")

    def add(number: int) -> None:
        while True:
            current = store.read_object("list")
            assert current is not None
            try:
                store.replace_object("list", current.body + f"{number},".encode(), "text/plain", current.etag)
            except WriteConflict:
                continue
            return

    assert len(run_together(12, add)) == 12
    final = store.read_object("list")
    assert final is not None
    assert sorted(map(int, final.body.decode().strip(",").split(","))) == list(range(12))


def run_together(count: int, work: Callable[[int], None]) -> list[int]:
    """Numbers whose ``work`` met neither KeyExists nor WriteConflict; all begin at the same moment."""
    barrier = threading.Barrier(count)
    done: list[int] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except (KeyExists, WriteConflict):
            return
        done.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


FOLDERS = st.lists(st.sampled_from(["a", "a-b", "B", "22K"]), max_size=2)
KEYS = st.builds(
    lambda folders, name: "/".join([*folders, name]), FOLDERS, st.sampled_from(["x.json", "y.tif", "a.b"])
)
BODIES = st.binary(max_size=5)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["write", "create", "replace", "stale", "delete"]), KEYS, BODIES), max_size=12
)


PREFIXES = st.sampled_from(["", "a", "a/", "a-b/", "B/a/", "22K/a-b/x"])


@pytest.mark.slow
def test_any_sequence_of_operations_is_that_of_a_dictionary(open_empty: OpenStore) -> None:
    """Few sequences on a bucket, whose every operation is some requests."""
    examples = 6 if isinstance(open_empty(), S3Store) else 60

    @settings(max_examples=examples)
    @given(operations=OPERATIONS, prefix=PREFIXES)
    def check(operations: list[tuple[str, str, bytes]], prefix: str) -> None:
        check_sequence(open_empty(), operations, prefix)

    check()


def check_sequence(store: ObjectStore, operations: list[tuple[str, str, bytes]], prefix: str) -> None:
    model: dict[str, bytes] = {}
    for operation, key, body in operations:
        apply(store, model, operation, key, body)
    expected = {key: body for key, body in sorted(model.items()) if key.startswith(prefix)}
    listed = list(store.list_objects(prefix))
    assert [(info.key, info.size) for info in listed] == [(key, len(body)) for key, body in expected.items()]
    for info in listed:
        stored = store.read_object(info.key)
        assert stored is not None
        assert stored.body == model[info.key]
    folders = {key.split("/")[0] for key in model if "/" in key}
    assert set(store.list_folders("")) == folders


def apply(store: ObjectStore, model: dict[str, bytes], operation: str, key: str, body: bytes) -> None:
    """One operation on both; they must agree on how it ends."""
    current = store.read_object(key)
    assert (current.body if current else None) == model.get(key)
    match operation:
        case "write":
            store.write_object(key, body, "text/plain")
            model[key] = body
        case "create":
            if model.get(key, body) != body:
                with pytest.raises(KeyExists):
                    store.create_object(key, body, "text/plain")
            else:
                store.create_object(key, body, "text/plain")
                model[key] = body
        case "replace" if current is not None:
            store.replace_object(key, body, "text/plain", current.etag)
            model[key] = body
        case "stale" if current is not None:
            newer = current.body + b"newer"
            store.write_object(key, newer, "text/plain")
            model[key] = newer
            with pytest.raises(WriteConflict):
                store.replace_object(key, newer + b"lost", "text/plain", current.etag)
        case "delete":
            store.delete_object(key)
            model.pop(key, None)
