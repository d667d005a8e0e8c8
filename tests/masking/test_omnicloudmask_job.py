"""The method omnicloudmask with its package and PyTorch, through the entire job: ``make test-omnicloudmask``.

The published weights cannot be had where this is tested. Networks of the true architecture get weights that answer
one class everywhere; a tiny model of known behaviour is passed as ``custom_models``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

pytest.importorskip(
    "omnicloudmask", reason="installed by make test-omnicloudmask alone", exc_type=ImportError
)

import torch

from pc_cloudmask.errors import MachineError, SettingsError
from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.masking.methods import MaskEngine, NetworkOptions, compute_only
from pc_cloudmask.masking.omnicloudmask import BANDS, OmniCloudMask, Predictor, find_weights, identify
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner
from tests.doubles.command import run
from tests.masking.chip_item import write_chip_item

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    # Of the packages that OmniCloudMask is built on.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LIMIT_BYTES = 1024 * 1024
CLEAR, THICK, THIN, SHADOW = 0, 1, 2, 3
EXPECTED = np.array([MaskClass.CLEAR, MaskClass.CLOUD, MaskClass.CLOUD, MaskClass.CLOUD_SHADOW], np.uint8)


class Brightest(torch.nn.Module):
    """Answer thick cloud, thin cloud or shadow where red, green or near infrared stands out; clear elsewhere."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        clear = torch.full_like(pixels[:, :1], 0.01)
        return torch.cat([clear, pixels], dim=1)


def draw_pixels(labels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Pixels, uint16 ``(3, height, width)``, in which ``Brightest`` sees ``labels``."""
    pixels = np.full((3, *labels.shape), 500, np.uint16)
    for band, label in enumerate((THICK, THIN, SHADOW)):
        pixels[band][labels == label] = 4000
    return pixels


def draw_labels(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Blocks of 8 pixels, of all four classes wherever a patch may lie."""
    height, width = (-(-size // 8) for size in shape)
    blocks = np.random.default_rng(11).integers(0, 4, (height, width), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)[: shape[0], : shape[1]]


def write_items(shared_data: Path, folder: Path, pixels: NDArray[np.uint16], baseline: str = "05.09") -> Path:
    """A folder of one item, whose bands lie in it."""
    folder.mkdir()
    offset = 1000 if baseline >= "04.00" else 0
    stored = np.where(pixels > 0, pixels + np.uint16(offset), 0).astype(np.uint16)
    item = write_chip_item(shared_data, folder, dict(zip(BANDS, stored, strict=True)), baseline)
    for asset in item["assets"].values():
        asset["href"] = Path(asset["href"]).name if asset["href"].startswith("/") else asset["href"]
    (folder / "item.json").write_text(json.dumps(item))
    return folder


def write_fillers(folder: Path, seed: int = 0, size: int = LIMIT_BYTES + 1) -> Path:
    """Files by the names of the weights, which no network could load."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(find_weights(NetworkOptions(weights=folder)).files):
        (folder / name).write_bytes(bytes([number, seed]) + bytes(size - 2))
    return folder


@pytest.fixture(scope="module")
def thin_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the true architecture that answer thin cloud everywhere."""
    import segmentation_models_pytorch as smp
    from omnicloudmask.download_models import get_latest_model_version
    from safetensors.torch import save_file

    assert get_latest_model_version() == 4
    folder = tmp_path_factory.mktemp("weights")
    for name in find_weights(NetworkOptions(weights=folder)).files:
        encoder = "tu-regnety_004" if "regnety_004" in name else "tu-edgenext_small"
        model = smp.Unet(encoder_name=encoder, encoder_weights=None, in_channels=3, classes=4)
        state = {key: torch.zeros_like(value).contiguous() for key, value in model.state_dict().items()}
        state["segmentation_head.0.bias"][THIN] = 1
        save_file(state, folder / name)
    return folder


def run_job(
    items: Path, store: Path, models: Sequence[Any]
) -> tuple[Report, dict[str, Any], NDArray[np.uint8]]:
    """Ingest the one item with ``models`` for networks; return report, published item and mask."""
    request = IngestRequest(items=str(items), store=str(store), method="omnicloudmask")
    context = RunContext.of(request)
    predict = Predictor(context.network, models=models)
    method = OmniCloudMask(context.reader, context.read_parameters("omnicloudmask"), predict)
    context.__dict__["engines"] = {
        "omnicloudmask": MaskEngine("omnicloudmask", compute_only(method.derive_mask))
    }
    report = ingest(context, request, ThreadRunner(2, retry_delay_s=0))
    paths = [path for path in store.rglob("S2*.json") if "_" not in path.parent.name[:1]]
    if not paths:
        return report, {}, np.zeros((0, 0), np.uint8)
    item = json.loads(paths[0].read_bytes())
    with rasterio.open(paths[0].parent / item["assets"]["cloudmask"]["href"]) as dataset:
        return report, item, dataset.read(1)


@pytest.mark.parametrize("shape", [(1300, 1120), (300, 310), (20, 90)])
def test_the_tiny_model_makes_exactly_its_mask_through_the_job(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    weights = write_fillers(tmp_path / "weights")
    monkeypatch.setenv("CLOUDMASK_WEIGHTS", str(weights))
    labels = draw_labels(shape)
    rows, cols = np.indices(shape)
    no_data = cols + rows < min(shape) // 2
    items = write_items(shared_data, tmp_path / "items", np.where(no_data, 0, draw_pixels(labels)))

    report, item, mask = run_job(items, tmp_path / "out", [Brightest()])

    assert len(report.published) == 1, report
    np.testing.assert_array_equal(mask, np.where(no_data, MaskClass.NO_DATA, EXPECTED[labels]))
    properties = item["properties"]
    hashes = ",".join(
        hashlib.sha256((weights / name).read_bytes()).hexdigest()
        for name in find_weights(NetworkOptions(weights=weights)).files
    )
    assert properties["cloudmask:method"] == "omnicloudmask"
    assert properties["cloudmask:parameters"] == {
        "buffer_m": 0.0,
        "model_version": 4.0,
        "weights_sha256": hashes,
    }
    software = properties["processing:software"]
    assert software["omnicloudmask"] == version("omnicloudmask")
    assert software["torch"] == version("torch")
    assert software["omnicloudmask-weights"] == f"4.0 sha256:{hashes}"
    assert properties["cloudmask:cloud_percentage"] == pytest.approx(
        100 * np.isin(labels, (THICK, THIN))[~no_data].mean(), abs=0.01
    )


def test_other_weights_make_the_mask_again_and_the_same_do_not(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_fillers(tmp_path / "weights")
    monkeypatch.setenv("CLOUDMASK_WEIGHTS", str(weights))
    items = write_items(shared_data, tmp_path / "items", draw_pixels(draw_labels((64, 64))))
    first, before, _ = run_job(items, tmp_path / "out", [Brightest()])
    again, _, _ = run_job(items, tmp_path / "out", [Brightest()])
    write_fillers(weights, seed=1)
    third, after, _ = run_job(items, tmp_path / "out", [Brightest()])

    assert [len(report.published) for report in (first, again, third)] == [1, 0, 1]
    assert len(again.skipped) == 1
    assert before["properties"]["cloudmask:fingerprint"] != after["properties"]["cloudmask:fingerprint"]


def ingest_by_command(items: Path, folder: Path, **settings: str) -> CompletedProcess[str]:
    return run(
        *("ingest", "--items", items, "--method", "omnicloudmask", "--no-prefect", "--store", folder / "out"),
        cwd=folder,
        **{"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), **settings},
    )


def test_the_command_loads_weights_of_the_true_architecture(
    shared_data: Path, tmp_path: Path, thin_weights: Path
) -> None:
    items = write_items(shared_data, tmp_path / "items", draw_pixels(draw_labels((128, 96))))

    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(thin_weights), CLOUDMASK_DEVICE="cpu")

    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("*cloudmask*.tif")
    with rasterio.open(path) as dataset:
        assert set(np.unique(dataset.read(1))) == {MaskClass.CLOUD}


def check_refusal(done: CompletedProcess[str], store: Path, *texts: str) -> None:
    """The command ended with one line that says ``texts``, and noted nothing of any scene."""
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("cloudmask: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in errors[0]
    assert not list(store.rglob("_waiting/*")) + list(store.rglob("_failed/*"))
    assert not list(store.rglob("*.tif"))


def test_missing_weights_end_the_command_with_how_to_fetch_them(shared_data: Path, tmp_path: Path) -> None:
    items = write_items(shared_data, tmp_path / "items", draw_pixels(draw_labels((64, 64))))
    (name, other) = find_weights(NetworkOptions()).files

    done = ingest_by_command(items, tmp_path)
    check_refusal(done, tmp_path / "out", "are missing: ", name, other, str(tmp_path / "data"), "get_models(")

    given = tmp_path / "weights"
    write_fillers(given)
    (given / other).unlink()
    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(given))
    check_refusal(done, tmp_path / "out", f"are missing: {other}; ", str(given))

    write_fillers(given, size=1000)
    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(given))
    check_refusal(done, tmp_path / "out", f"are incomplete: {name}, {other}; ")


def test_weights_of_something_else_end_the_command(
    shared_data: Path, tmp_path: Path, thin_weights: Path
) -> None:
    items = write_items(shared_data, tmp_path / "items", draw_pixels(draw_labels((64, 64))))
    corrupt = write_fillers(tmp_path / "corrupt")
    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(corrupt))
    check_refusal(done, tmp_path / "out", f"the weights in {corrupt} cannot be loaded", "fetch them again")

    swapped = tmp_path / "swapped"
    swapped.mkdir()
    first, second = find_weights(NetworkOptions(weights=thin_weights)).files
    for name, of in ((first, second), (second, first)):
        os.link(thin_weights / of, swapped / name)
    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(swapped))
    check_refusal(done, tmp_path / "out", f"the weights in {swapped} cannot be loaded")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_ends_the_command(shared_data: Path, tmp_path: Path) -> None:
    items = write_items(shared_data, tmp_path / "items", draw_pixels(draw_labels((64, 64))))
    weights = write_fillers(tmp_path / "weights")
    done = ingest_by_command(items, tmp_path, CLOUDMASK_WEIGHTS=str(weights), CLOUDMASK_DEVICE="mps")
    check_refusal(
        done, tmp_path / "out", "CLOUDMASK_DEVICE: PyTorch", "finds no mps on this machine: there is cpu"
    )


def test_a_version_that_the_package_lacks_is_told_from_those_that_it_has() -> None:
    with pytest.raises(SettingsError, match=r"has no model 9\.0, but 1\.0, 2\.0, 3\.0, 4\.0"):
        identify(NetworkOptions(model_version=9.0))


def test_a_model_that_fails_is_no_fault_of_the_scene() -> None:
    class Broken(torch.nn.Module):
        def to(self, *_args: Any, **_options: Any) -> Any:
            raise RuntimeError("weights are on a strange device")

    with pytest.raises(MachineError, match="its models cannot be loaded on cpu: weights are on a strange"):
        Predictor(NetworkOptions("cpu"), models=[Broken()])(np.ones((3, 40, 40), np.uint16))


def test_doctor_tells_what_is_there(tmp_path: Path, thin_weights: Path) -> None:
    def examine(**settings: str) -> dict[str, dict[str, Any]]:
        done = run(
            *("--json", "doctor", "--method", "omnicloudmask"),
            cwd=tmp_path,
            **{"HOME": str(tmp_path), "CLOUDMASK_STAC_API_URL": "http://127.0.0.1:9/stac", **settings},
        )
        return {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}

    found = examine(XDG_DATA_HOME=str(tmp_path / "data"))
    assert found["extra omnicloudmask"]["verdict"] == "ok"
    assert found["omnicloudmask weights"]["verdict"] == "broken"
    assert "get_models(" in found["omnicloudmask weights"]["detail"]
    assert found["omnicloudmask device"]["verdict"] == "ok"
    found = examine(CLOUDMASK_WEIGHTS=str(thin_weights))
    assert found["omnicloudmask weights"]["detail"] == f"model 4.0, 2 files in {thin_weights}"
