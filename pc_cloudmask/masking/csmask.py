"""Masks from ukis-csmask's network, run tile by tile on an item's own bands.

Source: ukis-csmask 1.0 (https://github.com/dlr-eoc/ukis-csmask); the labels equal its own, pixel for pixel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import MachineError, SettingsError
from pc_cloudmask.masking.classes import COARSE_MODEL, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import build_reflectance_table, compose_classes
from pc_cloudmask.masking.files import read_item_band
from pc_cloudmask.masking.methods import (
    DerivedMask,
    Device,
    EngineTools,
    MaskEngine,
    NetworkOptions,
    compute_only,
)
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.version import tell_extra

#: Edge of the network's input, fixed in the model file.
TILE_PX = 256
#: Overlap of neighbouring tiles (ukis-csmask 1.0, ``CSmask._csm``).
OVERLAP = 0.2
#: How far the first tiles extend outside the raster.
MARGIN_PX = int(TILE_PX * OVERLAP)
STEP_PX = int(TILE_PX - TILE_PX * OVERLAP)
#: Rows or columns that neighbouring tiles share.
SHARED_PX = TILE_PX - STEP_PX
#: Classes of the network's output (ukis-csmask 1.0, ``CSmask._csm``): background, cloud, cloud shadow.
CLASS_COUNT = 3
CLOUD, SHADOW = 1, 2
#: From a tile, float32 ``(1, bands, 256, 256)``, to its logits, float32 ``(1, 3, 256, 256)``.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: ``(top, bottom)`` to digital numbers, uint16 ``(bands, bottom - top, width)``. ``top`` moves down, except for
#: the last row of tiles, whose mirrored pixels may begin up to ``SHARED_PX`` above the previous row.
ReadRows = Callable[[int, int], NDArray[np.uint16]]


def coarsen_rows(read_rows: ReadRows, shape: tuple[int, int]) -> tuple[ReadRows, tuple[int, int]]:
    """Return a function that reads rows of pixels 1.5 times as large, and their shape, from a raster of ``shape``.

    Three pixels become two along both axes, each the rounded mean of those that it covers and that have data.
    """
    height, width = shape
    coarse_shape = (-(-2 * height // 3), -(-2 * width // 3))

    def read_coarse(top: int, bottom: int) -> NDArray[np.uint16]:
        first, last = top // 2, -(-bottom // 2)
        fine = read_rows(3 * first, min(3 * last, height))
        lacking = ((0, 0), (0, 3 * (last - first) - fine.shape[1]), (0, -width % 3))
        coarse = np.stack([_average_pixels(np.pad(band, lacking[1:])) for band in fine])
        start = top - 2 * first
        return coarse[:, start : start + bottom - top, : coarse_shape[1]]

    return read_coarse, coarse_shape


def _average_pixels(fine: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the means of the pixels with data, uint16 ``(2 * h, 2 * w)``, from ``fine``, ``(3 * h, 3 * w)``."""
    weight = _add_thirds((fine != 0).astype(np.uint32))
    total = _add_thirds(fine.astype(np.uint32))
    return ((total + weight // 2) // np.maximum(weight, 1)).astype(np.uint16)


def _add_thirds(fine: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return nine times the sum of ``fine`` over each coarse pixel."""
    for _ in range(2):
        pairs = np.empty((2 * len(fine) // 3, fine.shape[1]), np.uint32)
        pairs[0::2] = 2 * fine[0::3] + fine[1::3]
        pairs[1::2] = fine[1::3] + 2 * fine[2::3]
        fine = pairs.T
    return fine


def refine_label(coarse: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return, for each pixel of a raster of ``shape``, the label of the coarse pixel that holds its centre."""
    rows, cols = ((2 * np.arange(size) + 1) // 3 for size in shape)
    return coarse[rows][:, cols]


def label_scene(
    network: Network, tables: NDArray[np.float32], read_rows: ReadRows, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return how the network labels a scene of ``shape`` (height, width), read from top to bottom: uint8.

    0 is background, 1 cloud, 2 cloud shadow; a pixel is undefined where all bands are 0, without data. ``tables`` is
    float32 ``(bands, 65536)``: the network's input for each band's digital number. Tiles without data are skipped.
    """
    height, width = shape
    label = np.zeros(shape, np.uint8)
    # ukis-csmask blends in float64; with lower precision, equal probabilities would give other classes.
    pending = np.zeros((CLASS_COUNT, TILE_PX, width))
    for top in tile_starts(height):
        rows = mirrored_indices(top, height)
        first, last = int(rows.min()), int(rows.max())
        row_pixels = read_rows(first, last + 1)[:, rows - first]
        for left in tile_starts(width):
            pixels = row_pixels[:, :, mirrored_indices(left, width)]
            if pixels.any():
                inside = slice(max(left, 0), min(left + TILE_PX, width))
                weighted = _classify(network, tables, pixels) * _WEIGHTS
                pending[:, :, inside] += weighted[:, :, inside.start - left : inside.stop - left]
        # Rows that no later tile covers.
        done = slice(max(top, 0), min(top + STEP_PX, height))
        label[done] = pending[:, done.start - top : done.stop - top].astype(np.float32).argmax(axis=0)
        pending[:, :SHARED_PX] = pending[:, STEP_PX:]
        pending[:, SHARED_PX:] = 0
    return label


def _classify(
    network: Network, tables: NDArray[np.float32], pixels: NDArray[np.uint16]
) -> NDArray[np.float32]:
    """Return the probabilities of one tile's classes, float32 ``(3, 256, 256)``."""
    tile = np.stack([table[band] for table, band in zip(tables, pixels, strict=True)])
    logits = network(tile[np.newaxis])[0]
    exponential = np.exp(logits - logits.max(axis=0))
    probability: NDArray[np.float32] = exponential / exponential.sum(axis=0)
    return probability


def tile_starts(size: int) -> range:
    """Return the first pixels, along one axis, of the tiles that cover ``size`` pixels."""
    return range(-MARGIN_PX, size, STEP_PX)


def mirrored_indices(start: int, size: int) -> NDArray[np.intp]:
    """Return the pixels of the tile that begins at ``start``, of a raster mirrored at its edges: intp ``(256,)``."""
    index = np.arange(start, start + TILE_PX) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def build_weights() -> NDArray[np.float64]:
    """Return the weights of a tile's pixels, float64 ``(256, 256)``: those of overlapping tiles sum to 1.

    Scipy's ``tukey(256, 2 * OVERLAP)`` along both axes, as ukis-csmask blends.
    """
    ramp = (1 - np.cos(np.pi * np.arange(SHARED_PX) / (SHARED_PX - 1))) / 2
    along = np.concatenate([ramp, np.ones(TILE_PX - 2 * SHARED_PX), ramp[::-1]])
    return np.outer(along, along)


_WEIGHTS = build_weights()


#: The package's models for L2A by the settings' names; it has others for L1C.
MODELS: Mapping[str, str] = {"6-bands-20m": "model_6b_l2a", COARSE_MODEL: "model_4b_l2a"}
#: The execution providers of onnxruntime by device.
PROVIDERS: Mapping[str, str] = {
    "cuda": "CUDAExecutionProvider",
    "mps": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
#: Sentinel-2's bands by ukis-csmask's names.
ASSETS: Mapping[str, str] = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "nir": "B08",
    "swir16": "B11",
    "swir22": "B12",
}


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
        """Return the network's input by band and digital number, float32 ``(bands, len(reflectance))``.

        It is rounded to float32 after each step, as in ukis-csmask.
        """
        centred = (reflectance - self.mean[:, np.newaxis]).astype(np.float32)
        return (centred / self.deviation[:, np.newaxis]).astype(np.float32)


def find_model_file(model: str = "6-bands-20m") -> ModelFile:
    """Find a file of ``MODELS`` without loading it or the runtime; raise SettingsError if either is missing."""
    package = find_spec("ukis_csmask")
    if package is None or package.origin is None or find_spec("onnxruntime") is None:
        raise SettingsError(f"method csmask: {tell_extra('csmask')}")
    path = Path(package.origin).with_name(f"{MODELS[model]}.onnx")
    try:
        statistics = json.loads(path.with_suffix(".json").read_bytes())["data"]["dataset_statistics"]
        mean, deviation = (np.array(values, np.float64) for values in statistics["img"])
        bands = tuple(ASSETS[name] for name in statistics["band_names"])
    except (OSError, ValueError, KeyError) as error:
        found = version("ukis-csmask")
        raise SettingsError(
            f"ukis-csmask {found} has no {path.stem} that this package knows: pip install 'ukis-csmask>=1.0,<2'"
        ) from error
    return ModelFile(path, bands, mean, deviation)


def list_providers(device: Device) -> list[str]:
    """Return the providers of onnxruntime for ``device``, the best first; raise SettingsError if there is none."""
    onnxruntime = import_module("onnxruntime")
    there: list[str] = onnxruntime.get_available_providers()
    if device == "auto":
        return there
    if PROVIDERS[device] not in there:
        devices = [name for name, provider in PROVIDERS.items() if provider in there]
        raise SettingsError(
            f"CLOUDMASK_DEVICE: onnxruntime {onnxruntime.__version__} has nothing for {device}: it has "
            f"{', '.join(devices)}; cuda is in the package onnxruntime-gpu"
        )
    return list(dict.fromkeys([PROVIDERS[device], PROVIDERS["cpu"]]))


def load_network(model: ModelFile, device: Device = "auto") -> Network:
    """Load the network, for any number of threads, on one core each; raise SettingsError if the device is not there."""
    onnxruntime, providers = import_module("onnxruntime"), list_providers(device)
    options = onnxruntime.SessionOptions()
    # Parallel scenes cost less than threads within a tile: 0.105 against 0.114 CPU seconds a tile.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.path, sess_options=options, providers=providers)
    if device != "auto" and session.get_providers()[0] != providers[0]:
        # onnxruntime only writes this to its own log, and computes on the CPU.
        raise SettingsError(
            f"CLOUDMASK_DEVICE: onnxruntime {onnxruntime.__version__} cannot use {device} on this machine"
        )
    name = session.get_inputs()[0].name

    def classify(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {name: tile})[0]
        return logits

    return classify


#: Rows of a COG's block: a strip of these decodes each block once.
STRIP_PX = 512
#: Strips kept in memory: no tile extends over more.
_HELD_STRIPS = 2


def open_rows(reader: AssetReader, scene: Scene, bands: Sequence[str], valid: NDArray[np.bool_]) -> ReadRows:
    """Return a function that reads rows of ``bands`` on the scene's grid, each once if asked from top to bottom.

    It sets ``valid``, bool of the grid's shape, where a band has data, like ukis-csmask's ``nodata_value=0``, and
    raises as ``read_item_band`` does.
    """
    height, width = scene.grid.shape

    @lru_cache(_HELD_STRIPS)
    def read_strip(start: int) -> NDArray[np.uint16]:
        window = Window(start, 0, min(STRIP_PX, height - start), width)
        strip = np.stack([read_item_band(reader, scene, band, np.uint16, window=window) for band in bands])
        valid[window.slices] = strip.any(axis=0)
        return strip

    def read_rows(top: int, bottom: int) -> NDArray[np.uint16]:
        starts = range(top - top % STRIP_PX, bottom, STRIP_PX)
        parts = [read_strip(start)[:, max(top - start, 0) : bottom - start] for start in starts]
        return np.concatenate(parts, axis=1)

    return read_rows


def list_checks(options: NetworkOptions) -> dict[str, Callable[[], str]]:
    """Return the checks for ``doctor`` by name."""

    def describe_device() -> str:
        find_model_file()
        return ", ".join(list_providers(options.device))

    return {"device": describe_device}


def open_engine(tools: EngineTools) -> MaskEngine:
    """Open the engine; the network is loaded at the first scene. It raises as ``Classifier`` does."""
    classifier = Classifier(tools.reader, tools.read_parameters("csmask"), tools.network.device)
    return MaskEngine("csmask", compute_only(classifier.derive_mask))


class Classifier:
    """Classifies an item's own L2A bands; needs no account, only their pixels.

    ukis-csmask's network finds clouds and shadows on the scene's grid, or on one with larger pixels; erosion,
    dilation and classes are those of the other methods. It uses only the buffer and the model of ``parameters``. It
    serves several scenes at a time, each on one core.
    """

    def __init__(self, reader: AssetReader, parameters: MaskParameters, device: Device = "auto") -> None:
        """Find model and device; raise SettingsError if the extra or the device is missing."""
        self._reader = reader
        self._parameters = parameters
        self._device = device
        self._model = find_model_file(parameters.csmask_model)
        if device != "auto":
            list_providers(device)
        self._lock = Lock()

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """Return the mask of one scene; raise MachineError if the network cannot be loaded, see also ``MaskEngine``."""
        valid = np.zeros(scene.grid.shape, np.bool_)
        read_rows, shape = open_rows(self._reader, scene, self._model.bands, valid), scene.grid.shape
        if is_coarse := self._parameters.csmask_model == COARSE_MODEL:
            read_rows, shape = coarsen_rows(read_rows, shape)
        tables = self._model.build_tables(build_reflectance_table(scene.processing_baseline))
        with self._lock:
            network = self._network
        label = label_scene(network, tables, read_rows, shape)
        if is_coarse:
            label = refine_label(label, scene.grid.shape)
        pixel_size_m = scene.grid.pixel_size_m
        classes = compose_classes(label == CLOUD, label == SHADOW, valid, self._parameters, pixel_size_m)
        # The distribution may be onnxruntime-gpu or another one; the module is the same.
        runtime = str(import_module("onnxruntime").__version__)
        return DerivedMask(classes, ee_image, {"ukis-csmask": version("ukis-csmask"), "onnxruntime": runtime})

    @cached_property
    def _network(self) -> Network:
        """Return the network, loaded for the first scene: a run that derives nothing need not wait for it."""
        try:
            return load_network(self._model, self._device)
        except SettingsError:
            raise
        except Exception as error:  # onnxruntime has its own hierarchy of errors
            reason = str(error).partition("\n")[0]
            raise MachineError(
                f"{self._model.path.name}: onnxruntime cannot load it: {reason};"
                " pip install --force-reinstall ukis-csmask onnxruntime"
            ) from error
