"""The server speaks what an unmodified client asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.earth_engine.local.sentinel2 import CLOUD_PROBABILITY, L2A, Sentinel2
from tests.earth_engine.local.server import LocalEarthEngine


def test_a_client_lists_a_collection_by_filters(earth_engine: LocalEarthEngine, client: Any) -> None:
    probability = np.zeros((100, 120), np.uint8)
    index = earth_engine.world.add_sentinel2(
        Sentinel2(
            "22KFV",
            "20181214T133219",
            "20181214T133217",
            "EPSG:32722",
            (600_000, 7_500_040),
            probability,
            {},
            95.0,
        )
    )
    found = (
        client.ImageCollection(L2A)
        .filter(client.Filter.eq("MGRS_TILE", "22KFV"))
        .filterDate("2018-12-14", "2018-12-15")
        .aggregate_array("system:index")
    )
    assert found.getInfo() == [index]


if __name__ == "__main__":
    pytest.main([__file__, CLOUD_PROBABILITY])
