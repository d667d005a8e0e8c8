"""When a scene counts as gone."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.runs.area_state import AGREEING_SCANS, SCAN_SPACING, MissingScan, count_missing_scans

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MISSING = {"scene": ("22KFV", 2018)}


def count(*hours: float, found_at: frozenset[float] = frozenset()) -> MissingScan | None:
    """The absence after scans at those hours."""
    missing_scans: dict[str, MissingScan] = {}
    for hour in hours:
        found = hour in found_at
        moment = NOW + timedelta(hours=hour)
        missing_scans = count_missing_scans(
            missing_scans, {} if found else MISSING, {"scene"} if found else (), moment
        )
    return missing_scans.get("scene")


def test_several_scans_must_agree() -> None:
    for scans in range(1, AGREEING_SCANS + 1):
        missing_scan = count(*(24.0 * day for day in range(scans)))
        assert missing_scan is not None
        assert missing_scan.is_certain == (scans == AGREEING_SCANS)


def test_a_scan_that_finds_it_begins_anew() -> None:
    missing_scan = count(0, 24, 48, 72, found_at=frozenset({48}))
    assert missing_scan is not None
    assert missing_scan.scans == 1


@given(st.lists(st.floats(0, 11), min_size=1, max_size=20))
def test_scans_of_one_outage_count_once(hours: list[float]) -> None:
    missing_scan = count(*sorted(hours))
    assert missing_scan is not None
    assert missing_scan.scans == 1


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_a_clock_that_jumps_counts_no_scan_too_many(hours: list[float]) -> None:
    missing_scan = count(*hours)
    assert missing_scan is not None
    span = timedelta(hours=max(hours) - min(hours))
    rises = sum(later > earlier for earlier, later in itertools.pairwise(hours))
    assert missing_scan.scans - 1 <= rises
    if span < SCAN_SPACING:
        assert missing_scan.scans == 1


def test_what_a_scan_did_not_look_at_stays_as_it_is() -> None:
    before = count_missing_scans({}, MISSING, (), NOW)
    assert count_missing_scans(before, {}, {"another"}, NOW + timedelta(days=30)) == before
