"""The service on its loopback: a source, an Earth Engine, and runs of ``watch`` at any time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import WatchRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.runs.watch import watch
from pc_cloudmask.settings import Area, Settings
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.web import RetryPolicy
from tests.catalog.publications import Walk, keys_of
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.stac_api.server import CONFORMANCE, StacApiServer
from tests.masking.earth_engine.sessions import run_session
from tests.runs.archive import Archive
from tests.runs.weather import calm

HOME = {"home": Area(tiles=("22KFV", "32TNS"), since="2024-01-01")}


@dataclass
class Service:
    """An archive that is watched."""

    archive: Archive
    server: StacApiServer
    engine: LocalEarthEngine
    session: Any
    store: Path
    areas: Mapping[str, Area] = field(default_factory=lambda: HOME)
    settings: dict[str, Any] = field(default_factory=dict)
    #: What Earth Engine was given, by ``system:index``.
    images: dict[str, tuple[Sentinel2, tuple[str, ...]]] = field(default_factory=dict)

    def run(
        self,
        now: datetime,
        weather: Any = calm,
        *,
        clock: datetime | None = None,
        seed: int = 0,
        **asked: Any,
    ) -> Report:
        """One run at ``now`` by a clock that may be wrong; ``asked`` are fields of its request."""
        items = self.archive.list_items(now)
        self.server.items = list(items)
        self.server.conforms_to = list(CONFORMANCE.values())
        self.server.faults.clear()
        vars(self.server).pop("search", None)  # what a weather put in its place
        weather(self.server, items, random.Random(seed))
        self._give_images(now)
        settings = Settings(
            stac_api_url=self.server.url,
            store=str(self.store),
            earthengine_url=self.engine.url,
            earthengine_project="p",
            earthengine_credentials="anonymous",
            workers=2,
            areas=self.areas,
            **self.settings,
        )
        context = RunContext(settings, now=clock or now)
        context.session = self.session
        quick = RetryPolicy(attempts=20, backoff_s=0.001)
        context.source = PlanetaryComputerSource(settings.stac_api_url, settings.collection, retry=quick)
        try:
            return watch(context, WatchRequest(**asked), ThreadRunner(2, retry_delay_s=0))
        finally:
            self.server.faults.clear()

    def _give_images(self, now: datetime) -> None:
        """Give Earth Engine what it has not had before ``now``: that of a year takes longer than a run."""
        for image, without in self.archive.list_images(now):
            known, known_without = self.images.get(image.index, (None, None))
            if known is not image or known_without != without:
                self.images[image.index] = image, without
                self.engine.world.add_sentinel2(image, without)


@contextmanager
def run_service(
    archive: Archive, engine: LocalEarthEngine, store: Path, **settings: Any
) -> Iterator[Service]:
    """A service whose source and engine are up; nothing was published yet."""
    with StacApiServer() as server, run_session(engine) as session:
        yield Service(archive, server, engine, session, store, settings=settings)


def read_linked(walk: Walk) -> set[str]:
    """Ids of the items that the leaves link."""
    links = (link for document in walk.documents.values() for link in document["links"])
    return {link["href"].rpartition("/")[2].removesuffix(".json") for link in links if link["rel"] == "item"}


def find_item(store: Path, item_id: str) -> dict[str, Any]:
    item: dict[str, Any] = json.loads((store / keys_of(item_id).item).read_text())
    return item
