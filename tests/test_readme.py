"""The README's map of the code."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_map_has_a_row_a_room() -> None:
    named = (ROOT / "README.md").read_text("utf-8").partition("## Map of the code")[2].partition("\n## ")[0]
    rooms = {f"pc_cloudmask/{path.parent.name}/" for path in (ROOT / "pc_cloudmask").glob("*/__init__.py")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in named] == []
