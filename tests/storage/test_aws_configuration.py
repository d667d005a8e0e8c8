"""What the user's AWS configuration says of buckets wins; only what it leaves open has defaults of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pc_cloudmask.errors import SettingsError, StoreRefused, StoreUnavailable
from pc_cloudmask.storage.stores import open_store
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

LISTING = b"""<?xml version="1.0"?><ListBucketResult><Name>masks</Name><KeyCount>0</KeyCount>
<IsTruncated>false</IsTruncated></ListBucketResult>"""


class _Handler(QuietHandler):
    app: BucketServer

    def do_GET(self) -> None:
        self.app.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.answer(self.app.status, self.app.body, "application/xml", {"x-amz-request-id": "1"})

    def do_CONNECT(self) -> None:
        self.app.requests.append((self.path, {}))
        self.answer(self.app.status, b"", "text/plain")


class BucketServer(LoopbackServer):
    """Answers every listing, of any host for which it is the proxy, and remembers what it was asked."""

    handler = _Handler

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.status, self.body = 200, LISTING


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BucketServer]:
    """The proxy of every host; keys in the environment, and no configuration but a test's own."""
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")  # pragma: allowlist secret
    with BucketServer() as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        yield server


def configure(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)


def ask(server: BucketServer) -> tuple[str, dict[str, str]]:
    """The URL and the headers of one listing."""
    open_store("s3://masks/prod")
    return server.requests[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "url"),
    [
        ("", "http://store.test/masks?"),
        ("s3 =\n  addressing_style = path", "http://store.test/masks?"),
        ("s3 =\n  addressing_style = virtual", "http://masks.store.test/?"),
        ("s3 =\n  max_queue_size = 10", "http://store.test/masks?"),
    ],
)
def test_the_addressing_style_is_the_configurations(
    server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str, url: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    configure(tmp_path, f"[default]\nregion = eu-west-1\n{style}\n")
    assert ask(server)[0].startswith(url)


def test_a_profile_brings_its_own_endpoint_style_and_region(
    server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        tmp_path,
        "[profile oss]\nregion = oss-1\nservices = oss\ns3 =\n  addressing_style = virtual\n"
        "[services oss]\ns3 =\n  endpoint_url = http://oss.test\n",
    )
    monkeypatch.setenv("AWS_PROFILE", "oss")
    url, headers = ask(server)
    assert url.startswith("http://masks.oss.test/?")
    assert "/oss-1/s3/" in headers["authorization"]


def test_the_endpoint_of_the_service_wins_over_the_general_one(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://any.test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.test")
    assert ask(server)[0].startswith("http://s3.test/masks?")


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-north-1"}, "eu-north-1"),
        ({"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
def test_the_region_is_found_as_other_sdks_find_it(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert f"/{region}/s3/" in ask(server)[1]["authorization"]


@pytest.mark.slow
@pytest.mark.parametrize(("value", "signed"), [("YES", False), ("true", False), ("1", False), ("NO", True)])
def test_a_public_bucket_is_read_without_a_signature(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, value: str, signed: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", value)
    assert ("authorization" in ask(server)[1]) is signed


@pytest.mark.parametrize(("value", "header"), [("requester", "requester"), ("", None)])
def test_who_reads_may_pay(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, value: str, header: str | None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    monkeypatch.setenv("AWS_REQUEST_PAYER", value)
    headers = ask(server)[1]
    assert headers.get("x-amz-request-payer") == header
    assert ("x-amz-request-payer" in headers["authorization"]) is bool(header)  # it is signed, too


@pytest.mark.parametrize("by", ["environment", "configuration"])
def test_how_often_is_tried_is_the_users(
    server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    if by == "environment":
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    else:
        configure(tmp_path, "[default]\nmax_attempts = 1\n")
    server.status, server.body = 503, b""
    with pytest.raises(StoreUnavailable):
        open_store("s3://masks/prod")
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", ["SecondLevelDomainForbidden", "PathStyleDomainForbidden"])
def test_a_store_that_wants_the_bucket_in_its_host_says_how(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")
    server.status, server.body = 403, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    with pytest.raises(StoreRefused, match="addressing_style = virtual"):
        open_store("s3://masks/prod")


@pytest.mark.parametrize("status", [407, 403])
def test_a_proxy_that_refuses_is_named(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store.test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy = server.url.replace("http://", "http://user:hunter2@")  # pragma: allowlist secret
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    server.status = status
    with pytest.raises(SettingsError, match=f"proxy {server.url} answers HTTP {status}") as error:
        open_store("s3://masks/prod")
    assert "hunter2" not in str(error.value)
    assert server.requests == [("store.test:443", {})]
