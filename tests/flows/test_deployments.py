"""The deployments of ``deploy/prefect.yaml``, on a real server, by a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from pc_cloudmask.flows.progress import COLLECTION_TASK
from pc_cloudmask.flows.tasks import EARTH_ENGINE_LIMIT, SOURCE_LIMIT, find_limits, run_scene
from pc_cloudmask.runs.runners import shared_limit
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import public_bytes, walk_catalog
from tests.doubles.prefect_server import PASSWORD, ROOT, PrefectServer, wait_for
from tests.doubles.stac_api.server import StacApiServer
from tests.flows.compose import SECRETS
from tests.flows.conftest import PLANTED, PLANTED_SIGNATURE
from tests.sample_archive import SAMPLE_IDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(prefect_server: PrefectServer) -> PrefectServer:
    """The server with its pool, its limits and our deployments."""
    prefect_server.run_service("deploy")
    for name, limit in ((EARTH_ENGINE_LIMIT, 2), (SOURCE_LIMIT, 1)):
        prefect_server.post("/v2/concurrency_limits/", name=name, limit=limit)
    return prefect_server


@pytest.fixture(scope="module")
def worker(server: PrefectServer) -> Iterator[Path]:
    """The log of a worker of the pool."""
    with server.work() as log:
        yield log


def read_deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    """By ``flow/deployment``."""
    flows = {flow["id"]: flow["name"] for flow in server.post("/flows/filter")}
    found = server.post("/deployments/filter")
    return {f"{flows[each['flow_id']]}/{each['name']}": each for each in found}


def read_artifacts(server: PrefectServer, run_id: str) -> dict[str, dict[str, Any]]:
    """The run's artifacts by key."""
    found = server.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run_id]}})
    return {artifact["key"]: artifact for artifact in found}


def read_events(server: PrefectServer, prefix: str) -> list[dict[str, Any]]:
    answer = server.post("/events/filter", filter={"event": {"prefix": [prefix]}}, limit=50)
    return list(answer["events"])


def read_acquired_limits(server: PrefectServer) -> set[str]:
    """Names of the global limits that were held."""
    slots = read_events(server, "prefect.concurrency-limit.acquired")
    return {slot["resource"]["prefect.resource.name"] for slot in slots}


def start_run(server: PrefectServer, deployment: str, **request: Any) -> str:
    """The id of a run that the worker will find."""
    deployment_id = read_deployments(server)[deployment]["id"]
    body: dict[str, Any] = {"parameters": {"request": request}} if request else {}
    body["idempotency_key"] = uuid4().hex  # asked again, the server begins no second run
    run = server.post(f"/deployments/{deployment_id}/create_flow_run", **body)
    return str(run["id"])


@pytest.fixture(scope="module")
def scheduled_run(server: PrefectServer, worker: Path) -> dict[str, Any]:
    """The first run, made by a schedule and done by a worker."""
    monthly = read_deployments(server)["watch/monthly"]
    # Later than the scheduler's next look, on a busy machine too: it makes no run of the past.
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    schedule = {"interval": 86400, "anchor_date": soon, "timezone": "UTC"}
    server.post_list(f"/deployments/{monthly['id']}/schedules", [{"active": True, "schedule": schedule}])

    def find_run() -> str | None:
        runs = server.post(
            "/flow_runs/filter",
            flow_runs={
                "deployment_id": {"any_": [monthly["id"]]},
                "expected_start_time": {"before_": (datetime.now(UTC) + timedelta(minutes=2)).isoformat()},
            },
        )
        return str(runs[0]["id"]) if runs else None

    return server.await_run(wait_for(find_run, "the scheduled run"))


def test_every_deployment_registers_with_its_schedule(server: PrefectServer) -> None:
    registered = read_deployments(server)
    written = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())["deployments"]
    assert len(registered) == len(written) == 6
    schedules = {
        name: [
            schedule["schedule"]["cron"] for schedule in each["schedules"] if "cron" in schedule["schedule"]
        ]
        for name, each in registered.items()
        if each["schedules"]
    }
    assert schedules.keys() == {"watch/hourly", "watch/daily", "watch/monthly", "gaps/weekly"}
    assert {each["work_pool_name"] for each in registered.values()} == {"cloudmask"}


def test_requests_to_earth_engine_hold_slots_of_the_limit_that_processes_share(server: PrefectServer) -> None:
    def read_held() -> float:
        held: float = server.get(f"/v2/concurrency_limits/{EARTH_ENGINE_LIMIT}")["active_slots"]
        return held

    held: list[float] = []

    def work(_candidate: Any) -> Any:
        for requests in (5, 0, 1):  # more than there are: all
            with shared_limit.get()(requests):
                held.append(read_held())
        return held.append(read_held())

    place = {PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: PASSWORD}
    with temporary_settings(place):
        copy_context().run(run_scene, work, None, find_limits())  # type: ignore[arg-type]
    assert held == [2, 0, 1, 0]


def test_a_scheduled_run_is_made_by_a_worker(
    server: PrefectServer, store: Path, scheduled_run: dict[str, Any], worker: Path
) -> None:
    run, run_id = scheduled_run, scheduled_run["id"]
    assert run["state_type"] == "COMPLETED", worker.read_text()
    assert run["auto_scheduled"]
    published = set(walk_catalog(open_store(str(store))).items)
    assert len(published) == len(SAMPLE_IDS)

    tasks = server.post("/task_runs/filter", task_runs={"flow_run_id": {"any_": [run_id]}})
    assert {task["name"] for task in tasks if task["state_type"] == "COMPLETED"} == {
        *published,
        COLLECTION_TASK,
    }
    artifacts = read_artifacts(server, run_id)
    rows = json.loads(artifacts["cloudmask-run"]["data"])
    assert {row["scene"] for row in rows if row["state"] == "published"} == published
    assert artifacts["cloudmask-progress"]["data"] == 100.0
    assert artifacts["cloudmask-preview"]["data"].startswith("![The newest mask](data:image/png;base64,")
    assert "2022-06-17" not in artifacts["cloudmask-preview"]["data"]
    assert artifacts["cloudmask-preview"]["description"] == max(published, key=lambda each: each[11:26])
    events = wait_for(
        lambda: (
            found
            if len(found := read_events(server, "cloudmask.scene.published")) >= len(SAMPLE_IDS)
            else None
        ),
        "the events",
    )
    assert {event["resource"]["prefect.resource.name"] for event in events} == published
    # Of Earth Engine's none: these scenes bring their own inputs.
    assert {SOURCE_LIMIT} == wait_for(
        lambda: found if (found := read_acquired_limits(server)) else None, "the limit's event"
    )
    related = {each["prefect.resource.id"] for event in events for each in event["related"]}
    assert f"prefect.flow-run.{run_id}" in related


@pytest.mark.usefixtures("scheduled_run")
def test_a_backfill_is_cut_into_runs_and_begun_again_begins_none_twice(
    server: PrefectServer, store: Path, worker: Path
) -> None:
    before = public_bytes(open_store(str(store)))
    first = server.await_run(start_run(server, "backfill/cloudmask", years=[2018, 2019, 2020, 2021, 2022]))
    assert first["state_type"] == "COMPLETED", worker.read_text()
    shards = find_shards(server)
    for shard in shards:
        assert server.await_run(shard["id"])["state_type"] == "COMPLETED"
    again = server.await_run(start_run(server, "backfill/cloudmask", years=[2018, 2019, 2020, 2021, 2022]))
    assert again["state_type"] == "COMPLETED"
    assert len(shards) == 1
    assert {shard["id"] for shard in find_shards(server)} == {shard["id"] for shard in shards}
    assert shards[0]["parameters"]["request"]["tiles"] == ["22KFV", "33UUP"]
    assert public_bytes(open_store(str(store))) == before


@pytest.mark.usefixtures("scheduled_run")
def test_a_census_leaves_its_gaps_in_the_store_and_as_a_table(
    server: PrefectServer, store: Path, worker: Path
) -> None:
    run_id = start_run(server, "gaps/weekly", datetime="2018/2022", parquet=True)
    assert server.await_run(run_id)["state_type"] == "COMPLETED", worker.read_text()
    artifact = read_artifacts(server, run_id)["cloudmask-gaps"]
    assert artifact["description"].startswith(f"{len(SAMPLE_IDS)} scenes in 2 catalogues: 0 not in source")
    assert (store / "gaps.parquet").is_file()


def find_shards(server: PrefectServer) -> list[dict[str, Any]]:
    deployment = read_deployments(server)["ingest/cloudmask"]
    return list(server.post("/flow_runs/filter", flow_runs={"deployment_id": {"any_": [deployment["id"]]}}))


@pytest.mark.usefixtures("scheduled_run")
def test_no_secret_is_anywhere(server: PrefectServer, store: Path, source: StacApiServer) -> None:
    """In the server's database, homes and logs of server, worker and client, the store and its state."""
    logs = [log for offset in range(0, 2000, 200) for log in server.post("/logs/filter", offset=offset)]
    # The library logs each URL, query included.
    assert any(log["name"].startswith("urllib3") and "/search" in log["message"] for log in logs)
    secrets = [*PLANTED.values(), *SECRETS.values(), PLANTED_SIGNATURE, "planted/signature"]
    searched = 0
    for root in (server.folder, store):
        for path in root.rglob("*"):
            if path.is_file():
                searched += 1
                body = path.read_bytes()
                for secret in secrets:
                    assert secret.encode() not in body, f"{secret} in {path}"
    assert searched > 20
    assert any(path.name == "prefect.db" for path in server.folder.rglob("*"))
    assert list(store.glob("_watch/*.json"))
    assert PLANTED_SIGNATURE in json.dumps(source.items)
