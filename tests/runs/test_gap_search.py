"""Two catalogues with planted holes: all are found, none is invented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import record_waiting
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.gap_search import search_gaps
from pc_cloudmask.runs.gaps import GapReport
from pc_cloudmask.runs.request import GapsRequest
from pc_cloudmask.scene.geometry import build_tile_box
from pc_cloudmask.settings import Area, Settings
from pc_cloudmask.source.stac_api import PlanetaryComputerSource, SecondApi
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.web import RetryPolicy
from tests.catalog.publications import CONTEXT, build_publication, keys_of
from tests.doubles.command import run
from tests.doubles.earth_engine.scenes import SOUTH, Sun, build_ragged_scene
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.stac_api import Fault, StacApiServer
from tests.doubles.stac_api.catalogues import Pass, make_copernicus, make_earth_search, make_planetary
from tests.masking.earth_engine.sessions import run_session

NOW = datetime(2019, 2, 1, tzinfo=UTC)
FIRST = datetime(2018, 12, 4, 13, 22, 19, tzinfo=UTC)
QUICK = RetryPolicy(attempts=2, backoff_s=0.001)
MAKERS = {"earth-search": make_earth_search, "copernicus": make_copernicus}
#: Ten passes of two satellites over two tiles, one of zone 1, near the antimeridian.
PASSES = [
    Pass(tile, FIRST + timedelta(days=2 * day), "S2A" if day % 2 else "S2B")
    for day in range(10)
    for tile in ("22KFV", "01CCV")
]


@pytest.fixture
def source() -> Iterator[StacApiServer]:
    with StacApiServer() as api:
        yield api


@pytest.fixture
def second() -> Iterator[StacApiServer]:
    with StacApiServer() as api:
        yield api


class Census:
    """The two APIs and a store."""

    def __init__(self, source: StacApiServer, second: StacApiServer, store: Path) -> None:
        self.source, self.second, self.store = source, second, store

    def take(
        self,
        *,
        areas: dict[str, Area] | None = None,
        now: datetime = NOW,
        session: EarthEngineSession | None = None,
        **asked: Any,
    ) -> GapReport:
        engine = {"earthengine_url": session.url, "earthengine_credentials": "anonymous"} if session else {}
        settings = Settings(
            stac_api_url=self.source.url,
            second_api=self.second.url,
            store=str(self.store),
            areas=areas or {},
            **engine,  # type: ignore[arg-type]
        )
        context = RunContext(settings, now=now)
        if session:
            context.session = session
        context.source = PlanetaryComputerSource(self.source.url, settings.collection, 5, retry=QUICK)
        context.second = SecondApi(self.second.url, settings.second_collection, retry=QUICK)
        asked = asked if areas else {"tiles": ("22KFV", "01CCV"), **asked}
        return search_gaps(context, GapsRequest(**{"datetime": "2018-12", **asked}))


@pytest.fixture
def census(source: StacApiServer, second: StacApiServer, tmp_path: Path) -> Census:
    return Census(source, second, tmp_path / "out")


def find_missing(report: GapReport, name: str) -> set[tuple[str, datetime]]:
    return {(gap.scene.tile, gap.scene.start) for gap in report.gaps if name in gap.lacking}


def key(seen: Pass) -> tuple[str, datetime]:
    return seen.tile, seen.start


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("without", [(), ("query",), ("query", "sort")])
def test_planted_holes_are_found_and_none_is_invented(
    census: Census, maker: str, without: tuple[str, ...]
) -> None:
    census.second.conforms_to = [
        uri for uri in census.second.conforms_to if not any(uri.endswith(f"#{name}") for name in without)
    ]
    passes = [Pass(each.tile, each.start, each.platform, bbox=_place(each.tile)) for each in PASSES]
    census.source.items = [
        make_planetary(each) for number, each in enumerate(passes) if number not in (3, 6, 9)
    ]
    census.second.items = [MAKERS[maker](each) for number, each in enumerate(passes) if number not in (4, 9)]
    report = census.take()
    assert report.is_complete, report.problems
    assert report.scenes == 19
    assert find_missing(report, "source") == {key(passes[3]), key(passes[6])}
    assert find_missing(report, "second") == {key(passes[4])}
    assert len(find_missing(report, "catalog")) == 19


def _place(tile: str) -> tuple[float, float, float, float]:
    """Where the tile is, as items near the antimeridian tell it."""
    west, south, east, north = build_tile_box(tile)
    return (max(west, -180.0), south, min(east, 180.0), north)


def test_it_is_told_who_has_a_missing_scene_and_since_when(census: Census) -> None:
    seen = PASSES[0]
    census.second.items = [
        make_earth_search(seen, 1, "2023-10-07T12:09:07Z"),
        make_earth_search(seen, 0, "2022-11-06T10:14:16Z"),
    ]
    (gap,) = census.take().gaps
    assert gap.as_json() == {
        "tile": "22KFV",
        "platform": "S2B",
        "datatake": "2018-12-04T13:22:19Z",
        "datatake_is": "start",
        "lacking": ["source", "catalog"],
        "having": [
            {
                "catalogue": "second",
                "ids": ["S2B_22KFV_20181204_0_L2A", "S2B_22KFV_20181204_1_L2A"],
                "since": "2022-11-06T10:14:16Z",
                "since_is": "created",
            }
        ],
        "areas": ["22KFV, 01CCV"],
    }
    census.source.items, census.second.items = [make_planetary(seen)], [make_copernicus(PASSES[2])]
    first, second = census.take().gaps
    assert first.as_json()["having"][0]["since_is"] == "sensing"
    assert second.as_json()["having"][0]["since_is"] == "published"


def test_what_is_issued_again_or_split_counts_once(census: Census) -> None:
    later = PASSES[0].start + timedelta(seconds=11)
    half = Pass("22KFV", PASSES[0].start, strip=later)
    census.source.items = [
        make_planetary(PASSES[0]),
        make_planetary(PASSES[0], "20230624T053545", "05.00"),
        make_planetary(half, "20201008T100850"),
    ]
    census.second.items = [make_earth_search(PASSES[0])]
    report = census.take()
    assert report.scenes == 1
    assert not find_missing(report, "second") | find_missing(report, "source")
    (uneven,) = report.uneven
    assert {name: holding.strips for name, holding in uneven.holdings.items()} == {"source": 2, "second": 1}
    census.second.items.append(make_earth_search(half, 1))
    assert census.take().uneven == ()


def test_items_that_tell_no_datatake_are_matched_by_time(census: Census) -> None:
    census.source.items = [make_planetary(each) for each in PASSES[:4]]
    census.second.items = [make_earth_search(each, named=False) for each in PASSES[1:]]
    report = census.take()
    assert report.scenes == len(PASSES)
    assert find_missing(report, "second") == {key(PASSES[0])}
    assert len(find_missing(report, "source")) == len(PASSES) - 4
    told = {gap.as_json()["datatake_is"] for gap in report.gaps if "source" in gap.lacking}
    assert told == {"sensing"}


def test_a_midnight_between_start_and_sensing_makes_no_gap(census: Census) -> None:
    late = Pass("22KFV", datetime(2018, 12, 31, 23, 58, tzinfo=UTC))
    early = Pass("22KFV", datetime(2018, 11, 30, 23, 58, tzinfo=UTC))
    census.source.items = [make_planetary(each) for each in (late, early)]
    census.second.items = [make_earth_search(each) for each in (late, early)]
    report = census.take()
    assert report.scenes == 1
    assert not find_missing(report, "second")


@pytest.mark.parametrize("down", ["source", "second"])
@pytest.mark.parametrize("page", [None, {"numberMatched": 99}])
def test_who_is_down_or_answers_in_part_lacks_nothing(
    census: Census, down: str, page: dict[str, Any] | None
) -> None:
    census.source.items = [make_planetary(PASSES[0])]
    census.second.items = [make_earth_search(each) for each in PASSES[:2]]
    fault = Fault(status=404, body=b"gone") if page is None else Fault(page=page)
    getattr(census, down).faults.extend([fault] * 10)
    report = census.take()
    assert not report.is_complete
    assert not find_missing(report, down)
    (problem,) = report.problems
    assert problem.startswith(f"{down} out of reach")
    answers = {answer.name: answer for answer in report.answers}
    assert not answers[down].asked
    assert answers["catalog"].asked


def test_an_empty_collection_tells_nothing(census: Census) -> None:
    census.source.items = [make_planetary(PASSES[0])]
    report = census.take()
    assert not find_missing(report, "second")
    assert "has no item" in report.problems[0]


def test_an_item_that_cannot_be_read_is_told(census: Census) -> None:
    census.source.items = [make_planetary(PASSES[0])]
    broken = make_earth_search(PASSES[1]) | {"id": "x"}
    broken["properties"] = {"datetime": "2018-12-04T13:22:19Z", "grid:code": "MGRS-22KFV"}
    census.second.items = [make_earth_search(PASSES[0]), broken]
    report = census.take()
    assert report.problems == ("second: not compared: item x: platform is missing",)


def test_the_edge_of_an_area_makes_no_gap(census: Census) -> None:
    """One catalogue's footprint reaches into the area, the other's does not."""
    inside, outside = (-50.0, -23.0, -49.0, -22.0), (-50.0, -23.0, -49.4, -22.0)
    start = PASSES[0].start
    for tile, hours in (("22KFV", 0), ("22KGV", 3)):
        seen = start + timedelta(hours=hours)
        census.source.items.append(make_planetary(Pass(tile, seen, bbox=inside)))
        census.second.items.append(make_earth_search(Pass(tile, seen, bbox=outside)))
    census.source.items.append(make_planetary(Pass("22KGV", start + timedelta(days=1), bbox=inside)))
    census.second.items.append(make_earth_search(Pass("22KGV", start + timedelta(days=2), bbox=outside)))
    report = census.take(areas={"edge": Area(bbox="-49.2,-22.5,-49.1,-22.4")})
    assert report.is_complete, report.problems
    assert report.scenes == 3
    assert find_missing(report, "second") == {("22KGV", start + timedelta(days=1))}
    assert not find_missing(report, "source")


def test_a_scene_of_two_areas_counts_once(census: Census) -> None:
    census.source.items = [make_planetary(PASSES[0])]
    census.second.items = [make_earth_search(PASSES[2])]
    areas = {"one": Area(tiles=("22KFV",)), "two": Area(tiles=("22KFV", "01CCV"))}
    report = census.take(areas=areas)
    assert report.scenes == 2
    assert [gap.areas for gap in report.gaps] == [("one", "two")] * 2


def test_our_catalog_is_compared_and_what_it_notes_is_told(census: Census) -> None:
    store = LocalStore(census.store)
    published, waiting, gone = (make_planetary(each)["id"] for each in (PASSES[0], PASSES[2], PASSES[4]))
    publisher = Publisher(store, CONTEXT, NOW)
    for item_id in (published, gone):
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs(map(keys_of, (published, gone)))
    record_waiting(store, waiting, "no image yet", NOW)
    census.source.items = [make_planetary(each) for each in PASSES[0:4:2]]
    census.second.items = [make_earth_search(each) for each in PASSES[0:6:2]]
    report = census.take(parquet=True)
    assert report.is_complete, report.problems
    assert find_missing(report, "source") == {key(PASSES[4])}
    (lacking,) = (gap for gap in report.gaps if "catalog" in gap.lacking)
    assert (lacking.scene.start, lacking.state, lacking.reason) == (
        PASSES[2].start,
        "waiting",
        "no image yet",
    )
    table = pyarrow.parquet.read_table(census.store / "gaps.parquet")
    assert table.schema.metadata[b"complete"] == b"true"
    rows = {row["datatake"]: row for row in table.to_pylist()}
    assert rows.keys() == {PASSES[2].start, PASSES[4].start}
    assert rows[PASSES[4].start]["source"] == "lacks"
    assert rows[PASSES[4].start]["catalog"] == "has"
    assert rows[PASSES[4].start]["second_since_is"] == "created"
    assert rows[PASSES[4].start]["earth_engine"] == "unknown"


@pytest.mark.parametrize("interval", ["2014", "2030"])
def test_a_time_without_a_scene_is_refused(census: Census, interval: str) -> None:
    with pytest.raises(SettingsError, match="--datetime"):
        census.take(datetime=interval)


def test_the_last_sixty_days_are_looked_at(census: Census) -> None:
    census.source.items = [make_planetary(each) for each in PASSES]
    census.second.items = [make_earth_search(each) for each in PASSES]
    report = census.take(datetime=None, now=PASSES[10].start + timedelta(days=60))
    assert report.scenes == 10


@pytest.mark.slow
def test_the_command(census: Census, tmp_path: Path) -> None:
    census.source.items = [make_planetary(PASSES[0])]
    census.second.items = [make_earth_search(each) for each in PASSES[0:4:2]]
    environment = {
        "CLOUDMASK_STAC_API_URL": census.source.url,
        "CLOUDMASK_SECOND_API": census.second.url,
        "COLUMNS": "160",
    }
    arguments = ["gaps", "--tile", "22KFV", "--datetime", "2018-12"]
    done = run(*arguments, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "2 scenes in 3 catalogues: 1 not in source, 2 not in catalog, 0 not in second" in done.stdout
    assert "CLOUDMASK_EARTHENGINE_PROJECT" in done.stdout
    census.second.faults.append(Fault(status=404, body=b"gone"))
    done = run("--json", *arguments, cwd=tmp_path, **environment)
    assert done.returncode == 1
    assert "second out of reach" in done.stderr
    report = json.loads(done.stdout)
    assert not report["complete"]
    assert [gap["lacking"] for gap in report["gaps"]] == [["catalog"]]
    assert not (tmp_path / "out").exists()


def test_earth_engine_is_compared_where_an_account_is_configured(
    census: Census, earth_engine: LocalEarthEngine
) -> None:
    start = datetime(2018, 12, 14, 13, 22, 19, tzinfo=UTC)
    ours, absent = Pass("22KFV", start), Pass("22KFV", start + timedelta(days=5))
    product = replace(
        build_ragged_scene(Sun(38.5, SOUTH), shape_20m=(4, 4), wedge=False),
        datatake="20181214T132219",
        datastrip="20181214T132216",
    )
    earth_engine.world.add_sentinel2(product)
    earth_engine.world.add_sentinel2(
        replace(product, datatake="20181224T132219", datastrip="20181224T132219")
    )
    census.source.items = [make_planetary(ours), make_planetary(absent)]
    census.second.items = [make_earth_search(ours)]
    with run_session(earth_engine) as session:
        report = census.take(session=session)
        assert report.is_complete, report.problems
        assert find_missing(report, "earth_engine") == {key(absent)}
        assert find_missing(report, "source") == {("22KFV", start + timedelta(days=10))}
        area = {"home": Area(bbox="-50.5,-23.5,-49.5,-22.0")}
        report = census.take(session=session, areas=area)
        assert report.is_complete, report.problems
        assert find_missing(report, "earth_engine") == {key(absent)}
