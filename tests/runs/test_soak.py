"""A service that runs for long: two watchers at once each simulated minute, and what is left of it in the end.

Opt-in, for it takes as long as it is told, and some: ``CLOUDMASK_SOAK_MINUTES=8 pytest tests/runs/test_soak.py``.
``CLOUDMASK_SOAK_DAYS`` are those in which everything happens, ``CLOUDMASK_SOAK_EVERY`` the minutes between two runs.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.states import StateKind, list_states
from pc_cloudmask.errors import CloudmaskError, StoreUnavailable
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.request import WatchRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.runs.watch import watch
from pc_cloudmask.settings import Area, Settings
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.stores import open_store
from pc_cloudmask.web import RetryPolicy
from tests.catalog.publications import walk_catalog
from tests.doubles.earth_engine.faults import Delay, ErrorReply
from tests.doubles.earth_engine.scenes import NORTH, SOUTH, Sun, build_ragged_scene
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.stac_api.server import CONFORMANCE
from tests.runs.archive import DAY, SHAPE_20M, START, Archive, Product, _build_item
from tests.runs.service import Service, find_item, read_linked, run_service
from tests.runs.test_year import check_published
from tests.runs.weather import ENGINE_WEATHERS, ODD_IDS, WEATHERS, calm, let_it_rain, no_access

MINUTES = float(os.environ.get("CLOUDMASK_SOAK_MINUTES", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MINUTES, reason="CLOUDMASK_SOAK_MINUTES says for how long"),
]
MINUTE = timedelta(minutes=1)
#: Of simulated time: between two runs of a watcher, and in which all that happens to a product happens.
EVERY = float(os.environ.get("CLOUDMASK_SOAK_EVERY", "1")) * MINUTE
WINDOW = float(os.environ.get("CLOUDMASK_SOAK_DAYS", "2")) * DAY
AREAS = {
    "south": Area(tiles=("22KFV",), since="2024-01-01"),
    "north": Area(tiles=("32TNS",), since="2024-01-01"),
}
BEGIN = START + 20 * DAY
#: What Earth Engine does besides: it refuses everything as too much for now, or is late.
THROTTLED, LATE = ErrorReply(429, "RESOURCE_EXHAUSTED", "Too many concurrent requests."), Delay(0.3)
#: More than this between the second and the last quarter is a leak.
KILOBYTES_GROWN, DESCRIPTORS_GROWN = 150_000, 30


class FailingStore(LocalStore):
    """Fails before or after what it was asked for, while its ``share`` is more than nothing."""

    def __init__(self, root: Path, dice: random.Random, share: float) -> None:
        super().__init__(root)
        self._dice, self._share = dice, share

    def _place(self, key: str, body: bytes, put: Callable[[Path, Path], None]) -> None:
        fate = self._dice.random()
        if fate < self._share:
            raise StoreUnavailable(f"{key}: no answer")
        super()._place(key, body, put)
        if fate > 1 - self._share:
            raise StoreUnavailable(f"{key}: the answer was lost")

    def read_object(self, key: str) -> Any:
        if self._dice.random() < self._share:
            raise StoreUnavailable(f"{key}: no answer")
        return super().read_object(key)


def build_soak_archive(seed: int) -> Archive:
    """Products of three weeks, all that happens to them within the window."""
    dice = random.Random(seed)
    products: list[Product] = []
    for sun in (Sun(38.5, SOUTH), Sun(217.3, NORTH)):
        scene = build_ragged_scene(sun, seed, SHAPE_20M, wedge=False)
        for number in range(40):
            taken = START + number * 12 * timedelta(hours=1) + timedelta(minutes=32, seconds=19)
            moment = f"{taken:%Y%m%dT%H%M%S}"
            image = replace(scene, datatake=moment, datastrip=moment)
            listed = BEGIN + dice.uniform(-0.2, 0.8) * WINDOW
            first = Product(
                image_of=image,
                item=_build_item(image, taken + timedelta(hours=7)),
                taken=taken,
                listed=listed,
                image=dice.choice([listed, listed + dice.uniform(0, 0.3) * WINDOW]),
            )
            products += _decide_fate(first, dice)
    return Archive(tuple(sorted(products, key=lambda product: product.taken)))


def _decide_fate(first: Product, dice: random.Random) -> Iterator[Product]:
    later = first.listed + dice.uniform(0.05, 0.3) * WINDOW
    match dice.choices(["as it is", "issued again", "changed", "withdrawn"], [60, 15, 10, 15])[0]:
        case "issued again":
            yield replace(first, withdrawn=later + dice.choice([0, 1]) * MINUTE)
            yield replace(first, item=_build_item(first.image_of, later), listed=later)
        case "changed":
            yield replace(first, changed=later)
        case "withdrawn":
            yield replace(first, withdrawn=later)
        case _:
            yield first


@dataclass
class Soak:
    """Two watchers over one store, and what their process takes."""

    service: Service
    dice: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    kilobytes: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def pass_minute(self, now: datetime, weather: Any, rain: Any, store_fails: float) -> None:
        """Let both watchers run at ``now``, at once."""
        service = self.service
        items = service.archive.list_items(now)
        service.server.items = list(items)
        service.server.conforms_to = list(CONFORMANCE.values())
        service.server.faults.clear()
        vars(service.server).pop("search", None)
        service.server.requests.clear()  # what the doubles remember is no memory of ours
        service.engine.requests.clear()
        weather(service.server, items, self.dice)
        for image, without in service.archive.list_images(now):
            service.engine.world.add_sentinel2(image, without)
        let_it_rain(service.engine.faults, rain, self.dice)
        is_excused = bool(rain) or weather is no_access
        with ThreadPoolExecutor(2) as watchers:
            ran = [watchers.submit(self._watch, now, store_fails, seed) for seed in (1, 2)]
            for each in ran:
                self._tell(each.result(), is_excused)
        self.kilobytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4)
        self.descriptors.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))

    def _watch(self, now: datetime, store_fails: float, seed: int) -> Any:
        service = self.service
        settings = Settings(
            stac_api_url=service.server.url,
            store=str(service.store),
            earthengine_url=service.engine.url,
            earthengine_project="p",
            earthengine_credentials="anonymous",
            workers=2,
            areas=AREAS,
        )
        context = RunContext(settings, now=now)
        context.session = service.session
        context.store = FailingStore(service.store, random.Random(f"{now}{seed}"), store_fails)
        quick = RetryPolicy(attempts=20, backoff_s=0.001)
        context.source = PlanetaryComputerSource(settings.stac_api_url, settings.collection, retry=quick)
        try:
            return watch(context, WatchRequest(seconds=60.0), ThreadRunner(2, retry_delay_s=0))
        except CloudmaskError as error:
            return error

    def _tell(self, result: Any, is_excused: bool) -> None:
        self.counts["runs"] += 1
        if isinstance(result, CloudmaskError):
            if not (result.retryable or (result.ends_run and is_excused)):
                raise result
            self.counts["runs that ended"] += 1
            return
        self.counts.update(result.counts)
        self.counts["runs with a problem"] += bool(result.problems)
        assert {outcome.id for outcome in result.failed if not outcome.retryable} <= set(ODD_IDS)


def test_a_service_that_runs_for_long_stays_small_and_right(
    earth_engine: LocalEarthEngine, tmp_path: Path, figures: list[str]
) -> None:
    archive = build_soak_archive(seed=3)
    started = time.monotonic()
    with run_service(archive, earth_engine, tmp_path / "out") as service:
        soak = Soak(service, random.Random(4))
        now = run_for(soak, BEGIN, MINUTES * 60)
        passes = len(soak.kilobytes)
        # Calm days: what is gone is gone once three scans agree, months of which everything is looked at.
        for day in (*range(1, 5), *range(6, 200, 6)):
            soak.pass_minute(now := BEGIN + WINDOW + day * DAY, calm, None, 0.0)
    figures.append(
        f"a soak: {passes} times every {EVERY}, two watchers at once, {dict(soak.counts)}; resident "
        f"{tell_growth(soak.kilobytes)} kB, descriptors {tell_growth(soak.descriptors)}, "
        f"{sum(1 for path in service.store.rglob('*') if path.is_file())} files; "
        f"{time.monotonic() - started:.0f} s"
    )
    check_truth(service, archive, now)
    assert grown(soak.kilobytes) < KILOBYTES_GROWN
    assert grown(soak.descriptors) < DESCRIPTORS_GROWN


def run_for(soak: Soak, now: datetime, seconds: float) -> datetime:
    """Pass minutes until the time is up or the window is; what the weather is holds for ten of them."""
    ends = time.monotonic() + seconds
    weather, rain, store_fails, minute = calm, None, 0.0, 0
    while time.monotonic() < ends and now < BEGIN + WINDOW:
        if minute % 10 == 0:
            weather = soak.dice.choices(*zip(*WEATHERS, strict=True))[0]
            rains = (*ENGINE_WEATHERS, (THROTTLED, 4), (LATE, 4))
            rain = soak.dice.choices(*zip(*rains, strict=True))[0]
            store_fails = soak.dice.choice([0.0, 0.0, 0.0, 0.01, 0.1])
        soak.pass_minute(now, weather, rain, store_fails)
        minute += 1
        now += EVERY
    return now


def check_truth(service: Service, archive: Archive, now: datetime) -> None:
    """That the catalog is what one that knew everything would be, and nothing else is left in the store."""
    store = open_store(str(service.store))
    walk, truth = walk_catalog(store), archive.find_truth(now)
    assert not walk.dangling
    assert not walk.repeated
    assert read_linked(walk) == set(truth)
    for item_id, product in truth.items():
        check_published(find_item(service.store, item_id), product, now)
    states = list(list_states(store))
    assert {each.item_id for each in states if each.kind is StateKind.WAITING} == archive.find_waiting(now)
    assert {each.item_id for each in states if each.kind is StateKind.FAILED} <= set(ODD_IDS)
    assert not list((service.store / ".tmp").glob("*"))
    verdict = check_catalog(store, CatalogContext(None), repair=False, now=now)
    assert verdict.is_whole, verdict.findings


def grown(samples: list[int]) -> float:
    """The last quarter's median less that of the second, when everything is imported and opened."""
    quarter = max(1, len(samples) // 4)
    return median(samples[-quarter:]) - median(samples[quarter : 2 * quarter])


def tell_growth(samples: list[int]) -> str:
    quarter = max(1, len(samples) // 4)
    parts = [samples[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    return " → ".join(f"{median(part):.0f}" for part in parts if part)
