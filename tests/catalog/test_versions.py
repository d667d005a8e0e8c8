"""Two versions of a scene by two writers in any order, each dying anywhere, and withdrawals meanwhile."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pc_cloudmask.catalog
from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.fields import decode_document
from pc_cloudmask.catalog.layout import pending_key
from pc_cloudmask.catalog.publisher import Publication
from pc_cloudmask.catalog.states import LEASE, Steps
from pc_cloudmask.catalog.versions import mark_withdrawal, read_method
from pc_cloudmask.errors import StoreUnavailable
from tests.catalog.interleaving import Write, visit_states
from tests.catalog.mutants import VERSION_MUTANTS, Mutant, mutated
from tests.catalog.publications import (
    CONTEXT,
    LESSER,
    NOW,
    build_publication,
    keys_of,
    list_markers,
    product_id,
    walk_catalog,
)
from tests.doubles.memory_store import MemoryStore

pytestmark = pytest.mark.slow

#: The default leaves out what takes more than some CPU seconds.
EVERYTHING = os.environ.get("CLOUDMASK_TEST_STATES") == "all"
PACKAGE: ContextVar[ModuleType] = ContextVar("PACKAGE", default=pc_cloudmask.catalog)
OLD, MIDDLE, NEW = (product_id(0, made=f"20{year}0101T000000") for year in (19, 20, 21))
OTHER = product_id(9)
LEAF = keys_of(OLD).year_keys


def publish(item_id: str, version: str = "1") -> Write:
    return partial(publish_steps, build_publication(item_id, version))


def load(module: str) -> Any:
    """A module of the protocol, or of the mutant that is tried."""
    return importlib.import_module(f"{PACKAGE.get().__name__}.{module}")


def publish_steps(publication: Publication, store: MemoryStore) -> Steps:
    """What a run does for a batch of one."""
    keys = publication.keys
    yield from load("publisher").item_steps(store, CONTEXT, publication, NOW)
    coverage = read_coverage(publication.item)
    stages = [*load("parents").catalog_stages(store, CONTEXT, {keys: coverage})]
    for number in range(len(stages)):
        yield from stages[number][0]
    # What the change feed adds to the orders is tried in ``test_feed``.
    yield from load("parents").unmark_steps(store, pending_key(keys.item_id, publication.digest))


def withdraw(item_id: str) -> Write:
    return partial(withdrawing_steps, item_id)


def withdrawing_steps(item_id: str, store: MemoryStore) -> Steps:
    """What ``Publisher.withdraw`` does for one item."""
    keys = keys_of(item_id)
    yield from load("versions").withdraw_steps(store, CONTEXT, keys, "gone", NOW)
    yield from load("parents").year_steps(store, CONTEXT, keys.year_keys)
    yield from load("parents").unmark_steps(store, mark_withdrawal(keys, "gone", NOW).key)


@cache
def published(*item_ids: str, withdrawn: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The objects of a catalog that holds these beside another item."""
    store = MemoryStore()
    for write in (*map(publish, (OTHER, *item_ids)), *map(withdraw, withdrawn)):
        for _ in write(store):
            pass
    return store.objects


def walk_soundly(store: MemoryStore, wanted: Iterable[str]) -> set[str]:
    """What a reader meets, and sees that nothing is missing, dangling or there twice."""
    walk = walk_catalog(store)
    assert walk.dangling == []
    assert walk.repeated == []
    assert set(wanted) <= set(walk.items)
    return set(walk.items)


def prove_mended(objects: dict[str, bytes]) -> None:
    """All writers are dead: the next command settles everything at once; there is nothing else to mend."""
    store = MemoryStore()
    store.objects = dict(objects)
    load("publisher").Publisher(store, CONTEXT, NOW).recover()
    there = {item_id for item_id in (OLD, MIDDLE, NEW, OTHER) if keys_of(item_id).item in store.objects}
    withdrawn = {item_id for item_id in there if keys_of(item_id).withdrawn_marker in store.objects}
    for item_id in withdrawn:
        assert b"cloudmask:fingerprint" not in store.objects[keys_of(item_id).item], (
            "published and not restored"
        )
    assert walk_soundly(store, there - withdrawn) == there - withdrawn
    links = decode_document(store.objects[LEAF.catalog], "")["links"]
    linked = {link["href"].split("/")[-2] for link in links if link["rel"] == "item"}
    assert linked == {OTHER, *sorted(there - withdrawn - {OTHER})[-1:]}
    assert check_catalog(store, CONTEXT, repair=False, now=NOW).is_whole
    load("publisher").Publisher(store, CONTEXT, NOW + LEASE).recover()
    assert list_markers(store) == []
    assert check_catalog(store, CONTEXT, repair=False, now=NOW + LEASE).is_whole


def prove_every_order(objects: dict[str, bytes], writes: dict[str, Write], kept: set[str]) -> int:
    """Look at every state: the reader's view of it, and what is left if all writers die there."""
    names = list(writes)
    met: dict[bytes, set[str]] = {}
    states = 0
    for state in visit_states(objects, list(writes.values())):
        states += 1
        acknowledged = {name for number, name in enumerate(names) if number in state.ended}
        try:
            if state.stored not in met:
                met[state.stored] = walk_soundly(state.store, kept)
                prove_mended(state.store.objects)
            assert acknowledged.intersection((OLD, MIDDLE, NEW)) <= met[state.stored]
            if "better" in acknowledged:
                item = decode_document(state.store.objects[keys_of(NEW).item], "")
                assert read_method(item) == "s2cloudless"
        except Exception as error:
            error.add_note(f"turns {state.turns} of {names}, after {[str(s.name) for s in state.steps]}")
            raise
    return states


#: By name: the versions that are published, those that are withdrawn, and what is written at one time.
SCENES: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, Write]]] = {
    "two at once": ((), (), {OLD: publish(OLD), NEW: publish(NEW)}),
    "a newer one, and the older one again": ((OLD,), (), {OLD: publish(OLD, "2"), NEW: publish(NEW)}),
    "an older one, and the newer one again": ((NEW,), (), {OLD: publish(OLD), NEW: publish(NEW, "2")}),
    "one between, and the newest again": ((OLD, NEW), (), {MIDDLE: publish(MIDDLE), NEW: publish(NEW, "2")}),
    "two beyond one": ((OLD,), (), {MIDDLE: publish(MIDDLE), NEW: publish(NEW)}),
    "two before one": ((NEW,), (), {OLD: publish(OLD), MIDDLE: publish(MIDDLE)}),
    "the older withdrawn": ((OLD,), (), {"withdraw": withdraw(OLD), NEW: publish(NEW)}),
    "the newer withdrawn": ((OLD, NEW), (), {"withdraw": withdraw(NEW), MIDDLE: publish(MIDDLE)}),
    "the newer withdrawn and again": (
        (OLD, NEW),
        (),
        {"withdraw": withdraw(NEW), "again": publish(NEW, "2")},
    ),
    "the newer restored": ((OLD, NEW), (NEW,), {"again": publish(NEW, "2"), MIDDLE: publish(MIDDLE)}),
    "the older restored": ((OLD, NEW), (OLD,), {"again": publish(OLD, "2"), MIDDLE: publish(MIDDLE)}),
    "restored and withdrawn": ((OLD, NEW), (NEW,), {"again": publish(NEW, "2"), "withdraw": withdraw(NEW)}),
    "restored beside another": (
        (OLD, OTHER),
        (OLD,),
        {"again": publish(OLD, "2"), OTHER: publish(OTHER, "2")},
    ),
    "both withdrawn": ((OLD, NEW), (), {"withdraw": withdraw(OLD), "withdraw the newer": withdraw(NEW)}),
    "both restored": ((OLD, NEW), (OLD, NEW), {"again": publish(OLD, "2"), "the newer": publish(NEW, "2")}),
    "a better mask and a lesser one": (
        (OLD,),
        (),
        {"better": publish(NEW), "lesser": publish(NEW, LESSER)},
    ),
}
QUICK = ("two at once", "restored beside another", "a better mask and a lesser one")


@pytest.mark.parametrize("name", SCENES if EVERYTHING else QUICK)
def test_in_any_order_and_with_any_death_the_newest_is_linked_and_leads_to_the_older(
    name: str, figures: list[str]
) -> None:
    """At every step of both, as a reader sees it then, and as it is once a command ran after both died."""
    figures.append(f"versions, {name}: {prove_scene(name)} states of store and writers")


def prove_scene(name: str) -> int:
    present, withdrawn, writes = SCENES[name]
    changed = {keys for keys in present if "withdraw" in writes or keys in withdrawn}
    return prove_every_order(published(*present, withdrawn=withdrawn), writes, {OTHER, *present} - changed)


@pytest.mark.parametrize("mutant", VERSION_MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    present, withdrawn, _ = SCENES[mutant.scene]
    published(*present, withdrawn=withdrawn)  # by the right protocol
    with mutated(mutant, tmp_path) as package:
        token = PACKAGE.set(package)
        try:
            with pytest.raises((AssertionError, StoreUnavailable)):
                prove_scene(mutant.scene)
        finally:
            PACKAGE.reset(token)
