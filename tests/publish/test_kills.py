"""Real writers, killed by SIGKILL at any moment while a reader walks the catalog.

``CLOUDMASK_TEST_KILLS`` sets how often, for each store; the default keeps the suite short.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from flows.adapters.stores import open_store
from flows.errors import StoreUnavailable
from flows.publish.check import check_catalog
from flows.publish.marker import LEASE
from flows.publish.publisher import Publisher
from tests.publish.memory_store import MemoryStore
from tests.publish.publications import (
    CONTEXT,
    NOW,
    build_publication,
    list_markers,
    product_id,
    public_bytes,
    walk_catalog,
)
from tests.s3_server import S3Server

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("CLOUDMASK_TEST_KILLS", "8"))
WRITERS = 4
FORKSERVER_MISSED_IT = 255
"""What multiprocessing says where the fork server did not tell it how a child died; an error gives 1."""
STARTING_S = 60
"""A writer's time runs from its first word on: it is to be killed at its work, not at its start."""
POOL = [product_id(number) for number in range(16)] + [product_id(number, "22KFU") for number in range(8)]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["flows.adapters.s3_store", "boto3", "tests.publish.publications"])


def write_for_ever(environment: dict[str, str], url: str, seed: int, acknowledged: Connection) -> None:
    """Publish small batches until killed; tell of each that ``publish_catalogs`` has returned for."""
    os.environ.update(environment)
    store = open_store(url)
    acknowledged.send([])
    dice = random.Random(seed)
    while True:
        publisher = Publisher(store, CONTEXT, NOW)
        batch = [build_publication(item_id) for item_id in dice.sample(POOL, dice.randint(1, 3))]
        try:
            publisher.recover()
            for publication in batch:
                publisher.publish_item(publication)
            publisher.publish_catalogs([publication.keys for publication in batch])
        except StoreUnavailable:
            continue
        acknowledged.send([publication.keys.item_id for publication in batch])


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
    """Walks the catalog again and again; whatever was acknowledged before a walk must be in it."""

    def __init__(self, url: str, writers: list[Writer]) -> None:
        super().__init__()
        self._store = open_store(url)
        self._writers = writers
        self._ended = threading.Event()
        self.walks = 0
        self.faults: list[str] = []

    def run(self) -> None:
        while not self._ended.is_set():
            before = set().union(*(writer.acknowledged for writer in self._writers))
            walk = walk_catalog(self._store)
            self.walks += 1
            self.faults += walk.dangling + walk.repeated + sorted(before - set(walk.items))

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
