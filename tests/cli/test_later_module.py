"""Modules that a library imports for what nobody asks here are loaded once something of them is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread

import pytest

from pc_cloudmask.cli import _put_off

NAME = "costly_of_this_test"


@pytest.fixture
def costly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / NAME
    package.mkdir()
    log = tmp_path / "log"
    (package / "__init__.py").write_text(
        f"with open({str(log)!r}, 'a') as log:\n    log.write('loaded ')\nfrom {NAME}.part import answer\n",
        "utf-8",
    )
    (package / "part.py").write_text("answer = 42\n", "utf-8")
    log.touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield log
    for name in [NAME, f"{NAME}.part"]:
        sys.modules.pop(name, None)


def test_import_statements_load_nothing_and_the_first_use_all(costly: Path) -> None:
    _put_off(NAME)
    module = importlib.import_module(NAME)
    assert not costly.read_text("utf-8")
    assert (module.answer, module.part.answer) == (42, 42)
    assert importlib.import_module(NAME).answer == 42
    assert costly.read_text("utf-8") == "loaded "


def test_threads_that_use_it_at_the_same_time_load_it_once(costly: Path) -> None:
    _put_off(NAME)
    module, start = importlib.import_module(NAME), Barrier(8)
    found: list[int] = []

    def use() -> None:
        start.wait()
        found.append(module.answer)

    threads = [Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 8
    assert costly.read_text("utf-8") == "loaded "


def test_a_part_can_be_imported_first(costly: Path) -> None:
    _put_off(NAME)
    assert importlib.import_module(f"{NAME}.part").answer == 42


def test_what_is_not_installed_or_is_loaded_stays_as_it_is(costly: Path) -> None:
    _put_off("no_such_module_anywhere")
    assert "no_such_module_anywhere" not in sys.modules
    module = importlib.import_module(NAME)
    _put_off(NAME)
    assert sys.modules[NAME] is module
