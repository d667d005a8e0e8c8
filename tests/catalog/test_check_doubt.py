"""What a check could not look at is named, and neither it nor anything above it is touched."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.check_catalogs import GRACE
from pc_cloudmask.catalog.findings import CheckReport, Problem
from pc_cloudmask.catalog.layout import COLLECTION_ID, COLLECTION_KEY, tile_catalog_key, zone_catalog_key
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import list_states
from pc_cloudmask.errors import StoreRefused, StoreUnavailable
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore, StoredObject
from tests.catalog.faulty_front import FAULTS, open_faulty_store
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    build_publication,
    keys_of,
    product_id,
    public_bytes,
    walk_catalog,
)
from tests.doubles.memory_store import MemoryStore
from tests.doubles.s3_server import S3Server

ITEMS = [product_id(0), product_id(1), product_id(0, "33UUP")]
OLDER, NEWER = product_id(2), product_id(2, made="20210101T000000")
VICTIM = ITEMS[0]
LEAF = keys_of(VICTIM).year_keys
UNREADABLE = {
    "mask": build_publication(VICTIM).files[0].key,
    "preview": build_publication(VICTIM).files[1].key,
    "item": keys_of(VICTIM).item,
    "newer-item": keys_of(NEWER).item,
    "year": LEAF.catalog,
    "tile": tile_catalog_key(LEAF.tile),
    "zone": zone_catalog_key(LEAF.zone),
    "collection": COLLECTION_KEY,
    "root": "catalog.json",
}


def fill(store: ObjectStore) -> dict[str, bytes]:
    publisher = Publisher(store, CONTEXT, NOW)
    for batch in ([*ITEMS, OLDER], [NEWER]):
        for item_id in batch:
            publisher.publish_item(build_publication(item_id))
        publisher.publish_catalogs(map(keys_of, batch))
    return public_bytes(store)


def check_twice(store: ObjectStore, key: str) -> list[CheckReport]:
    """A check and a repair; both name the key as one that could not be read, and as nothing else."""
    reports = [check_catalog(store, CONTEXT, repair=repair, now=NOW) for repair in (False, True)]
    for report in reports:
        assert (Problem.COULD_NOT_READ, key) in {(each.problem, each.key) for each in report.findings}
        assert {each.problem for each in report.findings} == {Problem.COULD_NOT_READ}
        assert not report.is_whole
        assert report.unread == report.problems
        assert (report.unlinked, report.mendable) == (0, 0)
    return reports


def see_all_sound(store: ObjectStore, before: dict[str, bytes]) -> None:
    """Nothing was changed, and a check finds nothing wrong now that all can be read."""
    assert public_bytes(store) == before
    assert list(list_states(store)) == []
    assert check_catalog(store, CONTEXT, repair=False, now=NOW).findings == ()
    walk = walk_catalog(store)
    assert set(walk.items) == {*ITEMS, OLDER, NEWER}
    assert walk.dangling == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_bucket_does_not_give_is_left_alone(s3_server: S3Server, fault: str) -> None:
    with open_faulty_store(s3_server) as (store, front):
        before = fill(store)
        for name in [*UNREADABLE][:-1] if fault == "denied" else ("mask", "item"):
            front.faults = {UNREADABLE[name]: fault}
            check_twice(store, UNREADABLE[name])
        front.faults = {".tif": fault}
        for report in check_twice(store, UNREADABLE["mask"]):
            assert report.unread == len(ITEMS) + 2
        front.faults = {UNREADABLE["root"]: fault}
        with pytest.raises((StoreUnavailable, StoreRefused), match=r"catalog\.json"):
            check_catalog(store, CONTEXT, repair=True, now=NOW)
        front.faults = {}
        see_all_sound(store, before)


def deny(path: Path) -> Callable[[], None]:
    """Take every right to read it from who is not root; returns what gives it back."""
    mode = path.stat().st_mode
    path.chmod(0)
    return lambda: path.chmod(mode)


def hide_behind_a_dangling_link(path: Path) -> Callable[[], None]:
    aside = path.with_name(f".{path.name}")
    path.rename(aside)
    path.symlink_to(path.with_name("gone"))

    def undo() -> None:
        path.unlink()
        aside.rename(path)

    return undo


@contextmanager
def without_root() -> Iterator[None]:
    """Work as a user whom file modes concern, which they do not concern root."""
    user = os.geteuid()
    codecs.lookup("utf-8-sig")  # Python's own files may be root's alone, too
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user who is not root; pytest's own may be root's alone."""
    folder = tmp_path / "store"
    folder.mkdir()
    if os.geteuid() == 0:
        for parent in (tmp_path, *tmp_path.parents):
            if parent.is_relative_to(tempfile.gettempdir()) and parent != Path(tempfile.gettempdir()):
                parent.chmod(0o755)
        os.chown(folder, 65534, -1)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("hide", [deny, hide_behind_a_dangling_link])
@pytest.mark.parametrize("name", [name for name in UNREADABLE if name != "root"])
def test_a_file_that_may_not_be_read_is_left_alone(
    root: Path, name: str, hide: Callable[[Path], Callable[[], None]]
) -> None:
    with without_root():
        before = fill(LocalStore(root))
    undo = hide(root / UNREADABLE[name])
    with without_root():
        check_twice(LocalStore(root), UNREADABLE[name])
    undo()
    with without_root():
        see_all_sound(LocalStore(root), before)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [LEAF.prefix, keys_of(VICTIM).prefix, f"{COLLECTION_ID}/22K/"])
def test_a_folder_that_may_not_be_listed_is_left_alone(root: Path, prefix: str) -> None:
    with without_root():
        before = fill(LocalStore(root))
    undo = deny(root / prefix)
    with without_root():
        for repair in (False, True):
            report = check_catalog(LocalStore(root), CONTEXT, repair=repair, now=NOW)
            assert report.unread > 0
            assert {each.problem for each in report.findings} <= {
                Problem.COULD_NOT_READ,
                Problem.COULD_NOT_REPAIR,
            }
    undo()
    with without_root():
        see_all_sound(LocalStore(root), before)


class DoubtfulStore(MemoryStore):
    """Raises ``error`` when a key that ends with one of ``ends`` is read; ``hidden`` ones are not listed."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: tuple[str, ...] = ()
        self.hidden: tuple[str, ...] = ()
        self.error: Exception = StoreUnavailable("no answer")
        self.cut = False

    def read_object(self, key: str) -> StoredObject | None:
        stored = super().read_object(key)
        if self.ends and key.endswith(self.ends):
            if not self.cut or stored is None:
                raise self.error
            return StoredObject(key, stored.body[:-1], stored.etag)
        return stored

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for info in super().list_objects(prefix):
            if not (self.hidden and any(part in info.key for part in self.hidden)):
                yield info

    def list_folders(self, prefix: str) -> Iterator[str]:
        for name in super().list_folders(prefix):
            if not (self.hidden and any(part in f"{prefix}{name}/" for part in self.hidden)):
                yield name


@pytest.mark.parametrize("error", [OSError("stale handle"), RuntimeError("nobody knows"), MemoryError()])
def test_an_error_that_nobody_has_thought_of_is_doubt_too(error: Exception) -> None:
    store = DoubtfulStore()
    before = fill(store)
    store.ends, store.error = (UNREADABLE["mask"],), error
    check_twice(store, UNREADABLE["mask"])
    store.ends = ()
    see_all_sound(store, before)


@pytest.mark.parametrize("name", ["mask", "item"])
def test_fewer_bytes_than_a_listing_says_are_no_proof(name: str) -> None:
    """A body without a length that was cut looks complete."""
    store = DoubtfulStore()
    before = fill(store)
    store.ends, store.cut = (UNREADABLE[name],), True
    check_twice(store, UNREADABLE[name])
    store.ends = ()
    see_all_sound(store, before)


@pytest.mark.parametrize(
    "hidden",
    [UNREADABLE["mask"], UNREADABLE["item"], keys_of(VICTIM).prefix, LEAF.prefix, "/22K/", "/33U/33UUP/"],
)
def test_what_a_listing_alone_lacks_is_not_taken_for_absent(hidden: str) -> None:
    store = DoubtfulStore()
    before = fill(store)
    store.hidden = (hidden,)
    for repair in (False, True):
        report = check_catalog(store, CONTEXT, repair=repair, now=NOW)
        assert {each.problem for each in report.findings} == {Problem.COULD_NOT_READ}
        assert not report.is_whole
    store.hidden = ()
    see_all_sound(store, before)


def test_a_store_whose_listings_know_no_folders_is_not_empty() -> None:
    store = DoubtfulStore()
    before = fill(store)
    store.hidden = (COLLECTION_ID,)
    for repair in (False, True):
        report = check_catalog(store, CONTEXT, repair=repair, now=NOW)
        assert report.items == 0
        assert not report.is_whole
    store.hidden = ()
    see_all_sound(store, before)


class PartialStore(DoubtfulStore):
    """Hides ``hidden`` from listings of just the prefixes that ``prefixes`` names."""

    prefixes: tuple[str, ...] = ()

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        return (
            super().list_objects(prefix)
            if prefix in self.prefixes
            else MemoryStore.list_objects(self, prefix)
        )

    def list_folders(self, prefix: str) -> Iterator[str]:
        return (
            super().list_folders(prefix)
            if prefix in self.prefixes
            else MemoryStore.list_folders(self, prefix)
        )


TILE_FOLDER = tile_catalog_key(LEAF.tile).removesuffix("catalog.json")
ZONE_FOLDER = zone_catalog_key(LEAF.zone).removesuffix("catalog.json")


@pytest.mark.parametrize("hidden", [LEAF.prefix, TILE_FOLDER, ZONE_FOLDER])
def test_what_a_catalog_links_is_looked_at_where_the_listing_above_lacks_it(hidden: str) -> None:
    store = PartialStore()
    fill(store)
    store.prefixes, store.hidden = (f"{COLLECTION_ID}/", ZONE_FOLDER, TILE_FOLDER), (hidden,)
    report = check_catalog(store, CONTEXT, repair=False, now=NOW)
    assert (report.items, report.findings) == (5, ())
    key = build_publication(VICTIM).files[0].key
    store.objects[key] = b"junk"
    report = check_catalog(store, CONTEXT, repair=False, now=NOW)
    assert [(each.problem, each.key) for each in report.findings] == [(Problem.WRONG_FILE, key)]


def test_a_version_that_one_listing_hides_is_never_left_with_a_link_that_dangles() -> None:
    """As a repair takes the older version out, and removes it when its grace period is over."""
    store = PartialStore()
    before = fill(store)
    store.objects[build_publication(OLDER).files[0].key] = b"junk"
    store.prefixes, store.hidden = (keys_of(OLDER).prefix.partition("R")[0],), (NEWER,)
    for now in (NOW, NOW + GRACE, NOW + 2 * GRACE):
        report = check_catalog(store, CONTEXT, repair=True, now=now)
        assert Problem.COULD_NOT_REPAIR in {each.problem for each in report.findings}
        walk = walk_catalog(store)
        assert walk.dangling == [f"{keys_of(OLDER).item} -> {build_publication(OLDER).files[0].key}"]
        assert set(walk.items) == {*ITEMS, OLDER, NEWER}
    store.objects |= before
    store.hidden = ()
    see_all_sound(store, before)


@pytest.mark.parametrize("number", [0, 1])
def test_a_removed_item_leaves_no_file_that_one_listing_hides(number: int) -> None:
    store = PartialStore()
    fill(store)
    Publisher(store, CONTEXT, NOW).withdraw([keys_of(VICTIM)], "gone")
    prefix = keys_of(VICTIM).prefix
    store.prefixes, store.hidden = (prefix,), (build_publication(VICTIM).files[number].key,)
    check_catalog(store, CONTEXT, repair=True, now=NOW + GRACE)
    assert [key for key in store.objects if key.startswith(prefix)] == [keys_of(VICTIM).withdrawn_marker]


def test_the_rest_is_checked_and_mended() -> None:
    store = DoubtfulStore()
    before = fill(store)
    store.ends = (UNREADABLE["mask"],)
    other = keys_of(ITEMS[2])
    del store.objects[other.year_keys.catalog]
    store.objects[build_publication(ITEMS[1]).files[0].key] = b"junk"
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert [(each.problem, each.key) for each in report.left_findings] == [
        (Problem.COULD_NOT_READ, UNREADABLE["mask"])
    ]
    assert store.objects[other.year_keys.catalog] == before[other.year_keys.catalog]
    store.ends = ()
    assert set(walk_catalog(store).items) == {*ITEMS, OLDER, NEWER} - {ITEMS[1]}


def test_a_marker_that_cannot_be_read_is_a_living_writers() -> None:
    store = DoubtfulStore()
    before = fill(store)
    key = f"_pending/{VICTIM}.json"
    store.objects[key] = b"{}"
    store.ends = (key,)
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert (Problem.COULD_NOT_READ, key) in {(each.problem, each.key) for each in report.findings}
    assert key in store.objects
    assert public_bytes(store) == before
