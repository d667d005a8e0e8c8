"""The csmask method on a full tile at 20 m, compared with ukis-csmask called on the full array.

Every tile costs the network the same, so 24 are computed and the others answered with zeros: the time is
scaled from those. ``python -m benchmarks.csmask 784`` computes all of them. Of our time nineteen parts in
twenty are the network's own, the same for both. It is not shift-invariant, so fewer tiles, or others, change
more pixels than may be changed: half of the time cannot be had with its model file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from benchmarks.measure import Figure, Peer, Row, compare_costs, format_rows, read_peak_resident_mb, run_apart
from pc_cloudmask.masking import csmask
from pc_cloudmask.masking.classes import COARSE_MODEL, CsmaskModel, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import build_reflectance_table
from pc_cloudmask.masking.csmask import (
    ASSETS,
    CLASS_COUNT,
    TILE_PX,
    Network,
    find_model_file,
    label_scene,
    load_network,
)
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader
from tests.conftest import SHARED_DATA
from tests.masking.chip_item import read_chip, write_cog

GRID = Grid("EPSG:32658", (20.0, 0.0, 600000.0, 0.0, -20.0, 6000000.0), (5490, 5490))
SAMPLED_TILES = 24
SPEED_TARGET = 2.0
MEMORY_BUDGET_MB = 1500.0
DIFFERENCE_BUDGET_PCT = 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """One scene's CPU seconds over all threads, and the process's peak memory in MB of 10**6 bytes.

    The CPU time's spread is that of single tiles.
    """

    cpu_s: Figure
    peak_mb: float
    tiles: int


class SampledNetwork:
    """A network that computes a few tiles, answers the others with zeros, and counts all."""

    def __init__(self, network: Network, computed: int) -> None:
        self._network = network
        self._to_compute = computed
        self.tiles = 0
        self.cpu_s: list[float] = []

    def __call__(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of one tile, or zeros once enough are computed."""
        self.tiles += 1
        if len(self.cpu_s) >= self._to_compute:
            return np.zeros((1, CLASS_COUNT, TILE_PX, TILE_PX), np.float32)
        if not self.cpu_s:
            self._network(tile)  # the first tile costs more than the others, of which there are hundreds
        start = time.process_time()
        logits = self._network(tile)
        self.cpu_s.append(time.process_time() - start)
        return logits


def measure_cost(run: Callable[[], object], networks: list[SampledNetwork]) -> Cost:
    """Return the cost of ``run`` as if all tiles of the one network that it makes or uses had been computed."""
    start = time.process_time()
    run()
    (network,) = networks
    rest_s = time.process_time() - start - sum(network.cpu_s)
    cpu_s = Figure.of([rest_s + network.tiles * tile_s for tile_s in network.cpu_s])
    return Cost(cpu_s, read_peak_resident_mb(), network.tiles)


def measure(sampled_tiles: int = SAMPLED_TILES) -> list[Row]:
    """CPU time against ukis-csmask, peak memory against the budget, pixels that differ on a real chip."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_apart(partial(_write_scene, folder))
        peer = run_apart(partial(measure_ukis_csmask, folder, sampled_tiles))
        ours = run_apart(partial(measure_ours, folder, sampled_tiles))
        coarse = run_apart(partial(measure_ours, folder, sampled_tiles, COARSE_MODEL))
    peer_cpu = Peer(f"ukis-csmask, {peer.tiles} tiles", peer.cpu_s)
    peak = "csmask, peak"
    rows = [
        compare_costs(f"csmask, {ours.tiles} tiles", ours.cpu_s, peer_cpu, "CPU s", SPEED_TARGET),
        compare_costs(peak, ours.peak_mb, Peer("ukis-csmask", peer.peak_mb), "MB", SPEED_TARGET),
        compare_costs(peak, ours.peak_mb, Peer("budget", MEMORY_BUDGET_MB), "MB", 1),
        compare_costs(
            f"csmask {COARSE_MODEL}, {coarse.tiles} tiles",
            coarse.cpu_s,
            Peer(f"csmask, {ours.tiles} tiles", ours.cpu_s),
            "CPU s",
            SPEED_TARGET,
        ),
        compare_costs(f"csmask {COARSE_MODEL}, peak", coarse.peak_mb, Peer("csmask", ours.peak_mb), "MB", 1),
    ]
    if SHARED_DATA.is_dir():
        differing_pct = float((label_chip() != label_chip_as_ukis_csmask()).mean() * 100)
        what = "csmask, chip's pixels classed otherwise"
        rows.append(compare_costs(what, differing_pct, Peer("budget", DIFFERENCE_BUDGET_PCT), "%", 1))
    return rows


def measure_ours(folder: Path, sampled_tiles: int, model: CsmaskModel = "6-bands-20m") -> Cost:
    """From COGs to the classes, in this process."""
    network = SampledNetwork(load_network(find_model_file(model)), sampled_tiles)
    scene = Scene(
        id="S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651",
        datetime=datetime(2019, 1, 1, tzinfo=UTC),
        tile="58UFE",
        platform="Sentinel-2A",
        grid=GRID,
        solar_azimuth_deg=170.0,
        solar_zenith_deg=77.0,
        datatake_id="GS2A_20190101T000001_018417_N02.12",
        datastrip_id="S2A_OPER_MSI_L2A_DS_ESRI_20201007T214652_S20181231T235957_N02.12",
        processing_baseline="02.12",
        footprint={},
        asset_hrefs={band: str(folder / f"{band}.tif") for band in ASSETS.values()},
    )
    parameters = MaskParameters(csmask_model=model, buffer_m=METHODS["csmask"].buffer_m)
    classifier = csmask.Classifier(AssetReader(local_root=folder), parameters)
    with patch.object(csmask, "load_network", lambda *_: network):
        return measure_cost(lambda: classifier.derive_mask(scene, EarthEngineImage()), [network])


def measure_ukis_csmask(folder: Path, sampled_tiles: int) -> Cost:
    """From six COGs to ukis-csmask's labels, in this process, on one thread as its cheapest."""
    from ukis_csmask import mask  # noqa: PLC0415 - not in the process that measures ours

    session_of = mask.onnxruntime.InferenceSession
    found: list[SampledNetwork] = []

    class Session:
        """The session that ``CSmask`` makes, sampled."""

        def __init__(self, *args: Any, **options: Any) -> None:
            session = session_of(*args, **options)
            self.get_inputs = session.get_inputs
            found.append(SampledNetwork(lambda tile: session.run(None, {"input": tile})[0], sampled_tiles))

        def run(self, _: None, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            return [found[0](feed["input"])]

    def run() -> None:
        reader = AssetReader(local_root=folder)
        image = np.empty((*GRID.shape, len(ASSETS)), np.float32)
        for index, band in enumerate(ASSETS.values()):
            href = str(folder / f"{band}.tif")
            dn = reader.read_band(href, GRID, resampling="average", item_id="benchmark")
            np.divide(dn, np.float32(10_000), out=image[..., index])
        mask.CSmask(image, list(ASSETS), product_level="l2a", nodata_value=0, intra_op_num_threads=1)

    with patch.object(mask.onnxruntime, "InferenceSession", Session):
        return measure_cost(run, found)


def label_chip() -> NDArray[np.uint8]:
    """Our labels of the real chip, before any buffer."""
    pixels = np.stack(list(read_chip(SHARED_DATA).values()))
    model = find_model_file()
    tables = model.build_tables(build_reflectance_table("02.12"))
    network = load_network(model)
    return label_scene(network, tables, lambda top, bottom: pixels[:, top:bottom], pixels.shape[1:])


def label_chip_as_ukis_csmask() -> NDArray[np.uint8]:
    """ukis-csmask's own labels of the real chip."""
    from ukis_csmask.mask import CSmask  # noqa: PLC0415 - as above

    image = (np.stack(list(read_chip(SHARED_DATA).values()), axis=-1) / 10_000).astype(np.float32)
    labels: NDArray[np.uint8] = CSmask(
        image, list(ASSETS), product_level="l2a", nodata_value=0, intra_op_num_threads=1
    ).csm[..., 0]
    return labels


def _write_scene(folder: Path) -> None:
    """Six COGs of a full tile at 20 m; what they show does not change the time."""
    rng = np.random.default_rng(20190101)
    patch = rng.integers(500, 3000, (16, 16)).repeat(32, axis=0).repeat(32, axis=1)
    patch = (patch + rng.integers(0, 64, patch.shape)).astype(np.uint16)
    repeats = -(-GRID.shape[0] // len(patch))
    pixels = np.tile(patch, (repeats, repeats))[: GRID.shape[0], : GRID.shape[1]]
    for band in ASSETS.values():
        write_cog(
            folder / f"{band}.tif", pixels, Affine(*GRID.transform), int(GRID.crs.removeprefix("EPSG:"))
        )


if __name__ == "__main__":
    tiles = SAMPLED_TILES
    with suppress(IndexError):
        tiles = int(sys.argv[1])
    sys.stdout.write(format_rows(measure(tiles)) + "\n")
