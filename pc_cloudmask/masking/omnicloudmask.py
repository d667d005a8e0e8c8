"""Masks from OmniCloudMask's networks, on an item's own red, green and near infrared.

Source: OmniCloudMask 1.8 (https://github.com/DPIRD-DMA/OmniCloudMask), which tiles and blends by itself. Its package
downloads missing weights. Here that is the user's step: no run begins before the files are there, so the package never
has to download any.
"""

from __future__ import annotations

import csv
import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import MachineError, SettingsError, find_machine_fault
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_classes
from pc_cloudmask.masking.files import read_item_band
from pc_cloudmask.masking.methods import (
    DEVICES,
    DerivedMask,
    EngineTools,
    MaskEngine,
    NetworkOptions,
    compute_only,
)
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.scene import Scene, reflectance_offset_dn
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.version import tell_extra

METHOD = "omnicloudmask"
#: Red, green and near infrared, in the order of the networks' input.
BANDS = ("B04", "B03", "B8A")
#: Classes of the networks' output (``omnicloudmask.CLASS_NAMES``).
CLEAR, THICK_CLOUD, THIN_CLOUD, SHADOW = range(4)
#: The package refuses anything smaller (``HARD_MINIMUM_PATCH_SIZE``).
LEAST_PX = 32
#: The package takes a file of this size or less for a broken download, and downloads it again (``get_models``).
BROKEN_BYTES = 1024 * 1024
#: From a scene's bands, uint16 ``(3, height, width)``, to the class of each pixel, uint8 ``(height, width)``.
Predict = Callable[[NDArray[np.uint16]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a version of the model: the files in ``folder`` that the package looks for."""

    folder: Path
    model_version: float
    files: tuple[str, ...]

    @property
    def command(self) -> str:
        """Return the command that downloads them."""
        call = f"get_models(True, {str(self.folder)!r}, model_version={self.model_version})"
        return f'python -c "from omnicloudmask.download_models import get_models; {call}"'

    def hash_files(self) -> list[str]:
        """Return the SHA-256 of each file, in hex; raise SettingsError if files are missing or broken."""
        try:
            paths = [self.folder / name for name in self.files]
            if missing := [path.name for path in paths if not path.is_file()]:
                raise self._refuse(f"missing: {', '.join(missing)}")
            if broken := [path.name for path in paths if path.stat().st_size <= BROKEN_BYTES]:
                raise self._refuse(f"incomplete: {', '.join(broken)}")
            return [_hash_file(path, path.stat().st_mtime_ns) for path in paths]
        except OSError as error:
            raise self._refuse(f"unreadable: {error.filename}: {error.strerror}") from error

    def _refuse(self, problem: str) -> SettingsError:
        return SettingsError(
            f"method {METHOD}: weights of model {self.model_version} in {self.folder} are {problem}; fetch "
            f"them once, where there is a network: {self.command}"
        )


@lru_cache(maxsize=8)
def _hash_file(path: Path, _changed_ns: int) -> str:
    """Return the SHA-256 of the file; ``_changed_ns`` makes a changed file another cache entry."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(options: NetworkOptions) -> Weights:
    """Find out where the weights must be, without importing PyTorch or the package; refuse an unknown version."""
    package = find_spec("omnicloudmask")
    if package is None or package.origin is None or find_spec("torch") is None:
        raise SettingsError(f"method {METHOD}: {tell_extra(METHOD)}")
    folder = options.weights or _find_default_folder()
    try:
        with Path(package.origin).with_name("model_download_links.csv").open(encoding="utf-8") as file:
            rows = [(float(row["version"]), row["file_name"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(
            f"omnicloudmask {version('omnicloudmask')} has no list of models that this package knows: "
            "pip install 'omnicloudmask>=1.8,<2'"
        ) from error
    files = tuple(name for number, name in rows if number == options.model_version)
    if not files:
        there = ", ".join(map(str, sorted({number for number, _ in rows})))
        raise SettingsError(
            f"CLOUDMASK_MODEL_VERSION: omnicloudmask {version('omnicloudmask')} has no model {options.model_version}, "
            f"but {there}"
        )
    return Weights(folder.absolute(), options.model_version, files)


def _find_default_folder() -> Path:
    """Return where the package keeps its weights (``omnicloudmask.download_models.get_model_data_dir``)."""
    release = re.match(r"\d+(\.\d+)*", version("omnicloudmask"))
    folder = import_module("platformdirs").user_data_dir(METHOD, version=release and release.group())
    return Path(folder)


def identify(options: NetworkOptions) -> dict[str, str | float]:
    """Return what masks depend on besides the settings' thresholds: the model's version and weights."""
    weights = find_weights(options)
    return {"model_version": weights.model_version, "weights_sha256": ",".join(weights.hash_files())}


def find_device(options: NetworkOptions) -> str:
    """Import PyTorch, and return the device that it should use; raise SettingsError if it is not available."""
    torch = _import("torch")
    gpus = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there = [name for name in DEVICES if name not in gpus or gpus[name].is_available()]
    if options.device == "auto":
        return there[0]
    if options.device not in there:
        raise SettingsError(
            f"CLOUDMASK_DEVICE: PyTorch {torch.__version__} finds no {options.device} on this machine: there is "
            f"{', '.join(there)}"
        )
    return options.device


def _import(module: str) -> Any:
    """Import a module, or raise MachineError."""
    try:
        return import_module(module)
    except Exception as error:  # a broken or incompatible package may raise anything
        raise MachineError(
            f"method {METHOD}: {module} cannot be imported: {_first_line(error)}; {tell_extra(METHOD)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def list_checks(options: NetworkOptions) -> dict[str, Callable[[], str]]:
    """Return the checks for ``doctor`` by name."""

    def describe_weights() -> str:
        weights = find_weights(options)
        return f"model {weights.model_version}, {len(weights.hash_files())} files in {weights.folder}"

    def describe_device() -> str:
        find_weights(options)
        return f"{find_device(options)}, by PyTorch {version('torch')}"

    return {"weights": describe_weights, "device": describe_device}


def open_engine(tools: EngineTools) -> MaskEngine:
    """Open the engine, after checking extra, weights and device; the networks are loaded for the first scene."""
    weights = find_weights(tools.network)
    weights.hash_files()
    if tools.network.device not in {"auto", "cpu"}:
        find_device(tools.network)
    predict = Predictor(tools.network, weights)
    mask = OmniCloudMask(tools.reader, tools.read_parameters(METHOD), predict)
    return MaskEngine(METHOD, compute_only(mask.derive_mask))


@dataclass
class Predictor:
    """Runs OmniCloudMask on the pixels of one scene at a time: it uses all cores, or the one GPU.

    ``models`` are PyTorch modules to use instead of those that ``weights`` describe: float32
    ``(n, 3, height, width)`` to ``(n, 4, height, width)``.
    """

    options: NetworkOptions
    weights: Weights | None = None
    models: Sequence[Any] | None = None
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return the class of each pixel, uint8 ``(height, width)``, of ``pixels``, uint16 ``(3, height, width)``.

        It raises SettingsError or MachineError if the device or the networks cannot be used, or memory is short.
        """
        with self._lock:
            return self._predict(pixels)

    @cached_property
    def _predict(self) -> Predict:
        """Return the package's function, after checking that it works with these weights on this device."""
        device = find_device(self.options)
        predict = _import("omnicloudmask").predict_from_array
        chosen: dict[str, Any] = {"custom_models": self.models and [*self.models]}
        if self.weights is not None and self.models is None:
            self.weights.hash_files()  # because the package would download a file that has since disappeared
            folder, model_version = self.weights.folder, self.weights.model_version
            chosen = {"destination_model_dir": folder, "model_version": model_version}

        def ask(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
            with warnings.catch_warnings():
                # For example about patches that are made smaller for a small scene.
                warnings.simplefilter("ignore")
                size = self.options.batch_size
                classes: NDArray[np.uint8] = predict(
                    pixels, batch_size=size, inference_device=device, **chosen
                )[0]
            return classes

        without_data = np.zeros((len(BANDS), LEAST_PX, LEAST_PX), np.uint16)
        try:
            ask(without_data)  # models are loaded, not asked
        except Exception as error:  # of PyTorch, safetensors, the file system
            raise self._explain(error, device) from error
        return ask

    def _explain(self, error: Exception, device: str) -> MachineError:
        """Return the error for networks that could not be loaded."""
        if fault := find_machine_fault(error):
            return fault
        what, mend = "its models", ""
        if self.weights is not None:
            what = f"the weights in {self.weights.folder}"
            mend = f"; fetch them again: {self.weights.command}"
        return MachineError(
            f"method {METHOD}: {what} cannot be loaded on {device}: {_first_line(error)}{mend}"
        )


@dataclass(frozen=True, slots=True)
class OmniCloudMask:
    """Derives masks by OmniCloudMask; needs no account, only an item's pixels.

    Of ``parameters`` it uses only the buffer. The networks' answer is not eroded: their published accuracy is
    that of their own answer.
    """

    reader: AssetReader
    parameters: MaskParameters
    predict: Predict

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """Return the mask of one scene; raise as ``MaskEngine`` and the ``Predictor`` do."""
        pixels = read_pixels(self.reader, scene)
        valid: NDArray[np.bool_] = np.asarray(pixels.any(axis=0))
        labels = classify(self.predict, pixels) if valid.any() else np.full(valid.shape, CLEAR, np.uint8)
        classes = compose_classes(
            np.isin(labels, (THICK_CLOUD, THIN_CLOUD)),
            np.equal(labels, SHADOW),
            valid,
            self.parameters,
            scene.grid.pixel_size_m,
            erosion_m=0.0,
        )
        software = {name: version(name) for name in ("omnicloudmask", "torch")}
        weights = f"{self.parameters.model_version} sha256:{self.parameters.weights_sha256}"
        return DerivedMask(classes, ee_image, software | {"omnicloudmask-weights": weights})


def read_pixels(reader: AssetReader, scene: Scene) -> NDArray[np.uint16]:
    """Return the bands on the scene's grid without the offset of newer baselines, uint16 ``(3, height, width)``.

    0 is no data, in the item and for the networks; what the offset would make darker than black becomes 1.
    """
    offset_dn = reflectance_offset_dn(scene.processing_baseline)
    pixels = np.stack([read_item_band(reader, scene, band, np.uint16) for band in BANDS])
    if offset_dn:
        shift = np.uint16(-offset_dn)
        pixels = np.where(pixels > 0, np.maximum(pixels, shift + np.uint16(1)) - shift, pixels)
    return pixels


def classify(predict: Predict, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the networks' classes, uint8 ``(height, width)``; a small scene is padded with pixels without data."""
    height, width = pixels.shape[1:]
    lacking = ((0, 0), (0, max(0, LEAST_PX - height)), (0, max(0, LEAST_PX - width)))
    return predict(np.pad(pixels, lacking))[:height, :width]
