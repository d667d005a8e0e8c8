"""Tokens for private blobs."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from pc_cloudmask.errors import AssetDenied, AssetMissing, AssetRefused, AssetUnavailable
from pc_cloudmask.source import assets as our_sas
from pc_cloudmask.source.assets import renew_href, sas, sign_href
from pc_cloudmask.text import keep_signatures_out_of_logs, make_printable, unsigned_href
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/22/K/FV/B08.tif"
KEY = "my-subscription-key"


class _Handler(QuietHandler):
    app: TokenServer

    def do_GET(self) -> None:
        self.app.requests.append((self.path, self.headers.get("Ocp-Apim-Subscription-Key")))
        status, body = self.app.answers.pop(0) if self.app.answers else (200, self.app.next_token())
        self.answer(status, body, "application/json")


class TokenServer(LoopbackServer):
    """Gives out numbered tokens that are valid for ``validity``; ``answers`` come first."""

    handler = _Handler

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, str | None]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.validity = timedelta(hours=1)

    def next_token(self) -> bytes:
        expiry = (datetime.now(UTC) + self.validity).strftime("%Y-%m-%dT%H:%M:%SZ")
        token = f"st=2020&se=2030&sp=rl&sig=s3cr3t{len(self.requests)}"
        return json.dumps({"msft:expiry": expiry, "token": token}).encode()


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """The SDK's environment, pointed at loopback; its caches are emptied around the test."""

    def forget() -> None:
        our_sas.Settings.get.cache_clear()
        sas.TOKEN_CACHE.clear()
        our_sas._fetched_at.clear()
        our_sas._gave_up.clear()

    with TokenServer() as server:
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/token")
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", KEY)
        forget()
        yield server
        forget()


def test_a_private_blob_is_signed_with_one_token_for_its_container(tokens: TokenServer) -> None:
    other = BLOB.replace("B08", "SCL")
    assert sign_href(BLOB) == f"{BLOB}?st=2020&se=2030&sp=rl&sig=s3cr3t1"
    assert sign_href(other) == f"{other}?st=2020&se=2030&sp=rl&sig=s3cr3t1"
    assert tokens.requests == [("/token/sentinel2l2a01/sentinel2-l2", KEY)]


@pytest.mark.parametrize(
    "href", [f"{BLOB}?sig=a&se=2030&st=1&sp=r", f"{BLOB}?x=1", "https://example.org/a.tif", "/data/a.tif", "http://127.0.0.1:1/a.tif"]
)  # fmt: skip
def test_what_is_public_or_signed_stays_as_it_is(tokens: TokenServer, href: str) -> None:
    assert sign_href(href) == href
    assert renew_href(href) == href
    assert tokens.requests == []


@pytest.mark.parametrize("path", ["", "/", "/B08.tif", "//B08.tif", "/sentinel2-l2/"])
def test_a_url_of_no_blob_is_named(tokens: TokenServer, path: str) -> None:
    account = "https://sentinel2l2a01.blob.core.windows.net"
    with pytest.raises(AssetRefused, match=f"{account}{path}: names no blob in a container"):
        sign_href(account + path)
    assert tokens.requests == []


def test_a_token_about_to_expire_is_fetched_anew(tokens: TokenServer) -> None:
    tokens.validity = timedelta(seconds=90)
    assert sign_href(BLOB).endswith("s3cr3t1")
    tokens.validity = timedelta(hours=1)
    assert sign_href(BLOB).endswith("s3cr3t2")
    assert sign_href(BLOB).endswith("s3cr3t2")


def test_a_refused_token_is_renewed_once_for_all_threads(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_href(BLOB)
    our_sas._fetched_at.clear()  # as if it were old
    with ThreadPoolExecutor(8) as pool:
        signed = set(pool.map(renew_href, [BLOB] * 16))
    assert signed == {f"{BLOB}?st=2020&se=2030&sp=rl&sig=s3cr3t2"}
    assert len(tokens.requests) == 2


@pytest.mark.parametrize(
    ("answers", "error", "problem"),
    [
        ([(404, b"{}")], AssetUnavailable, "HTTP 404; the service is busy, or this is not a container"),
        ([(400, b"{}")], AssetUnavailable, "HTTP 400; its quota may be used up, or PC_SDK_SAS_URL leads"),
        ([(401, b"{}")], AssetDenied, "HTTP 401; check PC_SDK_SUBSCRIPTION_KEY"),
        ([(403, b"{}")], AssetDenied, "HTTP 403; check PC_SDK_SUBSCRIPTION_KEY"),
        ([(403, b"Out of call volume quota.")], AssetUnavailable, "HTTP 403; its quota may be used up"),
        ([(200, b"<html>")], AssetUnavailable, "something else; check PC_SDK_SAS_URL"),
        ([(200, b'{"token": "sig=s3cr3t0"}')], AssetUnavailable, "something else"),
        ([(200, b'{"token": "sig=s3cr3t0", "msft:expiry": "soon"}')], AssetUnavailable, "something else"),
        ([(200, b'["sig=s3cr3t0"]')], AssetUnavailable, "something else"),
        ([(200, b"x" * 100_000)], AssetMissing, "more than 65536 bytes"),
    ],
)
def test_without_a_token_the_blob_is_named(
    tokens: TokenServer, answers: list[tuple[int, bytes]], error: type[Exception], problem: str
) -> None:
    tokens.answers = answers
    with pytest.raises(error, match=problem) as caught:
        sign_href(BLOB)
    assert str(caught.value).startswith(f"{BLOB}: no token: ")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert "s3cr3t" not in shown
    assert KEY not in shown
    assert sign_href(BLOB).endswith("s3cr3t2"), "a failure is not remembered"


def test_a_container_that_may_be_anybodys_ends_no_run(tokens: TokenServer) -> None:
    tokens.answers = [(401, b"{}")]
    with pytest.raises(AssetMissing, match="HTTP 401") as refusal:
        sign_href(BLOB.replace("sentinel2-l2/", "other/"))
    assert not refusal.value.ends_run
    assert not refusal.value.proven


def test_who_asks_soon_after_a_deadline_is_told_at_once_what_used_it_up(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(our_sas, "TOKEN_DEADLINE_S", 5.0)
    tokens.answers = [(429, b'{"message": "Rate limit is exceeded. Try again in 23 seconds."}')]
    for _ in range(2):
        with pytest.raises(AssetUnavailable, match="HTTP 429, asks to wait 23 s"):
            sign_href(BLOB)
    assert len(tokens.requests) == 1
    our_sas._gave_up.clear()  # as if it were long ago
    assert sign_href(BLOB).endswith("s3cr3t2")


def test_a_url_that_is_none_is_named_at_once(tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_SDK_SAS_URL", "not a url")
    our_sas.Settings.get.cache_clear()
    with pytest.raises(AssetUnavailable, match="no token"):
        sign_href(BLOB)


@pytest.mark.parametrize(
    ("href", "bare"),
    [
        (f"{BLOB}?sig=a", BLOB),
        (f"{BLOB}#sig=a", BLOB),
        ("https://user:pass@host/a.tif?b", "https://host/a.tif"),  # pragma: allowlist secret
        ("/data/a.tif", "/data/a.tif"),
    ],
)
def test_an_unsigned_href_has_no_query(href: str, bare: str) -> None:
    assert unsigned_href(href) == bare


@pytest.mark.parametrize(
    "text",
    [
        f"'/vsicurl/{BLOB}?se=1&sig=s3cr3t' does not exist",
        f'"GET /a/b.tif?se=1&sig=s3cr3t HTTP/1.1" 206 for {BLOB}?sig=s3cr3t&x=1',
        "sig=s3cr3t",
        "Token: SIG=s3cr3t%2Fabc",
        "/vsiaz/a?skoid=s3cr3t;sig=s3cr3t",
        f"two\nlines {BLOB}?sig=s3cr3t\n",
    ],
)
def test_redacting_leaves_no_signature(text: str) -> None:
    assert "s3cr3t" not in make_printable(text)
    assert "\n" not in make_printable(text)


def test_the_libraries_logs_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    keep_signatures_out_of_logs()
    keep_signatures_out_of_logs()
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connectionpool").debug('%s "%s %s"', "https://h:443", "GET", "/a?sig=s3cr3t")
    logging.getLogger("rasterio._env").warning("CPLE_None in %s", f"VSICURL: {BLOB}?sig=s3cr3t")
    logging.getLogger("rasterio._env").warning("100 %")
    assert "s3cr3t" not in caplog.text
    assert BLOB in caplog.text
    assert "100 %" in caplog.text
