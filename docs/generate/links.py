"""Links between pages, so that one text holds on GitHub and on the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/pc-cloudmask/pc-cloudmask"
_FENCE = re.compile(r"^ *(```|~~~)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LINK = re.compile(r"(\]\()([^()\s]+)(\))")


def map_prose(text: str, convert: Callable[[str], str]) -> str:
    """Return ``text`` with each line outside of fenced blocks converted."""
    lines, fence = [], ""
    for line in text.splitlines():
        if mark := _FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
            lines.append(line)
        else:
            lines.append(line if fence else convert(line))
    return "\n".join(lines) + "\n"


def map_links(text: str, convert: Callable[[str], str]) -> str:
    """Return ``text`` with the target of each link outside of code converted."""

    def convert_line(line: str) -> str:
        codes = [code.span() for code in _CODE.finditer(line)]

        def convert_link(link: re.Match[str]) -> str:
            inside = any(start < link.start() < end for start, end in codes)
            return link[0] if inside else f"{link[1]}{convert(link[2])}{link[3]}"

        return _LINK.sub(convert_link, line)

    return map_prose(text, convert_line)


def find_links(text: str) -> list[str]:
    """Return the targets of all links of ``text``."""
    found: list[str] = []
    map_links(text, lambda target: found.append(target) or target)
    return found


def is_relative(target: str) -> bool:
    """Return True if a link leads to a file of the repository."""
    return not re.match(r"[a-z+]+:|#|/", target)


def locate(page: str, target: str) -> str:
    """Return the path in the repository of what ``page``, another path in it, links."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))


def show_code_of_tables(text: str) -> str:
    r"""Return ``text`` with ``\|`` in the code of tables as ``|``, at which a cell ends on GitHub, but not here."""

    def convert(line: str) -> str:
        if not line.startswith("|"):
            return line
        return _CODE.sub(lambda code: code[0].replace("\\|", "|"), line)

    return map_prose(text, convert)


def indent_lists(text: str) -> str:
    """Return ``text`` with lists in lists indented by four, as Python-Markdown wants them, instead of two."""
    return map_prose(text, lambda line: re.sub(r"^((?:  )+)(?=[-*] )", r"\1\1", line))
