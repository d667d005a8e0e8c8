"""The command `watch`, in processes of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import public_bytes, walk_catalog
from tests.doubles.command import LIMIT_S, forked, run, running
from tests.sample_archive import SAMPLE_IDS, copy_archive

pytestmark = pytest.mark.slow

EPOCH = "1700000000"
COPIES = 3


@pytest.fixture(scope="module")
def archive(sample_items: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample scenes, each taken again on the days that follow."""
    items = json.loads(sample_items.read_bytes())["features"]
    features = [shift(item, days) for item in items for days in range(COPIES)]
    return copy_archive(sample_items, tmp_path_factory.mktemp("days") / "archive", features)


def shift(item: dict[str, Any], days: int) -> dict[str, Any]:
    """``item`` as if it had been taken so many days later, within its month."""
    day = item["properties"]["datetime"][:10]
    later = f"{day[:8]}{int(day[8:]) % 20 + days:02d}"
    text = json.dumps(item).replace(day, later).replace(day.replace("-", ""), later.replace("-", ""))
    shifted: dict[str, Any] = json.loads(text)
    for name, asset in item["assets"].items():
        shifted["assets"][name]["href"] = asset["href"]
    return shifted


def build_command(archive: Path, store: Path) -> list[str | Path]:
    return ["--json", "watch", "--items", archive, "--tile", "22KFV,33UUP", "--store", store]


def watch(
    archive: Path, store: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run(
        *build_command(archive, store), *arguments,
        cwd=store.parent,
        **{"SOURCE_DATE_EPOCH": EPOCH, **environment},
    )  # fmt: skip


def test_one_run_prints_one_report(archive: Path, tmp_path: Path) -> None:
    result = watch(archive, tmp_path / "out", "--once", "--since", "2015")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["published"]) == COPIES * len(SAMPLE_IDS)
    result = watch(archive, tmp_path / "out", "--once", "--since", "2015", "--look-back", "full")
    report = json.loads(result.stdout)
    assert len(report["skipped"]) == COPIES * len(SAMPLE_IDS)
    assert set(report) == {"published", "skipped", "waiting", "failed", "withdrawn", "seconds"}


def test_its_log_and_its_figures_tell_run_item_and_phase(archive: Path, tmp_path: Path) -> None:
    figures = tmp_path / "cloudmask.prom"
    environment = {"CLOUDMASK_LOG_FORMAT": "json", "CLOUDMASK_METRICS": str(figures)}
    result = watch(archive, tmp_path / "out", "--once", "--since", "2022", "-v", **environment)
    records = [json.loads(line) for line in result.stderr.splitlines()]
    assert len({record["run"] for record in records}) == 1
    put = {record["item"] for record in records if record.get("phase") == "publish"}
    assert put == set(json.loads(result.stdout)["published"])
    assert f'cloudmask_run_scenes{{command="watch",state="published"}} {len(put)}.0' in figures.read_text()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--once", "--every", "1h"], "exclude each other"),
        (["--every", "soon"], "--every"),
        (["--every", "0.1s"], "--every"),
        (["--every", "999999999.99999999d"], "--every"),
        (["--look-back", "outer"], "--look-back"),
        (["--since", "soon"], "soon"),
        (["--area", "home"], "--area"),
    ],
)
def test_wrong_usage_ends_with_one_line_and_nothing_written(
    archive: Path, tmp_path: Path, arguments: list[str], hint: str
) -> None:
    result = watch(archive, tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_an_area_it_says_how_to_name_one(tmp_path: Path) -> None:
    result = run("watch", "--once", cwd=tmp_path)
    assert result.returncode == 2
    assert "[areas.home]" in result.stderr


@contextmanager
def watching(archive: Path, store: Path, *arguments: str, **environment: str) -> Iterator[ForkServerProcess]:
    """A watch of the archive's tiles that runs while inside, its output in files beside the store."""
    with forked(
        *build_command(archive, store), *arguments,
        cwd=store.parent, folder=store.parent, **{"SOURCE_DATE_EPOCH": EPOCH, **environment},
    ) as process:  # fmt: skip
        yield process


def test_it_goes_on_until_it_is_told_to_end(archive: Path, tmp_path: Path) -> None:
    published: list[str] = []
    with running(
        *build_command(archive, tmp_path / "out"), "--every", "1s",
        cwd=tmp_path, SOURCE_DATE_EPOCH=EPOCH, CLOUDMASK_WORKERS="1",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        runs = 0
        # A scan of everything that takes longer than the period is left to the next run, which goes on with it.
        while len(published) < COPIES * len(SAMPLE_IDS):
            published += json.loads(process.stdout.readline())["published"]
            runs += 1
            assert runs < 100
        assert not json.loads(process.stdout.readline())["published"]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert len(set(published)) == COPIES * len(SAMPLE_IDS)
    assert "Traceback" not in errors


def count_files(store: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(store))


def test_killed_in_mid_run_nothing_is_lost_and_nothing_twice(
    archive: Path, tmp_path: Path, figures: list[str]
) -> None:
    """SIGKILL at any moment, again and again, until a run comes to its end."""
    watch(archive, tmp_path / "whole", "--once", CLOUDMASK_WORKERS="1")
    dice = random.Random(5)
    kills = 0
    store = tmp_path / "killed"
    while kills < 40:
        # The scenes make more than a hundred files: each process is killed after a few more of them.
        enough = count_files(store) + dice.randint(1, 12)
        with watching(archive, store, "--once", CLOUDMASK_WORKERS="1") as process:
            while process.is_alive() and count_files(store) < enough:
                time.sleep(0.005)
            ended = not process.is_alive()
        assert not walk_catalog(open_store(str(store))).dangling
        if ended:
            break
        kills += 1
    result = watch(archive, store, "--once", CLOUDMASK_WORKERS="1")
    assert result.returncode == 0, result.stderr
    assert kills
    assert public_bytes(open_store(str(store))) == public_bytes(open_store(str(tmp_path / "whole")))
    assert len(walk_catalog(open_store(str(store))).items) == COPIES * len(SAMPLE_IDS)
    figures.append(f"watch, killed {kills} times in mid-run: the catalog is the same, byte by byte")
