"""Global concurrency limits, over all workers: set up once with ``prefect gcl create``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows.ports import Item, SceneSource
from flows.scene.query import SceneQuery

EARTH_ENGINE_LIMIT = "cloudmask-earth-engine"
"""A slot is one scene that is worked on: about one request at a time, of the 40 that a project may have."""
SOURCE_LIMIT = "cloudmask-source"
"""A slot is one page of items being fetched."""
PAGE_ITEMS = 250


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that were set up; one that was not holds nobody back."""

    names: frozenset[str] = frozenset()

    def hold(self, name: str) -> AbstractContextManager[None]:
        """One slot of the limit, waited for, while inside."""
        return concurrency(name, strict=True) if name in self.names else nullcontext()


def find_limits() -> Limits:
    """The limits that the server has; asked once a run, for a missing one is silently ignored later."""
    found = set()
    with get_client(sync_client=True) as client:
        for name in (EARTH_ENGINE_LIMIT, SOURCE_LIMIT):
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                continue
            found.add(name)
    return Limits(frozenset(found))


class LimitedSource:
    """Holds a slot while items are fetched, and none while they are worked on."""

    def __init__(self, source: SceneSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits

    @property
    def local_root(self) -> Path | None:
        """The folder that local assets must lie in; None where no asset may be local."""
        return self._source.local_root

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from."""
        return self._source.asset_hosts

    @property
    def allow_loopback(self) -> bool:
        """Whether assets may be read from loopback."""
        return self._source.allow_loopback

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """The matching items, as the source gives them."""
        items = self._source.find_items(query)
        while True:
            with self._limits.hold(SOURCE_LIMIT):
                page = list(islice(items, PAGE_ITEMS))
            if not page:
                return
            yield from page
