"""Publishing one item into catalogs of growing size, compared with pystac's read, add and save.

The catalogs lie in a local directory; a request is what the same call would be to a bucket. Each
catalog is made by ``check --repair`` from items that were put there, and checked after that: every
document, link, size and checksum. pystac is measured once in a catalog of 10,000, where it takes half a
minute for an item, and not in one of 100,000.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pystac

from benchmarks.measure import (
    Figure,
    Peer,
    Row,
    compare_costs,
    compare_rates,
    read_peak_resident_mb,
    run_apart,
)
from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.feed import PART_BYTES
from pc_cloudmask.catalog.layout import CHANGES_PREFIX
from pc_cloudmask.catalog.publisher import Publication, Publisher
from pc_cloudmask.storage.local import LocalStore
from tests.catalog.publications import CONTEXT, NOW, build_publication, product_id
from tests.catalog.seeding import CountingStore, seed_items

SIZES = (100, 10_000, 100_000)
REPEATS = 30
PYSTAC_RUNS = {100: 5, 10_000: 1}
"""Runs by size."""
CPU_RATIO, PYSTAC_TARGET = 1.2, 100.0
BYTES_BUDGET_KB, CHECK_BUDGET_MB = 60.0, 500.0
PREVIEW_BYTES = 9_500
"""What the preview of a full tile's mask takes that has clouds of all sizes."""
SOURCE_ASSETS = 24
GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "derived-item.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of publishing one item: CPU, requests, bytes other than the mask's; then of the check of all items.

    The change feed is counted by itself: a batch writes its part once, however many items it has.
    """

    cpu_ms: Figure
    requests: Counter[str]
    kilobytes: float
    told_kilobytes: float
    check_s: float
    check_peak_mb: float


def measure() -> list[Row]:
    """Cost by size against the smallest catalog, bytes and memory against their budgets, pystac."""
    costs = {size: run_apart(partial(measure_size, size)) for size in SIZES}
    smallest, largest = costs[SIZES[0]], costs[SIZES[-1]]
    rows = []
    for size in SIZES[1:]:
        among = f"one item among {size:,}, against among {SIZES[0]}"
        peer = Peer(f"among {SIZES[0]}", smallest.cpu_ms)
        rows.append(
            compare_costs(f"CPU of publishing {among}", costs[size].cpu_ms, peer, "ms", 1 / CPU_RATIO)
        )
        fewest = Peer(f"among {SIZES[0]}", smallest.requests.total())
        requests = costs[size].requests.total()
        rows.append(compare_costs(f"requests of publishing {among}", requests, fewest, "requests", 1))
    budget = Peer("budget", BYTES_BUDGET_KB)
    rows.append(compare_costs("bytes written beside the mask", largest.kilobytes, budget, "kB", 1))
    part = Peer("a full part", (PART_BYTES + 1024) / 1e3)
    rows.append(compare_costs("bytes of the change feed", largest.told_kilobytes, part, "kB", 1))
    for size, runs in PYSTAC_RUNS.items():
        peer = Peer("pystac: read, add, normalise, save", run_apart(partial(measure_pystac, size, runs)))
        target = PYSTAC_TARGET if size > SIZES[0] else None
        rows.append(
            compare_costs(f"CPU of adding one item to {size:,}", costs[size].cpu_ms, peer, "ms", target)
        )
    memory = Peer("budget", CHECK_BUDGET_MB)
    name = f"peak memory of the check of {SIZES[-1]:,} items, imports included"
    rows.append(compare_costs(name, largest.check_peak_mb, memory, "MB", 1))
    rates = Peer(f"of {SIZES[0]}", SIZES[0] / smallest.check_s)
    name = f"rate of the check of {SIZES[-1]:,} items"
    rows.append(compare_rates(name, SIZES[-1] / largest.check_s, rates, "items/s", None))
    return rows


def measure_size(size: int) -> Cost:
    """Return the cost in a catalog of ``size`` items."""
    with tempfile.TemporaryDirectory() as name:
        store = LocalStore(Path(name))
        seed_items(partial(_put, store.root), size)
        if not check_catalog(store, CONTEXT, repair=True, now=NOW).is_whole:
            raise RuntimeError("the seeded catalog could not be made whole")
        start = time.perf_counter()
        report = check_catalog(store, CONTEXT, repair=False, now=NOW)
        check_s, check_peak_mb = time.perf_counter() - start, read_peak_resident_mb()
        if report.findings or report.items != size:
            raise RuntimeError(f"the check found {report}")
        counting = CountingStore(store)
        cpu_ms = []
        for number in range(REPEATS + 1):
            counting.requests.clear()
            counting.written.clear()
            publication = build_real_publication(product_id(number + 1, "22KAA"))
            cpu_ms.append(_measure_cpu_ms(partial(_publish, counting, publication)))
        told = sum(size for key, size in counting.written.items() if key.startswith(CHANGES_PREFIX))
        beside = sum(size for key, size in counting.written.items() if "cloudmask-" not in key.split("/")[-1])
        kilobytes = (beside - told) / 1e3, told / 1e3
        return Cost(Figure.of(cpu_ms[1:]), Counter(counting.requests), *kilobytes, check_s, check_peak_mb)


def measure_pystac(size: int, runs: int) -> Figure:
    """CPU of adding one item to a self-contained catalog of ``size`` items, in ms."""
    with tempfile.TemporaryDirectory() as name:
        root = pystac.Catalog("root", "root")
        for number in range(size):
            root.add_item(_pystac_item(product_id(number)))
        root.normalize_and_save(name, pystac.CatalogType.SELF_CONTAINED)
        return Figure.of(
            [_measure_cpu_ms(partial(_add, name, product_id(size + number))) for number in range(runs)]
        )


def build_real_publication(item_id: str) -> Publication:
    """Return a publication whose item and preview are as large as those of a real scene."""
    publication = build_publication(item_id)
    golden, item = json.loads(GOLDEN.read_bytes()), publication.item
    source = [asset for name, asset in golden["assets"].items() if not name.startswith("cloudmask")]
    assets = {f"B{number:02}": source[number % len(source)] for number in range(SOURCE_ASSETS)}
    item["properties"] = golden["properties"] | item["properties"]
    item["assets"] = {
        name: golden["assets"].get(name, {}) | item["assets"][name] for name in item["assets"]
    } | assets
    item["geometry"] = golden["geometry"]
    mask, preview = publication.files
    preview = replace(preview, body=np.random.default_rng(0).bytes(PREVIEW_BYTES))
    return Publication(publication.keys, golden | item, (mask, preview))


def _publish(store: CountingStore, publication: Publication) -> None:
    publisher = Publisher(store, CONTEXT, NOW)
    publisher.publish_item(publication)
    publisher.publish_catalogs([publication.keys])


def _add(folder: str, item_id: str) -> None:
    root = pystac.Catalog.from_file(f"{folder}/catalog.json")
    for _ in root.get_items(recursive=True):
        pass
    root.add_item(_pystac_item(item_id))
    root.normalize_and_save(folder, pystac.CatalogType.SELF_CONTAINED)


def _pystac_item(item_id: str) -> pystac.Item:
    document: dict[str, Any] = json.loads(build_real_publication(item_id).body)
    document["links"] = []
    return pystac.Item.from_dict(document)


def _put(root: Path, key: str, body: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def _measure_cpu_ms(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) * 1e3
