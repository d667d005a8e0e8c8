"""The extension's class, as pystac's conventions have it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest

import stac_ext
from stac_ext.cloudmask import (
    CLOUDMASK_EXTENSION_HOOKS,
    SCHEMA_URI,
    CloudmaskExtension,
    Percentages,
    read_schema,
)

EXAMPLES = Path(stac_ext.__file__).parent / "examples"
GRANULES = ("20190101T082331_20190101T084846_T34HCH", "20190101T082331_20190101T085002_T34HCH")


@pytest.fixture
def item() -> pystac.Item:
    return pystac.Item.from_file(str(EXAMPLES / "item.json"))


@pytest.fixture
def collection() -> pystac.Collection:
    return pystac.Collection.from_file(str(EXAMPLES / "collection.json"))


@pytest.fixture
def plain_item() -> pystac.Item:
    """An item that knows nothing of the extension."""
    return pystac.Item("plain", None, None, pystac.utils.str_to_datetime("2019-01-01T00:00:00Z"), {})


def test_every_property_is_read(item: pystac.Item) -> None:
    extension = CloudmaskExtension.ext(item)
    assert extension.method == "s2cloudless"
    assert extension.percentages == Percentages(cloud=23.41, shadow=3.72, clear=72.87, nodata=0.03)
    assert extension.parameters is not None
    assert extension.parameters["buffer_m"] == 50
    assert extension.granules == GRANULES
    assert extension.fingerprint is not None
    assert len(extension.fingerprint) == 64
    assert item.id in repr(extension)


def test_what_is_applied_is_what_was_read(item: pystac.Item, plain_item: pystac.Item) -> None:
    source = CloudmaskExtension.ext(item)
    assert source.method is not None
    target = CloudmaskExtension.ext(plain_item, add_if_missing=True)
    target.apply(source.method, source.percentages, source.parameters, source.granules, source.fingerprint)
    expected = {name: value for name, value in item.properties.items() if name.startswith("cloudmask:")}
    assert {n: v for n, v in plain_item.properties.items() if n.startswith("cloudmask:")} == expected
    jsonschema.validate(plain_item.to_dict(include_self_link=False), read_schema())


def test_a_provisional_mask_says_so_and_a_final_one_nothing(plain_item: pystac.Item) -> None:
    extension = CloudmaskExtension.ext(plain_item, add_if_missing=True)
    extension.apply("s2cloudless", provisional=True)
    assert extension.provisional is True
    jsonschema.validate(plain_item.to_dict(include_self_link=False), read_schema())
    extension.apply("cloud-score-plus")
    assert extension.provisional is False
    assert "cloudmask:provisional" not in plain_item.properties


@pytest.mark.parametrize("count", [0, 1, 2])
def test_granules_take_as_many_properties_as_they_need(plain_item: pystac.Item, count: int) -> None:
    extension = CloudmaskExtension.ext(plain_item, add_if_missing=True)
    extension.apply("s2cloudless", granules=GRANULES)
    extension.granules = GRANULES[:count]
    assert extension.granules == GRANULES[:count]
    assert ("cloudmask:granule" in plain_item.properties) == (count > 0)
    assert ("cloudmask:granules" in plain_item.properties) == (count > 1)


def test_applying_less_removes_the_rest(item: pystac.Item) -> None:
    extension = CloudmaskExtension.ext(item)
    extension.apply("x-fmask")
    assert [name for name in item.properties if name.startswith("cloudmask:")] == ["cloudmask:method"]
    assert extension.percentages is extension.parameters is extension.fingerprint is None


def test_a_mask_without_a_valid_pixel_has_no_shares(plain_item: pystac.Item) -> None:
    extension = CloudmaskExtension.ext(plain_item, add_if_missing=True)
    extension.apply("csmask", Percentages(cloud=None, shadow=None, clear=None, nodata=100.0))
    assert extension.percentages == Percentages(None, None, None, 100.0)
    jsonschema.validate(plain_item.to_dict(include_self_link=False), read_schema())


@pytest.mark.parametrize("method", ["f mask", "x-", "X-FMASK", "x-fmask ", ""])
def test_a_method_that_the_schema_refuses_is_not_set(item: pystac.Item, method: str) -> None:
    with pytest.raises(ValueError, match="cloudmask:method"):
        CloudmaskExtension.ext(item).method = method
    assert CloudmaskExtension.ext(item).method == "s2cloudless"


def test_pystac_knows_the_extension_by_its_name(item: pystac.Item, plain_item: pystac.Item) -> None:
    name: Any = "cloudmask"
    assert item.ext.has(name)
    assert not plain_item.ext.has(name)
    plain_item.ext.add(name)
    assert plain_item.ext.has(name)
    assert plain_item.stac_extensions == [SCHEMA_URI]
    plain_item.ext.remove(name)
    assert plain_item.stac_extensions == []


def test_items_that_do_not_list_the_extension_are_refused(plain_item: pystac.Item) -> None:
    with pytest.raises(pystac.ExtensionNotImplemented, match="cloudmask"):
        CloudmaskExtension.ext(plain_item)


def test_other_objects_are_refused_with_a_hint(collection: pystac.Collection) -> None:
    wrong: Any = collection
    with pytest.raises(pystac.ExtensionTypeError, match="summaries"):
        CloudmaskExtension.ext(wrong)


def test_summaries_are_read(collection: pystac.Collection) -> None:
    summaries = CloudmaskExtension.summaries(collection)
    assert summaries.method == ["csmask", "s2cloudless"]
    for name, least, most in (
        ("cloud", 23.41, 41.5),
        ("shadow", 3.72, 8.25),
        ("clear", 50.25, 72.87),
        ("nodata", 0.03, 12.0),
    ):
        span = getattr(summaries, f"{name}_percentage")
        assert (span.minimum, span.maximum) == (least, most)


def test_summaries_are_set_and_removed(collection: pystac.Collection) -> None:
    summaries = CloudmaskExtension.summaries(collection)
    summaries.method = ["csmask"]
    for name in ("cloud", "shadow", "clear", "nodata"):
        setattr(summaries, f"{name}_percentage", pystac.RangeSummary(1.0, 2.0))
    assert collection.summaries.to_dict() == {
        "cloudmask:method": ["csmask"],
        **{
            f"cloudmask:{name}_percentage": {"minimum": 1.0, "maximum": 2.0}
            for name in ("cloud", "shadow", "clear", "nodata")
        },
    }
    summaries.cloud_percentage = None
    assert "cloudmask:cloud_percentage" not in collection.summaries.to_dict()
    jsonschema.validate(collection.to_dict(include_self_link=False), read_schema())


def test_a_collection_without_the_extension_gets_it_on_demand(collection: pystac.Collection) -> None:
    collection.stac_extensions = []
    with pytest.raises(pystac.ExtensionNotImplemented):
        CloudmaskExtension.summaries(collection)
    CloudmaskExtension.summaries(collection, add_if_missing=True)
    assert collection.stac_extensions == [SCHEMA_URI]


def test_the_entry_point_is_the_hooks_object() -> None:
    (entry_point,) = entry_points(group="pystac.extensions", name="cloudmask")
    assert entry_point.load() is CLOUDMASK_EXTENSION_HOOKS


def test_reading_changes_no_document(item: pystac.Item) -> None:
    """There is no older version, so the hooks have nothing to bring up to date."""
    document = item.to_dict(include_self_link=False)
    again = pystac.Item.from_dict(document, migrate=True)
    assert again.to_dict(include_self_link=False)["properties"] == document["properties"]
    assert SCHEMA_URI in again.stac_extensions
    assert CLOUDMASK_EXTENSION_HOOKS.has_extension(document)


def test_pystac_finds_the_extension_by_itself() -> None:
    """In a fresh interpreter that imports nothing of ours."""
    program = (
        "import sys, pystac\n"
        f"item = pystac.Item.from_file({str(EXAMPLES / 'item.json')!r})\n"
        "assert item.ext.has('cloudmask')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('pc_cloudmask', 'rasterio', 'numpy')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)
