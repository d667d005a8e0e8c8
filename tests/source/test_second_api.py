"""How a second STAC API is asked for tiles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pc_cloudmask.errors import SourceRefused
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.source.stac_api import SecondApi
from pc_cloudmask.web import RetryPolicy
from tests.doubles.stac_api import Fault, StacApiServer
from tests.doubles.stac_api.catalogues import Pass, make_earth_search, make_planetary

START = datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC)
QUERY = SceneQuery(tiles=("01KAB",), datetime="2018-12")
#: West of the antimeridian, and east of it.
WEST, EAST = (179.0, -18.0, 180.0, -17.0), (-180.0, -18.0, -179.5, -17.0)


@pytest.fixture
def api() -> Iterator[StacApiServer]:
    with StacApiServer() as api:
        tiles = {"01KAB": EAST, "60KZF": WEST, "22KFV": (-50.0, -23.0, -49.0, -22.0)}
        api.items = [make_earth_search(Pass(tile, START, bbox=bbox)) for tile, bbox in tiles.items()]
        yield api


def find_ids(api: StacApiServer, query: SceneQuery = QUERY) -> list[str]:
    source = SecondApi(api.url, "sentinel-2-l2a", retry=RetryPolicy(attempts=1))
    return [item["id"] for item in source.find_items(query)]


def test_a_property_by_which_the_api_finds_its_own_item_is_asked_for(api: StacApiServer) -> None:
    assert find_ids(api) == ["S2B_1KAB_20181214_0_L2A"]
    assert api.searches[-1]["query"] == {"grid:code": {"in": ["MGRS-01KAB", "MGRS-1KAB"]}}
    api.items = [make_planetary(Pass("01KAB", START))]
    assert len(find_ids(api)) == 1
    assert api.searches[-1]["query"] == {"s2:mgrs_tile": {"in": ["01KAB"]}}


def test_an_api_that_does_not_find_its_own_item_is_asked_by_place(api: StacApiServer) -> None:
    """It knows nothing of the property, and so finds nothing."""
    api.faults.extend([Fault(page={}), Fault(page={"features": []})])
    assert find_ids(api) == ["S2B_1KAB_20181214_0_L2A"]
    assert "query" not in api.searches[-1]
    assert api.searches[-1]["intersects"]["type"] == "MultiPolygon"


@pytest.mark.parametrize("without", ["query", "sort"])
@pytest.mark.parametrize("bbox", [EAST, WEST])
def test_an_api_that_cannot_filter_is_asked_by_place(
    api: StacApiServer, without: str, bbox: tuple[float, float, float, float]
) -> None:
    api.conforms_to = [uri for uri in api.conforms_to if not uri.endswith(f"#{without}")]
    api.items[0]["bbox"] = list(bbox)  # items of this tile may be told on either side of 180
    assert find_ids(api) == ["S2B_1KAB_20181214_0_L2A"]


def test_a_place_and_tiles_must_both_hold(api: StacApiServer) -> None:
    assert find_ids(api, SceneQuery(tiles=("22KFV",), bbox=EAST, datetime="2018-12")) == []
    assert find_ids(api, SceneQuery(tiles=("01KAB",), bbox=EAST)) == ["S2B_1KAB_20181214_0_L2A"]


def test_an_error_names_the_second_apis_settings(api: StacApiServer) -> None:
    with pytest.raises(SourceRefused, match="check CLOUDMASK_SECOND_COLLECTION"):
        next(SecondApi(api.url, "absent").find_items(QUERY))
    api.items = []
    with pytest.raises(SourceRefused, match="has no item in 'sentinel-2-l2a'"):
        find_ids(api)
