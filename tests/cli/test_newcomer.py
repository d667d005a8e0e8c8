"""What someone reads who has no catalog yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from pc_cloudmask.cli.output import print_table
from pc_cloudmask.runs.doctor import EXTRAS
from tests.doubles.command import ROOT, run, run_in_new_interpreter


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("index",),
        ("mosaic", "--tile", "22KFV", "--out", "mosaic.tif"),
        ("serve", "--port", "0"),
        ("stats",),
        ("evaluate", "--method", "s2cloudless,csmask"),
        ("view", "S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959"),
    ],
)
def test_a_command_that_needs_a_catalog_says_what_makes_one_and_writes_nothing(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert str(tmp_path / "out") in line
    assert "cloudmask ingest" in line or "cloudmask demo" in line
    assert list(tmp_path.iterdir()) == []


def test_a_cell_of_a_table_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("any", ("what", "detail"), [("extra serve", "pip install 'pc-cloudmask[serve]'")])
    assert "pip install 'pc-cloudmask[serve]'" in capsys.readouterr().out


def test_a_locale_that_lacks_a_character_costs_that_character_alone(tmp_path: Path) -> None:
    result = run_in_new_interpreter("ingest", "--help", cwd=tmp_path, PYTHONIOENCODING="ascii", COLUMNS="200")
    assert result.returncode == 0
    assert "W > E crosses 180?" in result.stdout


def test_doctor_looks_for_every_extra() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n\n")[0]
    assert set(EXTRAS) == {line.partition(" = ")[0] for line in section.splitlines()}
