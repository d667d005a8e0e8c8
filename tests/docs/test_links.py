"""Links between files of the repository lead somewhere, as GitHub follows them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.docs.pages import PAGES, ROOT, links, read_page


def find_anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings: list[str] = []
    links.map_prose(read_page(page), lambda line: headings.append(line) or line)
    titles = [re.sub(r"^#+ ", "", line) for line in headings if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for target in links.find_links(read_page(page)):
        if re.match(r"[a-z+]+:", target):
            continue
        path, anchor = links.locate(page, target) if target[0] != "#" else page, target.partition("#")[2]
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in find_anchors(path), target


def test_code_is_no_link() -> None:
    text = "[a](b.md) `[c](d.md)` ![e](f.png)\n```\n[g](h.md)\n```\n[i](j.md#k)\n"
    assert links.find_links(text) == ["b.md", "f.png", "j.md#k"]
    assert links.map_links(text, str.upper).count(".MD") == 2


def test_pipes_in_the_code_of_tables_lose_their_backslash() -> None:
    assert links.show_code_of_tables("| `A\\|B` | c\\|d |\n`A\\|B`\n") == "| `A|B` | c\\|d |\n`A\\|B`\n"


def test_lists_in_lists_are_indented_by_four() -> None:
    assert (
        links.indent_lists("- a\n  - b\n  text\n```\n  - c\n```\n")
        == "- a\n    - b\n  text\n```\n  - c\n```\n"
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_list_or_table_behind_prose_has_a_blank_line_before_it(page: str) -> None:
    """GitHub does without one, but Python-Markdown takes it for prose."""
    lines: list[str] = [""]
    links.map_prose(read_page(page), lambda line: lines.append(line) or line)
    glued = [
        line for before, line in pairwise(lines) if re.match(r"[-*|] ", line) and re.match(r"\w", before)
    ]
    assert glued == []
