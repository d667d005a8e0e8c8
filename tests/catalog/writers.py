"""Several simulated writers of one store, interleaved step by step, killed, and deaf to answers."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import pc_cloudmask.catalog
from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.layout import PENDING_PREFIX
from pc_cloudmask.catalog.publisher import Publication
from pc_cloudmask.catalog.states import LEASE, Step, StepName
from pc_cloudmask.errors import StoreUnavailable
from tests.catalog.publications import (
    CONTEXT,
    LESSER,
    NOW,
    BestSeen,
    build_publication,
    find_checksums,
    fold_feed,
    keys_of,
    list_markers,
    product_id,
    read_feed,
    walk_catalog,
)
from tests.doubles.memory_store import MemoryStore

NUMBERS = st.integers(0, 3)
VERSIONS = [product_id(0, made=f"20{year}0101T000000") for year in (19, 21, 22)]
ITEM_IDS = [
    *(product_id(number) for number in range(10)),
    product_id(400),
    product_id(0, "22KFU"),
    *VERSIONS,
]
#: Where a writer pauses while others go on; None: nowhere, it goes on to its end.
STOPS = [StepName.FILE, StepName.ITEM, StepName.READ, StepName.RENDER, StepName.WRITE, None, None]


class SimulatedWriter:
    """Publishes or withdraws a batch by the protocol's own steps; begins again where an answer is lost."""

    def __init__(
        self, store: MemoryStore, package: ModuleType, batch: list[Publication], *, withdraws: bool = False
    ) -> None:
        self._store = store
        self._publisher = importlib.import_module(f"{package.__name__}.publisher")
        self._catalogs = importlib.import_module(f"{package.__name__}.parents")
        feed = importlib.import_module(f"{package.__name__}.feed")
        self._feed, self._change = feed.Feed(store, CONTEXT, NOW), feed.Change
        self._withdrawal = importlib.import_module(f"{package.__name__}.versions")
        self.batch = batch
        self.withdraws = withdraws
        self._begin = self._withdraw if withdraws else self._publish
        self._steps = self._begin()

    def advance(self) -> StepName | None:
        """Take one step; None where the batch is published and may be acknowledged."""
        try:
            return next(self._steps).name
        except StopIteration:
            return None
        except StoreUnavailable:
            self._steps = self._begin()
            return StepName.CONFLICT

    def _publish(self) -> Iterator[Step]:
        for publication in self.batch:
            yield from self._publisher.item_steps(self._store, CONTEXT, publication, NOW)
        coverages = {publication.keys: read_coverage(publication.item) for publication in self.batch}
        yield from take(self._catalogs.catalog_stages(self._store, CONTEXT, coverages))
        changes = [self._change(publication.keys, publication.digest) for publication in self.batch]
        yield from take(self._catalogs.tell_stages(self._feed, changes))

    def _withdraw(self) -> Iterator[Step]:
        for publication in self.batch:
            keys = publication.keys
            yield from self._withdrawal.withdraw_steps(self._store, CONTEXT, keys, "gone", NOW)
            yield from self._catalogs.year_steps(self._store, CONTEXT, keys.year_keys)
            marker = self._withdrawal.mark_withdrawal(keys, "gone", NOW)
            yield from take(self._catalogs.tell_stages(self._feed, [self._change(keys, marker.sha256)]))


def take(stages: Iterable[Sequence[Iterator[Step]]]) -> Iterator[Step]:
    """Take the stages' steps one by one."""
    for stage in stages:
        for steps in stage:
            yield from steps


class Writers(RuleBasedStateMachine):
    """At every moment: no link dangles, every item is met once, nothing acknowledged is missing, no mask is worse.

    The change feed tells what was acknowledged, and nothing that was never linked; in the end it tells the catalog.
    """

    package: ClassVar[ModuleType] = pc_cloudmask.catalog

    @initialize()
    def open(self) -> None:
        self.store = MemoryStore()
        self.writers: dict[int, SimulatedWriter] = {}
        self.acknowledged: set[str] = set()
        self.withdrawn: set[str] = set()
        self.best_seen = BestSeen()
        self.linked: set[tuple[str, str]] = set()

    @rule(
        number=NUMBERS,
        item_ids=st.lists(st.sampled_from(ITEM_IDS), min_size=1, max_size=2, unique=True),
        version=st.sampled_from(["1", "1", "2", "2", LESSER, LESSER, "withdraw"]),
        stop=st.sampled_from(STOPS),
    )
    def advance(self, number: int, item_ids: list[str], version: str, stop: StepName | None) -> None:
        """A writer, begun where there is none, goes on to the next step of a kind, or to its end."""
        if number not in self.writers:
            batch = [build_publication(item_id, version) for item_id in item_ids]
            withdraws = version == "withdraw"
            self.writers[number] = SimulatedWriter(self.store, self.package, batch, withdraws=withdraws)
            self.withdrawn.update(item_ids if withdraws else ())
        writer = self.writers[number]
        name: StepName | None = StepName.MARK
        while name is not None:
            written = self.store.requests.get("write", 0)
            name = writer.advance()
            if self.store.requests.get("write", 0) != written:
                self.nothing_is_lost()
            if name == stop:  # equal as text: a mutant has steps of its own
                return
        del self.writers[number]
        if not writer.withdraws:
            self.acknowledged |= {publication.keys.item_id for publication in writer.batch}

    @rule(what=st.sampled_from(["kill 0", "kill 1", "kill 2", "kill 3", "lose an answer", "recover"]))
    def disturb(self, what: str) -> None:
        if what == "recover":
            self._recover(NOW)
        elif what == "lose an answer":
            self.store.lose_next_answer = True
        else:
            self.writers.pop(int(what.removeprefix("kill ")), None)

    @rule(
        kind=st.sampled_from(["list", "folders"]),
        listings=st.sampled_from([1, 2, 9]),
        share=st.sampled_from([0.0, 0.5, 0.9]),
    )
    def spoil(self, kind: str, listings: int, share: float) -> None:
        """The next listings are empty, or break off, and look complete."""
        self.store.spoiled[kind], self.store.kept_share = listings, share

    @invariant()
    def nothing_is_lost(self) -> None:
        walk = walk_catalog(self.store)
        assert walk.dangling == []
        assert walk.repeated == []
        assert self.acknowledged - self.withdrawn <= set(walk.items)
        # A lesser mask may follow a better one that was taken out in between.
        assert set(self.best_seen.find_worse(walk)) <= self.withdrawn
        self.linked |= find_checksums(walk).items()
        events = read_feed(self.store)
        # Of an item that another has changed since, only that one tells, before its marker goes.
        changing = {
            key.removeprefix(PENDING_PREFIX).rpartition("-")[0]
            for key in self.store.objects
            if key.startswith(PENDING_PREFIX)
        }
        told = set(fold_feed(events))
        assert self.acknowledged - self.withdrawn - changing <= told, "acknowledged and not told"
        assert set(map(tell, events)) <= self.linked | {(each, "") for each in self.withdrawn}

    def teardown(self) -> None:
        """All writers die; once their leases are over, everything that is there is linked."""
        self.writers.clear()
        self._recover(NOW + LEASE)
        self.nothing_is_lost()
        there = [keys_of(each) for each in ITEM_IDS if keys_of(each).item in self.store.objects]
        withdrawn = [keys for keys in there if keys.withdrawn_marker in self.store.objects]
        for keys in withdrawn:
            assert b"cloudmask:fingerprint" not in self.store.objects[keys.item]
        items = {keys.item_id for keys in there} - {keys.item_id for keys in withdrawn}
        walk = walk_catalog(self.store)
        assert set(walk.items) == items
        assert fold_feed(read_feed(self.store)) == find_checksums(walk)
        assert list_markers(self.store) == []

    def _recover(self, now: datetime) -> None:
        self.store.lose_next_answer, self.store.spoiled = False, {"list": 0, "folders": 0}
        publisher = importlib.import_module(f"{self.package.__name__}.publisher")
        publisher.Publisher(self.store, CONTEXT, now, pause=lambda _: None).recover()


def tell(event: dict[str, Any]) -> tuple[str, str]:
    """What an event tells: an item's id and its mask, "" for none."""
    is_withdrawn = event["type"].endswith(".withdrawn")
    return event["subject"], "" if is_withdrawn else event["data"]["mask_checksum"]


def writers_machine(package: ModuleType) -> type[Writers]:
    """The machine over the protocol in ``package``, a mutant of ``pc_cloudmask.catalog``."""
    return type("Writers", (Writers,), {"package": package})
