"""Prefect's Kubernetes worker makes a hardened job of the committed template."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
TEMPLATE = json.loads((DEPLOY / "kubernetes" / "job-template.json").read_text())
#: Nothing is asked of it: the template refers to no block. Without it Prefect would start a server.
NOWHERE = "http://127.0.0.1:9/api"
IMAGE = "registry.example.com/cloudmask@sha256:0123"


def build_manifest(**values: Any) -> dict[str, Any]:
    """The job that a worker would create for a flow run."""
    # They take seconds, which every process would spend that collects this module.
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    async def build() -> KubernetesWorkerJobConfiguration:
        configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
            base_job_template=TEMPLATE, values={"image": IMAGE, **values}, client=PrefectClient(NOWHERE)
        )
        configuration.prepare_for_flow_run(
            FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="watch-france")
        )
        return configuration

    manifest: dict[str, Any] = asyncio.run(build()).job_manifest
    return manifest


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = build_manifest(env={"CLOUDMASK_METHOD": "csmask"})["spec"]["template"]["spec"]
    return spec


def test_nothing_is_left_to_fill_in() -> None:
    text = json.dumps(build_manifest())
    assert "{{" not in text
    assert IMAGE in text


def test_the_pod_has_no_rights(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_user_is_the_images(pod: dict[str, Any]) -> None:
    user = re.search(r"^USER (\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    assert pod["securityContext"]["runAsUser"] == int(user[1])


def test_tmp_alone_may_be_written(pod: dict[str, Any]) -> None:
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]
    assert "sizeLimit" in volume["emptyDir"]


def test_the_job_runs_prefect_with_its_settings(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["args"][0] == "prefect"
    assert {"name": "CLOUDMASK_METHOD", "value": "csmask"} in container["env"]
    assert {"secretRef": {"name": "cloudmask"}} in container["envFrom"]
    assert set(container["resources"]["limits"]) >= {"memory"}


def test_an_image_must_be_named() -> None:
    assert TEMPLATE["variables"]["required"] == ["image"]


def test_resources_can_be_chosen_for_a_deployment() -> None:
    (container,) = build_manifest(memory="2Gi", memory_limit="6Gi", cpu="4")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"]["requests"]["cpu"] == "4"
    assert container["resources"]["limits"]["memory"] == "6Gi"
