"""Every field that a scene needs is read, or named in one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.errors import InvalidField, ItemError, MissingField
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.source.item import MAX_ITEM_BYTES, read_scene
from tests.catalog.items import delete_at, make_source_item, set_at

ID = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849"
NEEDED = [
    ("id",),
    ("geometry",),
    ("properties",),
    ("assets",),
    ("properties", "datetime"),
    ("properties", "platform"),
    ("properties", "s2:mgrs_tile"),
    ("properties", "s2:datatake_id"),
    ("properties", "s2:datastrip_id"),
    ("properties", "s2:mean_solar_azimuth"),
    ("properties", "s2:mean_solar_zenith"),
    ("properties", "s2:processing_baseline"),
    ("assets", "SCL", "proj:shape"),
    ("assets", "SCL", "proj:transform"),
]


def refuse(item: Any) -> ItemError:
    """The error that ``item`` gives, which is fit to be shown."""
    with pytest.raises(ItemError) as caught:
        read_scene(item)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 400
    assert not caught.value.retryable
    return caught.value


def test_a_scene_holds_what_the_item_says() -> None:
    scene = read_scene(make_source_item())
    assert scene.id == ID
    assert scene.datetime == datetime(2018, 12, 14, 13, 32, 19, 24_000, tzinfo=UTC)
    assert scene.year == 2018
    assert (scene.tile, scene.platform) == ("22KFV", "Sentinel-2B")
    assert scene.grid == Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (4500, 5000))
    assert (scene.solar_azimuth_deg, scene.solar_zenith_deg) == (95.5, 22.4)
    assert scene.datatake_id == "GS2B_20181214T133219_009256_N02.12"
    assert scene.datastrip_id.endswith("_S20181214T133217_N02.12")
    assert scene.processing_baseline == "02.12"
    assert scene.footprint == make_source_item()["geometry"]
    assert scene.asset_hrefs["SCL"].endswith("_SCL_20m.tif")
    assert set(scene.asset_hrefs) == set(make_source_item()["assets"])


def test_reading_changes_no_item() -> None:
    item = make_source_item()
    read_scene(item)
    assert item == make_source_item()


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
@pytest.mark.parametrize("absent", ["deleted", "null"])
def test_a_missing_field_is_named(path: tuple[str, ...], absent: str) -> None:
    item = make_source_item()
    error = refuse(delete_at(item, path) if absent == "deleted" else set_at(item, path, None))
    assert isinstance(error, MissingField)
    assert error.field == ".".join(path)
    assert error.item_id == ("?" if path == ("id",) else ID)


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
@pytest.mark.parametrize("wrong", [True, 17, [], {}, "", "\n", "x" * 300, float("nan")], ids=repr)
def test_a_field_of_the_wrong_kind_is_named(path: tuple[str, ...], wrong: Any) -> None:
    item = set_at(make_source_item(), path, wrong)
    if path[-1].startswith("s2:mean_solar") and wrong == 17 and wrong is not True:
        assert read_scene(item)
        return
    assert refuse(item).field.startswith(".".join(path))


WRONG_VALUES: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "an id that leads out of the catalog": (("id",), "../../x"),
    "an id with a line break": (("id",), "S2B\nfailed: 0"),
    "a tile that is none": (("properties", "s2:mgrs_tile"), "99XXX"),
    "a tile that is a path": (("properties", "s2:mgrs_tile"), "../.."),
    "an instant without a zone": (("properties", "datetime"), "2018-12-14T13:32:19"),
    "an instant in another zone, which STAC forbids": (
        ("properties", "datetime"),
        "2018-12-14T13:32:19+02:00",
    ),
    "a day alone": (("properties", "datetime"), "2018-12-14"),
    "an instant that no calendar has": (("properties", "datetime"), "2018-02-30T13:32:19Z"),
    "an instant before the first year": (("properties", "datetime"), "0001-01-01T00:00:00+23:59"),
    "an azimuth of another unit": (("properties", "s2:mean_solar_azimuth"), 1e6),
    "an infinite azimuth": (("properties", "s2:mean_solar_azimuth"), float("inf")),
    "a number of 400 digits": (("properties", "s2:mean_solar_zenith"), 10**400),
    "a shape of one side": (("assets", "SCL", "proj:shape"), [4500]),
    "an empty grid": (("assets", "SCL", "proj:shape"), [0, 5000]),
    "half a pixel": (("assets", "SCL", "proj:shape"), [4500.5, 5000]),
    "forty gigapixels": (("assets", "SCL", "proj:shape"), [200_000, 200_000]),
    "a transform of five numbers": (("assets", "SCL", "proj:transform"), [20, 0, 6e5, 0, -20]),
    "a grid of 10 m": (("assets", "SCL", "proj:transform"), [10, 0, 6e5, 0, -10, 7.5e6]),
    "a grid with its south up": (("assets", "SCL", "proj:transform"), [20, 0, 6e5, 0, 20, 7.5e6]),
    "a grid that is turned": (("assets", "SCL", "proj:transform"), [20, 1, 6e5, 1, -20, 7.5e6]),
    "a grid off the Earth": (("assets", "SCL", "proj:transform"), [20, 0, 1e9, 0, -20, 7.5e6]),
    "degrees for a CRS": (("properties", "proj:epsg"), 4326),
    "a CRS that is no number": (("properties", "proj:epsg"), True),
    "a CRS of very many digits": (("properties", "proj:epsg"), 10**5000),
    "a code of no zone": (("properties", "proj:code"), "EPSG:32661"),
    "an asset that is none": (("assets", "B02"), "https://example.com/B02.tif"),
    "links that are none": (("links",), {"rel": "self"}),
    "links that are null": (("links",), None),
    "extensions that are null": (("stac_extensions",), None),
    "a link without an href": (("links", 0), {"rel": "self"}),
    "a link that is a text": (("links", 0), "https://example.com"),
    "extensions that are none": (("stac_extensions",), "https://example.com"),
    "an extension that is a list": (("stac_extensions",), [["https://example.com"]]),
    "a surrogate alone, which is no UTF-8": (("properties", "s2:note"), "\ud800"),
    "an integer beyond 64 bits": (("properties", "s2:note"), 2**64),
    "more than a megabyte": (("properties", "s2:note"), "x" * MAX_ITEM_BYTES),
}


@pytest.mark.parametrize(("path", "value"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    assert isinstance(refuse(set_at(make_source_item(), path, value)), InvalidField)


@pytest.mark.parametrize("item", [None, [], "item", 3, [{"id": ID}]], ids=repr)
def test_what_is_no_object_is_no_item(item: Any) -> None:
    assert refuse(item).field == "item"
    with pytest.raises(InvalidField):
        unsign_item(item)


def test_keys_of_assets_cannot_break_an_error_s_line() -> None:
    item = make_source_item()
    item["assets"]["x\nERROR: all is lost\x1b[2J"] = {"href": "https://example.com/x.tif"}
    assert refuse(item).field == "assets"


def test_an_item_without_a_grid_on_scl_is_read_from_b8a() -> None:
    item = delete_at(make_source_item(), ("assets", "SCL"))
    assert read_scene(item).grid == read_scene(make_source_item()).grid


def test_without_any_asset_on_the_grid_the_first_is_named() -> None:
    item = set_at(make_source_item(), ("assets",), {"visual": make_source_item()["assets"]["visual"]})
    assert refuse(item).field == "assets.SCL"


def test_every_key_on_the_way_is_looked_at() -> None:
    error = refuse(set_at(make_source_item(), ("assets", "SCL"), "https://example.com/SCL.tif"))
    assert (type(error), error.field) == (InvalidField, "assets.SCL")


def test_an_asset_without_an_href_lacks_it() -> None:
    error = refuse(set_at(make_source_item(), ("assets", "B02"), {"type": "image/tiff"}))
    assert (type(error), error.field) == (MissingField, "assets.B02.href")


@pytest.mark.parametrize("alternate", [None, [], "elsewhere", 3])
def test_alternates_of_another_form_are_left_alone(alternate: Any) -> None:
    assert read_scene(set_at(make_source_item(), ("assets", "B02", "alternate"), alternate))


CRS_FIELDS: list[dict[str, Any]] = [
    {"proj:code": "EPSG:32722"},
    {"proj:epsg": 32722},
    {"proj:code": "EPSG:32722", "proj:epsg": 32701},
]


@pytest.mark.parametrize("fields", CRS_FIELDS, ids=",".join)
@pytest.mark.parametrize("place", ["properties", "asset"])
def test_the_crs_may_stand_in_either_form_and_place(fields: dict[str, Any], place: str) -> None:
    item = delete_at(make_source_item(), ("properties", "proj:epsg"))
    holder = item["properties"] if place == "properties" else item["assets"]["SCL"]
    holder.update(fields)
    assert read_scene(item).grid.crs == "EPSG:32722"


def test_an_item_without_a_crs_lacks_the_newer_field() -> None:
    error = refuse(delete_at(make_source_item(), ("properties", "proj:epsg")))
    assert isinstance(error, MissingField)
    assert error.field == "properties.proj:code"


def test_a_transform_may_have_its_third_row() -> None:
    item = make_source_item()
    item["assets"]["SCL"]["proj:transform"] += [0, 0, 1]
    assert read_scene(item).grid == read_scene(make_source_item()).grid


def test_an_item_may_come_without_links_extensions_and_bbox() -> None:
    item = make_source_item()
    for name in ("links", "stac_extensions", "bbox"):
        del item[name]
    assert read_scene(item).id == ID


@pytest.mark.shared
def test_every_real_item_is_a_scene(shared_data: Path) -> None:
    items: list[Item] = [
        json.loads(path.read_bytes()) for path in sorted((shared_data / "pc-items").glob("S2*.json"))
    ]
    scenes = [read_scene(item) for item in items]
    assert len(scenes) == 12
    assert {scene.grid.shape for scene in scenes} == {(5490, 5490)}
    assert all(scene.grid.crs.startswith("EPSG:326") for scene in scenes)
    assert all(scene.asset_hrefs == strip_hrefs(item) for scene, item in zip(scenes, items, strict=True))


def strip_hrefs(item: Item) -> dict[str, str]:
    return {name: asset["href"] for name, asset in unsign_item(item)["assets"].items()}


def test_all_missing_fields_are_named_at_once() -> None:
    item = make_source_item()
    absent = ["platform", "s2:mgrs_tile", "s2:mean_solar_zenith"]
    for name in absent:
        item["properties"].pop(name)
    for name in ("proj:shape", "proj:transform"):
        item["assets"]["SCL"].pop(name)
    del item["properties"]["proj:epsg"]
    error = refuse(item)
    wanted = [
        *(f"properties.{name}" for name in absent),
        "assets.SCL.proj:shape",
        "assets.SCL.proj:transform",
    ]
    assert str(error) == f"item {ID}: {', '.join([*wanted, 'properties.proj:code'])} are missing"
    assert str(refuse({"id": ID})) == f"item {ID}: properties, geometry, assets are missing"


@pytest.mark.parametrize("epsg", [32722, 32722.0])
def test_an_epsg_code_may_stand_as_a_fraction(epsg: float) -> None:
    assert read_scene(set_at(make_source_item(), ("properties", "proj:epsg"), epsg)).grid.crs == "EPSG:32722"
    for wrong in (32722.5, float("inf"), True, "32722"):
        assert refuse(set_at(make_source_item(), ("properties", "proj:epsg"), wrong)).field.endswith(
            "proj:epsg"
        )


@pytest.mark.parametrize("kept", ["B8A", "B11", "B02"])
def test_any_band_of_the_tile_tells_the_grid(kept: str) -> None:
    item = make_source_item()
    expected = read_scene(item).grid
    asset, fine = item["assets"]["SCL"], kept == "B02"
    if fine:
        height, width = asset["proj:shape"]
        asset = {
            **asset,
            "proj:shape": [2 * height, 2 * width],
            "proj:transform": [10, 0, 600000, 0, -10, 7500040],
        }
    item["assets"] = {kept: asset}
    assert read_scene(item).grid == expected


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("properties", "s2:mgrs_tile"), "23KFV", "s2:mgrs_tile"),
        (("properties", "proj:epsg"), 32622, "s2:mgrs_tile"),
        (("geometry", "coordinates"), [[[10, 48], [11, 48], [11, 49], [10, 48]]], "geometry"),
        (("geometry", "coordinates"), [[[-50, 22], [-49, 22], [-49, 23], [-50, 22]]], "geometry"),
    ],
)
def test_a_tile_or_footprint_that_contradicts_the_grid_is_refused(
    path: tuple[str, ...], value: Any, field: str
) -> None:
    error = refuse(set_at(make_source_item(), path, value))
    assert (type(error), error.field) == (InvalidField, field)
