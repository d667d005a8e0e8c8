"""Mutants of the protocol: the real modules with one known mistake each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pc_cloudmask.catalog

SOURCE = Path(pc_cloudmask.catalog.__file__).parent


class Edit(NamedTuple):
    """A text of one module of ``pc_cloudmask.catalog``, which occurs there exactly once, and its replacement."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One known mistake."""

    name: str
    edits: tuple[Edit, ...]
    #: Where two writers show it in some order, in ``test_versions``.
    scene: str = ""
    #: Of the random writers that show it soon, in ``test_writers``; others show it too, after up to a minute.
    seed: int = 0


NO_COMPARE_AND_SWAP = Mutant(
    "no_compare_and_swap",
    (
        Edit(
            "states",
            "store.replace_object(key, body, media_type, current.etag)",
            "store.write_object(key, body, media_type)",
        ),
    ),
    seed=7,
)
ETAG_AFTER_LISTING = Mutant(
    "etag_after_listing",
    (
        Edit(
            "states",
            """\
        current = store.read_object(key)
        yield Step(StepName.READ, key)
        body = render(current)
        yield Step(StepName.RENDER, key)
""",
            """\
        body = render(store.read_object(key))
        yield Step(StepName.RENDER, key)
        current = store.read_object(key)
        yield Step(StepName.READ, key)
""",
        ),
    ),
    seed=3,
)
ITEM_BEFORE_FILES = Mutant(
    "item_before_files",
    (
        Edit(
            "publisher",
            """\
    for file in publication.files:
""",
            """\
    yield from put_steps(store, context, publication)
    for file in publication.files:
""",
        ),
    ),
)
APPEND = Mutant(
    "append",
    (
        Edit(
            "parents",
            """\
    yield [year_steps(store, context, year_keys, own) for year_keys, own in ids_by_year.items()]""",
            """\
    linked = {year_keys: _linked(store.read_object(year_keys.catalog)) for year_keys in ids_by_year}
    for keys in coverages:
        linked[keys.year_keys].append(keys.item_id)
    yield [year_steps(store, context, year_keys, linked[year_keys]) for year_keys in ids_by_year]""",
        ),
        Edit(
            "parents",
            """\
def year_steps(
    store: ObjectStore, context: CatalogContext, year_keys: YearKeys, own: AbstractSet[str] = frozenset()
) -> Steps:
""",
            """\
def _linked(stored):
    links = (read_document(stored) or {}).get("links", [])
    return [link["href"].split("/")[-2] for link in links if link["rel"] == "item"]


def year_steps(store, context, year_keys, ids=None):
""",
        ),
        Edit("parents", "own | read_linked_items(current)", "read_linked_items(current)"),
        Edit(
            "parents",
            "year_keys, folder.linked_ids))",
            "year_keys, folder.linked_ids if ids is None else ids))",
        ),
    ),
)
TRUST_ONE_LISTING = Mutant(
    "trust_one_listing",
    (
        Edit(
            "parents",
            "list_year_versions(store, year_keys, own | read_linked_items(current))",
            "group_year(year_keys, store.list_objects(year_keys.prefix))",
        ),
        Edit("parents", "    list_year,\n", "    group_year,\n    list_year,\n"),
    ),
    seed=3,
)
TRUST_A_LISTING_OF_FOLDERS = Mutant(
    "trust_a_listing_of_folders",
    (Edit("parents", "for name in listed | linked | own", "for name in listed | own"),),
    seed=4,
)
LINK_UNSETTLED = Mutant(
    "link_unsettled",
    (Edit("parents", "unsettled[:] = list_unsettled(store, folder)", "unsettled.clear()"),),
    "a newer one, and the older one again",
)
MARK_BEFORE_LINK = Mutant(
    "mark_before_link",
    (
        Edit(
            "versions",
            """\
        if not wrong:
            yield from _mark_steps""",
            """\
        yield from _mark_steps(store, keys.year_keys, folders, pairs)
        if not wrong:
            yield from _mark_steps""",
        ),
    ),
    "two at once",
)
REPLAY_UNSETTLED = Mutant(
    "replay_unsettled",
    (
        Edit("publisher", "self._run(settle_steps(self._store, self._context, keys))", "pass"),
        *LINK_UNSETTLED.edits,
    ),
    "restored beside another",
)
WRITTEN_ONCE = Mutant(
    "written_once", (Edit("parents", "confirm=True", "confirm=False"),), "the newer withdrawn and again"
)
LESSER_OVER_BETTER = Mutant(
    "lesser_over_better",
    (Edit("publisher", "if is_current(there) and read_method(there) in publication.better:", "if False:"),),
    "a better mask and a lesser one",
)
MUTANTS = (
    NO_COMPARE_AND_SWAP,
    ETAG_AFTER_LISTING,
    ITEM_BEFORE_FILES,
    APPEND,
    TRUST_ONE_LISTING,
    TRUST_A_LISTING_OF_FOLDERS,
    LESSER_OVER_BETTER,
)
#: Mistakes with versions and withdrawals, which all orders of a few writers show.
VERSION_MUTANTS = (LINK_UNSETTLED, MARK_BEFORE_LINK, REPLAY_UNSETTLED, WRITTEN_ONCE, LESSER_OVER_BETTER)


@contextmanager
def mutated(mutant: Mutant | None, folder: Path) -> Iterator[ModuleType]:
    """A copy of ``pc_cloudmask.catalog`` with the mutant's mistakes, imported under a name of its own."""
    name = f"mutant_{mutant.name if mutant else 'none'}"
    package = folder / name
    package.mkdir()
    for path in SOURCE.glob("*.py"):
        text = path.read_text()
        for edit in mutant.edits if mutant else ():
            if edit.module == path.stem:
                assert text.count(edit.old) == 1, f"{path.name} no longer holds what {mutant} edits"
                text = text.replace(edit.old, edit.new)
        (package / path.name).write_text(text.replace("pc_cloudmask.catalog", name))
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]
