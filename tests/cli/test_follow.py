"""`cloudmask follow`: what is published, replaced and withdrawn, a line each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.cli import find
from pc_cloudmask.storage.local import LocalStore
from tests.catalog.publications import CONTEXT, build_publication, keys_of, product_id, read_feed
from tests.doubles.command import run
from tests.doubles.memory_store import MemoryStore

IDS = [product_id(0), product_id(3)]
TODAY = datetime.now(UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of two items, one of which was withdrawn."""
    root = tmp_path_factory.mktemp("follow") / "out"
    publisher = Publisher(LocalStore(root), CONTEXT, TODAY)
    for item_id in IDS:
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs(map(keys_of, IDS))
    publisher.withdraw([keys_of(IDS[0])], "gone")
    return root


def test_it_prints_events_and_where_to_go_on(root: Path, tmp_path: Path) -> None:
    result = run("follow", "--since", f"{TODAY:%Y-%m-%d}", "--once", "--store", str(root), cwd=tmp_path)
    assert result.returncode == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(event["type"].rpartition(".")[2], event["subject"]) for event in events] == [
        ("published", IDS[0]),
        ("published", IDS[1]),
        ("withdrawn", IDS[0]),
    ]
    assert f"--since {events[-1]['cursor']}" in result.stderr
    rest = run(
        "follow", "--since", events[1]["cursor"], "--once", "--json", "--store", str(root), cwd=tmp_path
    )
    assert [json.loads(line) for line in rest.stdout.splitlines()] == events[2:]


def test_a_place_that_is_none_is_wrong_usage(root: Path, tmp_path: Path) -> None:
    result = run("follow", "--since", "tomorrow", "--once", "--store", str(root), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "--since 'tomorrow': write a day such as" in result.stderr


def test_a_line_for_people_says_when_what_and_how_clear() -> None:
    store = MemoryStore()
    publisher = Publisher(store, CONTEXT, datetime(2026, 11, 28, 6, 12, tzinfo=UTC))
    publisher.publish_item(build_publication(IDS[0]))
    publisher.publish_catalogs([keys_of(IDS[0])])
    (event,) = read_feed(store, 340)
    assert find._describe_event(event) == f"2026-11-28 06:12  published  22KFV   94.0 % clear  {IDS[0]}"
    assert find._describe_event({**event, "data": None}).endswith(IDS[0])
