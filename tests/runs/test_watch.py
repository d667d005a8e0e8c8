"""Single runs of ``watch``, and what they leave for the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.catalog.layout import item_keys
from pc_cloudmask.catalog.states import Failure, StateKind, find_state, list_states, record_failed
from pc_cloudmask.catalog.versions import write_withdrawn_marker
from pc_cloudmask.errors import SourceDenied
from pc_cloudmask.runs.area_state import LookBack, read_area_state, write_area_state
from pc_cloudmask.runs.ingest import FORGET_AFTER
from pc_cloudmask.settings import Area
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import Walk, walk_catalog
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.stac_api.server import Fault
from tests.runs.archive import DAY, NEVER, START, Archive, Product, build_archive
from tests.runs.service import HOME, Service, run_service
from tests.runs.weather import empty_answers, no_access, outage, silent_about_ids

pytestmark = pytest.mark.slow

NOW = START + 30 * DAY
Change = Callable[[Product], Product]


def build_plain_archive(days: int = 25, change: Change = lambda product: product) -> Archive:
    """Products that are listed and have their image at once, changed as told."""
    products = build_archive(seed=1, days=days).products
    firsts = {(each.image_of.tile, each.taken): each for each in reversed(products)}.values()
    plain = [
        replace(each, listed=each.taken, image=each.taken, withdrawn=NEVER, changed=NEVER) for each in firsts
    ]
    return Archive(tuple(change(each) for each in sorted(plain, key=lambda each: each.id)))


@pytest.fixture
def service(earth_engine: LocalEarthEngine, tmp_path: Path) -> Iterator[Service]:
    """Ten scenes of two tiles in one month."""
    with run_service(build_plain_archive(), earth_engine, tmp_path / "out") as service:
        yield service


def walk(service: Service) -> Walk:
    found = walk_catalog(open_store(str(service.store)))
    assert not found.dangling
    return found


def edit(service: Service, number: int, **changes: Any) -> Product:
    """The archive's product of that number, changed in place."""
    products = list(service.archive.products)
    products[number] = replace(products[number], **changes)
    service.archive = Archive(tuple(products))
    return products[number]


def edit_item(service: Service, number: int, **properties: Any) -> Product:
    """The archive's product of that number with other properties; None takes one away."""
    item = service.archive.products[number].item
    changed = {**item["properties"], **properties}
    kept = {name: value for name, value in changed.items() if value is not None}
    return edit(service, number, item={**item, "properties": kept})


def test_everything_is_published_and_then_nothing(service: Service) -> None:
    assert len(service.run(NOW).published) == len(service.archive.products) == 10
    report = service.run(NOW + timedelta(hours=1))
    assert not report.published
    assert report.is_whole
    # The hot window alone: the days before it were looked at an hour ago.
    assert 0 < len(report.skipped) < 10


def test_a_scene_waits_longer_and_longer_and_is_published_once_its_image_is_there(service: Service) -> None:
    late = edit(service, 0, image=NOW + 20 * DAY)
    tried = []
    for hour in range(0, 24 * 22, 6):
        now = NOW + timedelta(hours=hour)
        before = find_state(open_store(str(service.store)), StateKind.WAITING, late.id)
        report = service.run(now)
        after = find_state(open_store(str(service.store)), StateKind.WAITING, late.id)
        if after and (before is None or after.attempts > before.attempts):
            tried.append(now)
        if late.id in report.published:
            break
        assert [outcome.id for outcome in report.waiting] in ([late.id], [])
    assert late.id in report.published
    assert now >= late.image
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert len(tried) < 30
    assert not list(service.store.glob("_waiting/*"))


def test_a_scene_that_cannot_be_made_is_left_alone_until_its_item_changes(service: Service) -> None:
    broken = edit_item(service, 9, **{"s2:mean_solar_azimuth": None})
    report = service.run(NOW)
    assert [failure.id for failure in report.failed] == [broken.id]
    assert not report.is_whole
    report = service.run(NOW + timedelta(hours=1))
    assert not report.failed
    assert [(outcome.id, outcome.retryable) for outcome in report.held_back] == [(broken.id, False)]
    assert report.is_whole
    state = find_state(open_store(str(service.store)), StateKind.FAILED, broken.id)
    assert state is not None
    assert state.attempts == 1
    edit_item(service, 9, **{"s2:mean_solar_azimuth": 40.0})
    assert service.run(NOW + timedelta(hours=2)).published == (broken.id,)


def test_of_two_states_that_a_dying_run_left_the_later_holds(service: Service) -> None:
    waiting = edit(service, 0, image=NEVER)
    service.run(NOW)
    store = open_store(str(service.store))
    state = find_state(store, StateKind.WAITING, waiting.id)
    assert state is not None
    stored = store.read_object(state.key)
    assert stored is not None
    # It was quarantined the day before; who noted that it waits died before the other note was gone.
    failure = Failure("AssetRefused", "B08: too large", retryable=False, fingerprint=state.fingerprint)
    record_failed(store, waiting.id, failure, NOW - DAY)
    store.write_object(state.key, stored.body, "application/json")
    edit(service, 0, image=NOW)
    assert service.run(NOW + DAY).published == (waiting.id,)


def withdraw_all_but(service: Service, kept: int) -> list[str]:
    """Take products back; their ids."""
    products = [
        replace(each, withdrawn=NOW + DAY) if number >= kept else each
        for number, each in enumerate(service.archive.products)
    ]
    service.archive = Archive(tuple(products))
    return [each.id for each in products[kept:]]


def test_a_scene_is_withdrawn_once_three_days_scans_agree(service: Service) -> None:
    service.run(NOW)
    (gone,) = withdraw_all_but(service, 9)
    for day in (1, 2):
        assert not service.run(NOW + day * DAY).withdrawn
        assert gone in walk(service).items
    assert service.run(NOW + 3 * DAY).withdrawn == (gone,)
    assert gone not in walk(service).items
    item = json.loads(next(service.store.rglob(f"{gone}.json")).read_text())
    assert item["properties"]["deprecated"] is True
    assert not service.run(NOW + 4 * DAY).withdrawn


def test_a_scene_that_comes_back_is_published_again(service: Service) -> None:
    service.run(NOW)
    (gone,) = withdraw_all_but(service, 9)
    for day in (1, 2, 3):
        service.run(NOW + day * DAY)
    edit(service, 9, withdrawn=NEVER)
    assert service.run(NOW + 4 * DAY).published == (gone,)
    assert "deprecated" not in walk(service).items[gone]["properties"]


def test_a_scan_of_everything_that_breaks_off_is_not_begun_anew(
    earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    def break_off(server: Any, items: Any, dice: Any) -> None:
        """Four answers: the last 60 days, that no more than these ten follow, this month, the month before."""
        server.faults.extend([Fault(page={})] * 4)
        outage(server, items, dice)

    with run_service(build_plain_archive(days=200), earth_engine, tmp_path / "out") as service:
        now = START + 210 * DAY  # at the end of July
        assert service.run(now, break_off).problems
        service.server.requests.clear()
        service.run(now + timedelta(hours=1))
        months = {str(search["datetime"])[:7] for search in service.server.searches if search.get("datetime")}
        assert months == {"2024-05", "2024-04", "2024-03", "2024-02", "2024-01", "2024-07"}
        assert set(walk(service).items) == {product.id for product in service.archive.products}


def test_scenes_are_withdrawn_from_a_month_of_which_nothing_is_left(
    earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    with run_service(build_plain_archive(days=40), earth_engine, tmp_path / "out") as service:
        now = START + 40 * DAY
        service.run(now)
        products = [
            replace(each, withdrawn=now) if each.taken.month == 1 else each
            for each in service.archive.products
        ]
        service.archive = Archive(tuple(products))
        # Once each month: the other scenes are older than 60 days by then.
        withdrawn = [service.run(now + month * 31 * DAY).withdrawn for month in (1, 2, 3, 4)]
        assert [bool(ids) for ids in withdrawn] == [False, False, True, False]
        assert set(withdrawn[2]) == {each.id for each in products if each.taken.month == 1}


@pytest.mark.parametrize("weather", [empty_answers, silent_about_ids, outage])
def test_a_source_out_of_order_withdraws_nothing(service: Service, weather: Any) -> None:
    service.run(NOW)
    for day in range(1, 10):
        report = service.run(NOW + day * DAY, weather)
        assert not report.withdrawn
        assert bool(report.problems) == (weather is outage)
    assert len(walk(service).items) == 10


def test_a_source_that_shuts_us_out_ends_the_run_and_withdraws_nothing(service: Service) -> None:
    service.run(NOW)
    for hours in (25, 50, 75):
        with pytest.raises(SourceDenied, match=r"HTTP 40[13].*credentials"):
            service.run(NOW + timedelta(hours=hours), no_access, seed=hours)
    assert len(walk(service).items) == 10
    assert list(list_states(open_store(str(service.store)))) == []


def test_one_run_withdraws_no_more_than_it_may(service: Service) -> None:
    service.settings["withdraw_limit"] = 2
    service.run(NOW)
    gone = withdraw_all_but(service, 5)
    for day in (1, 2):
        service.run(NOW + day * DAY)
    withdrawn = [service.run(NOW + day * DAY).withdrawn for day in (3, 4, 5, 6)]
    assert [len(ids) for ids in withdrawn] == [2, 2, 1, 0]
    assert sorted(sum(withdrawn, ())) == gone


def test_the_source_is_asked_for_a_few_suspects_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pc_cloudmask.runs.watch.IDS_AT_ONCE", 2)
    service.run(NOW)
    gone = withdraw_all_but(service, 5)
    for day in (1, 2):
        service.run(NOW + day * DAY)
    service.server.requests.clear()
    assert sorted(service.run(NOW + 3 * DAY).withdrawn) == gone
    asked = [query["ids"] for query in service.server.searches if query.get("ids")]
    # Two at most, and one that the source must know.
    assert max(map(len, asked)) == 3
    assert {item_id for ids in asked for item_id in ids} >= set(gone)


def test_a_withdrawal_that_died_half_way_is_ended_by_the_next_run(service: Service) -> None:
    service.run(NOW)
    (gone,) = withdraw_all_but(service, 9)
    for day in (1, 2):
        service.run(NOW + day * DAY)
    store = open_store(str(service.store))
    year, tile = service.archive.products[9].taken.year, service.archive.products[9].image_of.tile
    # The run of the third day put the tombstone, and died before it wrote the catalog.
    write_withdrawn_marker(store, item_keys(gone, tile, year), "gone", NOW + 3 * DAY)
    assert gone in walk(service).items
    service.run(NOW + 3 * DAY)
    assert gone not in walk(service).items


def test_what_was_made_of_another_source_is_left_alone(service: Service) -> None:
    item = service.archive.products[9].item
    edit(service, 9, item={**item, "links": [{"rel": "self", "href": "https://example.com/items/1"}]})
    service.run(NOW)
    withdraw_all_but(service, 9)
    for day in range(1, 6):
        assert not service.run(NOW + day * DAY).withdrawn


def test_a_budget_is_kept_and_the_next_runs_go_on(service: Service) -> None:
    # Two requests for each scene's pixels, one to pair a run's scenes.
    service.settings["request_budget"] = 7
    published = []
    for hour in range(6):
        report = service.run(NOW + timedelta(hours=hour))
        assert len(report.published) <= 3
        assert report.deferred + len(report.published) <= 10
        assert report.is_whole
        published += report.published
    assert sorted(published) == [product.id for product in service.archive.products]
    assert report.deferred == 0


def test_scenes_that_wait_cost_a_budget_no_more_than_their_pairing(service: Service) -> None:
    for number in range(10):
        if number not in (3, 8):
            edit(service, number, image=NEVER)
    service.settings["request_budget"] = 12  # all ten scenes would cost 21
    report = service.run(NOW)
    assert set(report.published) == {service.archive.products[number].id for number in (3, 8)}
    assert len(report.waiting) == 8
    assert report.deferred == 0


def test_a_scan_that_could_not_note_every_scene_is_not_complete(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pc_cloudmask.runs.ingest.MAX_NEW_STATES", 4)
    monkeypatch.setattr(service.engine.world, "add_sentinel2", lambda *_: None)  # no image is there yet
    waiting = [len(service.run(NOW + hour * DAY / 24).waiting) for hour in range(4)]
    assert waiting[0] == 10
    assert len(list(service.store.glob("_waiting/*.json"))) == 10


def test_a_limit_counts_what_is_published(service: Service) -> None:
    for number in range(0, 10, 2):
        edit(service, number, image=NEVER)
    report = service.run(NOW, limit=4)
    assert len(report.published) == 4


def test_what_is_left_to_the_next_run_is_counted_once(service: Service) -> None:
    """Though two scans of each of two areas find it."""
    service.areas = {**HOME, "part": Area(tiles=("22KFV",), since="2024-01-01")}
    report = service.run(NOW, limit=3)
    assert (len(report.published), report.deferred) == (3, 7)


def test_a_long_scan_is_left_to_the_next_run_and_goes_on_where_it_stopped(
    earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    with run_service(build_plain_archive(days=200), earth_engine, tmp_path / "out") as service:
        now = START + 210 * DAY
        report = service.run(now, seconds=0.0)
        assert 0 < len(report.published) < 40  # of the last 60 days
        service.run(now, limit=10)
        state = read_area_state(open_store(str(service.store)), "home", HOME["home"].digest)
        assert state.full_next is not None
        while state.full_next is not None:
            earlier = state.full_next
            service.run(now, limit=10)
            state = read_area_state(open_store(str(service.store)), "home", HOME["home"].digest)
            assert state.full_next is None or state.full_next <= earlier
        assert set(walk(service).items) == {product.id for product in service.archive.products}


def test_an_areas_change_begins_its_scans_anew(service: Service) -> None:
    service.areas = {"home": Area(tiles=("22KFV",), since="2024-01-01")}
    assert len(service.run(NOW).published) == 5
    service.areas = HOME
    assert len(service.run(NOW + timedelta(hours=1)).published) == 5


def test_one_areas_trouble_is_not_the_others(service: Service) -> None:
    def refuse_first(server: Any, items: Any, dice: Any) -> None:
        outage(server, items, dice)
        while len(server.faults) > 1:
            server.faults.pop()

    # With nothing to try again, the first search is of the first area.
    service.areas = {"far": Area(tiles=("32TNS",)), "home": Area(tiles=("22KFV",), since="2024-01-01")}
    report = service.run(NOW, refuse_first)
    assert len(report.published) == 5
    (problem,) = report.problems
    assert problem.startswith("area far: ")
    assert not report.is_whole


def test_one_areas_history_does_not_keep_the_budget_from_what_is_new_in_another(service: Service) -> None:
    service.archive = build_plain_archive(days=200)
    tiles = ("22KFV", "32TNS")
    service.areas = {tile.lower(): Area(tiles=(tile,), since="2024-01-01") for tile in tiles}
    report = service.run(START + 200 * DAY, limit=30)
    newest = service.archive.products[-12:]
    assert {each.id for each in newest} <= set(report.published)
    assert {each.image_of.tile for each in newest} == set(tiles)
    assert report.deferred


def test_a_scene_that_waits_and_is_taken_back_is_forgotten(service: Service) -> None:
    waiting = edit(service, 0, image=NEVER)
    service.run(NOW)
    edit(service, 0, image=NEVER, withdrawn=NOW)
    reasons = set()
    for hour in range(1, 60):
        report = service.run(NOW + timedelta(hours=hour), look_back=(LookBack.HOT,))
        reasons |= {outcome.reason for outcome in report.waiting}
        if state := find_state(open_store(str(service.store)), StateKind.WAITING, waiting.id):
            attempts = state.attempts
    assert any("does not list it" in reason for reason in reasons)
    assert attempts == FORGET_AFTER
    assert not list(service.store.glob(f"_waiting/{waiting.id}*"))


def test_one_empty_answer_forgets_no_scene_that_has_waited_long(service: Service) -> None:
    waiting = edit(service, 0, image=NEVER)
    for hour in range(0, 24 * 6, 6):
        service.run(NOW + timedelta(hours=hour), look_back=(LookBack.FULL,))
    service.areas = {"far": Area(tiles=("33UUP",))}  # nothing but the note tells of the scene
    assert not service.run(NOW + 8 * DAY, empty_answers).published
    edit(service, 0, image=NOW)
    assert service.run(NOW + 16 * DAY).published == (waiting.id,)


def test_a_broken_state_costs_a_scan_and_no_more(service: Service) -> None:
    service.run(NOW)
    path = service.store / "_watch" / "home.json"
    naive = {"tile": "22KFV", "year": 2024, "scans": 1, "first": "2024-01-01", "last": "2024-01-01T00:00:00"}
    state = json.loads(path.read_bytes())
    strange = [state | {"missing_scans": {"x": naive | {"year": year}}} for year in (2024, float("inf"))]
    for body in (b"{", b"[]", b'{"digest": 1}', b"\xff", *(json.dumps(each).encode() for each in strange)):
        path.write_bytes(body)
        report = service.run(NOW + timedelta(hours=1))
        assert report.is_whole
        assert len(report.skipped) == 10


def test_a_states_form_survives_being_written(service: Service) -> None:
    service.run(NOW)
    withdraw_all_but(service, 9)
    service.run(NOW + DAY)
    store = open_store(str(service.store))
    state = read_area_state(store, "home", HOME["home"].digest)
    assert state.missing_scans
    assert state.tiles == {"22KFV", "32TNS"}
    write_area_state(store, "home", state)
    assert read_area_state(store, "home", HOME["home"].digest) == state


def test_a_tile_whose_box_is_watched_loses_its_scenes_too(service: Service) -> None:
    service.areas = {"box": Area(bbox="-51,-24,11,48", since="2024-01-01")}
    assert len(service.run(NOW).published) == 10
    gone = withdraw_all_but(service, 8)
    for day in (1, 2):
        service.run(NOW + day * DAY)
    assert sorted(service.run(NOW + 3 * DAY).withdrawn) == gone
