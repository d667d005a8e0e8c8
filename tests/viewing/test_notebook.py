"""The example notebook, run as a reader runs it: cell by cell, from the top."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.io import MemoryFile

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from tests.direct_runs import ignore_warnings_of_odc
from tests.raster.test_png import decode

pytestmark = pytest.mark.usefixtures("fixed_clock")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "cloudmask.ipynb"


def read_cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text("utf-8"))["cells"]


def run_cells(names: dict[str, Any]) -> list[Any]:
    """Run all code in one namespace; the values that a notebook would show below the cells."""
    shown = []
    for cell in read_cells():
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), cell["id"], "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), cell["id"], "eval"), names))
    return shown


@pytest.mark.slow
@ignore_warnings_of_odc
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_it_runs_from_the_top(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUDMASK_STORE", str(out))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    *pictures, map_view = run_cells(names)
    for picture in pictures[0], pictures[-1]:
        assert decode(picture._repr_png_()).shape == (*picture.shape, 3)
    printed = capsys.readouterr().out
    assert "2018-06-17   65.4 % clear" in printed
    assert "cloud shadow" in printed
    assert list(tmp_path.iterdir()) == []

    cube, composite = names["cube"], names["composite"]
    ever_clear = (cube.cloudmask == 1).any("time")
    assert np.array_equal(composite.B04.notnull(), ever_clear)
    assert float(ever_clear.mean()) > 0.95
    assert float(composite.B04.max()) < float(names["plain"].B04.max())

    composite_layer, mask_layer = read_overlays(map_view)
    assert (composite_layer[..., 3] > 0).mean() > 0.8
    opaque = mask_layer[mask_layer[..., 3] > 0]
    drawn = {tuple(colour) for colour in np.unique(opaque[:, :3], axis=0).tolist()}
    assert drawn == {CLASS_STYLES[each].color for each in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW)}
    assert 0 < len(opaque) < (composite_layer[..., 3] > 0).sum() / 2


def read_overlays(map_view: Any) -> list[np.ndarray]:
    """The pictures on a folium map, (height, width, 4) each, in the order in which they are drawn."""
    overlays = [child for child in map_view._children.values() if "image_overlay" in child.get_name()]
    pictures = []
    for overlay in overlays:
        head, _, body = overlay.url.partition(",")
        assert head == "data:image/png;base64"
        with MemoryFile(base64.b64decode(body)) as memory, memory.open() as dataset:
            pictures.append(dataset.read().transpose(1, 2, 0))
    return pictures


def test_it_is_committed_with_small_outputs_that_name_no_machine() -> None:
    text, cells = NOTEBOOK.read_text("utf-8"), read_cells()
    assert cells[0]["cell_type"] == "markdown"
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert "error" not in {output["output_type"] for output in outputs}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert len(text) < 1_500_000
    assert not any(f"/{folder}/" in text.replace("://", "") for folder in ("tmp", "home", "root"))
