"""What the commands of a story answer and leave behind, and how two recordings differ."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet

from tests.doubles.command import run

GOLDEN = Path(__file__).parent
SOURCE_DATE_EPOCH = "1700000000"

STORIES: dict[str, tuple[str, ...]] = {
    "archive": (
        "ingest --items archive/items.json",
        "ingest --items archive/items.json --limit 3",
        "ingest --items archive/items.json --dry-run --force",
        "ingest --items archive/items.json --limit 2 --store kept --keep-inputs",
        "status --items archive/items.json",
        "retry --items archive/later.json",
        "watch --once --items archive/later.json --tile 22KFV --tile 33UUP",
        "status",
        "check",
        "index",
        "stats",
        "view S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959 --files archive --out view.png",
        "mosaic --tile 33UUP --files archive --truth truth --out mosaic.tif",
        "doctor",
    ),
    "demo": (
        "demo",
        "ingest --items out/sample-archive/items.json",
        "ingest --items out/sample-archive/items.json --dry-run --force",
        "watch --once --items out/sample-archive/items.json --tile 22KFV --tile 33UUP",
        "status --items out/sample-archive/items.json",
        "retry",
        "check",
        "index",
        "stats",
        "view S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959 --out view.png",
        "mosaic --tile 22KFV --resolution 60 --truth truth --out mosaic.tif",
        "doctor",
    ),
}

#: What differs from run to run, from release to release, or with the version of a library.
CHANGEABLE = (
    (re.compile(r'("seconds": ?)[\d.]+'), r'\1"<seconds>"'),
    (re.compile(r'("pc-cloudmask": ?)"[^"]+"'), r'\1"<version>"'),
    # Follows from an item, which names the release.
    (re.compile(r'("specversion": ?"1\.0", ?"id": ?)"[0-9a-f]{32}"'), r'\1"<id>"'),
    # Of an environment that has it, and of CI's, which has not.
    (
        re.compile(r'("extra omnicloudmask",\s*"verdict": ?)"\w+"(,\s*"detail": ?)"[^"]+"'),
        r'\1"<verdict>"\2"<detail>"',
    ),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"items-[0-9a-f]{16}\.parquet"), "items-<hash>.parquet"),
)

Recording = dict[str, dict[str, Any]]
"""``answers`` by command, ``documents`` by path, ``files`` (SHA-256) by path."""


def record(story: str, folder: Path) -> Recording:
    """Run the commands of ``story`` in ``folder``, which is empty, and return what they did."""
    work, home = folder.resolve() / "work", folder.resolve() / "home"
    shutil.copytree(GOLDEN / "archive", work / "archive")
    home.mkdir()
    with _serve_nothing() as url:
        environment = {
            "HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
            "CLOUDMASK_STAC_API_URL": url,
        }
        answers = {command: _run(command, work, environment) for command in STORIES[story]}
    shutil.rmtree(work / "archive")
    return {"answers": answers, **_read_files(work)}


def read_recording(story: str) -> Recording:
    """Return the committed recording of ``story``."""
    documents = json.loads((GOLDEN / f"{story}.json").read_text("utf-8"))
    lines = (GOLDEN / f"{story}.sha256").read_text("utf-8").splitlines()
    return {**documents, "files": dict(line.rsplit(" ", 1) for line in lines)}


def write_recording(story: str, recording: Recording) -> None:
    """Replace the committed recording of ``story``."""
    documents = {name: part for name, part in recording.items() if name != "files"}
    text = json.dumps(documents, indent=1, ensure_ascii=False)
    (GOLDEN / f"{story}.json").write_text(f"{text}\n", "utf-8")
    lines = "".join(f"{path} {digest}\n" for path, digest in recording["files"].items())
    (GOLDEN / f"{story}.sha256").write_text(lines, "utf-8")


def describe_differences(before: Recording, after: Recording) -> list[str]:
    """Return a line for each value that was there before (``-``) or is there after (``+``), but not both."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    keys = [key for key in {**old, **new} if key not in old or key not in new or old[key] != new[key]]
    return [
        f"{sign} {key}: {json.dumps(values[key], ensure_ascii=False)}"
        for key in keys
        for sign, values in (("-", old), ("+", new))
        if key in values
    ]


class _Absent(BaseHTTPRequestHandler):
    """Answers 404, which ``doctor`` need not ask twice, in the same words with every Python."""

    error_message_format = "nothing here"

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Keep stderr for the commands."""


@contextmanager
def _serve_nothing() -> Iterator[str]:
    """Give the URL of a STAC API that is not there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Absent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/stac"
        finally:
            server.shutdown()
            thread.join()


def _run(command: str, work: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Return the exit status of ``command`` and its answer: JSON, or None where it printed nothing."""
    done = run("--json", *command.split(), cwd=work, **environment)
    text = _hide_changeable(done.stdout, work)
    return {"status": done.returncode, "answer": json.loads(text) if text else None}


def _read_files(work: Path) -> Recording:
    """Return documents and digests of the files in ``work``, but for private state and temporary files."""
    documents, files = {}, {}
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        name = path.relative_to(work).as_posix()
        if re.search(r"/[._]", name):
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = _read_rows(path).encode()
        if path.suffix in {".json", ".jsonl", ".parquet"}:
            content = _hide_changeable(content.decode(), work).encode()
        if path.suffix == ".json" and "sample-archive" not in name:
            documents[name] = json.loads(content)
        files[_hide_changeable(name, work)] = hashlib.sha256(content).hexdigest()
    return {"documents": documents, "files": files}


def _read_rows(path: Path) -> str:
    """Return the table as JSON: the bytes of a parquet file tell which pyarrow wrote it."""
    table = pyarrow.parquet.read_table(path)
    types = [str(field) for field in table.schema]
    return json.dumps([types, table.to_pylist()], default=str)


def _hide_changeable(text: str, work: Path) -> str:
    text = text.replace(str(work), "<work>")
    for pattern, replacement in CHANGEABLE:
        text = pattern.sub(replacement, text)
    return text


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is neither an object nor a list, under the path that leads to it."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not parts or not value:
        yield key, value
    for name, part in parts:
        yield from _flatten(part, f"{key} > {name}" if key else str(name))
