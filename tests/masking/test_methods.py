"""The table of methods, and the pages that are written from it."""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.methods import METHODS, MaskMethod
from pc_cloudmask.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
by_method = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))


def build_page_head(method: MaskMethod) -> str:
    """What a method's page says of its row."""
    defaults = asdict(MaskParameters()) | {"buffer_m": method.buffer_m}
    thresholds = [
        f"`CLOUDMASK_{name.upper()}` ({defaults[name]:g})"
        for name in method.parameters
        if name in Settings.model_fields
    ]
    collections = [f"`{collection}`" for collection in method.collections]
    rows = {
        "what": "",
        "---": "---",
        "setting": f"`CLOUDMASK_METHOD={method.name}`",
        "thresholds": ", ".join(thresholds),
        "Earth Engine": ", ".join(collections) or "not needed",
        "packages": f"`pip install '.[{method.extra}]'` in a checkout" if method.extra else "no others",
        "licence": method.licence,
        "citation": method.citation,
    }
    table = "\n".join(f"| {name} | {text} |".replace("  ", " ") for name, text in rows.items())
    return f"# {method.name}: {method.title}\n\n{table}\n"


@by_method
def test_a_method_has_a_page_that_says_what_its_row_does(method: MaskMethod) -> None:
    assert (PAGES / f"{method.name}.md").read_text("utf-8").startswith(build_page_head(method))


def test_every_page_is_of_a_method_and_listed() -> None:
    assert {page.stem for page in PAGES.iterdir()} - {"README"} == set(METHODS)
    listed = re.findall(r"^\| \[([^]]+)\]\(\1\.md\)", (PAGES / "README.md").read_text("utf-8"), re.M)
    assert listed == list(METHODS)


@by_method
def test_a_row_names_what_there_is(method: MaskMethod) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", method.name)
    assert find_spec(method.module) is not None
    assert {*method.parameters, *method.choices} <= asdict(MaskParameters()).keys()
    assert method.extra is None or method.extra in metadata("pc-cloudmask").get_all("Provides-Extra", [])
