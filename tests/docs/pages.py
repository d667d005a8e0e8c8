"""The repository's pages, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "stac_ext/**/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SHELL = {"", "bash", "console", "sh", "shell"}
_INLINE = re.compile(r"`(cloudmask [^`]+)`")

_spec = spec_from_file_location("docs_links", ROOT / "docs" / "generate" / "links.py")
assert _spec is not None
assert _spec.loader is not None
links = module_from_spec(_spec)
_spec.loader.exec_module(links)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def read_page(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def find_blocks(page: str) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(read_page(page))]


def find_shell_lines(page: str) -> Iterator[list[str]]:
    """Yield the words of each line that a shell would run: all of a block, or those behind ``$``."""
    for language, text in find_blocks(page):
        if language not in _SHELL:
            continue
        lines = text.replace("\\\n", " ").splitlines()
        if prompted := [line for line in lines if line.startswith("$ ")]:
            lines = [line.removeprefix("$ ") for line in prompted]
        elif language == "console":
            lines = []
        for line in lines:
            if re.search(r"\b(cloudmask|pip install) ", line):
                yield shlex.split(line, comments=True)


def find_commands(page: str) -> Iterator[list[str]]:
    """Yield the arguments of each ``cloudmask`` command in a page's blocks."""
    for words in find_shell_lines(page):
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words and words[0] in {"cloudmask", ".venv/bin/cloudmask"}:
            yield words[1:]


def find_mentions(page: str) -> Iterator[list[str]]:
    """Yield the words behind ``cloudmask`` of each command that a page's prose mentions."""
    text = _BLOCK.sub("", read_page(page)).replace("\\|", "|")
    for mention in _INLINE.findall(text):
        yield mention.split()[1:]
