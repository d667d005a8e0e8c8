"""``check`` finds whatever breaks the catalog; with ``--repair`` it mends that and hurts nothing whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from pc_cloudmask.catalog.check import Removals, check_catalog, repair_year
from pc_cloudmask.catalog.check_catalogs import GRACE, Checker, check_year
from pc_cloudmask.catalog.documents import build_year_catalog
from pc_cloudmask.catalog.fields import CatalogContext, encode_document
from pc_cloudmask.catalog.findings import CheckReport, Problem
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    changes_key,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.catalog.publisher import Publisher, item_steps
from pc_cloudmask.catalog.search import read_census
from pc_cloudmask.catalog.states import LEASE, StepName, build_marker, list_states, write_marker
from pc_cloudmask.catalog.walk import list_year
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.storage.store import StoredObject
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    build_publication,
    fold_feed,
    keys_of,
    list_markers,
    product_id,
    public_bytes,
    read_feed,
    walk_catalog,
)
from tests.doubles.memory_store import MemoryStore

FIRST, SECOND = product_id(0), product_id(1)
ITEMS = [FIRST, SECOND, product_id(400), product_id(0, "22KFU"), product_id(0, "33UUP")]
OLDER = product_id(2)
#: Two versions of one scene.
NEWER = product_id(2, made="20210101T000000")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    """A whole catalog whose objects are older than any grace period."""
    store = MemoryStore(modified=LONG_AGO)
    publish(store, *ITEMS, OLDER)
    publish(store, NEWER)
    return store


def publish(store: MemoryStore, *item_ids: str, version: str = "1") -> None:
    publisher = Publisher(store, CONTEXT, NOW)
    publications = [build_publication(item_id, version) for item_id in item_ids]
    for publication in publications:
        publisher.publish_item(publication)
    publisher.publish_catalogs(publication.keys for publication in publications)


def check(store: MemoryStore, now: datetime = NOW) -> CheckReport:
    before = dict(store.objects)
    report = check_catalog(store, CONTEXT, repair=False, now=now)
    assert store.objects == before
    return report


def repair(store: MemoryStore, now: datetime = NOW) -> CheckReport:
    """Repair, and prove that nothing is left to repair."""
    report = check_catalog(store, CONTEXT, repair=True, now=now)
    after = check(store, now)
    assert [str(finding) for finding in after.findings] == []
    assert after.is_whole
    walk = walk_catalog(store)
    assert walk.dangling == []
    assert walk.repeated == []
    return report


def problems(report: CheckReport) -> set[tuple[Problem, str]]:
    return {(finding.problem, finding.key) for finding in report.findings}


def test_a_whole_catalog_is_whole(store: MemoryStore) -> None:
    report = check(store)
    assert report.findings == ()
    assert report.is_whole
    assert (report.items, report.files, report.pending) == (7, 14, 0)
    assert report.catalogs == sum(key.endswith(("catalog.json", "collection.json")) for key in store.objects)


def test_an_empty_store_is_whole() -> None:
    assert check(MemoryStore()).is_whole
    store = MemoryStore()
    repair(store)
    assert store.objects == {}


def test_a_repair_of_a_whole_catalog_changes_nothing(store: MemoryStore) -> None:
    before = dict(store.objects)
    repair(store)
    assert store.objects == before


@pytest.mark.parametrize("name", ["catalog.json", "collection.json", ""])
def test_deleted_catalogs_come_back_with_the_same_bytes(store: MemoryStore, name: str) -> None:
    before = public_bytes(store)
    for key in list(store.objects):
        if key.endswith(name or ("catalog.json", "collection.json")):
            del store.objects[key]
    report = check(store)
    assert not report.is_whole
    assert Problem.MISSING_CATALOG in {finding.problem for finding in report.findings}
    assert repair(store).is_whole
    assert public_bytes(store) == before


LEAF = keys_of(FIRST).year_keys
BRANCHES = [
    LEAF.catalog,
    tile_catalog_key(LEAF.tile),
    zone_catalog_key(LEAF.zone),
    COLLECTION_KEY,
    CATALOG_KEY,
]


@pytest.mark.slow
@pytest.mark.parametrize("key", BRANCHES)
@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"links": 3}', b'{"links": [{}]}', b"[" * 50_000]
)
def test_a_ruined_catalog_comes_back_with_the_same_bytes(store: MemoryStore, key: str, body: bytes) -> None:
    before = public_bytes(store)
    store.objects[key] = body
    assert key in {finding.key for finding in check(store).findings}
    repair(store)
    assert public_bytes(store) == before


@pytest.mark.slow
@pytest.mark.parametrize("key", BRANCHES)
def test_a_catalog_that_lacks_a_link_or_has_one_too_many_is_found(store: MemoryStore, key: str) -> None:
    before = public_bytes(store)
    whole = json.loads(store.objects[key])
    children = [link for link in whole["links"] if link["rel"] in {"child", "item"}]
    child = children[-1]
    parts = child["href"].split("/")
    parts[-2 if parts[-1].endswith("catalog.json") else -1] = "11ZZZ"
    for links in (
        [link for link in whole["links"] if link != child],
        [*whole["links"], child],
        [*whole["links"], {**child, "href": "/".join(parts)}],
    ):
        store.objects[key] = encode_document({**whole, "links": links})
        assert not check(store).is_whole
        repair(store)
        assert public_bytes(store) == before


def test_a_collection_whose_summaries_lack_an_item_is_found(store: MemoryStore) -> None:
    before = public_bytes(store)
    collection = json.loads(store.objects[COLLECTION_KEY])
    collection["extent"]["temporal"]["interval"][0][1] = collection["extent"]["temporal"]["interval"][0][0]
    store.objects[COLLECTION_KEY] = json.dumps(collection).encode()
    assert (Problem.STALE_CATALOG, COLLECTION_KEY) in problems(check(store))
    repair(store)
    assert public_bytes(store) == before


def break_checksum(store: MemoryStore) -> None:
    key = build_publication(FIRST).files[0].key
    store.objects[key] = bytes(len(store.objects[key]))


def break_size(store: MemoryStore) -> None:
    store.objects[build_publication(FIRST).files[1].key] += b"more"


def break_missing(store: MemoryStore) -> None:
    del store.objects[build_publication(FIRST).files[0].key]


def break_item(store: MemoryStore) -> None:
    store.objects[keys_of(FIRST).item] = b"{"


def break_id(store: MemoryStore) -> None:
    store.objects[keys_of(FIRST).item] = store.objects[keys_of(SECOND).item]


def break_link(store: MemoryStore) -> None:
    item = json.loads(store.objects[keys_of(FIRST).item])
    item["links"].append({"rel": "predecessor-version", "href": "../gone/gone.json"})
    store.objects[keys_of(FIRST).item] = json.dumps(item).encode()


def break_asset(store: MemoryStore) -> None:
    item = json.loads(store.objects[keys_of(FIRST).item])
    item["assets"]["mask"] = item["assets"].pop("cloudmask")
    store.objects[keys_of(FIRST).item] = json.dumps(item).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ruin", "problem"),
    [
        (break_asset, Problem.BROKEN_ITEM),
        (break_checksum, Problem.WRONG_FILE),
        (break_size, Problem.WRONG_FILE),
        (break_missing, Problem.MISSING_FILE),
        (break_item, Problem.BROKEN_ITEM),
        (break_id, Problem.BROKEN_ITEM),
        (break_link, Problem.DANGLING_LINK),
    ],
)
def test_a_broken_item_leaves_the_catalog_and_is_published_anew(
    store: MemoryStore, ruin: Callable[[MemoryStore], None], problem: Problem
) -> None:
    before = public_bytes(store)
    ruin(store)
    assert problem in {finding.problem for finding in check(store).findings}
    store.modified = NOW
    assert repair(store).unlinked == 1
    assert FIRST not in walk_catalog(store).items
    assert [(state.item_id, state.error_class) for state in list_states(store)] == [(FIRST, "BrokenItem")]
    found = Publisher(store, CONTEXT, NOW).find_published(keys_of(FIRST))
    assert found is None or "cloudmask:fingerprint" not in found["properties"]
    publish(store, FIRST)
    assert public_bytes(store) == before


def test_a_broken_item_that_nobody_publishes_again_goes_after_a_while(store: MemoryStore) -> None:
    store.modified = NOW
    break_missing(store)
    kept = {key for key in store.objects if key.startswith(keys_of(FIRST).prefix)}
    for now in (NOW, NOW + GRACE - timedelta(seconds=1)):
        assert repair(store, now).awaiting_removal == 1
        assert kept <= set(store.objects)
    repair(store, NOW + GRACE)
    assert not kept & set(store.objects)


@pytest.mark.slow
@pytest.mark.parametrize("ruin", [break_checksum, break_missing, break_item, break_id, break_asset])
def test_an_item_that_turns_out_to_be_sound_is_restored(
    store: MemoryStore, ruin: Callable[[MemoryStore], None]
) -> None:
    """As after a proxy's wrong answers, or once a backup is back."""
    whole = dict(store.objects)
    store.modified = NOW
    ruin(store)
    repair(store)
    assert FIRST not in walk_catalog(store).items
    for file in build_publication(FIRST).files:
        store.objects[file.key] = file.body
    if ruin not in {break_checksum, break_missing}:
        store.objects[keys_of(FIRST).item] = whole[keys_of(FIRST).item]
    assert problems(check(store)) == {(Problem.UNLINKED_ITEM, keys_of(FIRST).item)}
    told = read_feed(store)
    repair(store)
    assert {key: body for key, body in store.objects.items() if key != changes_key(NOW.date())} == {
        key: body for key, body in whole.items() if key != changes_key(NOW.date())
    }
    kinds = [event["type"].rpartition(".")[2] for event in read_feed(store) if event["subject"] == FIRST]
    assert kinds == ["published", "withdrawn", "published"]
    assert fold_feed(told).keys() == fold_feed(read_feed(store)).keys() - {FIRST}


def test_a_broken_generation_leaves_no_link_to_it(store: MemoryStore) -> None:
    store.objects[keys_of(OLDER).item] = b"{"
    repair(store)
    assert "predecessor-version" not in {link["rel"] for link in walk_catalog(store).items[NEWER]["links"]}


@pytest.mark.parametrize("href", [f"{'../' * 6}elsewhere.tif", "/elsewhere.tif", "https://example.com/x.tif"])
def test_what_lies_outside_the_store_is_not_looked_for(store: MemoryStore, href: str) -> None:
    item = json.loads(store.objects[keys_of(FIRST).item])
    item["links"].append({"rel": "related", "href": href})
    item["assets"]["extra"] = {"href": href}
    store.objects[keys_of(FIRST).item] = json.dumps(item).encode()
    assert check(store).findings == ()


def test_an_older_generation_that_its_successor_does_not_link_is_linked(store: MemoryStore) -> None:
    before = dict(store.objects)
    item = json.loads(store.objects[keys_of(NEWER).item])
    item["links"] = [link for link in item["links"] if link["rel"] != "predecessor-version"]
    store.objects[keys_of(NEWER).item] = encode_document(item)
    assert problems(check(store)) == {(Problem.UNLINKED_ITEM, keys_of(OLDER).item)}
    repair(store)
    assert store.objects == before


def test_an_item_that_is_gone_is_not_linked(store: MemoryStore) -> None:
    del store.objects[keys_of(FIRST).item]
    assert (Problem.DANGLING_LINK, LEAF.catalog) in problems(check(store))
    repair(store)
    assert set(walk_catalog(store).items) == {*ITEMS, OLDER, NEWER} - {FIRST}


def test_an_item_that_nothing_links_is_linked(store: MemoryStore) -> None:
    late = product_id(9)
    publication = build_publication(late)
    for file in publication.files:
        store.objects[file.key] = file.body
    store.objects[publication.keys.item] = publication.body
    assert (Problem.UNLINKED_ITEM, publication.keys.item) in problems(check(store))
    repair(store)
    assert late in walk_catalog(store).items


class TestReplacing:
    def test_older_files_stay_for_a_while_and_then_go(self, store: MemoryStore) -> None:
        store.modified = NOW - GRACE + timedelta(hours=1)
        publish(store, FIRST, version="2")
        older = {file.key for file in build_publication(FIRST, "1").files}
        newer = {file.key for file in build_publication(FIRST, "2").files}

        report = repair(store)
        assert report.is_whole
        assert report.awaiting_removal == 2
        assert older | newer <= set(store.objects)

        report = repair(store, NOW + timedelta(hours=2))
        assert problems(report) == {(Problem.ORPHAN, key) for key in older}
        assert newer <= set(store.objects)
        assert not older & set(store.objects)

    def test_the_same_version_again_changes_no_byte(self, store: MemoryStore) -> None:
        before = dict(store.objects)
        publish(store, *ITEMS)
        publish(store, OLDER)
        publish(store, NEWER)
        assert store.objects == before


class TestWithdrawing:
    def test_a_withdrawn_item_is_unlinked_at_once_and_removed_after_a_while(self, store: MemoryStore) -> None:
        store.modified = NOW
        keys = keys_of(FIRST)
        Publisher(store, CONTEXT, NOW).withdraw([keys], "gone from its source")
        assert FIRST not in walk_catalog(store).items
        assert json.loads(store.objects[keys.item])["properties"]["deprecated"] is True
        assert repair(store).is_whole
        assert keys.item in store.objects

        repair(store, NOW + GRACE)
        assert [key for key in store.objects if key.startswith(keys.prefix)] == [keys.withdrawn_marker]
        assert json.loads(store.objects[keys.withdrawn_marker])["reason"] == "gone from its source"

    def test_it_comes_back_when_it_is_published_again(self, store: MemoryStore) -> None:
        before = public_bytes(store)
        publisher = Publisher(store, CONTEXT, NOW)
        publisher.withdraw([keys_of(FIRST)], "gone from its source")
        found = publisher.find_published(keys_of(FIRST))
        assert found is not None
        assert "cloudmask:fingerprint" not in found["properties"]
        publish(store, FIRST)
        assert public_bytes(store) == before

    def test_withdrawing_again_or_what_is_not_there_is_harmless(self, store: MemoryStore) -> None:
        publisher = Publisher(store, CONTEXT, NOW)
        publisher.withdraw([keys_of(FIRST), keys_of(product_id(77))], "gone")
        before = dict(store.objects)
        publisher.withdraw([keys_of(FIRST), keys_of(product_id(77))], "gone")
        assert store.objects == before
        assert check(store).is_whole

    def test_the_older_generation_comes_back_for_the_newer(self, store: MemoryStore) -> None:
        Publisher(store, CONTEXT, NOW).withdraw([keys_of(NEWER)], "gone")
        walk = walk_catalog(store)
        assert OLDER in walk.items
        assert NEWER not in walk.items
        assert check(store, LONG_AGO).is_whole
        repair(store)
        assert OLDER in walk_catalog(store).items

    def test_a_newer_generation_stops_linking_the_older_when_that_goes(self, store: MemoryStore) -> None:
        oldest = product_id(2, made="20190101T000000")
        publish(store, oldest)
        Publisher(store, CONTEXT, NOW).withdraw([keys_of(OLDER)], "gone")
        repair(store)
        walk = walk_catalog(store)
        assert OLDER not in walk.items
        assert {oldest, NEWER} <= set(walk.items)


class TestVersions:
    """What writers that died left before they settled, and no marker tells of."""

    OLDEST = product_id(2, made="20190101T000000")

    def leave(self, store: MemoryStore, item_id: str, stop: StepName) -> None:
        """Let a writer die at that step, and its marker be lost."""
        for step in item_steps(store, CONTEXT, build_publication(item_id), NOW):
            if step.name is stop:
                break
        for key in list_markers(store):
            del store.objects[key]

    def linked(self, store: MemoryStore) -> set[str]:
        return {item_id for item_id in (OLDER, NEWER) if item_id.encode() in store.objects[LEAF.catalog]}

    def test_two_that_are_both_linked_are_found(self, store: MemoryStore) -> None:
        """As the first version of this program could leave them."""
        before = public_bytes(store)
        for key in [key for key in store.objects if "superseded-by-" in key]:
            del store.objects[key]
        item = json.loads(store.objects[keys_of(NEWER).item])
        item["links"] = [link for link in item["links"] if link["rel"] != "predecessor-version"]
        store.objects[keys_of(NEWER).item] = encode_document(item)
        folder = list_year(store, LEAF)
        catalog = build_year_catalog(CONTEXT, LEAF, folder.linked_ids)
        store.objects[LEAF.catalog] = encode_document(catalog)
        assert self.linked(store) == {OLDER, NEWER}
        assert problems(check(store)) == {(Problem.UNSETTLED_VERSION, keys_of(NEWER).item)}
        repair(store)
        assert public_bytes(store) == before

    def test_a_newest_that_is_not_linked_is_found(self, store: MemoryStore) -> None:
        newest = product_id(2, made="20220101T000000")
        self.leave(store, newest, StepName.ITEM)
        assert (Problem.UNLINKED_ITEM, keys_of(newest).item) in problems(check(store))
        repair(store)
        assert newest.encode() in store.objects[LEAF.catalog]
        assert {OLDER, NEWER, newest} <= set(walk_catalog(store).items)

    def test_an_oldest_that_nothing_leads_to_is_found(self, store: MemoryStore) -> None:
        self.leave(store, self.OLDEST, StepName.ITEM)
        assert (Problem.UNLINKED_ITEM, keys_of(self.OLDEST).item) in problems(check(store))
        repair(store)
        assert {self.OLDEST, OLDER, NEWER} <= set(walk_catalog(store).items)
        assert self.linked(store) == {NEWER}

    def test_an_item_that_was_restored_but_for_its_withdrawn_marker_is_linked_not_removed(
        self, store: MemoryStore
    ) -> None:
        Publisher(store, CONTEXT, NOW).withdraw([keys_of(FIRST)], "gone")
        self.leave(store, FIRST, StepName.ITEM)
        assert (Problem.UNLINKED_ITEM, keys_of(FIRST).item) in problems(check(store))
        repair(store)
        assert FIRST in walk_catalog(store).items


class TestMarkers:
    def test_what_a_living_writer_is_at_is_no_problem(self, store: MemoryStore) -> None:
        store.modified = NOW
        for stop in (StepName.MARK, StepName.FILE, StepName.ITEM):
            for step in item_steps(store, CONTEXT, build_publication(product_id(800)), NOW):
                if step.name is stop:
                    break
            report = check(store)
            assert report.is_whole
            assert report.pending == 1

    def test_what_a_dead_writer_left_is_ended_or_dropped(self, store: MemoryStore) -> None:
        whole, half = product_id(800), product_id(801)
        for _ in item_steps(store, CONTEXT, build_publication(whole), NOW):
            pass
        for step in item_steps(store, CONTEXT, build_publication(half), NOW):
            if step.name is StepName.FILE:
                break
        later = NOW + LEASE
        assert {finding.problem for finding in check(store, later).findings} >= {
            Problem.STALE_MARKER,
            Problem.BROKEN_ITEM,
        }
        store.modified = later
        repair(store, later)
        assert whole in walk_catalog(store).items
        assert list_markers(store) == []
        repair(store, later + GRACE)
        files = {file.key for file in build_publication(half).files}
        assert not files & set(store.objects)

    def test_a_marker_that_cannot_be_read_is_dropped(self, store: MemoryStore) -> None:
        store.objects["_pending/x.json"] = b"{"
        assert problems(check(store)) == {(Problem.STALE_MARKER, "_pending/x.json")}
        repair(store)
        assert list_markers(store) == []


def test_a_root_that_a_living_writer_has_yet_to_write_is_no_problem() -> None:
    store = MemoryStore()
    publish(store, FIRST)
    write_marker(store, build_marker(keys_of(FIRST), "0" * 64, NOW))
    del store.objects[CATALOG_KEY]
    assert check(store).is_whole
    assert (Problem.MISSING_CATALOG, CATALOG_KEY) in problems(check(store, NOW + LEASE))


def test_what_a_killed_probe_left_goes_after_a_while(store: MemoryStore) -> None:
    store.modified = NOW
    probe = f"_probe/{'1f' * 16}"
    store.objects[probe] = b"create"
    repair(store, NOW + LEASE - timedelta(seconds=1))
    assert probe in store.objects
    repair(store, NOW + LEASE)
    assert probe not in store.objects


#: Among them names that no store of ours would take as a key.
STRANGE = {
    f"{LEAF.prefix}notes.txt",
    f"{LEAF.prefix}a/b/c",
    f"{LEAF.prefix}my notes/my notes.json",
    f"{LEAF.prefix}{FIRST}/copy of the mask.tif",
    f"{LEAF.prefix}{FIRST}/deep/cloudmask-0123456789abcdef.tif",
    f"{COLLECTION_ID}/22K/22KFV/notes/x",
    f"{COLLECTION_ID}/22K/other tile/x",
    f"{COLLECTION_ID}/other band/x",
}


def test_strange_objects_are_named_and_left_alone(store: MemoryStore) -> None:
    strange = STRANGE | {
        f"{ITEMS_PREFIX}my table.parquet",
        "_probe/readme.txt",
        "index.html",
        "_pending/my notes.json",
        "_pending/a/b.json",
        "_failed/x y.json",
    }
    store.objects |= dict.fromkeys(strange, b"mine")
    publish(store, product_id(7))
    break_missing(store)
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert {finding.problem for finding in report.findings} == {Problem.UNKNOWN_OBJECT, Problem.MISSING_FILE}
    assert report.unknown_objects == len(STRANGE)
    assert (report.problems, report.left, report.is_whole) == (1, 0, True)
    again = check_catalog(store, CONTEXT, repair=False, now=NOW)
    assert (again.problems, again.unknown_objects, again.is_whole) == (0, len(STRANGE), True)
    assert strange <= set(store.objects)
    census = read_census(store)
    assert (census.pending, census.failed) == (0, 1)


MOVED = CatalogContext("https://masks.example.com/s2")


def test_a_catalog_of_another_public_url_is_refused(store: MemoryStore) -> None:
    before = dict(store.objects)
    with pytest.raises(SettingsError, match=r"CLOUDMASK_PUBLIC_URL: .* relative links, .*: unset it, or"):
        check_catalog(store, MOVED, repair=True, now=NOW)
    assert store.objects == before
    store.objects[CATALOG_KEY] = b"{}"
    assert check_catalog(store, MOVED, repair=True, now=NOW).is_whole
    with pytest.raises(SettingsError, match=r"set it to https://masks\.example\.com/s2, or"):
        check_catalog(store, CONTEXT, repair=False, now=NOW)


def test_an_item_that_was_published_for_another_public_url_keeps_its_files(store: MemoryStore) -> None:
    publication = build_publication(product_id(9), context=MOVED)
    publisher = Publisher(store, CONTEXT, NOW)
    publisher.publish_item(publication)
    publisher.publish_catalogs([publication.keys])
    files = check(store).files
    named = (Problem.FOREIGN_LINKS, publication.keys.item)
    assert problems(check(store)) == {named}
    assert check_catalog(store, CONTEXT, repair=True, now=NOW).mendable == 0
    del store.objects[publication.files[0].key]
    report = check(store)
    assert report.files == files
    assert problems(report) == {named, (Problem.MISSING_FILE, publication.files[0].key)}


def test_many_findings_are_counted_and_few_kept(store: MemoryStore) -> None:
    for number in range(1200):
        store.objects[f"{LEAF.prefix}{number}.txt"] = b""
    break_missing(store)
    report = check(store)
    assert (report.problems, report.unknown_objects) == (1, 1200)
    assert Problem.MISSING_FILE in {finding.problem for finding in report.findings}
    assert len(report.findings) == 1001


@pytest.mark.parametrize("steps", [1, 2, 99])
def test_a_repair_keeps_an_older_file_that_a_writer_puts_again_meanwhile(
    store: MemoryStore, steps: int
) -> None:
    """Parameters that were changed and changed back: the listing shows files that no item links, yet."""
    publish(store, FIRST, version="2")
    year_keys = keys_of(FIRST).year_keys
    found = check_year(Checker(store, CONTEXT, NOW), list_year(store, year_keys))
    assert len(found.orphans) == 2
    writer = item_steps(store, CONTEXT, build_publication(FIRST), NOW)
    for _ in islice(writer, steps):
        pass
    if steps == 99:
        Publisher(store, CONTEXT, NOW).publish_catalogs([keys_of(FIRST)])
    repair_year(store, CONTEXT, found, NOW, Removals())
    for _ in writer:
        pass
    Publisher(store, CONTEXT, NOW).publish_catalogs([keys_of(FIRST)])
    # Now the other parameters' files are of no use.
    assert {finding.problem for finding in check(store).findings} == {Problem.ORPHAN}


class InterruptedStore(MemoryStore):
    """Ctrl-C comes once all tiles of a zone are listed; a read takes a while."""

    is_interrupted = False

    def list_folders(self, prefix: str) -> Iterator[str]:
        yield from super().list_folders(prefix)
        if self.is_interrupted and prefix.endswith("/22K/"):
            raise KeyboardInterrupt

    def read_object(self, key: str) -> StoredObject | None:
        if self.is_interrupted:
            time.sleep(0.005)
        return super().read_object(key)


def test_an_interrupted_check_begins_nothing_further() -> None:
    tiles = [f"22KF{row}" for row in "ABCDEFGHJKLMNPQRSTUV"]
    store = InterruptedStore()
    publish(store, *(product_id(day, tile) for tile in tiles for day in range(5)))
    before = store.requests["read"]
    store.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        check(store)
    reads_of_all = 3 * 5 * len(tiles)
    assert store.requests["read"] - before < reads_of_all / 2
