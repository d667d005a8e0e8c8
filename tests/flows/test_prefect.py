"""The same job as a Prefect flow run, on a server of its own, its tasks on two Dask workers."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pc_cloudmask.flows.progress import COLLECTION_TASK
from pc_cloudmask.runs.request import IngestRequest
from tests.direct_runs import read_tree, run_directly
from tests.sample_archive import BAVARIA, BRAZIL, select_items

pytestmark = pytest.mark.usefixtures("fixed_clock")

#: More than there are workers, of both tiles; each costs a task run.
SCENES = (*BRAZIL[:2], BAVARIA[0])
STARTING_S = 1800


@pytest.mark.slow
def test_a_flow_run_publishes_the_same_bytes_and_shows_no_path_or_secret(
    sample_items: Path, tmp_path: Path
) -> None:
    items = select_items(sample_items, tmp_path / "archive", SCENES)
    direct = run_directly(IngestRequest(items=str(items), store=str(tmp_path / "direct")))
    assert sorted(direct.published) == sorted(SCENES)
    store = tmp_path / "out"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTING_S),
        "CLOUDMASK_RUNNER": "dask",
        "CLOUDMASK_WORKERS": "2",
        "PC_SDK_SUBSCRIPTION_KEY": "planted-secret",
    }
    command = [sys.executable, "-m", "pc_cloudmask", "--prefect", "--json", "ingest"]
    result = subprocess.run(
        [*command, "--items", str(items), "--store", str(store)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=2 * STARTING_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert sorted(report["published"]) == sorted(SCENES)
    assert read_tree(store) == read_tree(tmp_path / "direct")

    database = sqlite3.connect(tmp_path / "prefect" / "prefect.db")
    runs = database.execute("select name, state_type from task_run").fetchall()
    artifacts = dict(database.execute("select key, data from artifact").fetchall())
    database.close()
    assert sorted(runs) == sorted((name, "COMPLETED") for name in (*report["published"], COLLECTION_TASK))
    assert all(scene_id in artifacts["cloudmask-run"] for scene_id in report["published"])
    assert artifacts.keys() == {"cloudmask-run", "cloudmask-progress", "cloudmask-preview"}
    for path in (tmp_path / "prefect").rglob("*"):
        assert not path.is_file() or b"planted-secret" not in path.read_bytes()
