"""How far back a run looks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.runs.area_state import (
    LookBack,
    LookBackProgress,
    find_hot_interval,
    find_recent_interval,
    list_months,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
START = datetime(2015, 6, 27, tzinfo=UTC)
instants = st.datetimes(datetime(2016, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def test_a_new_area_is_scanned_whole() -> None:
    assert LookBackProgress().find_due(NOW) == (LookBack.RECENT, LookBack.FULL)


def test_later_runs_of_a_day_look_at_the_last_days_alone() -> None:
    assert LookBackProgress("2026-11-24", "2026-11", None).find_due(NOW) == (LookBack.HOT,)


def test_a_scan_of_everything_that_was_broken_off_goes_on() -> None:
    progress = LookBackProgress("2026-11-24", "2026-11", "2018-03")
    assert progress.find_due(NOW) == (LookBack.HOT, LookBack.FULL)
    assert progress.find_full_start(NOW) == "2018-03"


def test_a_new_month_begins_at_its_newest() -> None:
    progress = LookBackProgress("2026-11-24", "2026-10", "2018-03")
    assert progress.find_full_start(NOW) == "2026-11"
    assert progress.find_full_start(datetime(2026, 11, 30, 12, tzinfo=UTC)) == "2026-12"


def test_a_clock_that_once_ran_ahead_delays_nothing() -> None:
    assert LookBackProgress("2027-01-01", "2027-01", None).find_due(NOW) == (LookBack.RECENT, LookBack.FULL)


@given(instants)
def test_a_clock_that_is_a_day_wrong_overlooks_nothing(now: datetime) -> None:
    for skew in (timedelta(days=-1), timedelta(days=1)):
        for days, (start, end) in (
            (10, find_hot_interval(now + skew, START, 10)),
            (60, find_recent_interval(now + skew, START)),
        ):
            assert start is not None
            assert start <= now - timedelta(days=days)
            assert end is None


def test_nothing_before_the_areas_start_is_looked_at() -> None:
    since = NOW - timedelta(days=3)
    assert find_hot_interval(NOW, since, 10) == (since, None)


@given(instants, instants)
def test_months_follow_one_another_without_a_gap(one: datetime, other: datetime) -> None:
    first, last = sorted((one, other))
    months = list(list_months(first, f"{last:%Y-%m}"))
    assert months[0][0] == f"{last:%Y-%m}"
    assert months[0][1][1] >= last
    assert months[-1][1][0] == first
    for (_, later), (_, earlier) in itertools.pairwise(months):
        assert later[0] - earlier[1] == timedelta(microseconds=1)
