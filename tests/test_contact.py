"""The first request to a server: what a person at a terminal is told, and how soon."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
import requests

from pc_cloudmask.contact import BUNDLE_VARIABLES, Service, be_patient, diagnose, hurry, is_first, note_answer
from pc_cloudmask.errors import CloudmaskError, Unreachable
from pc_cloudmask.masking.earth_engine.transport import BoundedHttp
from pc_cloudmask.storage.stores import open_store
from pc_cloudmask.web import Deadline, HttpClient, NoAnswer, RetryPolicy, knock
from tests.doubles.broken_ways import CLOSED, KINDS, PASSWORD, Page, break_way
from tests.doubles.command import run

pytestmark = pytest.mark.slow

STAC = Service("STAC API", "CLOUDMASK_STAC_API_URL")
#: Of a name, a connection or an answer.
LIMIT_S = 1.0


@pytest.fixture(autouse=True)
def someone_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*BUNDLE_VARIABLES, "AWS_CA_BUNDLE", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hurry(LIMIT_S, LIMIT_S)
    yield
    be_patient()


def get(url: str, attempts: int = 20) -> int:
    client = HttpClient(RetryPolicy(attempts, sleep=lambda _: None), service=STAC)
    return client.get(url, deadline=Deadline(300), max_body_bytes=1000).status


def ask_twice(transport: BoundedHttp, url: str) -> None:
    """As a session does: what the transport tells of the first failure is worth another attempt."""
    with contextlib.suppress(ConnectionError):
        transport.request(url)
    transport.request(url)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_way_is_named_with_what_mends_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with break_way(kind) as way:
        for name, value in way.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(CloudmaskError) as error:
            get(f"{way.url}/stac")
    assert error.value.ends_run
    assert not error.value.retryable
    line = str(error.value)
    assert all(text in line for text in KINDS[kind]), line
    assert PASSWORD not in line


@pytest.mark.parametrize("kind", ["name", "refused", "silent", "self-signed", "proxy gone"])
def test_earth_engine_and_a_bucket_tell_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "test")
    with break_way(kind) as way:
        for name, value in way.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
        with pytest.raises(Unreachable) as of_bucket:
            open_store("s3://bucket/masks")
        transport = BoundedHttp(300, 1, way.url)
        with pytest.raises(Unreachable) as of_engine:
            ask_twice(transport, f"{way.url}/v1")
    if kind == "refused":
        assert "AWS_ENDPOINT_URL" in str(of_bucket.value)
        assert "CLOUDMASK_EARTHENGINE_URL" in str(of_engine.value)
    for line in map(str, (of_bucket.value, of_engine.value)):
        assert all(text in line for text in KINDS[kind]), line


def test_who_asks_soon_after_is_told_the_same_at_once() -> None:
    with break_way("refused") as way:
        with pytest.raises(Unreachable) as first:
            get(way.url)
        with pytest.raises(Unreachable, match=re.escape(str(first.value))):
            get(f"{way.url}/other")


def test_a_server_that_answered_is_waited_for() -> None:
    with Page() as server:
        assert get(server.url) == 200
        assert not is_first(server.url)
    with pytest.raises(NoAnswer, match=r"no connection to .*gave up after 4 attempts"):
        get(server.url, attempts=4)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_has_answered(status: int) -> None:
    with Page(status) as server, pytest.raises(NoAnswer, match=f"HTTP {status}; gave up after 5"):
        get(server.url, attempts=5)


def test_without_hurry_every_request_has_its_time() -> None:
    be_patient()
    with pytest.raises(NoAnswer, match=r"\(Connection refused\); gave up after 3 attempts"):
        get(f"https://{CLOSED}", attempts=3)
    knock(f"https://{CLOSED}", STAC)  # asks nothing


def test_a_page_in_place_of_earth_engine_ends_the_first_request_alone() -> None:
    with Page() as server:
        transport = BoundedHttp(30, 1, server.url)
        with pytest.raises(Unreachable, match=r"a web page came .*check CLOUDMASK_EARTHENGINE_URL"):
            transport.request(f"{server.url}/v1")
        note_answer(server.url)
        with pytest.raises(ConnectionError, match="a web page came"):
            transport.request(f"{server.url}/v1")


def test_a_bundle_that_lacks_the_certificate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", certifi.where())
    with (
        break_way("self-signed") as way,
        pytest.raises(Unreachable, match=f"CURL_CA_BUNDLE names {re.escape(certifi.where())}"),
    ):
        get(way.url)


def test_an_error_that_tells_nothing_is_described() -> None:
    found = diagnose(requests.ConnectionError("?"), "https://far.test")
    assert found.problem.startswith("no connection that stays open to far.test:443")


OFFLINE = {"CLOUDMASK_STAC_API_URL": "https://nothing.invalid/stac", "CLOUDMASK_METHOD": "csmask"}
AWS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"), "test")
FAR = "--store https://nothing.invalid/masks"
COMMANDS = [
    "ingest --tile 22KFV --datetime 2018-12",
    "watch --once --tile 22KFV",
    "status --tile 22KFV",
    "check --store s3://bucket/masks",
    f"stats {FAR}",
    f"view S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959 {FAR}",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_with_one_line_and_notes_nothing(command: str, tmp_path: Path) -> None:
    environment = {**OFFLINE, **AWS, "AWS_ENDPOINT_URL": "https://nothing.invalid"}
    result = run(*command.split(), cwd=tmp_path, **environment)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "https://nothing.invalid: DNS: no address of nothing.invalid" in line
    assert "https_proxy" in line
    assert not result.stdout
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("command", COMMANDS[:2])
@pytest.mark.parametrize("status", [200, 404])
def test_a_page_in_place_of_the_stac_api_is_wrong_usage(status: int, command: str, tmp_path: Path) -> None:
    with Page(status) as server:
        result = run(
            *command.split(), cwd=tmp_path, CLOUDMASK_METHOD="csmask", CLOUDMASK_STAC_API_URL=server.url
        )
    assert result.returncode == 2
    # A watch has noted it of each area.
    *noted, line = result.stderr.splitlines()
    assert "check CLOUDMASK_STAC_API_URL" in line
    assert len(noted) == command.startswith("watch")
