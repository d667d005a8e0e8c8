"""What docs/accuracy.md shows is what comes out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from pc_cloudmask.evaluate.labels import PRESETS, read_layout
from tests.doubles.command import ROOT, run
from tests.evaluate.test_command import invoke

PAGE = (ROOT / "docs" / "accuracy.md").read_text("utf-8")


def find_blocks(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
    return [text for told, text in blocks if told == language]


def test_the_sample_archives_table_is_what_the_command_prints(out: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(out)
    (tmp_path / "truth.toml").write_text(find_blocks("toml")[0])
    command = find_blocks("console")[0].splitlines()[-1].removeprefix("$ cloudmask ")
    result = run(*shlex.split(command), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    shown = [line.rstrip() for line in find_blocks("")[0].splitlines()]
    assert [line.rstrip() for line in result.stdout.splitlines()] == shown


@pytest.mark.parametrize("number", [0, 1])
def test_the_layouts_can_be_read(number: int, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(find_blocks("toml")[number])
    assert read_layout(str(tmp_path / "c.toml")).classes


def test_the_layouts_that_come_along_are_in_the_table() -> None:
    assert [name for name in PRESETS if f"| `{name}` |" not in PAGE] == []


@pytest.mark.slow
def test_the_chips_command_runs_on_a_file_of_the_chips_form(tmp_path: Path) -> None:
    pytest.importorskip("ukis_csmask")
    from benchmarks.labelled_chip import write_chip

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, (70, 60, 1), np.uint8)
    chip = {"img": rng.random((70, 60, 6), np.float32) + np.float32(0.1), "msk": labels}
    np.savez(tmp_path / "sentinel2.npz", **chip)
    write_chip(tmp_path / "sentinel2.npz", tmp_path / "chip")
    command = (
        find_blocks("console")[1].replace("\\\n", " ").splitlines()[-1].removeprefix("$ cloudmask evaluate ")
    )
    arguments = command.replace("chip/", f"{tmp_path}/chip/").replace("chip.png", f"{tmp_path}/chip.png")
    found = invoke(*shlex.split(arguments))
    assert [each["mask"]["buffer_m"] for each in found["comparisons"]] == [0, 10, 20, 50]
    for comparison in found["comparisons"]:
        counts = comparison["all"]["confusion"]
        assert sum(counts["shadow"].values()) == (labels == 0).sum()
        assert sum(counts["cloud"].values()) == (labels == 4).sum()
    assert (tmp_path / "chip.png").is_file()
