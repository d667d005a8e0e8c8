"""One scene's failure stops no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.runs.request import IngestRequest
from tests.direct_runs import read_tree, run_directly
from tests.sample_archive import SAMPLE_IDS

pytestmark = pytest.mark.usefixtures("fixed_clock")

Change = Callable[[dict[str, Any]], object]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda item: item["properties"].pop("s2:mean_solar_azimuth"),
            "properties.s2:mean_solar_azimuth is missing",
        ),
        (lambda item: item["properties"].pop("s2:datatake_id"), "properties.s2:datatake_id is missing"),
        (lambda item: item["assets"]["SCL"].pop("proj:transform"), "assets.SCL.proj:transform is missing"),
        (lambda item: item["properties"].update({"s2:mgrs_tile": "../.."}), "is not an MGRS tile"),
        (lambda item: item["assets"]["B08"].update(href="/etc/passwd"), "/etc/passwd"),
        (lambda item: item["assets"]["B08"].update(href="/vsicurl/https://example.com/x.tif"), "/vsicurl/"),
    ],
)
def test_a_broken_item_is_named_and_the_others_are_published(
    demo: IngestRequest, tmp_path: Path, change: Change, error: str
) -> None:
    assert demo.items is not None
    archive = Path(demo.items)
    collection = json.loads(archive.read_text())
    broken = collection["features"][0]
    change(broken)
    # The assets stay where they are: the broken collection stands beside the whole one.
    items = archive.with_name("broken.json")
    items.write_text(json.dumps(collection))
    try:
        report = run_directly(demo.model_copy(update={"items": str(items), "store": str(tmp_path / "out")}))
    finally:
        items.unlink()
    assert [failure.id for failure in report.failed] == [broken["id"]]
    assert not report.failed[0].retryable
    assert error in report.failed[0].reason
    assert len(report.published) == len(SAMPLE_IDS) - 1
    kept = [key for key in read_tree(tmp_path / "out") if broken["id"] in key]
    assert all(key.startswith("_failed/") for key in kept)
