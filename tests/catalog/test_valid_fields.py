"""Whatever a source item holds, it is refused by a field's name or published valid."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pc_cloudmask.catalog.fields import PUBLISHED_URIS, decode_document, encode_document
from pc_cloudmask.catalog.valid_fields import COMMON, EXTENSIONS, keep_valid
from pc_cloudmask.errors import ItemError
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.source.item import read_scene
from tests.catalog.items import derive, make_source_item, set_at
from tests.conftest import SHARED_DATA
from tests.offline_validator import OfflineValidator

BASE = "https://stac-extensions.github.io"
VALUES: list[Any] = [
    7, -1, 0, 0.5, 101, 10**30, True, None, "x", "", "a/b", "2020-01-01T00:00:00Z",
    "2020-01-01T00:00:00+02:00", "nan", "uint8", "deadbeef", "MGRS-22KFV", [], {}, [7], ["x"], ["producer"],
    [1, 2], [1.5, 2], [0, 0, 1, 1], [1, 0, 0, 0, 1, 0], [{}], [{"name": 7}], [{"name": "B02"}],
    [{"name": "B02", "gsd": -1}], {"a": 1}, {"a": "b"}, [{"value": 1, "name": "cloud"}],
    [{"value": 1, "name": "cloud"}] * 2, [{"value": 1.0, "name": "a b"}], [{"common_name": "beige"}],
    [{"nodata": "x"}], [{"statistics": {}}], [{"classification:x": 1}],
    [{"name": "a", "eo:cloud_cover": 101}], [{"bands": 5}], {"minimum": "x"}, {"mean": 1},
    {"lat": 91, "lon": 0}, {"lat": 1, "lon": 0},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0]]]}, {"format": "x"}, {"format": "x", "expression": 1},
    [{"values": [1], "summary": "x"}], [{"offset": 0, "length": 1, "classes": [{"value": 1, "name": "a"}]}],
    {"count": 3, "min": 0, "max": 9, "buckets": [1, 2, 3]}, "ascending", "red", "area", "big-endian",
]  # fmt: skip
VERSIONS = [
    ["eo/v1.0.0", "sat/v1.0.0", "view/v1.0.0", "raster/v1.1.0", "grid/v1.0.0", "timestamps/v1.0.0"],
    ["eo/v1.1.0", "sat/v1.1.0", "view/v1.1.0", "grid/v1.1.0", "mgrs/v1.0.0", "timestamps/v1.1.0"],
    ["eo/v2.0.0", "sat/v1.2.0", "raster/v2.0.0", "projection/v1.1.0", "file/v1.0.0", "processing/v1.0.0"],
]
FIELDS = sorted({*COMMON, "bands", "eo:unknown", "proj:unknown", "file:unknown", "cloudmask:method"}.union(
    *(extension.fields for extension in EXTENSIONS.values())
))  # fmt: skip
NEEDED = {"datetime", "platform"}


@cache
def build_validator() -> OfflineValidator:
    """Knows ``eo`` 1.1.0 as it was released, 1.0.0 and ``eo:snow_cover``; at hand is a draft of 2.0.0."""
    validator = OfflineValidator(SHARED_DATA / "stac-schemas")
    uri = f"{BASE}/eo/{{}}/schema.json"
    if (older := validator.schema_cache.get(uri.format("v1.0.0"))) is not None:
        released = json.loads(json.dumps(older).replace("/v1.0.0/", "/v1.1.0/"))
        released["definitions"]["fields"]["properties"]["eo:snow_cover"] = {"type": "number", "maximum": 100}
        validator.schema_cache[uri.format("v1.1.0")] = released
    return validator


@pytest.fixture
def validator() -> OfflineValidator:
    return build_validator()


def make_listing(ends: list[str]) -> Item:
    """The source item, which lists the extensions with these ends of their URI."""
    return set_at(make_source_item(), ("stac_extensions",), [f"{BASE}/{end}/schema.json" for end in ends])


def find_refusal(source: Item) -> str:
    """The field for which ``source`` makes no scene; empty where it makes one."""
    try:
        read_scene(source)
    except ItemError as error:
        return error.field
    return ""


def check(source: Item, validator: OfflineValidator) -> list[str]:
    """See that ``source`` is refused by name or published valid; the names of what was left out."""
    refused = find_refusal(source)
    if refused:
        return [refused]
    published = decode_document(encode_document(derive(unsign_item(source))), "item")
    pystac.validation.validate_dict(published, validator=validator)
    assert set(published["stac_extensions"]) <= {
        *PUBLISHED_URIS,
        *(f"{BASE}/{end}/schema.json" for end in EXTENSIONS),
    }
    return list(keep_valid(source).left_out)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: json.dumps(value)[:30])
def test_a_value_in_every_field_at_once(value: Any, validator: OfflineValidator) -> None:
    for ends in VERSIONS:
        source = make_listing(ends)
        wrong = {name: value for name in FIELDS if name not in NEEDED}
        source["properties"] |= wrong
        source["assets"]["B02"] |= wrong
        source["assets"]["B03"]["bands"] = [{"name": "B03", **wrong}]
        check(source, validator)


@pytest.mark.slow
@given(
    st.sampled_from(VERSIONS),
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(VALUES), min_size=1, max_size=6),
    st.sampled_from(["properties", "asset", "band"]),
)
@settings(max_examples=150)
def test_any_values_in_any_fields(ends: list[str], fields: Item, place: str) -> None:
    source = make_listing(ends)
    asset = source["assets"]["B02"]
    if place == "band":
        asset["bands"] = [fields]
    else:
        (asset if place == "asset" else source["properties"]).update(deepcopy(fields))
    check(source, build_validator())


@pytest.mark.slow
@pytest.mark.parametrize("ends", VERSIONS)
@pytest.mark.parametrize(
    "name", ["view:off_nadir", "timestamps:published", "file:size", "eo:common_name", "raster:scale"]
)
def test_a_field_that_only_a_band_has(ends: list[str], name: str, validator: OfflineValidator) -> None:
    source = make_listing(ends)
    value = {"timestamps:published": "2020-01-01T00:00:00Z", "eo:common_name": "blue"}.get(name, 7)
    source["assets"]["B02"]["bands"] = [{"name": "B02", name: value}]
    check(source, validator)


ODD: list[tuple[tuple[str, ...], Any, str]] = [
    (("properties", "title"), 7, "properties.title"),
    (("properties", "gsd"), -1, "properties.gsd"),
    (("properties", "eo:cloud_cover"), "x", "properties.eo:cloud_cover"),
    (("properties", "eo:unheard"), 1, "properties.eo:unheard"),
    (("properties", "instruments"), "msi", "properties.instruments"),
    (("properties", "start_datetime"), "2018-12-14T13:32:19Z", "properties.start_datetime"),
    (("properties", "created"), "yesterday", "properties.created"),
    (("properties", "license"), "CC BY", "properties.license"),
    (("properties", "bands"), [{"name": "B02"}], "properties.bands"),
    (("properties", "processing:software"), ["sen2cor"], "properties.processing:software"),
    (("properties", "proj:projjson"), {"type": "ProjectedCRS"}, "properties.proj:projjson"),
    (("properties", "providers"), [{"url": "x"}], "properties.providers"),
    (("properties", "deprecated"), "no", "properties.deprecated"),
    (("assets", "B02", "roles"), "data", "assets.B02.roles"),
    (("assets", "B02", "title"), 7, "assets.B02.title"),
    (("assets", "B02", "type"), 7, "assets.B02.type"),
    (("assets", "B02", "gsd"), 0, "assets.B02.gsd"),
    (("assets", "B02", "proj:shape"), [1.5, 2], "assets.B02.proj:shape"),
    (("assets", "B02", "proj:code"), 32722, "assets.B02.proj:code"),
    (("assets", "B02", "file:size"), "1 MB", "assets.B02.file:size"),
    (("assets", "B02", "eo:bands"), [{"common_name": "beige"}], "assets.B02.eo:bands"),
    (("assets", "B02", "raster:bands"), [{"classification:x": 1}], "assets.B02.raster:bands"),
    (("assets", "B02", "cloudmask:method"), "s2cloudless", "assets.B02.cloudmask:method"),
    (("assets", "B02", "version"), 1, "assets.B02.version"),
    (("geometry", "bbox"), "x", "geometry.bbox"),
    (("properties", "platform"), 2, "properties.platform"),
    (("properties", "datetime"), "2018", "properties.datetime"),
    (("assets", "B02", "href"), 7, "assets.B02.href"),
    (("geometry", "coordinates"), "x", "geometry"),
    (("bbox",), [1, 2, 3], "bbox"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "value", "named"), ODD, ids=[".".join(path) for path, *_ in ODD])
def test_what_no_schema_allows_is_named_and_nothing_else_is_lost(
    path: tuple[str, ...], value: Any, named: str, validator: OfflineValidator
) -> None:
    assert check(set_at(make_source_item(), path, value), validator) == [named]


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/eo/v1.0.0/schema.json",
        "https://stac-extensions.github.io.evil.example/eo/v1.0.0/schema.json",
        f"{BASE}/unheard/v1.0.0/schema.json",
        f"{BASE}/sentinel-2/v1.0.0/schema.json",
        "eo",
    ],
)
def test_an_extension_that_we_do_not_know_is_not_listed(uri: str, validator: OfflineValidator) -> None:
    source = make_source_item()
    source["stac_extensions"].append(uri)
    assert check(source, validator) == [f"stac_extensions {uri}"]
    assert derive(source)["stac_extensions"] == derive()["stac_extensions"]


def test_an_extension_without_its_fields_is_not_listed(validator: OfflineValidator) -> None:
    source = make_listing(["eo/v1.0.0", "grid/v1.1.0", "view/v1.1.0", "projection/v1.0.0"])
    source["properties"]["grid:code"] = 22
    assert check(source, validator) == [
        "properties.grid:code",
        f"stac_extensions {BASE}/grid/v1.1.0/schema.json",
        f"stac_extensions {BASE}/view/v1.1.0/schema.json",
    ]


def test_an_extension_that_we_list_has_our_version(validator: OfflineValidator) -> None:
    source = make_listing(["file/v2.2.0", "projection/v1.2.0"])
    assert check(source, validator) == []
    assert tuple(derive(source)["stac_extensions"]) == PUBLISHED_URIS


def test_a_title_that_is_none_gives_way_to_ours() -> None:
    source = set_at(make_source_item(), ("properties", "title"), 7)
    assert derive(source)["properties"]["title"] == derive()["properties"]["title"]


def test_many_names_are_counted() -> None:
    source = make_source_item()
    source["properties"] |= {f"eo:unknown\x1b{number}": 1 for number in range(25)}
    summary = keep_valid(source).summary
    assert summary.endswith(" and 15 more")
    assert summary.isprintable()


def _judge(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except (ValidationError, ValueError, OverflowError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("end", [end for end in EXTENSIONS if end != "eo/v1.1.0"])
def test_each_field_is_judged_as_its_schema_does(shared_data: Path, end: str) -> None:
    """Never looser; stricter only where a schema leans on others, or on a form of time that it names only."""
    path = shared_data / "stac-schemas" / f"{end.replace('/', '_')}.json"
    if not path.exists():
        pytest.skip(f"the reference data has no schema of {end}")
    schema = json.loads(path.read_text())
    definitions = schema["definitions"]
    fields = definitions.get("fields", definitions.get("assetfields"))["properties"]
    for name, kind in EXTENSIONS[end].fields.items():
        judge = jsonschema.Draft7Validator({**fields[name], "definitions": definitions})
        if name == "proj:geometry":
            continue  # GeoJSON's schema is elsewhere
        for value in VALUES:
            ours, theirs = _judge(kind, value), judge.is_valid(value)
            timed = fields[name].get("format") == "date-time"
            assert ours == theirs or (theirs and timed) or _is_known_to_differ(name, value), (name, value)


def _is_known_to_differ(name: str, value: Any) -> bool:
    """What ``eo`` 2.0.0 misspells (``minimumExclusive``) is judged as it is meant."""
    return name in ("eo:center_wavelength", "eo:full_width_half_max") and value in (0, -1)


def test_every_extension_that_we_list_is_known() -> None:
    ours = {uri.removeprefix(f"{BASE}/").removesuffix("/schema.json") for uri in PUBLISHED_URIS}
    assert {end for end in ours if "://" not in end} <= EXTENSIONS.keys()
