"""The table of docs/settings.md has a row a setting, with its default."""

from __future__ import annotations

import json
import re

import pytest

from pc_cloudmask.settings import Settings
from tests.docs.pages import read_page

ROWS = dict(re.findall(r"^\| `CLOUDMASK_(\w+)` \|.*\| ([^|]*)\|$", read_page("docs/settings.md"), re.M))


def test_each_row_is_of_a_setting() -> None:
    assert set(ROWS) == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", [name for name, text in ROWS.items() if re.fullmatch(r"`[^`]+` ", text)])
def test_a_default_is_that_of_the_code(name: str) -> None:
    shown, default = ROWS[name].strip("` "), Settings.model_fields[name.lower()].default
    if default is None:  # the method's name, which depends on the methods
        assert name == "METHOD"
    elif isinstance(default, str):
        assert shown == default
    else:
        assert json.loads(shown) == default
