"""How sightings become scenes: the comparison alone."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.runs.gaps import AreaSightings, compare_areas, find_lacking, match_sightings
from pc_cloudmask.source.fields import SENSING, Sighting

START = datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC)
ORBIT = timedelta(minutes=100)


def see(minutes: float = 0, *, loose: bool = False, tile: str = "22KFV", platform: str = "S2B") -> Sighting:
    moment = START + timedelta(minutes=minutes)
    return Sighting(
        f"{platform}{tile}{minutes}", platform, tile, None if loose else moment, moment, "", moment, SENSING
    )


def test_neither_another_satellite_nor_tile_nor_orbit_is_the_same_scene() -> None:
    seen = {"source": [see()], "second": [see(tile="22KGV"), see(platform="S2A"), see(100), see(-100)]}
    assert len(match_sightings(seen)) == 5


@pytest.mark.parametrize("minutes", [-1, -0.5, 0.5, 1])
def test_a_start_may_differ_by_a_minute(minutes: float) -> None:
    assert len(match_sightings({"source": [see()], "second": [see(minutes)]})) == 1


@pytest.mark.parametrize(("minutes", "scenes"), [(-6, 2), (-5, 1), (0, 1), (29, 1), (60, 1), (61, 2)])
def test_an_instant_alone_joins_the_datatake_that_was_under_way(minutes: float, scenes: int) -> None:
    assert len(match_sightings({"source": [see()], "second": [see(minutes, loose=True)]})) == scenes


def test_of_two_datatakes_the_last_that_had_begun_is_taken() -> None:
    seen = {"source": [see(0), see(20)], "second": [see(12, loose=True), see(25, loose=True)]}
    assert [find_lacking(scene, {"second"}) for scene in match_sightings(seen)] == [(), ()]
    seen["second"] = [see(25, loose=True)]
    assert [find_lacking(scene, {"second"}) for scene in match_sightings(seen)] == [("second",), ()]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.sampled_from(["22KFV", "33UUP"]),
            st.sets(st.sampled_from("abc"), min_size=1),
        ),
        unique_by=lambda each: each[:2],
    ),
    st.randoms(use_true_random=False),
)
def test_every_planted_hole_is_found_and_no_other(
    planted: list[tuple[int, str, set[str]]], rng: random.Random
) -> None:
    """``a`` tells starts, ``b`` starts up to a minute off, ``c`` instants alone; some items come twice."""
    seen: dict[str, list[Sighting]] = {"a": [], "b": [], "c": []}
    for orbit, tile, holders in planted:
        for holder in holders:
            minutes = orbit * 100 + {"a": 0.0, "b": rng.random() / 2, "c": rng.uniform(1, 25)}[holder]
            seen[holder] += [see(minutes, loose=holder == "c", tile=tile)] * rng.choice([1, 2])
    for sightings in seen.values():
        rng.shuffle(sightings)
    scenes = match_sightings(seen)
    assert [(scene.tile, scene.holdings.keys()) for scene in scenes] == [
        (tile, holders) for _, tile, holders in sorted(planted, key=lambda each: (each[1], each[0]))
    ]


def ask(name: str, asked: set[str], **seen: list[Sighting]) -> AreaSightings:
    inside = frozenset((holder, each.item_id) for holder, sightings in seen.items() for each in sightings)
    return AreaSightings(name, START - ORBIT, START + ORBIT, seen, inside, frozenset(asked))


def test_who_was_out_of_reach_for_one_area_is_judged_by_the_other() -> None:
    alone = ask("one", {"source"}, source=[see()])
    assert [gap.lacking for gap in compare_areas([alone])] == [()]
    (gap,) = compare_areas([alone, ask("two", {"source", "second"}, source=[see()])])
    assert (gap.lacking, gap.areas) == (("second",), ("one", "two"))
    (gap,) = compare_areas(
        [ask("one", {"source", "second"}, source=[see()]), ask("two", {"source"}, second=[see(1)])]
    )
    assert gap.lacking == ()


def test_a_scene_whose_start_one_area_alone_tells_counts_once() -> None:
    areas = [ask("one", {"second"}, second=[see(7, loose=True)])]
    areas.append(ask("two", {"source", "second"}, source=[see()], second=[see(7, loose=True)]))
    (gap,) = compare_areas(areas)
    assert (gap.scene.start, gap.lacking, gap.areas) == (START, (), ("one", "two"))


def test_what_lies_outside_an_area_or_its_time_is_no_scene_of_it() -> None:
    area = ask("one", {"source", "second"}, source=[see(101)])
    assert compare_areas([area]) == []
    assert compare_areas([replace(area, seen={"source": [see()]}, inside=frozenset())]) == []
