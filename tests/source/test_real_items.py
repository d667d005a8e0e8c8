"""The Planetary Computer's own items, derived, validated and read by what people read them with."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pystac
import pytest
from odc import stac

from pc_cloudmask.catalog.fields import encode_document
from pc_cloudmask.scene.image import EarthEngineImage, read_image_key
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.source.item import read_scene
from tests.catalog.items import derive
from tests.conftest import SHARED_DATA
from tests.offline_validator import OfflineValidator

pytestmark = pytest.mark.shared

PATHS = sorted((SHARED_DATA / "pc-items").glob("S2*.json"))
EO = "https://stac-extensions.github.io/eo/{}/schema.json"
#: Its schema is not among the reference data.
NOT_AT_HAND = {"https://stac-extensions.github.io/classification/v2.0.0/schema.json"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem[11:44])
def source(request: pytest.FixtureRequest) -> Item:
    item: Item = json.loads(request.param.read_bytes())
    return unsign_item(item)


@pytest.fixture
def item(source: Item) -> Item:
    return derive(source, ee_image=EarthEngineImage((read_image_key(read_scene(source)).index,)))


@pytest.fixture(scope="module")
def released_validator(shared_data: Path) -> OfflineValidator:
    """Knows ``eo`` 1.1.0, to which pystac migrates, as it was released.

    The copy in the reference data is a draft of 2.0.0 under that name, without ``eo:bands``. What was
    released is 1.0.0 and ``eo:snow_cover``, which no item here has.
    """
    validator = OfflineValidator(shared_data / "stac-schemas")
    older = json.dumps(validator.schema_cache[EO.format("v1.0.0")])
    validator.schema_cache[EO.format("v1.1.0")] = json.loads(older.replace("/v1.0.0/", "/v1.1.0/"))
    return validator


def test_all_are_there(shared_data: Path) -> None:
    assert len(PATHS) == 12


@pytest.mark.slow
def test_the_document_is_valid(item: Item, stac_validator: OfflineValidator) -> None:
    pystac.validation.validate_dict(item, validator=stac_validator)
    assert {uri for uri in item["stac_extensions"] if uri in stac_validator.unknown} <= NOT_AT_HAND


def test_what_pystac_makes_of_it_is_valid_and_keeps_the_bands(
    item: Item, released_validator: OfflineValidator
) -> None:
    read = pystac.Item.from_dict(deepcopy(item), href="https://example.com/item.json", root=None)
    # pystac would open these two to say where they lead.
    read.remove_links("root")
    read.remove_links("parent")
    assert read.validate(validator=released_validator)
    bands = read.assets["B04"].ext.eo.bands
    assert bands is not None
    assert [band.to_dict() for band in bands] == item["assets"]["B04"]["eo:bands"]
    assert read.ext.has("cloudmask")  # type: ignore[arg-type]
    assert read.assets["cloudmask"].ext.proj.code == item["properties"]["proj:code"]


def test_every_property_and_asset_of_the_source_is_there(source: Item, item: Item) -> None:
    properties = dict(source["properties"])
    assert item["properties"]["proj:code"] == f"EPSG:{properties.pop('proj:epsg')}"
    assert {name: item["properties"][name] for name in properties} == properties
    assert {name: item["assets"][name] for name in source["assets"]} == source["assets"]
    assert "sig=" not in encode_document(item).decode()


def test_the_item_takes_no_more_than_its_share(item: Item) -> None:
    """Of the 60 kB that a publication may write besides the COG, the item takes a third."""
    assert len(encode_document(item)) < 20_000


def test_odc_stac_finds_the_grid_the_type_and_the_bands_by_their_names(item: Item) -> None:
    """It must be told of the mask: an asset with the role ``overview`` it leaves out of itself."""
    read = pystac.Item.from_dict(deepcopy(item), href="https://example.com/item.json")
    mask_config = {"assets": {"cloudmask": {"data_type": "uint8", "nodata": 0}}}
    (parsed,) = stac.parse_items([read], {"sentinel-2-l2a-cloudmask": mask_config})
    mask = parsed.bands["cloudmask", 1]
    assert mask.geobox.shape == (5490, 5490)
    assert mask.geobox.crs == item["properties"]["proj:code"]
    assert list(mask.geobox.transform)[:6] == item["assets"]["SCL"]["proj:transform"]
    names = parsed.collection.resolve_bands(["cloudmask", "red", "nir"])
    assert (names["cloudmask"].data_type, names["cloudmask"].nodata) == ("uint8", 0)
    assert [parsed.collection.band_key(name)[0] for name in ("red", "nir")] == ["B04", "B08"]
