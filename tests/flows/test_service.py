"""What an operator meets: deployments made from another folder, paused; automations; assets and events of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.doubles.prefect_server import ROOT, PrefectServer, wait_for
from tests.doubles.range_server import RangeServer
from tests.sample_archive import copy_archive

pytestmark = pytest.mark.slow
AUTOMATIONS = ROOT / "deploy" / "automations.yaml"
SIGNATURE = "sig=planted"


@pytest.fixture(scope="module")
def items(sample_items: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of two items: a good one with signed hrefs, and one that is proven wrong."""
    good, wrong = json.loads(sample_items.read_text())["features"][:2]
    wrong["properties"].pop("datetime")
    folder = tmp_path_factory.mktemp("archive")
    copy_archive(sample_items, folder, [])
    with RangeServer(folder) as files:
        for asset in good["assets"].values():
            asset["href"] = f"{files.url}/{asset['href'].removeprefix('./')}?{SIGNATURE}"
        good["links"] = [{"rel": "self", "href": f"https://source.example.com/{good['id']}?{SIGNATURE}"}]
        path = folder / "two.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [good, wrong]}))
        yield f"{files.url}/{path.name}"


@pytest.fixture(scope="module")
def store_of_mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Named otherwise than the server's own store, which the server would take for this one."""
    return tmp_path_factory.mktemp("store of mine") / "out"


@pytest.fixture(scope="module")
def server(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> PrefectServer:
    """The server with the deployments and automations, made from a folder that has nothing in it."""
    if not prefect_server.post("/work_pools/filter", work_pools={"name": {"any_": ["cloudmask"]}}):
        prefect_server.post("/work_pools/", name="cloudmask", type="process")
    deploy = ["deploy", "--all", "--prefect-file", str(ROOT / "deploy" / "prefect.yaml")]
    prefect_server.command("--no-prompt", *deploy, folder=tmp_path_factory.mktemp("elsewhere"))
    for automation in read_automations():
        prefect_server.post("/automations/", **automation)
    return prefect_server


def read_automations() -> list[dict[str, Any]]:
    """The committed ones, with 10 s in place of 2 h."""
    automations: list[dict[str, Any]] = yaml.safe_load(AUTOMATIONS.read_text())["automations"]
    for automation in automations:
        if "within" in automation["trigger"]:
            assert automation["trigger"]["within"] == 7200
            automation["trigger"]["within"] = 10
    return automations


@pytest.fixture(scope="module")
def deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    """By ``flow/deployment``."""
    flows = {flow["id"]: flow["name"] for flow in server.post("/flows/filter")}
    found = server.post("/deployments/filter")
    return {f"{flows[each['flow_id']]}/{each['name']}": each for each in found}


def read_events(server: PrefectServer, prefix: str, **of: Any) -> list[dict[str, Any]]:
    chosen = {"event": {"prefix": [prefix]}, **of}
    return list(server.post("/events/filter", filter=chosen, limit=50)["events"])


def await_events(server: PrefectServer, prefix: str, count: int, **of: Any) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]] | None:
        found = read_events(server, prefix, **of)
        return found if len(found) >= count else None

    return wait_for(read, f"{count} events {prefix}")


@pytest.fixture(scope="module")
def ingest_run(
    server: PrefectServer, deployments: dict[str, dict[str, Any]], items: str, store_of_mine: Path
) -> dict[str, Any]:
    """A run of the two items, by a worker in a third folder."""
    deployment = deployments["ingest/cloudmask"]["id"]
    run = server.post(f"/deployments/{deployment}/create_flow_run", parameters={"request": {"items": items}})
    environment = {
        "CLOUDMASK_STORE": str(store_of_mine),
        "CLOUDMASK_METRICS": str(server.folder / "cloudmask.prom"),
    }
    with server.work(server.folder, **environment):
        return server.await_run(run["id"])


def test_schedules_are_paused(deployments: dict[str, dict[str, Any]]) -> None:
    scheduled = {name: each["schedules"] for name, each in deployments.items() if each["schedules"]}
    assert set(scheduled) == {"watch/hourly", "watch/daily", "watch/monthly", "gaps/weekly"}
    assert not any(schedule["active"] for schedules in scheduled.values() for schedule in schedules)


def test_the_form_describes_parameters(deployments: dict[str, dict[str, Any]]) -> None:
    schema = deployments["watch/hourly"]["parameter_openapi_schema"]
    assert schema["properties"]["request"]["description"]
    assert schema["definitions"]["WatchRequest"]["properties"]["areas"]["description"]


def test_a_run_is_made_where_neither_deployment_nor_worker_has_the_checkout(
    server: PrefectServer, store_of_mine: Path, ingest_run: dict[str, Any]
) -> None:
    assert ingest_run["state_type"] == "COMPLETED", (server.folder / "worker.log").read_text()
    assert ingest_run["name"] == "two.json"
    assert (store_of_mine / "catalog.json").is_file()
    figures = (server.folder / "cloudmask-ingest.prom").read_text()
    assert 'cloudmask_run_scenes{command="ingest",state="published"} 1.0' in figures


def test_what_was_published_is_an_asset_made_of_its_source(
    server: PrefectServer, ingest_run: dict[str, Any], sample_items: Path
) -> None:
    good = json.loads(sample_items.read_text())["features"][0]["id"]
    of_this_run = {"related": {"id": [f"prefect.flow-run.{ingest_run['id']}"]}}
    made = await_events(server, "prefect.asset.materialization", 2, **of_this_run)
    by_name = {event["resource"]["prefect.resource.id"].rpartition("/")[2]: event for event in made}
    (item,) = (event for name, event in by_name.items() if name.startswith(good))
    (collection,) = (event for name, event in by_name.items() if name.startswith("collection.json"))
    assert {event["event"] for event in made} == {"prefect.asset.materialization.succeeded"}
    assert {"cloud_pct", "shadow_pct"} <= set(item["payload"])

    def read_sources(event: dict[str, Any]) -> set[str]:
        roles = {"asset"}
        return {
            each["prefect.resource.id"] for each in event["related"] if each["prefect.resource.role"] in roles
        }

    assert read_sources(item) == {f"https://source.example.com/{good}"}
    assert read_sources(collection) == {item["resource"]["prefect.resource.id"]}
    assert SIGNATURE not in json.dumps(read_events(server, "prefect.asset"))
    assert f"prefect.flow-run.{ingest_run['id']}" in json.dumps(item["related"])


def post_event(server: PrefectServer, event: str, resource: str, related: list[dict[str, str]]) -> None:
    planted = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": resource},
        "related": related,
    }
    server.send_events([planted])


@pytest.mark.usefixtures("ingest_run")
def test_automations_hear_of_quarantine_of_a_failed_watch_and_of_none(
    server: PrefectServer, deployments: dict[str, dict[str, Any]]
) -> None:
    """The quarantine is the ingest run's own; watches are told of as the server tells of them."""
    await_events(server, "cloudmask.scene.quarantined", 1)
    hourly = f"prefect.deployment.{deployments['watch/hourly']['id']}"
    related = [
        {
            "prefect.resource.id": "prefect.flow.w",
            "prefect.resource.role": "flow",
            "prefect.resource.name": "watch",
        },
        {
            "prefect.resource.id": hourly,
            "prefect.resource.role": "deployment",
            "prefect.resource.name": "hourly",
        },
    ]
    post_event(server, "prefect.flow-run.Failed", "prefect.flow-run.1", related)
    post_event(server, "prefect.flow-run.Completed", "prefect.flow-run.2", related)
    fired = await_events(server, "prefect.automation.triggered", 3)
    names = sorted(event["resource"]["prefect.resource.name"] for event in fired)
    assert names == [
        "cloudmask: a scene is quarantined",
        "cloudmask: a watch failed",
        "cloudmask: no watch for two hours",
    ]
