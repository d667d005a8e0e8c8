"""The graphs that Earth Engine gets are frozen: a change costs quota, or changes masks.

To change one on purpose, run with ``CLOUDMASK_UPDATE_GRAPHS=1``: the files are written again, the run
fails, and the difference is there to be read before the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.earth_engine import graphs
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import EarthEngineImage
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session

DATA = Path(__file__).parent / "data"
UPDATE = "CLOUDMASK_UPDATE_GRAPHS"

ONE = EarthEngineImage(("20181214T133219_20181214T133217_T22KFV",))
SPLIT = EarthEngineImage((*ONE.image_ids, "20181214T133219_20181214T133231_T22KFV"))
PARAMETERS = MaskParameters()
AZIMUTH_DEG = 95.5
GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (5490, 5480))

GRAPHS: dict[str, Callable[[], Any]] = {
    "server-mask": lambda: graphs.build_server_mask(ONE, AZIMUTH_DEG, PARAMETERS),
    "server-mask-of-split-datatake": lambda: graphs.build_server_mask(SPLIT, AZIMUTH_DEG, PARAMETERS),
    "packed-inputs": lambda: graphs.build_packed_inputs(ONE, PARAMETERS),
    "packed-inputs-of-split-datatake": lambda: graphs.build_packed_inputs(SPLIT, PARAMETERS),
    "coarse-probability": lambda: graphs.build_coarse_probability_image(ONE, PARAMETERS),
    "score-flags": lambda: graphs.build_score_flags(ONE, PARAMETERS),
    "stamped-inputs": lambda: graphs.stamp_address(graphs.build_packed_inputs(ONE, PARAMETERS), GRID),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_as_it_was(name: str, earth_engine: LocalEarthEngine) -> None:
    with run_session(earth_engine) as session:
        session.start()
        graph = json.dumps(json.loads(GRAPHS[name]().serialize()), indent=1, sort_keys=True) + "\n"
    path = DATA / f"{name}.json"
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(graph)
        pytest.fail(f"{path.name} was written: read its difference, then run without {UPDATE}")
    assert graph == path.read_text(), f"the graph changed; if that is meant, run with {UPDATE}=1"


def test_no_file_is_left_of_a_graph_that_is_gone() -> None:
    assert {path.stem for path in DATA.glob("*.json")} == set(GRAPHS)
