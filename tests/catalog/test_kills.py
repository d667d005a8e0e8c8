"""Real writers, killed by SIGKILL at any moment while a reader walks the catalog.

``CLOUDMASK_TEST_KILLS`` sets how often, for each store; the default keeps the suite short.

The chaos: six processes publish versions, withdraw, repair and replay in one store, by clocks that are hours
apart; each is stopped until others, some of which take it for dead, have published, and is killed later. A
bucket stands behind a front that fails a fifth of the requests. ``CLOUDMASK_TEST_CHAOS`` sets the number of
stops and kills for each store, ``CLOUDMASK_TEST_CHAOS_FAULTS`` what the front does, of
``tests.doubles.faulty_front``; with ``repair`` among them, repairs too go through the front.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import LEASE
from pc_cloudmask.catalog.versions import is_current
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.storage.stores import open_store
from tests.catalog.killed import (
    CHAOS_POOL,
    FICKLE,
    POOL,
    SKEWS,
    VERSIONS,
    do_anything_for_ever,
    write_for_ever,
)
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    BestSeen,
    build_publication,
    find_checksums,
    fold_feed,
    keys_of,
    list_markers,
    public_bytes,
    read_feed,
    walk_catalog,
)
from tests.doubles.command import PROCESSES
from tests.doubles.memory_store import MemoryStore
from tests.doubles.s3_server import S3Server, running_front

pytestmark = pytest.mark.slow

logger = logging.getLogger(__name__)

CHAOS = int(os.environ.get("CLOUDMASK_TEST_CHAOS", "6"))
FAULTS = os.environ.get("CLOUDMASK_TEST_CHAOS_FAULTS", "error lost hangup body").split()
FAULTY_SHARE = 0.2
KILLS = int(os.environ.get("CLOUDMASK_TEST_KILLS", "8"))
WRITERS, WRITERS_OF_CHAOS = 4, 6
#: What multiprocessing says where the fork server did not tell it how a child died; an error gives 1.
FORKSERVER_MISSED_IT = 255
#: A writer's time runs from its first word on: it is to be killed at its work, not at its start.
STARTING_S = 60


class Writer:
    """One writer process after the other, each killed by its time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: set[str] = set()
        self.deaths: list[int | None] = []

    def run_and_kill(self, seed: int, after_s: float, *, last: bool) -> None:
        """One process; the ``last`` one goes on until something was acknowledged, on a busy machine too."""
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=write_for_ever, args=(dict(os.environ), self._url, seed, sender))
        process.start()
        sender.close()
        self._receive(receiver, STARTING_S)
        deadline = time.monotonic() + after_s
        while (left := deadline - time.monotonic()) > 0:
            self._receive(receiver, left)
        while last and not self.acknowledged and self._receive(receiver, STARTING_S):
            pass
        process.kill()
        process.join()
        self.deaths.append(process.exitcode)
        process.close()
        while self._receive(receiver, 0):
            pass
        receiver.close()

    def _receive(self, receiver: Connection, timeout_s: float) -> bool:
        try:
            if not receiver.poll(timeout_s):
                return False
            self.acknowledged |= set(receiver.recv())
        except (EOFError, OSError):
            return False
        return True


class Reader(threading.Thread):
    """Walks the catalog again and again; whatever was acknowledged before a walk must be in it, and no worse."""

    def __init__(self, url: str, writers: list[Writer], fickle: Iterable[str] = ()) -> None:
        super().__init__()
        self._fickle = set(fickle)
        self._best_seen = BestSeen()
        self._store = open_store(url)
        self._writers = writers
        self._ended = threading.Event()
        self.walks = 0
        self.faults: list[str] = []

    def run(self) -> None:
        # A moment's pause leaves the processor to those that are watched.
        while not self._ended.wait(0.05):
            before = set().union(*(set(writer.acknowledged) for writer in self._writers))
            walk = walk_catalog(self._store)
            self.walks += 1
            self.faults += walk.dangling + walk.repeated + sorted(before - self._fickle - set(walk.items))
            self.faults += sorted(set(self._best_seen.find_worse(walk)) - self._fickle)

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture(params=["local", "s3"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, float]]:
    """A store, and how long a writer lives at most; on S3, 15 % of the PUTs fail."""
    if request.param == "local":
        yield str(tmp_path / "out"), 0.25
        return
    server: S3Server = request.getfixturevalue("s3_server")
    server.use(monkeypatch)
    yield f"s3://{server.create_bucket('flaky')}/out", 3.5


def test_killed_writers_lose_nothing_and_break_nothing(url: tuple[str, float]) -> None:
    store_url, life_s = url
    writers = [Writer(store_url) for _ in range(WRITERS)]
    reader = Reader(store_url, writers)
    reader.start()

    def run(number: int) -> None:
        dice = random.Random(number)
        for kill in range(number, KILLS, WRITERS):
            last = kill + WRITERS >= KILLS
            writers[number].run_and_kill(kill, life_s * dice.random(), last=last)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.end()

    assert reader.faults == []
    deaths = [death for writer in writers for death in writer.deaths]
    assert len(deaths) == KILLS
    assert set(deaths) <= {-signal.SIGKILL, FORKSERVER_MISSED_IT}
    store = open_store(store_url)
    acknowledged = set().union(*(writer.acknowledged for writer in writers))
    assert acknowledged
    assert acknowledged <= set(walk_catalog(store).items)
    publish_all(Publisher(store, CONTEXT, NOW + LEASE))
    assert list_markers(store) == []
    assert public_bytes(store) == undisturbed()
    assert fold_feed(read_feed(store)) == find_checksums(walk_catalog(store))
    report = check_catalog(store, CONTEXT, repair=False, now=NOW + LEASE)
    assert [str(finding) for finding in report.findings] == []
    logger.info(
        "%d kills, %d of %d acknowledged, %d walks", KILLS, len(acknowledged), len(POOL), reader.walks
    )


def publish_all(publisher: Publisher) -> None:
    """What a last run does: link what was left, publish what is not there."""
    publisher.recover()
    wanted = map(build_publication, POOL)
    batch = [publication for publication in wanted if not publisher.find_published(publication.keys)]
    for publication in batch:
        publisher.publish_item(publication)
    publisher.publish_catalogs([publication.keys for publication in batch])


def undisturbed() -> dict[str, bytes]:
    store = MemoryStore()
    publish_all(Publisher(store, CONTEXT, NOW))
    return public_bytes(store)


class Victim(Writer):
    """A process that does anything, one after the other; each is stopped for a while, and then killed."""

    def __init__(self, urls: dict[str, str], others: list[Victim]) -> None:
        super().__init__(urls["store"])
        self.urls = urls
        self.others = others
        self.rounds = 0
        self.is_working = False

    def live_and_die(self, seed: int) -> None:
        """Work for some batches, be stopped until others did some, work on, be killed at any moment."""
        dice = random.Random(seed)
        receiver, sender = PROCESSES.Pipe(duplex=False)
        target = (dict(os.environ), self.urls, seed, sender)
        process = PROCESSES.Process(target=do_anything_for_ever, args=target)
        process.start()
        sender.close()
        self._receive(receiver, STARTING_S)
        self.is_working = True
        self.listen(receiver, dice)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        self.is_working = False
        self.wait_for_others()
        os.kill(process.pid, signal.SIGCONT)
        self.is_working = True
        self.listen(receiver, dice)
        process.kill()
        self.is_working = False
        process.join()
        self.deaths.append(process.exitcode)
        process.close()
        while self._receive(receiver, 0):
            self.rounds += 1
        receiver.close()

    def listen(self, receiver: Connection, dice: random.Random) -> None:
        """Let the process link a batch or two, or none, and go on for a moment."""
        for _ in range(dice.randint(0, 2)):
            self.rounds += self._receive(receiver, STARTING_S)
        self.rounds += self._receive(receiver, dice.uniform(0, 0.5))

    def wait_for_others(self) -> None:
        """Wait until others linked two batches more, or none of them is at work."""
        others = [other for other in self.others if other is not self]
        enough = sum(other.rounds for other in others) + 2
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline and any(other.is_working for other in others):
            if sum(other.rounds for other in others) >= enough:
                return
            time.sleep(0.01)


@pytest.fixture(params=["local", "s3"])
def chaos_urls(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The store's URL, and the endpoints for writers and repairs; this process asks the server itself."""
    if request.param == "local":
        # Of a folder that is not there yet, the first probe leaves no trace: the reader would find it gone.
        (tmp_path / "out").mkdir()
        yield {"store": str(tmp_path / "out"), "write": "", "repair": ""}
        return
    server: S3Server = request.getfixturevalue("s3_server")
    server.use(monkeypatch)
    faults = [fault for fault in FAULTS if fault != "repair"]
    with running_front(server.url, FAULTY_SHARE, 7, faults) as front:
        repair = front if "repair" in FAULTS else server.url
        yield {"store": f"s3://{server.create_bucket()}/out", "write": front, "repair": repair}


def test_chaos_loses_nothing_and_a_reader_never_sees_it(
    chaos_urls: dict[str, str], figures: list[str]
) -> None:
    victims: list[Victim] = []
    victims += [Victim(chaos_urls, victims) for _ in range(WRITERS_OF_CHAOS)]
    reader = Reader(chaos_urls["store"], list(victims), fickle=FICKLE)
    reader.start()
    with ThreadPoolExecutor(WRITERS_OF_CHAOS) as pool:

        def run(number: int) -> None:
            for seed in range(number, CHAOS, WRITERS_OF_CHAOS):
                victims[number].live_and_die(seed)

        list(pool.map(run, range(WRITERS_OF_CHAOS)))
    reader.end()

    store = open_store(chaos_urls["store"])
    acknowledged = set().union(*(victim.acknowledged for victim in victims))
    batches = sum(victim.rounds for victim in victims)
    figures.append(
        f"chaos, {'s3' if store.url.startswith('s3:') else 'local'}: {CHAOS} stops and kills, "
        f"{batches} batches, {len(acknowledged)} of {len(CHAOS_POOL)} items acknowledged, "
        f"{reader.walks} walks, {len(list_markers(store))} markers left"
    )
    assert {death for victim in victims for death in victim.deaths} <= {-signal.SIGKILL, FORKSERVER_MISSED_IT}
    assert reader.faults == []
    run_over_everything(store, NOW)
    walk = walk_catalog(store)
    assert (walk.dangling, walk.repeated) == ([], [])
    published = {item_id for item_id in CHAOS_POOL if is_published(store, item_id)}
    assert acknowledged - FICKLE <= published
    assert set(walk.items) == published
    for scene in VERSIONS:
        catalog = walk.documents.get(keys_of(scene[0]).year_keys.catalog, {"links": []})
        links = {link["href"].split("/")[-2] for link in catalog["links"] if link["rel"] == "item"}
        assert links.intersection(scene) == set(sorted(published.intersection(scene))[-1:])
    latest = NOW + 2 * (LEASE + max(SKEWS))
    Publisher(store, CONTEXT, latest).recover()
    assert list_markers(store) == []
    assert fold_feed(read_feed(store)) == find_checksums(walk_catalog(store))
    report = check_catalog(store, CONTEXT, repair=False, now=latest)
    assert [str(finding) for finding in report.findings] == []


def run_over_everything(store: ObjectStore, now: datetime) -> None:
    """What ``ingest`` does where nothing is to be published."""
    publisher = Publisher(store, CONTEXT, now)
    publisher.recover()
    publisher.link_missing(
        keys_of(item_id) for item_id in CHAOS_POOL if is_current(publisher.find_published(keys_of(item_id)))
    )


def is_published(store: ObjectStore, item_id: str) -> bool:
    keys = keys_of(item_id)
    return store.find_object(keys.item) is not None and store.find_object(keys.withdrawn_marker) is None
