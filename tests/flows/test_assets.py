"""Keys of assets, names of runs and rows of the run's table, without a server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.assets import Asset
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from pc_cloudmask.flows.backfill import backfill_flow
from pc_cloudmask.flows.gaps import gaps_flow
from pc_cloudmask.flows.ingest import ingest_flow
from pc_cloudmask.flows.progress import RunAssets, build_key, build_rows, describe, link_scene
from pc_cloudmask.flows.watch import watch_flow
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import Report, SceneOutcome, SceneState
from pc_cloudmask.runs.request import (
    BackfillRequest,
    GapsRequest,
    IngestRequest,
    RunRequest,
    WatchRequest,
)
from pc_cloudmask.settings import Settings

SCENE = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T150023"
KEY = f"sentinel-2-l2a-cloudmask/22K/22KFV/2018/{SCENE}/{SCENE}.json"


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://masks/s2/{KEY}",
        "https://example.com/items/a%20b",
        "file:///data/of%20mine/x.json",
        "https://example.com/items/1?sig=planted&se=2099#place",
        "https://me:planted@example.com/items/1",  # pragma: allowlist secret
        f"s3://masks/{'long/' * 200}x.json",
        "file:///d\u00e4ten/{a}[b]'c\"`d|e^f\\g<h>\t\n",
    ],
)
def test_every_uri_has_a_key_that_prefect_takes(uri: str) -> None:
    key = build_key(uri)
    assert Asset(key=key).key == key
    assert "planted" not in key


def test_different_uris_have_different_keys() -> None:
    uris = [
        "file:///a%20b/x",
        "file:///a%21b/x",
        "file:///a_20b/x",
        *(f"s3://m/{'y' * 600}{n}" for n in "12"),
    ]
    assert len({build_key(uri) for uri in uris}) == len(uris)


def test_a_plain_uri_is_its_own_key() -> None:
    assert build_key(f"s3://masks/s2/{KEY}") == f"s3://masks/s2/{KEY}"


def test_a_source_item_is_where_it_says_or_else_where_the_source_has_its_items(tmp_path: Path) -> None:
    assets = RunAssets.of(RunContext(Settings(store=str(tmp_path), public_url="https://masks.example.com")))
    assert assets.build_item(SCENE, KEY).key == f"{tmp_path.as_uri()}/{KEY}"
    properties = assets.build_item(SCENE, KEY).properties
    assert properties is not None
    assert properties.url == f"https://masks.example.com/{KEY}"
    for links in (None, "x", [{"rel": "self", "href": "./x.json"}], [{"rel": "self"}, 3]):
        assert assets.build_source({"id": SCENE, "links": links}).key == (
            f"https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a/items/{SCENE}"
        )
    signed = {"id": SCENE, "links": [{"rel": "self", "href": "https://e.com/i/1?sig=planted"}]}
    assert assets.build_source(signed).key == "https://e.com/i/1"


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (IngestRequest(tiles=("22KFV",), datetime="2018-12"), "22KFV 2018-12"),
        (IngestRequest(tiles=tuple("ABCDE")), "A B C …"),
        (IngestRequest(ids=(SCENE,)), SCENE),
        (IngestRequest(items="https://example.com/a/items.json"), "items.json"),
        (IngestRequest(intersects=Path("areas/alps.geojson"), datetime="2018/2020"), "alps 2018/2020"),
        (IngestRequest(bbox="1,2,3,4" * 99), ("1,2,3,4" * 99)[:120]),
        (WatchRequest(), "home, alps 2023-11-04/2023-11-14"),
        (WatchRequest(look_back=("hot",), areas=("alps",)), "alps 2023-11-04/2023-11-14"),
        (WatchRequest(look_back=("recent", "hot")), "home, alps 2023-09-15/2023-11-14"),
        (WatchRequest(look_back=("full",)), "home, alps 2015-06-27/2023-11-14"),
        (WatchRequest(look_back=("full",), areas=("home",)), "home 2018-01-01/2023-11-14"),
        (WatchRequest(tiles=("33UUP",), since="2023-11-10"), "33UUP 2023-11-10/2023-11-14"),
        (WatchRequest(areas=("nowhere",)), "no area to look at"),
        (GapsRequest(), "home, alps 2023-09-15/2023-11-14"),
        (GapsRequest(areas=("home",), datetime="2019"), "home 2019-01-01/2019-12-31"),
        (BackfillRequest(areas=("home",), years=(2018, 2019)), "home 2018-01-01/2019-12-31"),
        (BackfillRequest(areas=("home",), datetime="2019-05/.."), "home 2019-05-01/2023-11-14"),
        (BackfillRequest(areas=("home",)), "no area to look at"),
    ],
)
@pytest.mark.usefixtures("fixed_clock")
def test_a_run_is_named_by_area_and_interval(
    monkeypatch: pytest.MonkeyPatch, request_: RunRequest, name: str
) -> None:
    areas = '{"home": {"tiles": ["22KFV"], "since": "2018"}, "alps": {"bbox": "6,45,12,48"}}'
    monkeypatch.setenv("CLOUDMASK_AREAS", areas)
    assert describe(request_) == name


@pytest.mark.parametrize("flow", [ingest_flow, watch_flow, backfill_flow, gaps_flow])
def test_every_parameter_is_described_in_the_form(flow: Flow[Any, Any]) -> None:
    schema = parameter_schema(flow).model_dump_for_openapi()
    (parameter,) = schema["properties"].values()
    assert parameter["description"].endswith(".")
    (definition,) = (each for name, each in schema["definitions"].items() if name.endswith("Request"))
    for name, field in definition["properties"].items():
        assert field["description"].endswith("."), name


def build_outcome(scene_id: str, state: SceneState, **values: Any) -> SceneOutcome:
    return SceneOutcome(scene_id, state, **values)


def test_the_table_begins_with_what_someone_has_to_look_at() -> None:
    published = build_outcome(
        SCENE, SceneState.PUBLISHED, item_key=KEY, cover_pct={"cloud": 12.34, "shadow": 0.0}
    )
    report = Report(
        published=(SCENE,),
        skipped=("S",),
        withdrawn=("W",),
        waiting=(build_outcome("A", SceneState.WAITING, reason="no image yet"),),
        failed=(build_outcome("F", SceneState.FAILED, reason="a <b> [c](d)"),),
        held_back=(build_outcome("H", SceneState.FAILED, held=True, reason="left alone"),),
        problems=("area alps: no connection",),
    )
    links = partial(link_scene, RunContext(Settings(public_url="https://masks.example.com")))
    rows = build_rows(report, [published], links)
    states = ["problem", "failed", "waiting", "published", "held back", "withdrawn", "skipped"]
    assert [row["state"] for row in rows] == states
    assert (rows[3]["cloud %"], rows[3]["shadow %"]) == ("12.3", "0.0")
    source = f"https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a/items/{SCENE}"
    assert rows[3]["links"] == f"[mask](https://masks.example.com/{KEY}) [source]({source})"
    assert rows[1]["reason"] == r"a \<b\> \[c\](d)"
    assert len({tuple(row) for row in rows}) == 1


def test_a_table_has_no_column_that_is_empty() -> None:
    published = build_outcome(SCENE, SceneState.PUBLISHED, item_key=KEY, cover_pct={"cloud": 1.0})
    links = partial(link_scene, RunContext(Settings(), items="items.json"))
    assert list(build_rows(Report(published=(SCENE,)), [published], links)[0]) == [
        "scene",
        "state",
        "cloud %",
        "shadow %",
    ]
