"""What is new in several areas is paired together, and each area is noted as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from pc_cloudmask.runs.area_state import read_area_state
from pc_cloudmask.settings import Area
from pc_cloudmask.storage.stores import open_store
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.runs.service import HOME, run_service
from tests.runs.test_watch import NOW, build_plain_archive

APART = {
    name: Area(tiles=(tile,), since="2024-01-01") for name, tile in (("south", "22KFV"), ("north", "32TNS"))
}


def count_pairing(engine: LocalEarthEngine) -> int:
    return len(engine.requests.to("value:compute"))


@pytest.mark.slow
def test_areas_share_their_requests_for_pairing(earth_engine: LocalEarthEngine, tmp_path: Path) -> None:
    archive = build_plain_archive()
    with run_service(archive, earth_engine, tmp_path / "one") as service:
        service.areas = HOME
        assert len(service.run(NOW).published) == 10
    together = count_pairing(earth_engine)
    earth_engine.requests.clear()
    with run_service(archive, earth_engine, tmp_path / "two") as service:
        service.areas = APART
        report = service.run(NOW)
    assert (len(report.published), report.problems) == (10, ())
    assert count_pairing(earth_engine) == together
    store = open_store(str(tmp_path / "two"))
    for name, area in APART.items():
        state = read_area_state(store, name, area.digest)
        assert state.recent_day == f"{NOW:%Y-%m-%d}"
        assert state.tiles == set(area.tiles)
