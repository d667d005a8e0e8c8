"""How years of an area are cut into runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.plan import plan_shards
from pc_cloudmask.runs.request import BackfillRequest, IngestRequest
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from tests.doubles.stac_api import StacApiServer, make_item

TILES = ("22KFU", "22KFV", "22KGU", "22KGV")
SHARD_SCENES = 20


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StacApiServer]:
    """Four tiles: two scenes a month each in 2018, nine each in a crowded month, none in another."""
    monkeypatch.setattr("pc_cloudmask.runs.plan.SHARD_SCENES", SHARD_SCENES)
    items = []
    for month in range(1, 13):
        for tile in TILES:
            for day in range(1, {6: 9, 8: 0}.get(month, 2) + 1):
                moment = f"2018-{month:02d}-{2 * day:02d}T13:32:19.024000Z"
                items.append(make_item(f"S2B_{tile}_{month:02d}{day:02d}", moment, tile))
    with StacApiServer(items) as api:
        yield api


@pytest.fixture
def source(api: StacApiServer) -> PlanetaryComputerSource:
    return PlanetaryComputerSource(api.url, api.collection)


def count_found(source: PlanetaryComputerSource, shards: list[IngestRequest]) -> list[Counter[str]]:
    """What each shard's own query finds, by id."""
    return [Counter(item["id"] for item in source.find_items(shard.read_query())) for shard in shards]


@pytest.mark.parametrize("place", [{"tiles": TILES}, {"bbox": "-50.5,-23.5,-48.5,-21.5"}])
def test_every_scene_is_in_one_run_and_no_run_is_large_or_empty(
    source: PlanetaryComputerSource, place: dict[str, object]
) -> None:
    shards = list(
        plan_shards(source, BackfillRequest.model_validate({**place, "years": (2018,)}), Settings())
    )
    found = count_found(source, shards)
    total = sum(found, Counter())
    assert len(total) == (10 * 2 + 9) * len(TILES)
    assert set(total.values()) == {1}
    assert all(0 < each.total() <= SHARD_SCENES for each in found)
    # Eleven months of eight scenes go two by two, or alone beside the crowded one, which is cut by tiles.
    assert len(shards) < 10


def test_a_crowded_month_is_handed_out_before_the_source_is_asked_for_the_next(
    api: StacApiServer, source: PlanetaryComputerSource
) -> None:
    request = BackfillRequest(tiles=TILES, datetime="2018-03/2018-06")
    shards = plan_shards(source, request, Settings())
    found: set[str] = set()
    while len(found) < 9 * len(TILES):  # all of June
        found |= {item["id"] for item in source.find_items(next(shards).read_query())}
    assert {item_id[-4:-2] for item_id in found} == {"06"}
    assert not any("2018-05" in search["datetime"] for search in api.searches)


def test_an_interval_is_kept_at_both_ends(source: PlanetaryComputerSource) -> None:
    request = BackfillRequest(tiles=TILES, datetime="2018-03-03/2018-05-03")
    found = sum(count_found(source, list(plan_shards(source, request, Settings()))), Counter())
    assert {item_id[-4:] for item_id in found} == {"0302", "0401", "0402", "0501"}


@pytest.mark.parametrize(
    "period", [{}, {"years": (2018, 2020)}, {"years": (2018,), "datetime": "2018"}, {"datetime": "soon"}]
)
def test_a_period_that_is_none_is_refused(source: PlanetaryComputerSource, period: dict[str, object]) -> None:
    request = BackfillRequest.model_validate({"tiles": TILES, **period})
    with pytest.raises(SettingsError):
        list(plan_shards(source, request, Settings()))
