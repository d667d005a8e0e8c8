"""The pages of docs/tools say what really comes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[2] / "docs" / "tools"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXECUTABLE = {"python", "sql"}


@dataclass(frozen=True)
class Example:
    """Code of a page, with the output that stands below it."""

    page: str
    language: str
    code: str
    output: str


def find_examples() -> list[Example]:
    examples = []
    for page in sorted(PAGES.glob("*.md")):
        blocks = _BLOCK.findall(page.read_text("utf-8"))
        for (language, code), (of_output, output) in pairwise([*blocks, ("", "")]):
            if language in _EXECUTABLE and of_output == "" and not output.startswith("$"):
                examples.append(Example(page.name, language, code, output))
    return examples


EXAMPLES = find_examples()


def test_every_page_but_the_list_and_that_of_pgstac_has_an_example() -> None:
    pages = {page.name for page in PAGES.glob("*.md")}
    assert {example.page for example in EXAMPLES} == pages - {"README.md", "pgstac.md"}


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{each.page}-{n}" for n, each in enumerate(EXAMPLES)])
def test_an_example_prints_what_the_page_says(
    example: Example,
    mirrored_demo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "out").symlink_to(mirrored_demo)
    monkeypatch.chdir(tmp_path)
    if example.language == "sql":
        print(duckdb.sql(example.code))  # noqa: T201 - as DuckDB's shell shows it
    else:
        exec(compile(example.code, example.page, "exec"), {})
    assert capsys.readouterr().out.strip() == example.output.strip()
