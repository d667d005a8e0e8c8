"""A STAC API on PostgreSQL finds what the static catalog holds, item for item, after each export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pc_cloudmask.catalog.export import export_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import item_keys
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.settings import read_clock
from pc_cloudmask.storage.local import LocalStore
from tests.doubles.command import run
from tests.doubles.stac_database import StacDatabase, find_lacking, run_stac_database
from tests.published_demo import copy_catalog
from tests.sample_archive import BRAZIL, SAMPLE_IDS

PUBLIC_URL = "https://masks.example.com/prod"
COLLECTION = "sentinel-2-l2a-cloudmask"
needs_database = pytest.mark.skipif(bool(find_lacking()), reason=find_lacking())


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacDatabase]:
    with run_stac_database(tmp_path_factory.mktemp("stac-database")) as running:
        yield running


@pytest.fixture
def catalog(published_demo: Path, tmp_path: Path) -> Path:
    return copy_catalog(published_demo, tmp_path / "catalog")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def search(database: StacDatabase, **query: Any) -> dict[str, dict[str, Any]]:
    """Items that the API gives, over all pages."""
    answer = requests.post(
        f"{database.url}/search", json={"collections": [COLLECTION], "limit": 100, **query}, timeout=600
    )
    answer.raise_for_status()
    return {item["id"]: item for item in answer.json()["features"]}


@pytest.mark.slow
@needs_database
def test_the_api_holds_what_the_catalog_holds(database: StacDatabase, catalog: Path, tmp_path: Path) -> None:
    store, folder = LocalStore(catalog), tmp_path / "export"
    for _ in range(2):  # as often as one likes
        assert export_catalog(store, folder, PUBLIC_URL).items == len(SAMPLE_IDS)
        database.load(folder)
    exported = {item["id"]: item for item in read_lines(folder / "items.ndjson")}
    found = search(database)
    assert sorted(found) == sorted(SAMPLE_IDS)
    for item_id, item in exported.items():
        links = [link for link in found[item_id]["links"] if link["rel"] in {"derived_from", "license"}]
        assert {**found[item_id], "links": links} == item

    clear = sorted(item["properties"]["cloudmask:clear_percentage"] for item in exported.values())[2]
    above = {"op": ">", "args": [{"property": "cloudmask:clear_percentage"}, clear]}
    expected = {
        item_id
        for item_id, item in exported.items()
        if item["properties"]["cloudmask:clear_percentage"] > clear and item_id in BRAZIL
    }
    asked = {"bbox": [-51, -24, -49, -22], "datetime": "2018-01-01T00:00:00Z/2018-12-31T00:00:00Z"}
    assert set(search(database, **asked, **{"filter": above, "filter-lang": "cql2-json"})) == expected

    gone, broken, *_ = BRAZIL
    Publisher(store, CatalogContext(), read_clock()).withdraw([item_keys(gone, "22KFV", 2018)], "test")
    (catalog / item_keys(broken, "22KFV", 2018).item).write_text("{")
    assert [each.id for each in export_catalog(store, folder, PUBLIC_URL).left_out] == [broken]
    database.load(folder)
    # What cannot be read is no reason to delete.
    assert set(search(database)) == set(SAMPLE_IDS) - {gone}


def test_hrefs_are_absolute_and_links_those_of_no_static_catalog(catalog: Path, tmp_path: Path) -> None:
    ran = run(
        *("export", "--json", "--store", catalog, "--out", tmp_path / "export"),
        cwd=tmp_path,
        CLOUDMASK_PUBLIC_URL=PUBLIC_URL,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["items"] == len(SAMPLE_IDS)
    (collection,) = read_lines(tmp_path / "export" / "collection.ndjson")
    # pgstac adds these to every item.
    assert set(collection["item_assets"]) == {"cloudmask", "cloudmask-preview"}
    for document in (collection, *read_lines(tmp_path / "export" / "items.ndjson")):
        assert not {link["rel"] for link in document["links"]} & {
            "self",
            "root",
            "parent",
            "child",
            "collection",
        }
        hrefs = [part["href"] for part in (*document["links"], *document.get("assets", {}).values())]
        assert all("://" in href for href in hrefs)
    mask = document["assets"]["cloudmask"]["href"]
    assert mask.startswith(f"{PUBLIC_URL}/{COLLECTION}/22K/22KFV/2018/") or "/33U/33UUP/" in mask


def test_a_folder_that_cannot_be_written_is_said_and_the_old_script_is_gone(
    catalog: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    export_catalog(LocalStore(catalog), folder, PUBLIC_URL)
    (folder / "items.ndjson").unlink()
    (folder / "items.ndjson").mkdir()
    ran = run("export", "--store", catalog, "--out", folder, cwd=tmp_path)
    assert ran.returncode == 2
    assert "--out" in ran.stderr
    assert not (folder / "prune.sql").exists()
