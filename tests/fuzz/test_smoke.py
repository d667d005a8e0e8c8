"""Every fuzz target runs, and a crash is heard."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris has no wheel for this platform")

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import TARGETS, run_target

pytestmark = pytest.mark.slow

EXECUTIONS = 100
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the caller's; what a crash leaves goes with the test."""
    for name in os.environ:
        if name.startswith("CLOUDMASK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_any_bytes(target: str) -> None:
    dice = random.Random(target)
    for _ in range(EXECUTIONS):
        run_target(target, dice.randbytes(dice.randint(0, 400)))


def test_the_harness_counts_executions_and_hears_a_crash() -> None:
    sound = fuzz("keys", f"-atheris_runs={EXECUTIONS}")
    assert (sound.crashed, sound.executions >= EXECUTIONS) == (False, True), sound.log
    assert fuzz("a target that raises KeyError", "-atheris_runs=3").crashed
