"""The network of ukis-csmask, as a runtime for ONNX models loads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.adapters.csmask_tiles import Network
from flows.errors import SettingsError

MODEL = "model_6b_l2a"
"""The one for L2A with six bands; those for four bands or L1C lie beside it."""
ASSETS: Mapping[str, str] = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "nir": "B08",
    "swir16": "B11",
    "swir22": "B12",
}
"""Sentinel-2's bands by the names that ukis-csmask gives them."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model file in the installed package.

    ``bands`` are asset keys in the order of the network's input. ``mean`` and ``deviation`` are of
    their reflectances in the data it was trained on, float64 ``(bands,)``.
    """

    path: Path
    bands: tuple[str, ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def build_tables(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input by band and digital number, float32 ``(bands, len(reflectance))``.

        Rounded to float32 after either step, as ukis-csmask does it.
        """
        centred = (reflectance - self.mean[:, np.newaxis]).astype(np.float32)
        return (centred / self.deviation[:, np.newaxis]).astype(np.float32)


def find_model_file() -> ModelFile:
    """The model file, once its runtime is known to be installed; neither is loaded.

    Raises:
        SettingsError: ukis-csmask or onnxruntime is not installed, or its version has no such model.
    """
    package = find_spec("ukis_csmask")
    if package is None or package.origin is None or find_spec("onnxruntime") is None:
        raise SettingsError("method csmask needs its extra: pip install 'pc-cloudmask[csmask]'")
    path = Path(package.origin).with_name(f"{MODEL}.onnx")
    try:
        statistics = json.loads(path.with_suffix(".json").read_bytes())["data"]["dataset_statistics"]
        mean, deviation = (np.array(values, np.float64) for values in statistics["img"])
        bands = tuple(ASSETS[name] for name in statistics["band_names"])
    except (OSError, ValueError, KeyError) as error:
        found = version("ukis-csmask")
        raise SettingsError(
            f"ukis-csmask {found} has no {MODEL} that this package knows: pip install 'ukis-csmask>=1.0,<2'"
        ) from error
    return ModelFile(path, bands, mean, deviation)


def read_software() -> dict[str, str]:
    """Versions of ukis-csmask and its runtime by package."""
    # The distribution may be onnxruntime-gpu or another; the module is the same.
    return {
        "ukis-csmask": version("ukis-csmask"),
        "onnxruntime": str(import_module("onnxruntime").__version__),
    }


def load_network(model: ModelFile) -> Network:
    """The network, ready to be called from several threads, each of which computes on one core."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    # Tiles side by side cost less than threads within a tile: 0.105 against 0.114 CPU seconds a tile.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.path, sess_options=options, providers=onnxruntime.get_available_providers()
    )
    name = session.get_inputs()[0].name

    def classify(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {name: tile})[0]
        return logits

    return classify
