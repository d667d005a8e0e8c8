"""What `deploy/` names exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from pc_cloudmask.catalog.layout import CATALOG_KEY, CHANGES_PREFIX, COLLECTION_ID
from pc_cloudmask.runs.request import BackfillRequest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def read_compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return compose


def read_flows() -> dict[str, Any]:
    """The deployed flows by ``flow/deployment``."""
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    flows = {}
    for deployment in deployments:
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        flow.validate_parameters(deployment.get("parameters", {"request": {}}))
        flows[f"{flow.name}/{deployment['name']}"] = flow
    assert len(flows) == len(deployments)
    return flows


def test_every_documented_run_is_one_that_a_deployment_takes() -> None:
    flows = read_flows()
    documented = re.findall(
        r"prefect deployment run (\S+) --param request='(\{.*\})'", (DEPLOY / "README.md").read_text()
    )
    assert documented
    for deployment, request in documented:
        flows[deployment].validate_parameters({"request": json.loads(request)})


def test_backfills_run_what_is_deployed() -> None:
    assert BackfillRequest().deployment in read_flows()


def test_prefect_is_the_locked_one() -> None:
    version = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["prefect-version"]
    assert f"\nprefect=={version} " in (ROOT / "requirements.lock").read_text()


def test_the_image_copies_what_the_wheel_holds() -> None:
    copied = set(re.findall(r"^COPY (\w+) ", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    # The image has no npm, for which the recipe of STAC Browser is there.
    assert copied == set(wheel["only-include"]) - wheel["sources"].keys()


@pytest.mark.parametrize("path", ["Dockerfile", "nginx/Dockerfile"])
def test_images_are_built_as_the_linter_wants_it(path: str) -> None:
    linted = subprocess.run(
        [BIN / "hadolint", DEPLOY / path], capture_output=True, text=True, check=False, timeout=600
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.slow
def test_the_compose_file_is_one() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_is_hardened_and_pinned() -> None:
    services = read_compose()["services"]
    assert set(services) == {"database", "prefect", "deploy", "worker", "store", "bucket", "catalog"}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "/tmp" in service["tmpfs"], name
        assert re.search(r":(local|.*\d+\.\d+.*)$", service["image"]), name
        runs_on = service["restart"] != "no"
        assert ("healthcheck" in service) == runs_on, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_no_secret_stands_in_the_compose_file() -> None:
    compose = read_compose()
    for service in compose["services"].values():
        environment = service.get("environment", {})
        assert not {name for name in environment if re.search(r"PASSWORD$|SECRET|TOKEN", name)}
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/deploy/{Path(secret['file']).parent}/" for secret in compose["secrets"].values()} <= set(
        ignored
    )


def test_only_the_bucket_itself_is_reached_and_only_by_those_who_need_it() -> None:
    """SeaweedFS's master, filer and volumes, and the identities of its S3 server, ask for no password."""
    services = read_compose()["services"]
    command = services["store"]["entrypoint"][-1].split()
    flags = dict(flag.removeprefix("-").partition("=")[::2] for flag in command if flag.startswith("-"))
    assert flags["ip"] == flags["ip.bind"] == "127.0.0.1"
    assert flags["s3.ip.bind"] == "0.0.0.0"
    assert flags["s3.port.iceberg"] == flags["s3.port.lance"] == "0"
    assert flags["s3.iam"] == "false"
    assert "ports" not in services["store"]
    members = {name for name, service in services.items() if "storage" in service.get("networks", ())}
    assert members == {"store", "worker", "catalog"}
    assert services["store"]["networks"] == ["storage"]
    assert read_compose()["networks"]["storage"] == {"internal": True}
    assert services["bucket"]["network_mode"] == "service:store"


def test_prefect_asks_for_a_password_and_lets_no_other_page_in() -> None:
    services = read_compose()["services"]
    assert services["prefect"]["ports"] == ["127.0.0.1:4200:4200"]
    origin = services["prefect"]["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert services["prefect"]["environment"]["PREFECT_SERVER_UI_API_URL"] == f"{origin}/api"
    assert origin == "http://127.0.0.1:4200"
    for name, service in services.items():
        if "PREFECT_API_URL" in service.get("environment", {}) or name == "prefect":
            assert "prefect" in service["secrets"], name


def test_what_the_compose_file_mounts_exists() -> None:
    for service in read_compose()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).is_file(), source
        if "build" in service:
            context = DEPLOY / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()


def test_the_settings_of_the_worker_are_documented_ones() -> None:
    worker = read_compose()["services"]["worker"]
    text = (DEPLOY / worker["env_file"]).read_text()
    names = {*re.findall(r"^(\w+)=", text, re.MULTILINE), *worker["environment"]}
    ours = {name for name in names if name.startswith("CLOUDMASK_")}
    assert len(ours) >= 3
    documented = (ROOT / "docs" / "settings.md").read_text()
    assert not {name for name in ours if f"`{name}`" not in documented and f"`…{name[9:]}`" not in documented}


def test_the_store_lets_strangers_read_what_the_reader_may() -> None:
    anonymous, writer = json.loads((DEPLOY / "store" / "identities.json").read_text())["identities"]
    public = (f"{CATALOG_KEY}*", f"{COLLECTION_ID}/*", f"{CHANGES_PREFIX}*")
    assert anonymous["actions"] == [f"Read:masks/s2/{prefix}" for prefix in public]
    assert {action.partition(":")[2] for action in writer["actions"]} == {"masks/s2/*"}
    assert read_compose()["services"]["worker"]["environment"]["CLOUDMASK_STORE"] == "s3://masks/s2"
