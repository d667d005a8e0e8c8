"""The commands give the bytes and answers that were recorded for ``tests/golden/archive``.

To change a recording on purpose, run with ``CLOUDMASK_UPDATE_GOLDEN=1``: it is replaced, the run fails, and
the difference is there to be read before the next one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.names import describe_missing
from tests.golden.recording import (
    describe_differences,
    read_recording,
    record,
    write_recording,
)

UPDATE = "CLOUDMASK_UPDATE_GOLDEN"
STORY = "archive"


@pytest.mark.slow
def test_the_commands_do_what_was_recorded(tmp_path: Path) -> None:
    recording = record(STORY, tmp_path)
    if os.environ.get(UPDATE):
        write_recording(STORY, recording)
        pytest.fail(f"{STORY} was recorded: read its difference, then run without {UPDATE}")
    differences = "\n".join(describe_differences(read_recording(STORY), recording))
    assert not differences, f"if this is meant, run with {UPDATE}=1:\n{differences}"


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ({"files": {"a": "1", "b": "2"}}, {"files": {"b": "2", "a": "1"}}, []),
        ({"files": {"a": "1"}}, {"files": {"a": "2"}}, ['- files > a: "1"', '+ files > a: "2"']),
        ({"files": {"a": "1"}}, {"files": {}}, ['- files > a: "1"', "+ files: {}"]),
        ({"answers": {"check": [1]}}, {"answers": {"check": [1, 2]}}, ["+ answers > check > 1: 2"]),
        (
            {"answers": {"check": None}},
            {"answers": {"check": 0}},
            ["- answers > check: null", "+ answers > check: 0"],
        ),
    ],
)
def test_differences_are_named_by_their_keys(before: dict, after: dict, differences: list[str]) -> None:
    assert describe_differences(before, after) == differences


def test_tests_that_are_gone_are_named_as_often_as_they_were_there() -> None:
    assert describe_missing(["test_a", "test_a", "test_b[1]", "test_c"], ["test_c", "test_a", "test_d"]) == [
        "- test_a",
        "- test_b[1]",
    ]
