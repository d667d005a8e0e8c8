"""Hrefs of a server's items that are relative to the item, spelled without a dot."""

from __future__ import annotations

import pytest

from pc_cloudmask.catalog.check_item import find_faults
from pc_cloudmask.catalog.fields import decode_document, encode_document
from pc_cloudmask.catalog.layout import item_keys
from pc_cloudmask.errors import ItemError
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from tests.catalog.items import derive, make_source_item
from tests.doubles.stac_api.server import StacApiServer


@pytest.mark.parametrize(
    "href",
    [
        "./MTD_TL.xml",
        "https://planetarycomputer.microsoft.com/MTD_TL.xml",
        "MTD_TL.xml",
        "folder/MTD_TL.xml",
    ],
)
def test_what_is_published_passes_its_own_check(href: str) -> None:
    given = make_source_item()
    given["assets"]["granule-metadata"]["href"] = href
    with StacApiServer([given]) as api:
        (item,) = PlanetaryComputerSource(api.url, api.collection).find_items(SceneQuery(ids=(given["id"],)))
    try:
        published = decode_document(encode_document(derive(item)), "item")
    except ItemError:
        return  # refused by the field's name
    keys = item_keys(published["id"], "22KFV", 2018)
    assert list(find_faults(published, keys)) == []
