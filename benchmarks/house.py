"""The shape of our own source: how much there is of it, and how its modules hang together.

``python -m benchmarks.house`` reads the source below the current folder and prints figures as text, with
``--json FILE`` also as JSON. The last of them follow commands on a sample scene, see ``benchmarks.trail``;
``--source-only`` leaves them out.

A *room* is a folder with an ``__init__.py``, without its subfolders that have one too; a module that stands
directly in a package is a room of its own, and so is the package's ``__init__``. An *arrow* leads from a
module or room to another that it imports; that importing a module runs its folder's ``__init__`` is not
counted. A *circle* is a set of modules or rooms of which each leads to all others. *Floors* are the stops on
the longest way along the arrows, a circle being one stop. All three are counted for what is imported when a
module is loaded, then with the imports inside functions, then with those for type checkers alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trail import measure_trails

PACKAGES = ("pc_cloudmask", "flows", "stac_ext", "catalog_templates")
LONG_FUNCTION_LINES = 40
MANY_IMPORTS = 10

#: Where an import stands, in the order in which the figures take them in.
KINDS = ("when loaded", "in functions", "for types")

Arrows = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Module:
    """One file of source; ``lines`` counts all of them."""

    name: str
    room: str
    lines: int
    tree: ast.Module


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--packages", nargs="+", metavar="NAME", default=PACKAGES, help="folders of source")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--source-only", action="store_true", help="run no command")
    arguments = parser.parse_args()
    modules = list(read_modules(Path(), arguments.packages))
    figures = measure_size(modules) | {"graphs": measure_graphs(modules)}
    if not arguments.source_only:
        figures["trails"] = measure_trails({module.name.partition(".")[0] for module in modules})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.stdout.writelines(f"{line}\n" for line in format_figures(figures))


def read_modules(root: Path, packages: Iterable[str]) -> Iterator[Module]:
    """Yield the modules of ``packages``, folders below ``root``; those that are missing are left out."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            folder = parts[:-1]
            is_init = parts[-1] == "__init__"
            name = folder if is_init else parts
            room = name if is_init or len(folder) == 1 else folder
            text = path.read_text("utf-8")
            yield Module(".".join(name), ".".join(room), len(text.splitlines()), ast.parse(text))


def measure_size(modules: list[Module]) -> dict[str, Any]:
    """Return counts, and what is longer, or imports more, than it should."""
    longest = max(modules, key=lambda module: module.lines)
    arrows = find_arrows(modules, KINDS)
    rooms = {module.room: {"modules": 0, "lines": 0} for module in modules}
    for module in modules:
        rooms[module.room]["modules"] += 1
        rooms[module.room]["lines"] += module.lines
    return {
        "modules": len(modules),
        "lines": sum(module.lines for module in modules),
        "longest module": {longest.name: longest.lines},
        "median module": statistics.median(module.lines for module in modules),
        f"functions over {LONG_FUNCTION_LINES} lines": {
            name: lines
            for module in modules
            for name, lines in _measure_functions(module)
            if lines > LONG_FUNCTION_LINES
        },
        f"modules that import more than {MANY_IMPORTS} of ours": {
            name: len(targets) for name, targets in arrows.items() if len(targets) > MANY_IMPORTS
        },
        "rooms": rooms,
    }


def measure_graphs(modules: list[Module]) -> list[dict[str, Any]]:
    """Return arrows, floors and circles between modules and between rooms, by kinds of imports."""
    room_of = {module.name: module.room for module in modules}
    graphs = []
    for count in range(1, len(KINDS) + 1):
        arrows = find_arrows(modules, KINDS[:count])
        for level, graph in (("modules", arrows), ("rooms", _merge(arrows, room_of))):
            circles = find_circles(graph)
            graphs.append(
                {
                    "of": level,
                    "imports": list(KINDS[:count]),
                    "nodes": len(graph),
                    "arrows": sum(map(len, graph.values())),
                    "floors": count_floors(graph),
                    "circles": sorted(sorted(circle) for circle in circles),
                }
            )
    return graphs


def find_arrows(modules: Iterable[Module], kinds: Iterable[str]) -> Arrows:
    """Return by module the modules that it imports in one of the ways ``kinds``."""
    trees = {module.name: module.tree for module in modules}
    return {
        name: frozenset(
            target
            for kind, imported in _find_imports(tree)
            if kind in kinds and (target := _resolve(imported, trees)) not in {None, name}
        )
        for name, tree in trees.items()
    }


def find_circles(arrows: Arrows) -> set[frozenset[str]]:
    """Return the largest sets of nodes of which each leads to all others."""
    reach = {node: _find_reach(node, arrows) for node in arrows}
    circles = {frozenset(other for other in reach[node] if node in reach[other]) for node in arrows}
    return {circle for circle in circles if len(circle) > 1}


def count_floors(arrows: Arrows) -> int:
    """Return the number of stops on the longest way, a circle being one stop."""
    stop_of = {node: min(circle) for circle in find_circles(arrows) for node in circle}
    graph = _merge(arrows, {node: stop_of.get(node, node) for node in arrows})
    floors: dict[str, int] = {}

    def climb(node: str) -> int:
        if node not in floors:
            floors[node] = 1 + max(map(climb, graph[node]), default=0)
        return floors[node]

    return max(map(climb, graph), default=0)


def format_figures(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a text that shows ``figures``."""
    for name, value in figures.items():
        if name == "graphs":
            for graph in value:
                yield (
                    f"{graph['nodes']} {graph['of']}, imports {' + '.join(graph['imports'])}:"
                    f" {graph['arrows']} arrows, {graph['floors']} floors, {len(graph['circles'])} circles"
                )
                yield from (f"    {' <-> '.join(circle)}" for circle in graph["circles"])
        elif isinstance(value, dict):
            yield f"{name}: {len(value)}"
            width = max(map(len, value), default=0)
            yield from (f"    {key:{width}} {_format_value(part)}" for key, part in value.items())
        else:
            yield f"{name}: {value:,}"


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number:,} {name}" for name, number in value.items())
    return f"{value:,}"


def _measure_functions(module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module.name}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def _find_imports(node: ast.AST, kind: str = KINDS[0]) -> Iterator[tuple[str, str]]:
    """Yield where each import below ``node`` stands, and what it names: ``package.module.name`` at most."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((kind, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((kind, f"{child.module}.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _find_imports(child, KINDS[1])
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _find_imports(child, KINDS[2])
        else:
            yield from _find_imports(child, kind)


def _resolve(imported: str, names: Iterable[str]) -> str | None:
    """Return the module of ours that ``imported`` is, or is a name in."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in names), None)


def _merge(arrows: Arrows, group_of: Mapping[str, str]) -> Arrows:
    """Return the arrows between groups of nodes, without those inside a group."""
    merged: dict[str, set[str]] = {group_of[node]: set() for node in arrows}
    for node, targets in arrows.items():
        merged[group_of[node]].update(group_of[target] for target in targets)
    return {group: frozenset(targets - {group}) for group, targets in merged.items()}


def _find_reach(start: str, arrows: Arrows) -> set[str]:
    """Return the nodes that the arrows lead to from ``start``, which is among them."""
    found, waiting = {start}, [start]
    while waiting:
        new = arrows[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


if __name__ == "__main__":
    main()
