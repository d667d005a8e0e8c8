"""What `deploy/` names exists."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from flows.request import BackfillRequest
from flows.stac.layout import CATALOG_KEY, COLLECTION_ID

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def read_flows() -> dict[str, Any]:
    """The deployed flows by ``flow/deployment``."""
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    flows = {}
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].partition(":")
        flow = getattr(import_module(module), name)
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
    packages = set(
        re.findall(r'packages = \["(.+)"\]', (ROOT / "pyproject.toml").read_text())[0].split('", "')
    )
    assert copied == packages


def test_readers_see_what_is_public_and_nothing_else() -> None:
    (statement,) = json.loads((DEPLOY / "s3" / "reader.json").read_text())["Statement"]
    keys = {resource.partition("PREFIX/")[2] for resource in statement["Resource"]}
    assert keys == {CATALOG_KEY, f"{COLLECTION_ID}/*"}
    assert statement["Action"] == "s3:GetObject"
