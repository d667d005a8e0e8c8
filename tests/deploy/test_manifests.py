"""The manifests, the chart values and the job templates of ``deploy/``, by Kubernetes' and Prefect's own models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio import client
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from pc_cloudmask.flows import progress

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = ("namespace", "server", "worker")


def read_manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text()))


def check(value: Any, kind: str, where: str) -> None:
    """Fail where ``value`` is not what Kubernetes' model ``kind`` has: a field that is unknown, lacking or mistyped."""
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        assert isinstance(value, list), where
        for index, each in enumerate(value):
            check(each, found[1], f"{where}[{index}]")
    elif found := re.fullmatch(r"dict\(str, (.+)\)|dict\[str, (.+)\]", kind):
        assert isinstance(value, dict), where
        for name, each in value.items():
            check(each, found[1] or found[2], f"{where}.{name}")
    elif kind in {"str", "int", "bool", "float"}:
        assert type(value).__name__ == kind, f"{where}: {value!r} is no {kind}"
    elif model := getattr(client, kind, None):
        assert isinstance(value, dict), where
        fields = {name: attribute for attribute, name in model.attribute_map.items()}
        assert set(value) <= set(fields), f"{where}: {set(value) - set(fields)}"
        for name, each in value.items():
            check(each, model.openapi_types[fields[name]], f"{where}.{name}")
        model(**{fields[name]: each for name, each in value.items()})  # fails where a required one lacks


def find_model(manifest: dict[str, Any]) -> str:
    return f"V1{manifest['kind']}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_have_the_fields_that_kubernetes_knows(name: str) -> None:
    for manifest in read_manifests(name):
        check(manifest, find_model(manifest), f"{name}: {manifest['kind']}")
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "cloudmask"


def test_an_unknown_a_lacking_and_a_mistyped_field_are_found() -> None:
    deployment = read_manifests("server")[0]
    for path, value in ((("replica",), 1), (("replicas",), "1"), (("selector",), {"match": {}})):
        broken = {**deployment, "spec": {**deployment["spec"], path[0]: value}}
        with pytest.raises(AssertionError):
            check(broken, "V1Deployment", "broken")
    lacking = {name: each for name, each in deployment["spec"].items() if name != "selector"}
    with pytest.raises(ValueError, match="selector"):
        check({**deployment, "spec": lacking}, "V1Deployment", "broken")


def list_pods() -> Iterator[dict[str, Any]]:
    for name in MANIFESTS:
        for manifest in read_manifests(name):
            if manifest["kind"] == "Deployment":
                assert manifest["spec"]["selector"]["matchLabels"].items() <= (
                    manifest["spec"]["template"]["metadata"]["labels"].items()
                )
                yield manifest["spec"]["template"]["spec"]


def test_every_pod_is_one_that_the_restricted_namespace_takes() -> None:
    pods = list(list_pods())
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            secrets = [each for each in container["env"] if re.search("AUTH_STRING$|_URL$", each["name"])]
            assert all("valueFrom" in each or "http://" in each["value"] for each in secrets)


def test_images_are_of_the_locked_prefect() -> None:
    version = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["prefect-version"]
    texts = [
        path.read_text() for folder in ("kubernetes", "helm") for path in (DEPLOY / folder).glob("*.yaml")
    ]
    tags = [tag for text in texts for tag in re.findall(r"(?:hq/prefect:|prefectTag: )(\d\S+)", text)]
    assert len(tags) == 4
    assert all(tag.startswith(f"{version}-") for tag in tags)


def test_the_worker_may_do_with_jobs_what_it_does_and_nothing_else() -> None:
    (role,) = (each for each in read_manifests("worker") if each["kind"] == "Role")
    allowed = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
    assert set(allowed) == {"events", "pods", "pods/log", "pods/status", "jobs"}
    assert "*" not in {verb for verbs in allowed.values() for verb in verbs}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_job_template_asks_for_nothing_that_it_has_no_variable_for(kind: str) -> None:
    template = json.loads((DEPLOY / kind / "job-template.json").read_text())
    named = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    variables = template["variables"]["properties"]
    assert named == set(variables)
    assert all(each.get("title") for each in variables.values())


def test_a_container_of_the_docker_pool_has_no_rights() -> None:
    template = json.loads((DEPLOY / "docker" / "job-template.json").read_text())
    hardened = template["job_configuration"]["container_create_kwargs"]
    user = re.search(r"^USER (\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    assert hardened["user"].startswith(user[1])
    assert hardened["read_only"] is True
    assert hardened["cap_drop"] == ["ALL"]
    assert hardened["security_opt"] == ["no-new-privileges:true"]


def test_automations_are_ones_that_prefect_takes_of_events_that_we_emit() -> None:
    automations = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["automations"]
    triggers = [AutomationCore.model_validate(each).trigger for each in automations]
    expected = {event for each in triggers if isinstance(each, EventTrigger) for event in each.expect}
    ours = {event for event in expected if event.startswith("cloudmask.")}
    assert ours == {progress.QUARANTINED_EVENT, progress.INCOMPLETE_EVENT}
