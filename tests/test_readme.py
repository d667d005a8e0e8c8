"""The README's map of the code."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_map_names_every_module() -> None:
    named = (ROOT / "README.md").read_text("utf-8").partition("## Map of the code")[2].partition("\n## ")[0]
    modules = {path.name for path in (ROOT / "flows").glob("[!_]*.py")}
    packages = {f"{path.parent.name}/" for path in (ROOT / "flows").glob("*/__init__.py")}
    assert [name for name in sorted(modules | packages) if f"{name}`" not in named] == []
