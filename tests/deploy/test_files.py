"""What `deploy/` names exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from flows.stac.layout import CATALOG_KEY, COLLECTION_ID

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_the_deployment_starts_a_flow_that_takes_the_documented_request() -> None:
    from flows.prefect_runs import ingest_flow  # noqa: PLC0415 - prefect takes seconds to import

    (deployment,) = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    assert name == ingest_flow.fn.__name__
    documented = re.search(r"request='(\{.*\})'", (DEPLOY / "README.md").read_text())
    assert documented
    ingest_flow.validate_parameters({"request": json.loads(documented[1])})


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
