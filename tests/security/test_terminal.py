"""The command itself, told hostile texts by servers, files and its own arguments: what it prints."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api import Fault, StacApiServer, make_item
from tests.security.commands import read_report, run
from tests.security.terminal import ESCAPES, HEADER_ESCAPES, find_unprintable

pytestmark = pytest.mark.slow

SECRET = "s3cr3tV4lue"  # pragma: allowlist secret
KEY_ID = "AKIAIOSFODNN7EXAMPLE"  # pragma: allowlist secret
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # pragma: allowlist secret


def check_shown(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing that a terminal obeys, no line that pretends to be another, no secret."""
    assert not find_unprintable(done.stdout)
    assert not find_unprintable(done.stderr)
    assert not re.search(r"^FORGED", done.stdout + done.stderr, re.MULTILINE)
    for secret in (SECRET, KEY_ID, SECRET_KEY):
        assert secret not in done.stdout + done.stderr


SIGNED = f"https://evil.example/{{}}?sig={SECRET}#token={SECRET}"
FAULTS = {
    "an error's body": Fault(400, f"{ESCAPES} sig={SECRET} {SIGNED}".encode()),
    "a redirect": Fault(302, headers={"Location": SIGNED.format(HEADER_ESCAPES)}),
    "a link": Fault(page={"links": [{"rel": "next", "href": SIGNED.format(ESCAPES)}]}),
}


@pytest.mark.parametrize(
    ("said_by", "verbose"),
    [("an error's body", "-v"), ("an error's body", "-vv"), ("a redirect", "-vv"), ("a link", "-vv")],
)
def test_what_an_api_says(said_by: str, verbose: str, tmp_path: Path) -> None:
    with StacApiServer([make_item("a")]) as api:
        api.faults.append(FAULTS[said_by])
        done = run(
            *(verbose, "ingest", "--tile", "22KFV", "--store", "store"),
            cwd=tmp_path,
            environment={"CLOUDMASK_STAC_API_URL": api.url},
        )
    assert done.returncode == 1
    assert r"\x1b]0;owned" in done.stderr
    check_shown(done)


@pytest.mark.parametrize("options", [("-vv",), ("--json",)])
def test_what_items_and_the_names_of_files_say(
    options: tuple[str, ...], tmp_path: Path, sample_items: Path
) -> None:
    good = json.loads(sample_items.read_bytes())["features"][0]
    folder = tmp_path / "items"
    folder.mkdir()
    name = "\x1b]0;x\x07\x9b2J\u202e[red]\nFORGED"
    (folder / f"{name}.json").write_text("no JSON")
    for number, change in enumerate(
        [
            {"id": f"a{ESCAPES}"},
            {"id": "[bold]b[/bold] | <img src=x>"},
            {"id": "c", "assets": {ESCAPES: {"href": ESCAPES}}},
            {
                "id": "d",
                "assets": {
                    **good["assets"],
                    "B08": {**good["assets"]["B08"], "href": f"/x{HEADER_ESCAPES}.tif"},
                },
            },
            {"id": "e", "properties": {**good["properties"], "s2:mgrs_tile": ESCAPES}},
        ]
    ):
        (folder / f"{number}.json").write_text(json.dumps({**good, **change}))
    done = run(*options, "ingest", "--items", folder, "--store", "store", cwd=tmp_path)
    assert done.returncode == 1
    check_shown(done)
    if "--json" in options:
        assert done.stdout.isascii()
        assert len(read_report(done)["failed"]) == 6
    else:
        assert r"\x1b]0;x\x07\x9b2J\u202e[red]" in done.stderr
        assert "[bold]b[/bold] | <img src=x>" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (f"in{HEADER_ESCAPES}gest",),
        ("ingest", f"--b{HEADER_ESCAPES}ox"),
        ("ingest", "--tile", HEADER_ESCAPES),
        ("ingest", "--items", f"/none/{HEADER_ESCAPES}"),
        ("--config", f"/none/{HEADER_ESCAPES}.toml", "status"),
        ("retry", HEADER_ESCAPES, "--store", "store"),
    ],
    ids=lambda arguments: ascii(arguments[0])[:12],
)
def test_arguments_that_are_repeated(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*(text.replace("\0", "") for text in arguments), cwd=tmp_path)
    check_shown(done)
    assert "x1b]0;owned" in (done.stdout + done.stderr).replace("\n", "")


def test_what_a_bucket_says_and_who_asks_it(tmp_path: Path) -> None:
    code = "Denied\x9b2J\u202e\u2028[red]"
    body = f"<Error><Code>{code}</Code><Message>{KEY_ID}</Message></Error>".encode()
    with RangeServer(tmp_path) as server:
        server.plan = lambda _path, _number: (403, body, {"Content-Type": "application/xml"})
        done = run(
            *("-vv", "status", "--store", "s3://bucket/masks"),
            cwd=tmp_path,
            environment={
                "AWS_ENDPOINT_URL": server.url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_SESSION_TOKEN": SECRET,
            },
        )
    assert done.returncode == 2
    assert r"answered Denied\x9b2J\u202e\u2028[red]" in done.stderr
    assert "botocore" in done.stderr
    check_shown(done)
    assert not re.search(r"Signature[=:]\s*[0-9a-f]{16}", done.stderr)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLOUDMASK_STORE", f"s3://{KEY_ID}:{SECRET}@bucket/masks"),
        ("CLOUDMASK_STORE", f"s3://{KEY_ID}:{SECRET_KEY}@bucket/masks"),
        ("CLOUDMASK_STORE", f"s3://bucket/masks?token={SECRET}"),
        ("CLOUDMASK_STORE", f"https://me:{SECRET}@example.com/masks"),
        ("CLOUDMASK_STAC_API_URL", f"https://me:{SECRET}@example.com/stac"),
        ("CLOUDMASK_STAC_API_URL", f"https://example.com/stac?token={SECRET}"),
        ("CLOUDMASK_PUBLIC_URL", f"https://example.com/masks#sig={SECRET}"),
        ("CLOUDMASK_EARTHENGINE_URL", f"https://{SECRET}@example.com"),
    ],
)
def test_a_setting_with_a_secret_is_refused_and_not_repeated(
    variable: str, value: str, tmp_path: Path
) -> None:
    done = run("--json", "-vv", "doctor", cwd=tmp_path, environment={variable: value})
    assert done.returncode == 2
    assert variable in done.stderr
    check_shown(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("view", "a", "--store", f"https://me:{SECRET}@127.0.0.1:9/masks"),
        ("view", "a", "--store", f"https://127.0.0.1:9/masks?token={SECRET}"),
        ("view", "a", "--store", f"s3://{KEY_ID}:{SECRET_KEY}@bucket/masks"),
        ("ingest", "--items", f"http://127.0.0.1:9/items.json?token={SECRET}#{SECRET}", "--store", "store"),
        ("ingest", "--items", f"ftp://me:{SECRET}@127.0.0.1:9/items.json", "--store", "store"),
        (
            "--prefect",
            "ingest",
            "--items",
            f"https://127.0.0.1:9/items.json?token={SECRET}",
            "--store",
            "store",
        ),
    ],
    ids=["user", "query", "key", "items", "scheme", "prefect"],
)
def test_an_option_with_a_secret_is_not_repeated(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run("-vv", *arguments, cwd=tmp_path)
    assert done.returncode in {1, 2}
    check_shown(done)
