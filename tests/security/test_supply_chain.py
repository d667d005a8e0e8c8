"""What gets into the repository and into an installation."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CI = ROOT / ".ci"
LOCKS = ["requirements.lock", "requirements-dev.lock"]

# Invented, of the true form; marked so that the scan of this file passes.
SIGNATURE = "q7dXm3Zc9LwA0f%2BtB5yVn1KpR8sUe4Gh6Jo2Ni%2FQvTxMzEbCk%3D"  # pragma: allowlist secret
HEX_KEY = "9f1c3e7a5b2d48064e8fa1c7d35b2960"  # pragma: allowlist secret
ACCOUNT_KEY = "Zq8" + "fT3vXn1LmC7yB" * 6 + "sW9Gd" + "=="  # pragma: allowlist secret
AWS_SECRET = "wJ4rXUtnFEMIq7MDENGbPxRfiCYz2kLm9vQe8sHd"  # pragma: allowlist secret
KEY_FILE = r'{"private_key": "-----BEGIN PRIVATE KEY-----\nMIIE"}'  # pragma: allowlist secret
SECRETS = {
    "signed href": f"https://sentinel2l2a01.blob.core.windows.net/s/B08.tif?sv=2021-06-08&se=2024&sig={SIGNATURE}",
    "token alone": f'token = "st=2024-01-01&sp=rl&sr=c&sig={SIGNATURE}"',
    "half a token": f"WARNING GET /B08.tif?sig={SIGNATURE[:22]}",
    "connection string": f"AccountName=a;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net",
    "account key": f"AZURE_STORAGE_KEY: {ACCOUNT_KEY}",
    "AWS key id": "AKIAQ3EGZ7NXWL5TB2RD",  # pragma: allowlist secret
    "AWS secret in Python": f'aws_secret_access_key = "{AWS_SECRET}"',
    "AWS secret in a shell": f"export AWS_SECRET_ACCESS_KEY={AWS_SECRET}",
    "service account": KEY_FILE,
    "subscription key": f"PC_SDK_SUBSCRIPTION_KEY={HEX_KEY}",
    "subscription key in a header": f"Ocp-Apim-Subscription-Key: {HEX_KEY}",
}


def scan(*paths: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CI / "scan_secrets.py", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.slow
@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_the_scan_finds_a_planted_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(f"Some words.\n{text}\n")
    found = scan(path, cwd=tmp_path)
    assert found.returncode == 1, found.stdout
    assert "notes.md:2" in found.stdout
    assert SIGNATURE not in found.stdout


@pytest.mark.slow
def test_the_scan_lets_hashes_and_fakes_pass(tmp_path: Path) -> None:
    path = tmp_path / "item.json"
    path.write_text(
        f'{{"cloudmask:fingerprint": "{"8f0e3ab1" * 8}",\n"href": "https://h/a.tif?sv=2020&sig=t0ken%2F"}}'
    )
    assert scan(path, cwd=tmp_path).returncode == 0


def test_a_copy_without_git_is_searched_but_for_what_is_made_there(tmp_path: Path) -> None:
    for name in ("docs/notes.md", ".venv/lib/theirs.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(SECRETS["token alone"])
    found = scan(cwd=tmp_path)
    assert found.returncode == 1
    assert "docs/notes.md:1" in found.stdout
    assert "theirs.py" not in found.stdout


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_hashes_and_no_line_is_anything_else(lock: str) -> None:
    joined = (ROOT / lock).read_text("utf-8").replace("\\\n", " ")
    requirement = re.compile(
        r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[0-9][0-9a-z.!+]*( ; [^:@/\\]+?)?( +--hash=sha256:[0-9a-f]{64})+ *",
        re.IGNORECASE,
    )
    lines = [line for line in joined.splitlines() if line.strip()]
    assert len(lines) > 100
    assert [line[:100] for line in lines if not requirement.fullmatch(line)] == []


@pytest.mark.parametrize("target", [".installed", ".installed-dev"])
def test_what_is_installed_is_checked_against_the_hashes(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = makefile.partition(f"$(VENV)/{target}: ")[2].partition("\n\n")[0]
    installs = [line for line in recipe.splitlines() if " install " in line]
    assert installs
    assert all("--require-hashes -r requirements" in line or "--no-deps" in line for line in installs)


def test_the_licence_check_refuses_what_is_not_on_the_list() -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(CI)!r})
        from check_licences import find_problems
        allowed = {{"MIT", "Apache-2.0"}}
        licences = {{"a": "MIT", "b": "Apache-2.0 AND (MIT OR GPL-3.0-only)", "c": "UNKNOWN", "d": "GPL-3.0"}}
        for problem in find_problems(licences, allowed, {{"d": "looked at", "e": "gone"}}):
            print(problem.split(":")[0])
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["b", "c", "e"]


def test_bandit_refuses_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import subprocess\n\nsubprocess.run('ls', shell=True)\n")
    bandit = Path(sys.executable).with_name("bandit")
    answer = subprocess.run(
        [bandit, "--quiet", "--recursive", str(tmp_path)], capture_output=True, check=False
    )
    assert answer.returncode == 1
    assert b"B602" in answer.stdout
