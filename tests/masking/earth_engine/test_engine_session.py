"""Who may ask Earth Engine, and what is said to those who may not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import ee
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pc_cloudmask.errors import EngineRefused, EngineUnavailable, SettingsError
from pc_cloudmask.masking.earth_engine.pacing import Limits
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.web import Deadline
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import QUICK, run_session

REAL = "https://earthengine-highvolume.googleapis.com"
ALGORITHMS = "algorithms"


def ask(session: EarthEngineSession) -> Any:
    """One small request."""
    return session.call("asking", lambda: ee.data.computeValue(ee.Number(1).add(2)), Deadline(60))


def open_quick(engine: LocalEarthEngine, project: str | None, credentials: str) -> EarthEngineSession:
    return EarthEngineSession(project, engine.url, credentials, 4, Limits(**QUICK))


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without credentials, on no cloud's machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    return tmp_path


class TokenServer(HTTPServer):
    """Google's sign-in: answers ``token``, or ``status`` with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.status = 200
        self.bodies: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/token"


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.server.status == 200:
            document: dict[str, Any] = {
                "access_token": "secret-token",
                "expires_in": 3600,
                "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }
        else:
            document = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        body = json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing."""


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def key_file(tmp_path: Path, private_key: str, tokens: TokenServer) -> Path:
    """A service account's key of project ``key-project``."""
    path = tmp_path / "key.json"
    key = {
        "type": "service_account",
        "project_id": "key-project",
        "private_key_id": "1",
        "private_key": private_key,
        "client_email": "masks@key-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": tokens.url,
    }
    path.write_text(json.dumps(key))
    return path


def test_opening_a_session_asks_nobody_and_reads_no_credentials(earth_engine: LocalEarthEngine) -> None:
    EarthEngineSession("p", earth_engine.url, "default", 4).close()
    assert len(earth_engine.requests) == 0


@pytest.mark.parametrize("project", [None, ""])
def test_a_missing_project_is_asked_for(project: str | None) -> None:
    with pytest.raises(SettingsError) as failed:
        EarthEngineSession(project, REAL, "default", 4)
    assert str(failed.value) == (
        "set CLOUDMASK_EARTHENGINE_PROJECT to a Google Cloud project registered for Earth Engine"
    )


@pytest.mark.parametrize("url", [REAL, "http://127.0.0.1.example.com:80", "https://localhost.example.com"])
def test_anonymous_is_for_loopback_alone(url: str) -> None:
    with pytest.raises(SettingsError, match="'anonymous' is for loopback endpoints only"):
        EarthEngineSession("p", url, "anonymous", 4)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read (No such file or directory); give 'default' or the path"),
        ("no json", "is not JSON, not a service account's key"),
        ('{"type": "external_account"}', "is of type 'external_account', not a service account's key"),
        ("[]", "is not JSON, not a service account's key"),
    ],
)
def test_a_key_file_that_is_none_is_said_before_anything_runs(
    content: str | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as failed:
        EarthEngineSession(None, REAL, str(path), 4)
    assert str(failed.value).startswith(f"CLOUDMASK_EARTHENGINE_CREDENTIALS: {path} ")
    assert problem in str(failed.value)


def test_a_damaged_key_stays_out_of_the_error(
    key_file: Path, earth_engine: LocalEarthEngine, private_key: str
) -> None:
    key = json.loads(key_file.read_text())
    key["private_key"] = private_key[:200]
    key_file.write_text(json.dumps(key))
    session = open_quick(earth_engine, "p", str(key_file))
    with pytest.raises(SettingsError, match="is not a complete service account key") as failed:
        ask(session)
    assert private_key[60:90] not in str(failed.value)
    assert failed.value.__cause__ is None


def test_no_credentials_at_all_is_told_with_the_ways_to_mend_it(
    bare_machine: Path, earth_engine: LocalEarthEngine
) -> None:
    session = open_quick(earth_engine, "p", "default")
    with pytest.raises(SettingsError) as failed:
        ask(session)
    assert "run 'earthengine authenticate'" in str(failed.value)
    assert "\n" not in str(failed.value)


def bearer(engine: LocalEarthEngine) -> set[str | None]:
    return {request.headers.get("authorization") for request in engine.requests}


def test_a_service_accounts_key_signs_in_to_its_own_project(
    key_file: Path, earth_engine: LocalEarthEngine, tokens: TokenServer
) -> None:
    session = open_quick(earth_engine, None, str(key_file))
    assert ask(session) == 3
    session.close()
    assert len(tokens.bodies) == 1
    assert bearer(earth_engine) == {"Bearer secret-token"}
    requests = earth_engine.requests.to("/projects/")
    assert requests
    assert all("/projects/key-project/" in request.path for request in requests)


def test_application_default_credentials_are_found(
    bare_machine: Path, key_file: Path, earth_engine: LocalEarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    session = open_quick(earth_engine, "p", "default")
    assert ask(session) == 3
    session.close()
    assert bearer(earth_engine) == {"Bearer secret-token"}


@pytest.mark.slow
def test_a_users_default_credentials_ask_for_no_scope_beyond_their_own(
    bare_machine: Path,
    earth_engine: LocalEarthEngine,
    tokens: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What "gcloud auth application-default login" leaves; Google answers other scopes with invalid_scope.
    signed_in = {
        "type": "authorized_user",
        "client_id": "764086051850-x.apps.googleusercontent.com",
        "client_secret": "s",  # pragma: allowlist secret
        "refresh_token": "r",
        "quota_project_id": "another",
    }
    # Google's library takes no other place for a user's tokens from the file.
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", tokens.url)
    path = bare_machine / "gcloud" / "application_default_credentials.json"
    path.parent.mkdir()
    path.write_text(json.dumps(signed_in))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    session = open_quick(earth_engine, "p", "default")
    assert ask(session) == 3
    session.close()
    assert "grant_type=refresh_token" in tokens.bodies[0]
    assert "scope" not in tokens.bodies[0]
    # The project that is asked for pays, not the one that gcloud noted.
    requests = earth_engine.requests.to("/projects/")
    assert {request.headers.get("X-Goog-User-Project") for request in requests} == {"p"}
    assert not any("x-goog-user-project" in request.headers for request in requests)


@pytest.fixture
def signed_in(bare_machine: Path, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which ``earthengine authenticate`` ran: the file that it left."""
    monkeypatch.setattr("ee.oauth.TOKEN_URI", tokens.url)  # which the file cannot say
    path = bare_machine / ".config" / "earthengine" / "credentials"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"refresh_token": "of-the-user", "project": "another"}))
    return path


@pytest.mark.usefixtures("signed_in")
def test_what_earthengine_authenticate_left_comes_before_gclouds(
    bare_machine: Path, key_file: Path, earth_engine: LocalEarthEngine, tokens: TokenServer
) -> None:
    gclouds = bare_machine / "gcloud" / "application_default_credentials.json"
    gclouds.parent.mkdir()
    gclouds.write_bytes(key_file.read_bytes())
    session = open_quick(earth_engine, "p", "default")
    assert ask(session) == 3
    session.close()
    assert "refresh_token=of-the-user" in tokens.bodies[0]
    requests = earth_engine.requests.to("/projects/")
    assert {request.headers.get("X-Goog-User-Project") for request in requests} == {"p"}


@pytest.mark.usefixtures("signed_in")
def test_a_file_that_the_environment_names_comes_first(
    key_file: Path, earth_engine: LocalEarthEngine, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    session = open_quick(earth_engine, "p", "default")
    assert ask(session) == 3
    session.close()
    assert "refresh_token" not in tokens.bodies[0]


@pytest.mark.parametrize("left", ["", "[]", "{}", '{"project": "p"}'])
def test_a_sign_in_that_left_no_token_is_passed_over(
    signed_in: Path, earth_engine: LocalEarthEngine, left: str
) -> None:
    signed_in.write_text(left)
    session = open_quick(earth_engine, "p", "default")
    with pytest.raises(SettingsError, match="no Google credentials were found"):
        ask(session)


def test_workload_identity_signs_in(
    bare_machine: Path,
    earth_engine: LocalEarthEngine,
    tokens: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (bare_machine / "subject").write_text("subject-token")
    configuration = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": tokens.url,
        "credential_source": {"file": str(bare_machine / "subject")},
    }
    path = bare_machine / "workload.json"
    path.write_text(json.dumps(configuration))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    # Otherwise Google's library asks a further service for the project that the pool belongs to.
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    session = open_quick(earth_engine, "p", "default")
    assert ask(session) == 3
    session.close()
    assert "subject_token=subject-token" in tokens.bodies[0]
    assert bearer(earth_engine) == {"Bearer secret-token"}


def test_a_refused_key_is_refused_at_once_without_its_token(
    key_file: Path, earth_engine: LocalEarthEngine, tokens: TokenServer
) -> None:
    tokens.status = 400
    session = open_quick(earth_engine, "p", str(key_file))
    with pytest.raises(EngineRefused, match=r"Earth Engine: the credentials were refused .*invalid_grant"):
        ask(session)
    session.close()
    assert len(tokens.bodies) == 1
    assert len(earth_engine.requests) == 0


def test_it_starts_once_for_many_threads_and_tells_its_time(earth_engine: LocalEarthEngine) -> None:
    with run_session(earth_engine) as session:
        threads = [threading.Thread(target=ask, args=(session,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted = session.statistics
    assert len(earth_engine.requests.to(ALGORITHMS)) == 1
    assert len(earth_engine.requests.to("value:compute")) == counted.requests == 8
    assert counted.seconds.keys() == {"start"}


def test_a_start_is_tried_again_where_that_helps(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.unavailable(), path="$discovery", first=1)
    earth_engine.faults.add(faults.Html(), path="$discovery", first=1)
    earth_engine.faults.add(faults.too_many_requests(), path=ALGORITHMS, first=1)
    with run_session(earth_engine) as session:
        assert ask(session) == 3


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (faults.not_registered(), EngineRefused, "project p is not registered for Earth Engine"),
        (faults.missing_role(), EngineRefused, "may not use project p"),
        (faults.api_not_enabled(), EngineRefused, "API is not enabled in project p"),
        (faults.unavailable(), EngineUnavailable, "HTTP 503: .*gave up after 4 attempts"),
    ],
)
def test_a_start_that_fails_says_why_and_may_be_tried_later(
    fault: faults.Fault, error: type[Exception], text: str, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.faults.add(fault, path=ALGORITHMS)
    with run_session(earth_engine) as session:
        for _ in range(2):
            with pytest.raises(error, match=f"^Earth Engine: .*{text}"):
                ask(session)
        earth_engine.faults.clear()
        assert ask(session) == 3


def test_nobody_listening_is_unavailable() -> None:
    session = EarthEngineSession(
        "p", "http://127.0.0.1:9", "anonymous", 1, Limits(**{**QUICK, "attempts": 2})
    )
    with pytest.raises(
        EngineUnavailable,
        match=r"Earth Engine: no connection to 127\.0\.0\.1:9 \(.*\); gave up after 2",
    ):
        ask(session)
    session.close()


def test_sessions_may_follow_each_other(earth_engine: LocalEarthEngine) -> None:
    with (
        run_session(earth_engine) as first,
        LocalEarthEngine() as elsewhere,
        run_session(elsewhere) as second,
    ):
        assert [ask(first), ask(second), ask(first)] == [3, 3, 3]
        assert len(earth_engine.requests.to("value:compute")) == 2
        assert len(elsewhere.requests.to("value:compute")) == 1


@pytest.mark.slow
def test_only_this_package_imports_the_client() -> None:
    code = (
        "import sys, pc_cloudmask.runs.context, pc_cloudmask.runs.ingest, pc_cloudmask.settings; "
        "sys.exit(any(name in sys.modules for name in ('ee', 'googleapiclient')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
