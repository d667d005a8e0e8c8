"""Runs that append what they publish to the geoparquet mirror."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pc_cloudmask.catalog import mirror
from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.export import read_rows
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import COLLECTION_KEY, ITEMS_PREFIX, TILE_INDEX_KEY
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.settings import read_clock
from tests.direct_runs import run_directly
from tests.published_demo import build_request

pytestmark = pytest.mark.usefixtures("fixed_clock")


@pytest.mark.slow
def test_each_run_that_publishes_appends_a_part_that_the_collection_carries(
    sample_items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMASK_MIRROR", "true")
    request = build_request(tmp_path / "out", sample_items)
    first = request.model_copy(update={"limit": 1})
    published = [*run_directly(first).published, *run_directly(request).published]
    assert run_directly(request).published == ()

    parts = sorted((tmp_path / "out" / ITEMS_PREFIX).iterdir())
    ids = [scene_id for part in parts for scene_id in pq.read_table(part)["id"].to_pylist()]
    assert len(parts) == 2
    assert sorted(ids) == sorted(published)
    assets = json.loads((tmp_path / "out" / COLLECTION_KEY).read_bytes())["assets"]
    index = [assets.pop(name) for name in ("masks", "masks-style")]
    assert all((tmp_path / "out" / COLLECTION_KEY).parent.joinpath(each["href"]).is_file() for each in index)
    assert {Path(asset["href"]).name for asset in assets.values()} == {part.name for part in parts}
    assert all(asset["roles"] == ["collection-mirror"] for asset in assets.values())
    rows = read_rows((tmp_path / "out" / TILE_INDEX_KEY).read_bytes())
    assert sorted(row.id for row in rows) == sorted(published)
    store = RunContext(request.read_settings()).store
    assert check_catalog(store, CatalogContext(), repair=False, now=read_clock()).is_whole


def test_a_mirror_that_cannot_be_written_ends_the_run_before_it_writes_anything(
    sample_items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMASK_MIRROR", "true")
    monkeypatch.setattr(mirror, "_NEEDED", ("absent_package",))
    request = build_request(tmp_path / "out", sample_items)
    with pytest.raises(SettingsError, match="index"):
        run_directly(request)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sample-archive"]
