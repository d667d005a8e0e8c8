"""The guide to costs says what its script computes from the committed figures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    """The script; deploy/ is no package."""
    spec = importlib.util.spec_from_file_location("deploy_costs", DEPLOY / "costs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "deploy_costs", module)
        spec.loader.exec_module(module)
    return module


def test_the_guide_holds_the_table(costs: ModuleType) -> None:
    table = costs.build_table(costs.read_figures(costs.BENCHMARKS.read_text()))
    assert table in (DEPLOY / "costs.md").read_text(), "python deploy/costs.py prints the new table"


def test_a_tile_is_seen_oftener_towards_the_poles(costs: ModuleType) -> None:
    scenes = [costs.Area("", 1000, latitude).scenes for latitude in (0, 30, 60)]
    assert scenes == sorted(scenes)
    # One orbit's swath alone would be six times a month, two never more than twelve at the equator.
    assert 6_000 < scenes[0] < 12_000


def test_costs_grow_with_the_tiles(costs: ModuleType) -> None:
    figures = costs.read_figures(costs.BENCHMARKS.read_text())
    one, many = (dict(costs.build_rows(costs.Area("", tiles, 47), figures)) for tiles in (100, 10_000))
    assert float(many["core-hours, csmask"].replace(",", "")) == pytest.approx(
        100 * float(one["core-hours, csmask"]), rel=0.05
    )


def test_a_figure_that_is_gone_is_named(costs: ModuleType) -> None:
    with pytest.raises(ValueError, match="one scene of 5490"):
        costs.read_figures("| what | ours |")
