"""Every command line of a page is one that the application takes."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import typer

from pc_cloudmask.cli import app as application
from pc_cloudmask.cli.app import app
from tests.docs.pages import PAGES, ROOT, find_commands, find_mentions, find_shell_lines

GROUP: Any = typer.main.get_command(app)
COMMANDS = [(page, words) for page in PAGES for words in find_commands(page)]
#: Those that end the command while its words are read.
_EAGER = {"--help", "--version", "--install-completion", "--show-completion"}


@pytest.fixture(autouse=True)
def same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read sets the application's global options."""
    monkeypatch.setattr(application, "options", replace(application.options))


def parse(words: list[str]) -> dict[str, Any]:
    """Read ``words`` as the application does, without running anything."""
    at = next((n for n, word in enumerate(words) if word in GROUP.commands), None)
    assert at is not None, "names no command"
    root = GROUP.make_context("cloudmask", words[: at + 1])
    with root, GROUP.commands[words[at]].make_context(words[at], words[at + 1 :], parent=root) as context:
        return context.params


def test_pages_show_commands() -> None:
    """A change of the pages' form must not leave the tests below without any."""
    assert len(COMMANDS) > 50
    assert {name for _, words in COMMANDS for name in words} >= set(GROUP.commands)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}:{words}" for page, words in COMMANDS])
def test_a_command_line_is_understood(page: str, words: list[str]) -> None:
    if not _EAGER & set(words):
        parse(words)


@pytest.mark.parametrize("words", [["ingest", "--tiles", "22KFV"], ["ls", "--limit", "x"], ["publish"]])
def test_a_wrong_one_is_not(words: list[str]) -> None:
    with pytest.raises((Exception, AssertionError)):
        parse(words)


@pytest.mark.parametrize("page", PAGES)
def test_prose_names_commands_and_options_that_there_are(page: str) -> None:
    general = {option for each in GROUP.params for option in (*each.opts, *each.secondary_opts)} | _EAGER
    for words in find_mentions(page):
        names = [word for word in words if word in GROUP.commands]
        assert names or words[0].startswith("-") or words[0] in {"…", "COMMAND"}, words
        own = {
            option
            for name in names
            for each in GROUP.commands[name].params
            for option in (*each.opts, *each.secondary_opts)
        }
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", " ".join(words)))
        assert options <= own | general, words


def test_extras_that_pages_install_are_ours() -> None:
    lines = (" ".join(words) for words in chain.from_iterable(map(find_shell_lines, PAGES)))
    named = {
        name for line in lines for found in re.findall(r"\.\[([a-z,]+)\]", line) for name in found.split(",")
    }
    section = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]\n")[2]
    assert named
    assert named <= set(re.findall(r"^(\w+) = ", section.partition("\n\n")[0], re.M))
