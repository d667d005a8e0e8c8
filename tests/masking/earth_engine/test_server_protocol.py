"""The server speaks what an unmodified client asks: values, collections, assets, errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ee
import numpy as np
import pytest
import shapely
from google.auth.credentials import AnonymousCredentials

from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.scenes import SOUTH, build_scene
from tests.doubles.earth_engine.sentinel2 import CLOUD_PROBABILITY, CLOUD_SCORE_PLUS, L1C, L2A, Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine


def build_product(datatake: str = "20181214T133219", **changes: Any) -> Sentinel2:
    product = Sentinel2(
        SOUTH.tile,
        datatake,
        datatake[:-2] + "21",
        SOUTH.crs,
        SOUTH.origin,
        np.zeros((60, 90), np.uint8),
        {},
        95.25,
    )
    return replace(product, **changes)


@pytest.fixture
def days(earth_engine: LocalEarthEngine) -> list[str]:
    """Indices of three products of three days."""
    dates = ("20181214", "20181219", "20181224")
    return [earth_engine.world.add_sentinel2(build_product(f"{date}T133219")) for date in dates]


def test_initialising_asks_for_the_documents_alone(earth_engine: LocalEarthEngine) -> None:
    ee.Initialize(credentials=AnonymousCredentials(), project="p", url=earth_engine.url)
    paths = [request.path for request in earth_engine.requests]
    assert set(paths) == {
        "/$discovery/rest",
        "/v1alpha/projects/p/algorithms",
        "/earthengine-stac/catalog/catalog_deprecated.json",
    }


def test_the_four_collections_share_an_index(client: Any, days: list[str]) -> None:
    for collection in (L2A, L1C, CLOUD_PROBABILITY, CLOUD_SCORE_PLUS):
        assert client.ImageCollection(collection).aggregate_array("system:index").getInfo() == days
    scores = client.Image(f"{CLOUD_SCORE_PLUS}/{days[0]}").getInfo()["bands"]
    assert [(band["id"], band["data_type"]["precision"]) for band in scores] == [
        ("cs", "float"),
        ("cs_cdf", "float"),
    ]


def test_an_image_tells_its_bands_and_properties(client: Any, days: list[str]) -> None:
    info = client.Image(f"{L2A}/{days[1]}").getInfo()
    assert info["id"] == f"{L2A}/{days[1]}"
    bands = {band["id"]: band for band in info["bands"]}
    assert bands["SCL"]["dimensions"] == [45, 30]
    assert bands["B8"]["crs_transform"] == [10, 0, SOUTH.origin[0], 0, -10, SOUTH.origin[1]]
    properties = info["properties"]
    assert properties["MGRS_TILE"] == "22KFV"
    assert properties["MEAN_SOLAR_AZIMUTH_ANGLE"] == 95.25
    assert properties["DATATAKE_IDENTIFIER"].split("_")[1] == "20181219T133219"
    assert properties["DATASTRIP_ID"].split("_S")[-1].startswith("20181219T133221_")
    assert properties["system:footprint"]["type"] == "LinearRing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build_filter", "expected"),
    [
        (lambda: ee.Filter.eq("MGRS_TILE", "22KFV"), [0, 1, 2]),
        (lambda: ee.Filter.eq("MGRS_TILE", "22KFU"), []),
        (lambda: ee.Filter.eq("no_such_property", 1), []),
        (lambda: ee.Filter.date("2018-12-14", "2018-12-19"), [0]),
        (lambda: ee.Filter.date("2018-12-19"), []),
        (lambda: ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", 30), [0, 1, 2]),
        (lambda: ee.Filter.rangeContains("MEAN_SOLAR_AZIMUTH_ANGLE", 95, 95.25), [0, 1, 2]),
        (lambda: ee.Filter.stringStartsWith("system:index", "20181224"), [2]),
        (lambda: ee.Filter.bounds(ee.Geometry.Point(-50.02, -22.605)), [0, 1, 2]),
        (lambda: ee.Filter.bounds(ee.Geometry.Rectangle(0, 0, 1, 1)), []),
        (
            lambda: ee.Filter.Or(
                ee.Filter.date("2018-12-14", "2018-12-15"),
                ee.Filter.And(ee.Filter.eq("MGRS_TILE", "22KFV"), ee.Filter.date("2018-12-24", "2018-12-25")),
            ),
            [0, 2],
        ),
        (lambda: ee.Filter.date("2018-12-14", "2018-12-15").Not(), [1, 2]),
    ],
)
def test_filters(client: Any, days: list[str], build_filter: Any, expected: list[int]) -> None:
    found = client.ImageCollection(L2A).filter(build_filter()).aggregate_array("system:index")
    assert found.getInfo() == [days[n] for n in expected]


def test_many_images_are_looked_up_in_one_request(
    earth_engine: LocalEarthEngine, client: Any, days: list[str]
) -> None:
    wanted = [*days[:2], "20181229T133219_20181229T133221_T22KFV"]
    collection = client.ImageCollection(CLOUD_PROBABILITY).filter(
        client.Filter.inList("system:index", wanted)
    )
    reducer = client.Reducer.toList(2)
    columns = collection.reduceColumns(reducer, ["system:index", "system:time_start"]).getInfo()
    assert [row[0] for row in columns["list"]] == days[:2]
    (request,) = earth_engine.requests.to("value:compute")
    assert request.functions == {
        "Collection.filter",
        "Collection.reduceColumns",
        "Filter.listContains",
        "ImageCollection.load",
        "Reducer.toList",
    }


def test_columns_drop_what_is_missing(earth_engine: LocalEarthEngine, client: Any, days: list[str]) -> None:
    """A tuple goes whole; repeated lists lose their entries one by one, and no longer line up."""
    earth_engine.world.add_sentinel2(build_product("20190103T133219", properties={"ONLY_HERE": 7}))
    collection = client.ImageCollection(L2A)
    selectors = ["system:index", "ONLY_HERE"]
    tuples = collection.reduceColumns(client.Reducer.toList(2), selectors).getInfo()["list"]
    assert tuples == [["20190103T133219_20190103T133221_T22KFV", 7]]
    lists = collection.reduceColumns(client.Reducer.toList().repeat(2), selectors).getInfo()["list"]
    assert [len(part) for part in lists] == [4, 1]
    optional = collection.reduceColumns(client.Reducer.toList(2, 1), selectors).getInfo()["list"]
    assert [row[1] for row in optional] == [None, None, None, 7]
    assert collection.aggregate_array("ONLY_HERE").getInfo() == [7]


def test_elements_can_be_mapped_sorted_and_listed(client: Any, days: list[str]) -> None:
    collection = client.ImageCollection(L2A)
    newest = collection.sort("system:time_start", False)
    assert newest.limit(2).aggregate_array("system:index").getInfo() == days[:0:-1]
    assert newest.first().get("system:index").getInfo() == days[2]

    def describe(image: Any) -> Any:
        footprint = image.geometry()
        return client.Feature(
            None, {"id": image.get("system:index"), "km2": footprint.area().divide(1e6), "n": 1}
        )

    features = collection.map(describe).getInfo()["features"]
    assert [feature["properties"]["id"] for feature in features] == days
    assert features[0]["properties"]["km2"] == pytest.approx(0.6 * 0.9, rel=0.01)
    listed = collection.toList(5).map(lambda image: client.Image(image).get("system:index"))
    assert listed.getInfo() == days
    assert collection.distinct("MGRS_TILE").size().getInfo() == 1


def test_footprints_overlap(earth_engine: LocalEarthEngine, client: Any) -> None:
    west, north = SOUTH.origin
    half = shapely.box(west, north - 600, west + 300, north)
    index = earth_engine.world.add_sentinel2(build_product(outline=half))
    whole = client.Geometry(build_product().footprint.to_geojson())
    image = client.Image(f"{L2A}/{index}")
    share = image.geometry().intersection(whole, 1).area(1).divide(whole.area(1)).getInfo()
    assert share == pytest.approx(1 / 3, rel=1e-3)
    rings = client.ImageCollection(L2A).aggregate_array("system:footprint").getInfo()
    assert [ring["type"] for ring in rings] == ["LinearRing"]
    assert Geometry.from_geojson(image.geometry().getInfo()).area_m2 == pytest.approx(180_000, rel=0.01)


def test_numbers_lists_and_dates(client: Any) -> None:
    assert client.Number(90).subtract(38.5).getInfo() == 51.5
    assert client.List([1, 2, 3]).map(lambda n: client.Number(n).multiply(2)).getInfo() == [2, 4, 6]
    assert client.Dictionary({"a": 1}).combine({"b": [2]}).getInfo() == {"a": 1, "b": [2]}
    assert client.Date("2018-12-14").advance(1, "day").format("YYYY-MM-dd").getInfo() == "2018-12-15"
    assert client.Algorithms.If(client.Number(0), "yes", "no").getInfo() == "no"


def test_a_missing_asset_is_told_as_the_service_tells_it(client: Any, days: list[str]) -> None:
    missing = f"{CLOUD_PROBABILITY}/20181229T133219_20181229T133221_T22KFV"
    text = (
        rf"Image.load: Image asset '{missing}' not found \(does not exist or caller does not have access\)."
    )
    with pytest.raises(client.EEException, match=text):
        client.Image(missing).getInfo()
    with pytest.raises(client.EEException, match=r"ImageCollection\.load: ImageCollection asset 'NO/SUCH'"):
        client.ImageCollection("NO/SUCH").size().getInfo()
    with pytest.raises(client.EEException, match=rf"Asset '\S+/{missing}' not found"):
        client.data.getAsset(missing)
    with pytest.raises(client.EEException, match="did not match any bands"):
        client.Image(f"{L2A}/{days[0]}").select("B99").getInfo()


def test_assets_by_the_rest_routes(client: Any, days: list[str]) -> None:
    asset = client.data.getAsset(f"{L2A}/{days[0]}")
    assert asset["type"] == "IMAGE"
    assert asset["startTime"] == "2018-12-14T13:32:21Z"
    assert client.data.getAsset(L2A)["type"] == "IMAGE_COLLECTION"
    images = client.data.listImages(L2A)["images"]
    assert [image["id"] for image in images] == [f"{L2A}/{index}" for index in days]


def test_an_answer_holds_5000_elements_at_most(client: Any, days: list[str]) -> None:
    image = client.Image(f"{L2A}/{days[0]}")
    with pytest.raises(client.EEException, match="aborted after accumulating over 5000 elements"):
        client.ImageCollection(client.List.repeat(image, 5001)).getInfo()


def test_what_the_server_has_not_fails_loudly(client: Any) -> None:
    with pytest.raises(client.EEException, match=r"the local Earth Engine has no function Number\.gammainc"):
        client.Number(1).gammainc(2).getInfo()


def test_a_product_is_the_scene_of_its_item() -> None:
    product = build_product()
    scene = build_scene(product)
    assert scene.grid.shape == (30, 45)
    parts = (scene.datatake_id.split("_")[1], scene.datastrip_id.split("_S")[-1].split("_")[0], scene.tile)
    assert "{}_{}_T{}".format(*parts) == product.index
