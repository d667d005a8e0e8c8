"""How far back a run looks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.runs.area_state import (
    AreaState,
    LookBack,
    find_due,
    find_open_interval,
    list_months,
    list_scans,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
START = datetime(2015, 6, 27, tzinfo=UTC)
instants = st.datetimes(datetime(2016, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def noted(
    recent_day: str | None = None, full_month: str | None = None, full_next: str | None = None
) -> AreaState:
    return AreaState(digest="", recent_day=recent_day, full_month=full_month, full_next=full_next)


def test_a_new_area_is_scanned_whole() -> None:
    assert find_due(noted(), NOW) == (LookBack.RECENT, LookBack.FULL)


def test_later_runs_of_a_day_look_at_the_last_days_alone() -> None:
    assert find_due(noted("2026-11-24", "2026-11", None), NOW) == (LookBack.HOT,)


def test_a_scan_of_everything_that_was_broken_off_goes_on() -> None:
    state = noted("2026-11-24", "2026-11", "2018-03")
    assert find_due(state, NOW) == (LookBack.HOT, LookBack.FULL)
    first, second, *_ = list_scans(state, LookBack.FULL, START, NOW, 10)
    assert first.interval[0] == datetime(2018, 3, 1, tzinfo=UTC)
    assert first.left == {"full_month": "2026-11", "full_next": "2018-03"}
    assert first.done == second.left == {"full_month": "2026-11", "full_next": "2018-02"}


def test_the_oldest_month_ends_a_scan_of_everything() -> None:
    *_, last = list_scans(noted(), LookBack.FULL, START, NOW, 10)
    assert last.interval[0] == START
    assert last.done == {"full_month": "2026-11", "full_next": None}
    assert find_due(noted("2026-11-24").model_copy(update=last.done), NOW) == (LookBack.HOT,)


def test_a_new_month_begins_at_its_newest() -> None:
    state = noted("2026-11-24", "2026-10", "2018-03")
    for day, month in ((24, 11), (30, 12)):
        scans = list_scans(state, LookBack.FULL, START, datetime(2026, 11, day, 12, tzinfo=UTC), 10)
        assert next(scans).interval[0] == datetime(2026, month, 1, tzinfo=UTC)


def test_a_clock_that_once_ran_ahead_delays_nothing() -> None:
    assert find_due(noted("2027-01-01", "2027-01", None), NOW) == (LookBack.RECENT, LookBack.FULL)


@given(instants)
def test_a_clock_that_is_a_day_wrong_overlooks_nothing(now: datetime) -> None:
    for skew in (timedelta(days=-1), timedelta(days=1)):
        for days in (10, 60):
            start, end = find_open_interval(now + skew, START, days)
            assert start is not None
            assert start <= now - timedelta(days=days)
            assert end is None


def test_nothing_before_the_areas_start_is_looked_at() -> None:
    since = NOW - timedelta(days=3)
    assert find_open_interval(NOW, since, 10) == (since, None)


@given(instants, instants)
def test_months_follow_one_another_without_a_gap(one: datetime, other: datetime) -> None:
    first, last = sorted((one, other))
    months = list(list_months(first, f"{last:%Y-%m}"))
    assert months[0][0] == f"{last:%Y-%m}"
    assert months[0][1][1] >= last
    assert months[-1][1][0] == first
    for (_, later), (_, earlier) in itertools.pairwise(months):
        assert later[0] - earlier[1] == timedelta(microseconds=1)
