"""What docs/catalog.md shows is what is published and what runs."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pystac
import pytest

from pc_cloudmask.catalog.item import add_alternates
from pc_cloudmask.catalog.layout import changes_key, item_keys
from pc_cloudmask.source.hrefs import SCHEMES
from pc_cloudmask.storage.store import BucketPlace
from tests.catalog.items import DATA, derive

TEXT = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text("utf-8")


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def assert_part_of(part: Any, whole: Any, path: str = "item") -> None:
    """Every key that ``part`` shows is in ``whole``, with that value."""
    if isinstance(part, dict):
        for name, value in part.items():
            assert name in whole, f"{path}.{name}"
            assert_part_of(value, whole[name], f"{path}.{name}")
    else:
        assert part == whole, path


def test_the_example_is_part_of_the_golden_item() -> None:
    shown = json.loads(find_blocks("json")[0])
    assert_part_of(shown, json.loads((DATA / "derived-item.json").read_text("utf-8")))
    assert next(iter(shown["assets"])) == "cloudmask"


def test_the_alternate_is_that_of_an_item_in_such_a_bucket() -> None:
    item = derive()
    key = item_keys(item["id"], "22KFV", 2018).mask("1a" * 32)
    place = BucketPlace("s3://masks/prod", "https://s3.eu-central-1.amazonaws.com", "eu-central-1")
    shown = json.loads(f"{{{find_blocks('json')[1]}}}".replace("{id}", item["id"]))
    assert (
        add_alternates(item, place, {"cloudmask": key})["assets"]["cloudmask"]["alternate"]
        == shown["alternate"]
    )


def test_the_layout_is_that_of_the_keys() -> None:
    item_id = derive()["id"]
    keys = item_keys(item_id, "22KFV", 2018)
    listed = [line.split("  ")[0].replace("{id}", item_id) for line in find_blocks("")[0].splitlines()]
    assert listed == [
        *reversed(keys.year_keys.chain),
        keys.item,
        keys.mask("1a" * 32),
        keys.preview("2b" * 32),
        changes_key(date(2026, 11, 28)),
    ]


def test_the_schemes_are_those_that_are_let_through() -> None:
    (line,) = [line for line in TEXT.splitlines() if "begins with anything but a path" in line]
    shown = line.partition("a path, ")[2].partition("(")[0]
    assert set(re.findall(r"`(\w+)`", shown)) == SCHEMES


@pytest.mark.filterwarnings("ignore")  # those of odc-stac's dependencies are not ours to mend
def test_the_lines_for_odc_stac_load_both_bands() -> None:
    (lines,) = [block for block in find_blocks("python") if "odc.stac" in block]
    names: dict[str, Any] = {"items": [pystac.Item.from_dict(derive(), href="https://example.com/item.json")]}
    exec(lines, names)  # the page's own lines, against an item of our own
    assert set(names["data"].data_vars) == {"red", "cloudmask"}
    assert names["data"].cloudmask.dtype == "uint8"
