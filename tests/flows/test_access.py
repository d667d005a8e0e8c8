"""Who may command the Prefect server of ``deploy/compose.yaml``: who has the password, and no web page."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.doubles.prefect_server import PrefectServer
from tests.flows.compose import SECRETS, build_replacements, read_service, write_secrets

pytestmark = pytest.mark.slow

STRANGER = "https://stranger.example.com"
#: What a page would send first of all: a pool, then a deployment whose job runs any command.
POOL = {"name": "planted", "type": "process"}


@pytest.fixture
def server(prefect_server: PrefectServer) -> PrefectServer:
    return prefect_server


def list_pools(server: PrefectServer) -> set[str]:
    return {pool["name"] for pool in server.post("/work_pools/filter")}


def preflight(server: PrefectServer, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return server.client.options(f"{server.url}/work_pools/", headers=headers)


@pytest.mark.parametrize("origin", [STRANGER, "null", "http://127.0.0.1:8080", "http://localhost:3000"])
def test_a_preflight_of_another_page_gets_no_permission(server: PrefectServer, origin: str) -> None:
    answer = preflight(server, origin)
    assert answer.status_code == 400
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_of_its_own_pages_is_granted(server: PrefectServer) -> None:
    answer = preflight(server, server.origin)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == server.origin


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "credentials", [{}, {"Authorization": "Basic Og=="}, {"Authorization": "Basic PQ=="}]
)
def test_a_command_without_the_password_is_refused(
    server: PrefectServer, kind: str, credentials: dict[str, str]
) -> None:
    """``text/plain`` and forms are what a page may send without asking beforehand."""
    headers = {"Origin": STRANGER, "Content-Type": kind, **credentials}
    answer = server.client.post(f"{server.url}/work_pools/", content=json.dumps(POOL), headers=headers)
    assert answer.status_code == 401
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert POOL["name"] not in list_pools(server)


def test_nothing_is_read_without_the_password(server: PrefectServer) -> None:
    for path in ("/admin/settings", "/admin/version", "/flow_runs/count", "/metrics"):
        assert server.client.get(f"{server.url}{path}").status_code == 401
    assert server.client.get(f"{server.url}/health").json() is True


@pytest.mark.parametrize("path", ["/events/in", "/events/out", "/logs/out"])
@pytest.mark.parametrize("protocols", [None, ["prefect"]])
def test_a_web_socket_of_another_page_is_closed(
    server: PrefectServer, path: str, protocols: list[str] | None
) -> None:
    """The same-origin policy of a browser does not hold for them."""

    async def speak() -> None:
        url = f"{server.url.replace('http', 'ws', 1)}{path}"
        async with asyncio.timeout(600), connect(url, origin=STRANGER, subprotocols=protocols) as socket:
            await socket.send(json.dumps({"type": "auth", "token": "guessed"}))
            await socket.recv()
            await socket.recv()

    with pytest.raises((ConnectionClosed, InvalidStatus)):
        asyncio.run(speak())


def test_the_command_line_needs_the_password(server: PrefectServer) -> None:
    guess = {"password": "guessed"}  # pragma: allowlist secret
    with pytest.raises(AssertionError, match="401"):
        server.command("work-pool", "create", "planted", "--type", "process", **guess)
    assert "planted" not in list_pools(server)


def test_its_own_pages_load(server: PrefectServer) -> None:
    page = server.client.get(f"{server.origin}/", follow_redirects=True)
    assert page.status_code == 200
    (script,) = re.findall(r'<script type="module"[^>]* src="([^"]+)"', page.text)
    assert server.client.get(f"{server.origin}{script}").status_code == 200
    settings = server.client.get(f"{str(page.url).rstrip('/')}/ui-settings")
    settings = settings if settings.is_success else server.client.get(f"{server.origin}/ui-settings")
    assert settings.json()["auth"] == "BASIC"
    assert settings.json()["api_url"] == server.url


@pytest.mark.parametrize(
    ("service", "secret"),
    [
        ("prefect", "prefect"),
        ("prefect", "database"),
        ("deploy", "prefect"),
        ("worker", "prefect"),
        ("worker", "writer"),
    ],
)
@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_service_without_its_secret_says_what_to_write_where(
    tmp_path: Path, service: str, secret: str, text: str | None
) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    write_secrets(folder)
    replacements = build_replacements(folder, 9)
    path = Path(replacements["/run/secrets"]) / secret
    path.unlink()
    if text is not None:
        path.write_text(text)
    started = read_service(service, replacements)
    ended = subprocess.run(
        started.command,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 2
    assert f"deploy/secrets/{secret}" in ended.stderr.splitlines()[-1]
    assert not any(each in ended.stderr for each in SECRETS.values())
