"""Whatever comes from outside is shown in one visible line, without what opens anything."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from pc_cloudmask.catalog.fields import encode_document
from pc_cloudmask.cli import output
from pc_cloudmask.cli.app import say
from pc_cloudmask.errors import CloudmaskError, InvalidField, StoreRefused
from pc_cloudmask.flows.progress import build_rows
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.runs.candidate import build_failure, read_candidate
from pc_cloudmask.runs.report import JsonFormatter, Report, SceneOutcome, SceneState, TextFormatter
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.text import (
    LONGEST_MESSAGE,
    encode_for_terminal,
    escape_markdown,
    hide_values,
    keep_signatures_out_of_logs,
    make_printable,
    unsigned_href,
)
from tests.catalog.items import derive, make_source_item
from tests.security.terminal import ESCAPES, find_unprintable

SECRET = "s3cr3tV4lue"  # pragma: allowlist secret


@given(st.text())
def test_any_text_becomes_one_visible_line(text: str) -> None:
    shown = make_printable(text)
    assert shown.isprintable()
    assert make_printable(shown) == shown


@pytest.mark.slow
@given(st.text(min_size=1))
def test_any_text_is_bounded(text: str) -> None:
    assert len(make_printable(text * LONGEST_MESSAGE)) <= LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9bb\x7f", r"a\x9bb\x7f"),
        ("a\u202egnp.tif", r"a\u202egnp.tif"),
        ("a\u200b\u2028\U000e0041", r"a\u200b\u2028\U000e0041"),
        ("\u3164\u115f\ufe0f", r"\u3164\u115f\ufe0f"),
        ("\ud800", r"\ud800"),
        ("two\r\n\tlines", "two lines"),
        ("São Paulo, 22 °C … 東京", "São Paulo, 22 °C … 東京"),
        ("C:\\data [red]x[/red]", "C:\\data [red]x[/red]"),
    ],
)
def test_what_is_not_visible_is_spelled_out(text: str, shown: str) -> None:
    assert make_printable(text) == shown


def test_a_long_text_is_cut_in_its_middle_so_that_what_helps_stays() -> None:
    shown = make_printable(f"bucket: {'x' * 9000}: look at CLOUDMASK_STORE")
    assert shown.startswith("bucket: x")
    assert shown.endswith("x: look at CLOUDMASK_STORE")


def test_half_a_secret_at_the_end_of_what_is_read_is_not_shown() -> None:
    for length in range(16_360, 16_400):
        assert "s3cr3" not in make_printable(f"{'x ' * (length // 2)}https://h/x?sig={SECRET}")


def test_every_error_of_ours_is_printable_and_survives_a_process() -> None:
    for error in (CloudmaskError(ESCAPES), InvalidField(ESCAPES, ESCAPES, ESCAPES)):
        assert str(error).isprintable()
        assert repr(error).isprintable()
    assert str(pickle.loads(pickle.dumps(StoreRefused("a\x1bb")))) == r"a\x1bb"


def test_an_error_that_is_not_ours_becomes_a_printable_reason() -> None:
    reason = build_failure("a", ValueError(f"{ESCAPES} https://h/x?token={SECRET}")).reason
    assert reason.isprintable()
    assert SECRET not in reason


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_record_is_one_line_and_its_traceback_cannot_forge_another(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(f"{ESCAPES}\nERROR flows: forged")
    except ValueError as error:
        record = logging.LogRecord(
            "flows.x", logging.INFO, "x", 1, "%s", (ESCAPES,), (ValueError, error, None)
        )
    written = formatter.format(record)
    assert not find_unprintable(written)
    assert not [line for line in written.splitlines()[1:] if not line.startswith("  ")]


@pytest.fixture
def record_factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("record_factory")
@pytest.mark.parametrize(
    "name", ["prefect.flow_runs", "botocore.auth", "httpx", "google.auth.transport", "urllib3.made.later"]
)
def test_records_are_redacted_whichever_handler_writes_them(name: str) -> None:
    """Prefect sends records to its server by handlers and formats of its own."""
    keep_signatures_out_of_logs()
    keep_signatures_out_of_logs()
    error = ValueError(f"https://h/x?token={SECRET}\x1b[2J")
    record = logging.getLogger(name).makeRecord(
        *(name, logging.ERROR, "x", 1, "Authorization: Bearer %s \x1b[2J", (SECRET,)),
        (ValueError, error, None),
    )
    written = logging.Formatter().format(record)
    assert "ValueError: https://h/x" in written
    assert SECRET not in written
    assert not find_unprintable(written)


def test_json_for_a_terminal_is_ascii_without_controls() -> None:
    text = encode_for_terminal({"id": ESCAPES})
    assert text.isascii()
    assert not find_unprintable(text)
    assert json.loads(text) == {"id": ESCAPES}


def test_tables_show_markup_and_escapes_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=400, force_terminal=True, color_system="truecolor", highlight=False)
    monkeypatch.setattr(output, "stdout", console)
    with console.capture() as capture:
        output.print_table("title", ("scene", "what"), [(ESCAPES, "[bold]b[/bold]")])
    shown = capture.get()
    for style in ("\x1b[1m", "\x1b[0m"):  # the table's own
        shown = shown.replace(style, "")
    assert not find_unprintable(shown)
    assert shown.count("[red]markup[/red]") == 1
    assert "[bold]b[/bold]" in shown


def test_lines_show_markup_and_escapes_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"  {ESCAPES}")
    shown = capsys.readouterr().out
    assert not find_unprintable(shown)
    assert shown.startswith(r"  \x1b]0;owned")
    assert "[red]markup[/red]" in shown


MARKDOWN = [
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![a](https://evil.example/a.png)",
    "`code` | cell | **bold** ~~gone~~",
    "# title",
    "a&lt;b&gt; $x$ \\<b>",
    "<https://evil.example> <script>",
]


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_shows_the_text_and_does_nothing_else(text: str) -> None:
    parsed = (
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .parse(escape_markdown(text))
    )
    kinds = {token.type for block in parsed for token in (block, *(block.children or ()))}
    assert kinds <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
    (inline,) = [block for block in parsed if block.children]
    assert "".join(token.content for token in inline.children or ()) == text


def test_urls_and_addresses_are_no_links_of_themselves() -> None:
    for text in ("https://evil.example", "HTTP://evil.example", "www.evil.example", "me@evil.example"):
        escaped = escape_markdown(text)
        assert text not in escaped
        assert escaped.replace("\\", "") == text


def test_artifacts_show_an_item_s_id_and_reason_as_text() -> None:
    outcome = SceneOutcome("a|<img src=x>", SceneState.FAILED, f"`x` [l](https://evil.example) {ESCAPES}")
    (row,) = build_rows(Report(failed=(outcome,)), (), lambda _id, _key: "")
    assert row["scene"] == r"a\|\<img src=x\>"
    assert r"\[l\](https:\//evil.example)" in row["reason"]
    assert row["reason"].isprintable()


# What a secret may consist of: no terminal's business, but every character that a query or a password has.
secrets = st.text("abcXYZ0189+/=%-_.~!*", min_size=8, max_size=40).map(lambda text: f"Q9{text}9Q")
NAMES = [
    "sig",
    "se",
    "token",
    "access_token",
    "api_key",
    "apikey",
    "subscription-key",
    "key",
    "Signature",
    "OSSAccessKeyId",
    "AWSAccessKeyId",
    "GoogleAccessId",
    "X-Goog-Signature",
    "X-Amz-Credential",
    "Policy",
    "Key-Pair-Id",
    "password",
    "x",
]
HOST = "example.com/a/B02.tif"
FORMS = [
    *(f"https://{HOST}?format=png&{name}=SECRET" for name in NAMES),
    f"https://{HOST}?SECRET",
    f"https://{HOST}?SECRET=1",
    f"https://{HOST}#sig=SECRET",
    f"https://{HOST}#SECRET",
    f"https://{HOST};jsessionid=SECRET",
    f"https://{HOST}&sig=SECRET",
    f"https://{HOST}?assets=visual;sig=SECRET",
    f"https://{HOST}?assets=visual?sig=SECRET",
    "https://user:SECRET@example.com/x.tif",  # pragma: allowlist secret
    "https://SECRET@example.com/x.tif",
    "s3://key:SECRET@bucket/x.tif",  # pragma: allowlist secret
    "gs://SECRET:x@bucket/x.tif",
    "abfs://container:SECRET@account.example.com/x.tif",  # pragma: allowlist secret
    f"/vsicurl/https://{HOST}?sig=SECRET",
    "/vsicurl?url=https%3A%2F%2Fexample.com&header.Authorization=SECRET",
    "/vsiaz/container/x.tif?sig=SECRET",
    "relative/x.tif?sig=SECRET",
]
#: A URL inside a parameter or a path, with the secret where a nested query, fragment or user has it.
NESTED = [
    "https://example.com/y?sig=SECRET",
    "https://example.com/y#token=SECRET",
    "https://user:SECRET@example.com/y",  # pragma: allowlist secret
]
HOLDERS = [
    "https://example.com/x?item=NESTED",
    "https://example.com/x?url=NESTED",
    "https://example.com/p/NESTED",
]


def is_hidden(secret: str, text: str) -> bool:
    """Whether neither the secret nor a telling part of it stands in the text, in any spelling."""
    return not any(part in text for part in (secret, quote(secret, safe=""), secret[:8], secret[-8:]))


@st.composite
def signed_hrefs(draw: st.DrawFn) -> tuple[str, str]:
    """A secret, percent-encoded as URLs want it, and an href that holds it."""
    secret = quote(draw(secrets), safe="")
    form = draw(st.sampled_from([*FORMS, *NESTED]))
    if form in NESTED:
        nested = form.replace("SECRET", secret)
        for _ in range(draw(st.integers(1, 3))):
            nested = quote(nested, safe="")
        return secret, draw(st.sampled_from(HOLDERS)).replace("NESTED", nested)
    return secret, form.replace("SECRET", secret)


@given(signed_hrefs())
def test_no_href_keeps_its_secret(drawn: tuple[str, str]) -> None:
    secret, href = drawn
    once = unsigned_href(href)
    assert is_hidden(secret, once), once
    assert unsigned_href(once) == once


@given(
    signed_hrefs(),
    st.sampled_from(["%s", "%s: HTTP 403", "GET %s failed", "'%s' is no TIFF", "({'u': '%s'})"]),
)
def test_no_text_keeps_a_secret(drawn: tuple[str, str], form: str) -> None:
    secret, href = drawn
    for shown in (str(CloudmaskError(form % href)), make_printable(form % href)):
        assert is_hidden(secret, shown), shown


def plant(href: str, place: str) -> dict[str, Any]:
    """A source item with ``href`` where the place says."""
    item: dict[str, Any] = make_source_item()
    match place:
        case "asset":
            item["assets"]["extra"] = {"href": href}
        case "alternate":
            item["assets"]["B02"]["alternate"] = {"other": {"href": href}}
        case "link":
            item["links"].append({"rel": "license", "href": href, "title": f"at {href}"})
        case "property":
            item["properties"]["note"] = {"deep": [f"see {href} there", href]}
        case "extension":
            item["stac_extensions"] = [href]
        case "geometry":
            item["geometry"] = {**item["geometry"], "note": href}
    return item


@given(signed_hrefs(), st.sampled_from(["asset", "alternate", "link", "property", "extension", "geometry"]))
def test_nothing_published_or_remembered_keeps_a_secret(drawn: tuple[str, str], place: str) -> None:
    secret, href = drawn
    try:
        candidate = read_candidate(unsign_item(plant(href, place)), {"csmask": MaskParameters()})
    except CloudmaskError as refusal:
        told = str(refusal)
    else:
        told = encode_document(derive(candidate.item)).decode()
        again = read_candidate(unsign_item(plant(unsigned_href(href), place)), {"csmask": MaskParameters()})
        assert candidate.fingerprint == again.fingerprint
    assert is_hidden(secret, told)


def test_known_values_are_hidden_wherever_they_stand() -> None:
    try:
        hide_values(lambda: ["wJalr/UtnFEMI+key", "short"])
        assert make_printable("x wJalr/UtnFEMI+key y wJalr%2FUtnFEMI%2Bkey short") == "x *** y *** short"
    finally:
        hide_values(tuple)
