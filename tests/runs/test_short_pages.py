"""A source whose answers are cut: what one of them lacks is not gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import walk_catalog
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.stac_api.server import StacApiServer
from tests.runs.archive import DAY
from tests.runs.service import Service, run_service
from tests.runs.test_watch import NOW, build_plain_archive

pytestmark = pytest.mark.slow


@pytest.fixture
def service(earth_engine: LocalEarthEngine, tmp_path: Path) -> Iterator[Service]:
    """Ten scenes of two tiles in one month."""
    with run_service(build_plain_archive(), earth_engine, tmp_path / "out") as service:
        yield service


def cut_pages(
    most: int, *, tells: bool = False
) -> Callable[[StacApiServer, list[dict[str, Any]], Random], None]:
    """No page has more than ``most`` items, whatever was asked for, and none a link to the next."""

    def cut(server: StacApiServer, items: list[dict[str, Any]], dice: Random) -> None:
        search = server.search

        def search_shortly(query: dict[str, Any], method: str) -> dict[str, Any]:
            matched = {"numberMatched": len(search(query, method)["features"])} if tells else {}
            page = search({**query, "limit": most}, method)
            return {**page, **matched, "links": []}

        server.search = search_shortly  # type: ignore[method-assign]

    return cut


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_source_that_cuts_its_pages_withdraws_nothing(service: Service, most: int) -> None:
    service.run(NOW)
    withdrawn = [service.run(NOW + day * DAY, cut_pages(most)).withdrawn for day in range(1, 6)]
    assert not any(withdrawn)
    assert len(walk_catalog(open_store(str(service.store))).items) == 10


def test_a_search_by_id_that_gives_fewer_than_match_is_no_answer(service: Service) -> None:
    service.run(NOW)
    reports = [service.run(NOW + day * DAY, cut_pages(1, tells=True)) for day in range(1, 6)]
    assert not any(report.withdrawn for report in reports)
    assert "items match" in " ".join(text for report in reports for text in report.problems)
