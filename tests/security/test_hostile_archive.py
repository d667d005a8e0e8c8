"""The whole command on an archive of hostile items, with one good item among them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.catalog.layout import COLLECTION_ID
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api import Fault, StacApiServer, make_item
from tests.security.canaries import CatchAllProxy, watching
from tests.security.commands import check_store, read_report
from tests.security.hostile_archive import Archive, Outcome
from tests.security.hostile_items import CASES, Item

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify and /proc tell what was read")

MOST_MEMORY_MB = 450
"""What the command may take at its peak: the libraries 130, a body at its limit three times 64."""


@pytest.fixture
def archive(tmp_path: Path, sample_items: Path) -> Archive:
    return Archive(tmp_path, sample_items)


@pytest.fixture
def canary(archive: Archive) -> Iterator[RangeServer]:
    """A server that must never be asked."""
    with RangeServer(archive.canary) as server:
        yield server
        assert server.requests == []


@pytest.fixture
def network(archive: Archive) -> Iterator[CatchAllProxy]:
    """The rest of the network, which must never be asked."""
    with CatchAllProxy(archive.canary) as proxy:
        yield proxy
        assert proxy.requests == []


#: What a server or a folder gives out now, for which no item is to blame.
MAY_BE_MENDED = {f"HOSTILE_raster_{name}" for name in ("absent", "cut_short", "redirect")}


def check_refusals(failed: list[dict[str, Any]], kind: str) -> None:
    """Each case is refused, by an error of our own that says why, and for good where the item is to blame."""
    errors = {failure["id"]: failure["error"] for failure in failed}
    for case in CASES:
        if case.only in {"", kind}:
            told = errors.get(f"HOSTILE_{case.name}", "\n".join(errors.values()))
            assert re.search(case.refusal, told), (case.name, told)
    assert all(failure["error"].isprintable() for failure in failed)
    assert {failure["id"] for failure in failed if failure["retryable"]} <= MAY_BE_MENDED


def check_published(archive: Archive, report: dict[str, Any]) -> None:
    """The good item is in a whole catalog, and no other: those of other places contradict their grid."""
    assert report["published"] == [archive.good["id"]]
    odd = {each["id"]: each["error"] for each in report["failed"] if each["id"].startswith("ODD_")}
    assert sorted(odd) == ["ODD_antimeridian", "ODD_pole"]
    assert all(
        re.search(r"s2:mgrs_tile \w{5} lies in EPSG:\d+, and the grid in EPSG:", told)
        for told in odd.values()
    )
    checked = check_store(str(archive.outer / "store"))
    assert [str(finding) for finding in checked.findings] == []
    assert checked.items == 1


def check_untouched(outcome: Outcome) -> None:
    assert outcome.canaries_read == []
    assert outcome.files_changed == []
    assert outcome.peak_mb < MOST_MEMORY_MB


@pytest.mark.slow
def test_the_canaries_would_tell(archive: Archive) -> None:
    with watching(archive.canary) as watch, CatchAllProxy(archive.canary) as proxy:
        before = archive.list_files()
        script = (
            "import rasterio, requests, sys; rasterio.open(sys.argv[1]).read(1); open('escaped', 'w');"
            "requests.get('http://evil.example/a'); rasterio.open('/vsicurl/https://evil.example/a.tif')"
        )
        subprocess.run(
            [sys.executable, "-c", script, str(archive.root / "rasters" / "disguised.tif")],
            env={**os.environ, **proxy.environment()},
            cwd=archive.outer,
            capture_output=True,
            check=False,
        )
        assert "secret.tif" in watch.read_names()
        assert {method for method, *_ in proxy.requests} == {"GET", "CONNECT"}
        assert set(archive.list_files()) - set(before) == {str(archive.outer / "escaped")}


@pytest.mark.slow
def test_a_folder_of_hostile_items(
    archive: Archive, canary: RangeServer, network: CatchAllProxy, figures: list[str]
) -> None:
    archive.write_items(archive.build_items("rasters", canary.url, "files"))
    documents = [*archive.root.glob("DOCUMENT_*")]
    outcome = Outcome(archive, "--items", archive.root, environment=network.environment())
    report = read_report(outcome.done)
    assert outcome.done.returncode == 1
    check_refusals(report["failed"], "files")
    cases = [case for case in CASES if case.only in {"", "files"}]
    assert len(report["failed"]) == len(cases) + len(documents) + 2
    for path in documents:
        assert f"{path}: " in outcome.done.stderr or path.stem in PARSED
    check_published(archive, report)
    check_untouched(outcome)
    figures.append(describe("a folder", len(cases) + len(documents), outcome))


@pytest.mark.slow
def test_an_api_of_hostile_items(
    archive: Archive, canary: RangeServer, network: CatchAllProxy, figures: list[str]
) -> None:
    with RangeServer(archive.root) as assets, StacApiServer() as api:
        assets.plan = lambda path, _number: (
            (302, b"", {"Location": f"{canary.url}/secret.tif"}) if "redirect" in path else None
        )
        items = archive.build_items(f"{assets.url}/rasters", canary.url, "api")
        api.faults.append(Fault(page={"features": items}))
        outcome = Outcome(archive, "--bbox=-180,-90,180,90", environment=settings(api, network))
    report = read_report(outcome.done)
    assert outcome.done.returncode == 1
    check_refusals(report["failed"], "api")
    cases = [case for case in CASES if case.only in {"", "api"}]
    assert len(report["failed"]) == len(cases) + 2
    check_published(archive, report)
    check_untouched(outcome)
    figures.append(describe("an API", len(cases), outcome))


PARSED = {f"DOCUMENT_{name}" for name in ("two_ids", "two_assets", "nan", "infinite")}
"""Documents that can be read, and whose items are refused."""
ANSWERS = {
    "deep": (Fault(body=b"[" * 5000 + b"]" * 5000), "not JSON"),
    "not UTF-8": (Fault(body=b'{"type": "FeatureCollection", "features": ["\xe9"]}'), "not UTF-8"),
    "a web page": (Fault(body=b"<html>"), "a web page"),
    "features that are none": (Fault(page={"features": {"a": 1}}), "no list of items"),
    "two lists of features": (Fault(body=b'{"features": [], "features": 1}'), "no list of items"),
    "a redirect": (Fault(302, headers={"Location": "{canary}/search"}), "redirects to"),
    "a next page elsewhere": (
        Fault(page={"features": [make_item()], "links": [{"rel": "next", "href": "{canary}/search"}]}),
        "which is another server",
    ),
}


class EndlessApi(StacApiServer):
    """Answers each search with two gigabytes of blanks; ``sent`` are those that were taken."""

    SIZE = 2 << 30
    sent = 0

    class handler(StacApiServer.handler):  # noqa: N801 - the base class's name
        app: EndlessApi

        def _search(self, query: Item) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(self.app.SIZE))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while self.app.sent < self.app.SIZE:
                    self.app.sent += self.wfile.write(b" " * (1 << 16))
            self.close_connection = True


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "refusal"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_hostile_answer(
    archive: Archive, canary: RangeServer, network: CatchAllProxy, fault: Fault, refusal: str
) -> None:
    told = json.loads(json.dumps([fault.headers, fault.page]).replace("{canary}", canary.url))
    with StacApiServer() as api:
        api.faults.append(replace(fault, headers=told[0], page=told[1]))
        outcome = Outcome(archive, "--tile", "22KFV", environment=settings(api, network), alone=False)
    check_refused_whole(archive, outcome, refusal)


@pytest.mark.slow
def test_an_answer_of_two_gigabytes(archive: Archive, network: CatchAllProxy, figures: list[str]) -> None:
    with EndlessApi() as api:
        outcome = Outcome(archive, "--tile", "22KFV", environment=settings(api, network))
    check_refused_whole(archive, outcome, "more than 67108864 bytes")
    assert api.sent < EndlessApi.SIZE / 10
    figures.append(f"hostile answers: {len(ANSWERS) + 1} refused whole; of 2 GB, peak {outcome.peak_mb} MB")


def check_refused_whole(archive: Archive, outcome: Outcome, refusal: str) -> None:
    # What is no STAC API at all is a mistake of the settings, and said so.
    is_mistaken = "check CLOUDMASK_STAC_API_URL" in outcome.done.stderr
    assert (outcome.done.returncode, outcome.done.stdout) == (2 if is_mistaken else 1, "")
    assert len(outcome.done.stderr.strip().splitlines()) == 1
    assert refusal in outcome.done.stderr
    assert not (archive.outer / "store" / COLLECTION_ID).exists()
    check_untouched(outcome)


def settings(api: StacApiServer, network: CatchAllProxy) -> dict[str, str]:
    """The command's environment: this API, and no other host but this machine."""
    return {"CLOUDMASK_STAC_API_URL": api.url, **network.environment(no_proxy="127.0.0.1")}


def describe(what: str, refused: int, outcome: Outcome) -> str:
    return (
        f"hostile archive from {what}: {refused} cases refused, {len(outcome.canaries_read)} reads outside "
        f"the allow-list, {len(outcome.files_changed)} files outside the store, peak {outcome.peak_mb} MB"
    )
