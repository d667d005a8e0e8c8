"""What ``doctor`` says of what other programs left in the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.command import run
from tests.test_ambient import Recorder

pytestmark = pytest.mark.slow

PROXY_PASSWORD = "hunter2"  # pragma: allowlist secret


def examine(folder: Path, **environment: str) -> dict[str, dict[str, Any]]:
    """The findings by what was looked at; the source is on loopback and not there."""
    done = run(
        *("--json", "doctor", "--method", "csmask"),
        cwd=folder,
        **{"HOME": str(folder), "CLOUDMASK_STAC_API_URL": "http://127.0.0.1:9/stac", **environment},
    )
    assert PROXY_PASSWORD not in done.stdout + done.stderr
    return {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login me password s3cr3t\n")
    found = examine(tmp_path, PROJ_DATA=str(tmp_path), PROJ_LIB=str(tmp_path))
    assert found["projections"]["verdict"] == "ok"
    assert found["projections"]["detail"] == "rasterio's own; passed over: PROJ_DATA, PROJ_LIB"
    assert found["netrc"]["detail"] == f"{tmp_path}/.netrc is there, and not read"
    assert found["csmask device"]["verdict"] == "ok"


def test_certificates_that_are_not_there_are_broken(tmp_path: Path) -> None:
    found = examine(tmp_path, REQUESTS_CA_BUNDLE="/nowhere/ca.pem")
    assert found["certificates"]["verdict"] == "broken"
    assert "REQUESTS_CA_BUNDLE names /nowhere/ca.pem" in found["certificates"]["detail"]


def test_a_device_that_is_not_there_is_broken(tmp_path: Path) -> None:
    found = examine(tmp_path, CLOUDMASK_DEVICE="cuda")["csmask device"]
    if found["verdict"] == "broken":
        assert "has nothing for cuda: it has cpu" in found["detail"]
    else:
        assert "CUDAExecutionProvider" in found["detail"]


@pytest.mark.parametrize("status", [407, 403])
def test_a_proxy_that_refuses_breaks_what_goes_through_it(tmp_path: Path, status: int) -> None:
    with Recorder() as server:
        server.tunnel = status
        proxy = server.url.replace("://", f"://user:{PROXY_PASSWORD}@")
        found = examine(
            tmp_path, HTTPS_PROXY=proxy, CLOUDMASK_STAC_API_URL="https://planetarycomputer.microsoft.com/api"
        )
        assert found["proxy"]["detail"] == server.url
        for what in ("source", "tokens"):
            assert found[what]["verdict"] == "broken"
            assert f"proxy {server.url} answers HTTP {status}" in found[what]["detail"]
