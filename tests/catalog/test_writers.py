"""Four writers at once: every interleaving keeps the promise, and every known mistake breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.catalog.mutants import MUTANTS, Mutant, mutated
from tests.catalog.writers import Writers, writers_machine

pytestmark = pytest.mark.slow

QUIET = settings(
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=40,
)


def test_four_writers_lose_nothing() -> None:
    run_state_machine_as_test(Writers, settings=settings(QUIET, max_examples=80))


def test_a_copy_without_a_mistake_survives(tmp_path: Path) -> None:
    """So that what kills the mutants is their mistake, not the copying."""
    with mutated(None, tmp_path) as package:
        run_state_machine_as_test(writers_machine(package), settings=settings(QUIET, max_examples=5))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    hunt = settings(QUIET, max_examples=1500, phases=[Phase.generate], derandomize=False)
    with mutated(mutant, tmp_path) as package, pytest.raises(AssertionError):
        run_state_machine_as_test(seed(mutant.seed)(writers_machine(package)), settings=hunt)
