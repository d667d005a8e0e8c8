"""The extension's own documents: examples, schema and README say the same."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest

import stac_ext
from pc_cloudmask.masking.methods import METHODS
from stac_ext import cloudmask
from tests.offline_validator import OfflineValidator

FOLDER = Path(stac_ext.__file__).parent
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
README = (FOLDER / "README.md").read_text("utf-8")

Document = dict[str, Any]


def read_example(name: str) -> Document:
    document: Document = json.loads((FOLDER / "examples" / name).read_text("utf-8"))
    return document


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid(path: Path, stac_validator: OfflineValidator) -> None:
    pystac.validation.validate_dict(json.loads(path.read_text("utf-8")), validator=stac_validator)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_still_valid_once_pystac_has_read_it(
    path: Path, stac_validator: OfflineValidator
) -> None:
    pystac.read_file(str(path)).validate(validator=stac_validator)


def test_the_readme_links_every_example_and_no_other() -> None:
    assert set(re.findall(r"\(examples/([a-z-]+\.json)\)", README)) == {path.name for path in EXAMPLES}


def test_the_readme_s_lines_run_beside_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lines,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    monkeypatch.chdir(FOLDER / "examples")
    exec(lines, {})  # the page's own lines
    assert capsys.readouterr().out == "72.87\n"


def test_the_readme_lists_the_fields_of_the_schema() -> None:
    schema = cloudmask.read_schema()["definitions"]
    assert re.findall(r"^\| (cloudmask:\w+)", README, re.M) == list(schema["fields"]["properties"])
    parameters = README.partition("### Parameters Object")[2].partition("\n### ")[0]
    assert re.findall(r"^\| ([a-z_]+) ", parameters, re.M) == list(schema["parameters"]["properties"])


def test_the_schema_allows_what_is_published() -> None:
    known = set(cloudmask.read_schema()["definitions"]["parameters"]["properties"])
    assert known <= {name for method in METHODS.values() for name in method.parameters}
    for method in METHODS.values():
        parameters = dict.fromkeys(method.parameters, 0.5)
        jsonschema.validate(_with(method=method.name, parameters=parameters), cloudmask.read_schema())


def test_every_place_names_the_same_version() -> None:
    schema = cloudmask.read_schema()
    assert schema["$id"] == f"{cloudmask.SCHEMA_URI}#"
    assert f"<{cloudmask.SCHEMA_URI}>" in README
    version = cloudmask.SCHEMA_URI.split("/")[-2]
    assert f"## [{version}]" in (FOLDER / "CHANGELOG.md").read_text("utf-8")


def _without(*names: str) -> Document:
    item = read_example("item.json")
    for name in names:
        del item["properties"][f"cloudmask:{name}"]
    return item


def _with(**values: Any) -> Document:
    item = read_example("item.json")
    item["properties"] |= {f"cloudmask:{name}": value for name, value in values.items()}
    return item


def _on_the_asset() -> Document:
    item = read_example("item.json")
    item["assets"]["cloudmask"]["cloudmask:method"] = "s2cloudless"
    return item


def _in_the_collection(**values: Any) -> Document:
    return read_example("collection.json") | values


REFUSED = {
    "no method": _without("method"),
    "a method in capitals": _with(method="Fmask"),
    "a method of two words": _with(method="f mask"),
    "provisional in words": _with(provisional="yes"),
    "a field of no meaning": _with(cloudiness=3),
    "no threshold": _with(parameters={}),
    "a threshold without a name": _with(parameters={"Buffer-M": 1}),
    "a threshold that is a list": _with(parameters={"buffer_m": [50]}),
    "a probability beyond 100": _with(parameters={"cloud_probability_pct": 101}),
    "a granule of another form": _with(granule="S2A_MSIL1C_20190101"),
    "one granule of several": _with(granules=["20190101T082331_20190101T084846_T34HCH"]),
    "several granules and no first": _without("granule"),
    "a share beyond the whole": _with(cloud_percentage=100.5),
    "a share alone": _without("shadow_percentage", "clear_percentage"),
    "shares of the valid pixels alone": _without("nodata_percentage"),
    "a fingerprint in capitals": _with(fingerprint="A" * 64),
    "a field of the item on an asset": _on_the_asset(),
    "a summary of nothing": _in_the_collection(summaries={}),
    "a summary without an end": _in_the_collection(summaries={"cloudmask:cloud_percentage": {"minimum": 1}}),
    "a field of the item on a collection": _in_the_collection(**{"cloudmask:method": "csmask"}),
}


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
def test_the_schema_refuses(document: Document) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, cloudmask.read_schema())


ALLOWED = {
    "a method of one's own": _with(method="fmask-4", parameters={"dilation_px": 3}),
    "a method of one's own in the form of old": _with(method="x-fmask-4"),
    "a provisional mask": _with(provisional=True),
    "a mask that is not": _with(provisional=False),
    "a method alone": _without(
        "parameters",
        "granule",
        "granules",
        "cloud_percentage",
        "shadow_percentage",
        "clear_percentage",
        "nodata_percentage",
        "fingerprint",
    ),
    "no valid pixel": _without("cloud_percentage", "shadow_percentage", "clear_percentage"),
    "one granule": _without("granules"),
}


@pytest.mark.parametrize("document", ALLOWED.values(), ids=ALLOWED)
def test_the_schema_allows(document: Document) -> None:
    jsonschema.validate(document, cloudmask.read_schema())


def test_examples_keep_the_rule_that_no_schema_can_state() -> None:
    for path in EXAMPLES:
        document = json.loads(path.read_text("utf-8"))
        if document["type"] == "Feature":
            shares = [
                document["properties"][f"cloudmask:{name}_percentage"]
                for name in ("cloud", "shadow", "clear")
            ]
            assert round(sum(shares), 2) == 100
            granules = document["properties"].get("cloudmask:granules")
            assert granules is None or granules[0] == document["properties"]["cloudmask:granule"]


def test_reading_the_schema_twice_gives_two_copies() -> None:
    schema = cloudmask.read_schema()
    before = deepcopy(schema)
    schema.clear()
    assert cloudmask.read_schema() == before
