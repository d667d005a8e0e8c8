"""The geoparquet mirror answers searches in DuckDB, pyarrow and stac-geoparquet."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pystac
import pytest
import rustac
from stac_geoparquet.arrow import stac_table_to_items

from pc_cloudmask.catalog import mirror
from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import ITEMS_PREFIX
from pc_cloudmask.catalog.mirror import append_mirror, rebuild_mirror
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.settings import read_clock
from pc_cloudmask.storage.local import LocalStore
from tests.doubles.command import run
from tests.offline_validator import OfflineValidator
from tests.published_demo import copy_catalog
from tests.sample_archive import BRAZIL, SAMPLE_IDS

CLEAR_OF_2018 = BRAZIL[:2]
LATEST = """
    select * from read_parquet('{files}', union_by_name = true)
    qualify row_number() over (partition by id order by updated desc) = 1
"""


@pytest.fixture
def catalog(mirrored_demo: Path, tmp_path: Path) -> Path:
    """A mirrored catalog of the test's own."""
    return copy_catalog(mirrored_demo, tmp_path / "catalog")


def build_publisher(root: Path) -> tuple[LocalStore, Publisher]:
    store = LocalStore(root)
    return store, Publisher(store, CatalogContext(), read_clock())


def is_whole(store: LocalStore) -> bool:
    return check_catalog(store, CatalogContext(), repair=False, now=read_clock()).is_whole


def read_items(root: Path) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_bytes())
        for path in sorted((root / "sentinel-2-l2a-cloudmask").rglob("S2*.json"))
    ]


def read_collection(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (root / "sentinel-2-l2a-cloudmask" / "collection.json").read_bytes()
    )
    return document


def read_parts(root: Path) -> list[dict[str, Any]]:
    """The collection's assets that are parts of the mirror."""
    assets = read_collection(root)["assets"].values()
    return [asset for asset in assets if asset["roles"] == ["collection-mirror"]]


def test_duckdb_finds_the_clear_scenes_of_a_tile_and_year(mirrored_demo: Path) -> None:
    files = mirrored_demo / ITEMS_PREFIX / "*.parquet"
    rows = duckdb.sql(f"""
        select id from ({LATEST.format(files=files)})
        where "s2:mgrs_tile" = '22KFV' and year(datetime) = 2018 and "cloudmask:clear_percentage" > 65
        order by datetime
    """).fetchall()
    assert [row[0] for row in rows] == CLEAR_OF_2018
    rows = duckdb.sql(f"""
        select id from read_parquet('{files}')
        where bbox.xmin < -49.9 and bbox.xmax > -49.9 and bbox.ymin < -22.7 and bbox.ymax > -22.7
    """).fetchall()
    assert {row[0] for row in rows} == set(BRAZIL)


def test_pyarrow_finds_them_too(mirrored_demo: Path) -> None:
    table = ds.dataset(str(mirrored_demo / ITEMS_PREFIX)).to_table(
        columns=["id", "datetime"],
        filter=(pc.field("s2:mgrs_tile") == "22KFV")
        & (pc.year(pc.field("datetime")) == 2018)
        & (pc.field("cloudmask:clear_percentage") > 65),
    )
    assert sorted(table["id"].to_pylist()) == CLEAR_OF_2018


def test_the_mirror_holds_the_items_whole(mirrored_demo: Path) -> None:
    folder = mirrored_demo / ITEMS_PREFIX
    mirrored = {item["id"]: item for item in stac_table_to_items(ds.dataset(str(folder)).to_table())}
    items = read_items(mirrored_demo)
    assert set(mirrored) == {item["id"] for item in items}
    for item in items:
        row = mirrored[item["id"]]
        assert set(row["assets"]) == set(item["assets"])
        assert set(row["properties"]) == set(item["properties"])
        # Hrefs are relative to where the row is.
        mask = (folder / row["assets"]["cloudmask"]["href"]).resolve()
        assert mask.is_relative_to(mirrored_demo)
        assert mask.is_file()
        pystac.Item.from_dict(row, preserve_dict=False)


def test_geospatial_readers_know_the_geometries(mirrored_demo: Path) -> None:
    frame = geopandas.read_parquet(str(mirrored_demo / ITEMS_PREFIX))
    assert frame.crs is not None
    assert frame.crs.to_epsg() in {4326, None}
    assert frame.geometry.geom_type.unique().tolist() == ["Polygon"]
    (path,) = (mirrored_demo / ITEMS_PREFIX).iterdir()
    metadata = pq.ParquetFile(path).metadata.metadata
    assert json.loads(metadata[b"stac-geoparquet"]) == {"version": "1.0.0"}
    assert json.loads(metadata[b"geo"])["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


def test_rustac_reads_the_items(mirrored_demo: Path) -> None:
    (path,) = (mirrored_demo / ITEMS_PREFIX).iterdir()
    found = rustac.read_sync(str(path))
    assert {item["id"] for item in found["features"]} == {item["id"] for item in read_items(mirrored_demo)}


def test_the_collection_lists_the_mirror(mirrored_demo: Path, stac_validator: OfflineValidator) -> None:
    document = read_collection(mirrored_demo)
    assert {name: asset["roles"] for name, asset in document["assets"].items()} == {
        "items-0": ["collection-mirror"],
        "masks": ["index"],
        "masks-style": ["style"],
    }
    for asset in document["assets"].values():
        assert (mirrored_demo / "sentinel-2-l2a-cloudmask" / asset["href"]).is_file()
    href = str(mirrored_demo / "sentinel-2-l2a-cloudmask" / "collection.json")
    pystac.Collection.from_dict(document, href=href).validate(validator=stac_validator)
    store, _ = build_publisher(mirrored_demo)
    assert is_whole(store)


@pytest.mark.slow
def test_rebuilding_what_has_not_changed_changes_nothing(catalog: Path) -> None:
    store, publisher = build_publisher(catalog)
    before = {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()}
    report = rebuild_mirror(store, publisher)
    assert (report.items, len(report.files), report.retired) == (len(SAMPLE_IDS), 1, 0)
    assert {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_appends_a_part_and_the_latest_row_of_an_item_holds(catalog: Path) -> None:
    store, publisher = build_publisher(catalog)
    item = read_items(catalog)[-1]
    item["properties"] |= {"updated": "2031-01-01T00:00:00Z", "cloudmask:clear_percentage": 1.5}
    # Another method's item has other parameters, and perhaps an asset that no other has.
    item["properties"] |= {"cloudmask:method": "csmask", "cloudmask:parameters": {"buffer_m": 50.0}}
    item["assets"]["extra"] = {"href": "./extra.tif", "gsd": 60}
    key = append_mirror(store, [item], "20310101T000000")
    publisher.publish_collection()
    assert key is not None
    assert key.startswith(f"{ITEMS_PREFIX}part-20310101T000000-")
    assert len(read_parts(catalog)) == 2
    latest = LATEST.format(files=catalog / ITEMS_PREFIX / "*.parquet")
    rows = duckdb.sql(f'select id, "cloudmask:clear_percentage" from ({latest})').fetchall()
    assert len(rows) == len(SAMPLE_IDS)
    assert dict(rows)[item["id"]] == 1.5

    report = rebuild_mirror(store, publisher)
    assert (report.items, report.retired) == (len(SAMPLE_IDS), 1), "the part did not tell what is published"
    assert [path.name for path in (catalog / ITEMS_PREFIX).iterdir()] == [
        Path(href["href"]).name for href in read_parts(catalog)
    ]
    assert is_whole(store)


def test_a_part_of_one_item_is_small(mirrored_demo: Path, tmp_path: Path) -> None:
    key = append_mirror(LocalStore(tmp_path), read_items(mirrored_demo)[:1], "run")
    assert key is not None
    assert (tmp_path / key).stat().st_size < 45_000


@pytest.mark.slow
def test_a_retired_part_goes_only_after_the_collection_has_let_go_of_it(catalog: Path) -> None:
    """A rebuild that dies in between leaves no dangling link, and the next one ends it."""
    store, publisher = build_publisher(catalog)
    items = read_items(catalog)
    key = append_mirror(store, items, "run")
    assert key is not None
    publisher.publish_collection()

    class Died(Exception):
        pass

    class Dying(LocalStore):
        def delete_object(self, key: str) -> None:
            raise Died(key)

    with pytest.raises(Died):
        rebuild_mirror(Dying(catalog), publisher)
    linked = [asset["href"] for asset in read_parts(catalog)]
    assert len(linked) == 1
    assert (catalog / "sentinel-2-l2a-cloudmask" / linked[0]).is_file()
    assert (catalog / key).is_file()
    assert rebuild_mirror(store, publisher).retired == 0
    assert len(list((catalog / ITEMS_PREFIX).iterdir())) == 1


@pytest.mark.slow
def test_a_rebuild_after_one_that_died_removes_nothing_that_is_linked(catalog: Path) -> None:
    store, publisher = build_publisher(catalog)
    assert append_mirror(store, read_items(catalog)[:1], "run") is not None
    publisher.publish_collection()
    linked: list[Path] = []

    class Died(Exception):
        pass

    class Dying(Publisher):
        def publish_collection(self) -> None:
            raise Died

    class Walked(LocalStore):
        def delete_object(self, key: str) -> None:
            super().delete_object(key)
            folder = catalog / "sentinel-2-l2a-cloudmask"
            linked.extend(folder / asset["href"] for asset in read_parts(catalog))
            assert all(path.is_file() for path in linked)

    with pytest.raises(Died):
        rebuild_mirror(store, Dying(store, CatalogContext(), read_clock()))
    rebuild_mirror(Walked(catalog), publisher)
    assert linked


@pytest.mark.slow
def test_a_file_that_a_dead_rebuild_retired_and_that_is_right_again_stays(catalog: Path) -> None:
    store, publisher = build_publisher(catalog)
    (file,) = (catalog / ITEMS_PREFIX).iterdir()
    file.with_name(f"{file.name}.retired").write_bytes(b"{}")
    report = rebuild_mirror(store, publisher)
    assert [catalog / key for key in report.files] == list((catalog / ITEMS_PREFIX).iterdir()) == [file]
    assert len(read_parts(catalog)) == 1


@pytest.mark.slow
def test_parts_of_other_runs_survive_a_rebuild(catalog: Path) -> None:
    store = LocalStore(catalog)
    items = read_items(catalog)
    appended: list[str | None] = []

    class Meanwhile(Publisher):
        def publish_collection(self) -> None:
            appended.append(append_mirror(store, items[:1], "meanwhile"))
            super().publish_collection()

    rebuild_mirror(store, Meanwhile(store, CatalogContext(), read_clock()))
    (key,) = appended
    assert key is not None
    assert (catalog / key).is_file()
    assert len(read_parts(catalog)) == 2


@pytest.mark.slow
def test_withdrawn_and_broken_items_are_left_out(catalog: Path) -> None:
    store, publisher = build_publisher(catalog)
    first, second, *_ = sorted((catalog / "sentinel-2-l2a-cloudmask").rglob("S2*.json"))
    (first.parent / "withdrawn.json").write_text("{}")
    second.write_text("{")
    report = rebuild_mirror(store, publisher)
    assert report.items == len(SAMPLE_IDS) - 2
    assert [each.id for each in report.left_out] == [second.stem]


@pytest.mark.slow
@pytest.mark.parametrize("odd", [({"a": 1}, "text"), ({}, {}), ([{}], []), (2**63, 2**64 - 1)])
def test_odd_items_spoil_no_run(
    mirrored_demo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: tuple[Any, Any]
) -> None:
    one, other = read_items(mirrored_demo)[:2]
    one["properties"]["s2:odd"], other["properties"]["s2:odd"] = odd
    key = append_mirror(LocalStore(tmp_path), [one, other], "run")
    assert key is not None
    assert pq.read_table(tmp_path / key).num_rows == 2
    oddities = [isinstance(value, int) for value in odd] if odd[0] != {"a": 1} else [False, True]
    for item, is_odd in zip((one, other), oddities, strict=True):
        named = f"left out of the geoparquet mirror: {item['id']}: properties.s2:odd "
        assert (named in caplog.text) == is_odd
    (tmp_path / key).unlink()
    assert append_mirror(LocalStore(tmp_path), [], "run") is None
    assert not list(tmp_path.rglob("*.parquet"))


def test_want_of_room_for_temporary_files_spoils_no_run(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    store, publisher = build_publisher(catalog)
    assert append_mirror(store, read_items(catalog), "run") is None
    assert "TMPDIR" in caplog.text
    with pytest.raises(StoreRefused, match="TMPDIR"):
        rebuild_mirror(store, publisher)


def test_without_the_extra_the_error_says_how_to_install_it(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_NEEDED", ("absent_package",))
    store, publisher = build_publisher(catalog)
    with pytest.raises(SettingsError, match="with its extra index"):
        append_mirror(store, read_items(catalog), "run")
    with pytest.raises(SettingsError, match="with its extra index"):
        rebuild_mirror(store, publisher)


@pytest.mark.slow
def test_the_command_says_what_it_built(catalog: Path, tmp_path: Path) -> None:
    result = run("index", "--store", catalog, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["items"] == len(SAMPLE_IDS)
    body = (catalog / report["files"][0]).read_bytes()
    assert pq.read_table(io.BytesIO(body)).num_rows == len(SAMPLE_IDS)
