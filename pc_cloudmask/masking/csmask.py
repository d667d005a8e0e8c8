"""The engine that asks ukis-csmask's network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, EngineRefused, MissingField, SettingsError
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import build_reflectance_table
from pc_cloudmask.masking.methods import DerivedMask, EngineTools
from pc_cloudmask.masking.morphology import compose_classes
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.scene.image import EarthEngineImage, Pairing
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader

#: Edge of the network's input, fixed in the model file.
TILE_PX = 256
#: Overlap of neighbouring tiles (ukis-csmask 1.0, ``CSmask._csm``).
OVERLAP = 0.2
#: How far the first tiles reach outside of the raster.
MARGIN_PX = int(TILE_PX * OVERLAP)
STEP_PX = int(TILE_PX - TILE_PX * OVERLAP)
#: Rows or columns that neighbouring tiles share.
SHARED_PX = TILE_PX - STEP_PX
#: Of the network's answer: background, cloud, cloud shadow.
CLASS_COUNT = 3
#: From a tile, float32 ``(1, bands, 256, 256)``, to its logits, float32 ``(1, 3, 256, 256)``.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: ``(top, bottom)`` to digital numbers, uint16 ``(bands, bottom - top, width)``. ``top`` moves down, but for
#: the last row of tiles, whose mirrored pixels may begin up to ``SHARED_PX`` above the row before.
ReadRows = Callable[[int, int], NDArray[np.uint16]]


@dataclass(frozen=True, slots=True)
class Labels:
    """What the network says of a scene.

    ``label``  uint8 ``(height, width)``: 0 background, 1 cloud, 2 cloud shadow; undefined without data.
    ``valid``  bool of the same shape: at least one band has data, as ukis-csmask's ``nodata_value=0``.
    """

    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TiledNetwork:
    """A network with what it expects of its input.

    ``tables`` is float32 ``(bands, 65536)``: the network's input for each band's digital number.
    ``threads`` is how many tiles are classified at a time.
    """

    network: Network
    tables: NDArray[np.float32]
    threads: int = 1

    def label_scene(self, read_rows: ReadRows, shape: tuple[int, int]) -> Labels:
        """The labels of a scene of ``shape`` (height, width), read from top to bottom.

        Tiles without a valid pixel are passed over.
        """
        height, width = shape
        labels = Labels(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_))
        # ukis-csmask blends in float64; with less, equal probabilities fall to other classes than there.
        pending = np.zeros((CLASS_COUNT, TILE_PX, width))
        with ThreadPoolExecutor(self.threads) as pool:
            for top in tile_starts(height):
                rows = mirrored_indices(top, height)
                first, last = int(rows.min()), int(rows.max())
                pixels = read_rows(first, last + 1)
                valid = (pixels != 0).any(axis=0)
                self._add_tiles(pool, pixels[:, rows - first], valid[rows - first], pending)
                # Rows that no later tile reaches.
                done = slice(max(top, 0), min(top + STEP_PX, height))
                labels.valid[done] = valid[done.start - first : done.stop - first]
                blended = pending[:, done.start - top : done.stop - top].astype(np.float32)
                labels.label[done] = blended.argmax(axis=0)
                pending[:, :SHARED_PX] = pending[:, STEP_PX:]
                pending[:, SHARED_PX:] = 0
        return labels

    def _add_tiles(
        self,
        pool: ThreadPoolExecutor,
        pixels: NDArray[np.uint16],
        valid: NDArray[np.bool_],
        pending: NDArray[np.float64],
    ) -> None:
        """Add the weighted probabilities of one row of tiles, from left to right."""
        width = valid.shape[1]
        columns = {left: mirrored_indices(left, width) for left in tile_starts(width)}
        lefts = [left for left, cols in columns.items() if valid[:, cols].any()]
        for left, probability in zip(
            lefts, pool.map(lambda left: self._classify(pixels[:, :, columns[left]]), lefts), strict=True
        ):
            inside = slice(max(left, 0), min(left + TILE_PX, width))
            weighted = probability * _WEIGHTS
            pending[:, :, inside] += weighted[:, :, inside.start - left : inside.stop - left]

    def _classify(self, pixels: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Probabilities of one tile's classes, float32 ``(3, 256, 256)``."""
        tile = np.empty((1, *pixels.shape), np.float32)
        for band, table in enumerate(self.tables):
            np.take(table, pixels[band], out=tile[0, band])
        logits = self.network(tile)[0]
        exponential = np.exp(logits - logits.max(axis=0))
        probability: NDArray[np.float32] = exponential / exponential.sum(axis=0)
        return probability


def tile_starts(size: int) -> range:
    """First pixels, along one axis, of the tiles that cover ``size`` pixels."""
    return range(-MARGIN_PX, size, STEP_PX)


def mirrored_indices(start: int, size: int) -> NDArray[np.intp]:
    """Pixels of the tile that begins at ``start``, of a raster mirrored at its edges: intp ``(256,)``."""
    index = np.arange(start, start + TILE_PX) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def build_weights() -> NDArray[np.float64]:
    """Weights of a tile's pixels, float64 ``(256, 256)``: those of overlapping tiles sum to 1.

    Scipy's ``tukey(256, 2 * OVERLAP)`` along both axes, as ukis-csmask blends.
    """
    ramp = (1 - np.cos(np.pi * np.arange(SHARED_PX) / (SHARED_PX - 1))) / 2
    along = np.concatenate([ramp, np.ones(TILE_PX - 2 * SHARED_PX), ramp[::-1]])
    return np.outer(along, along)


_WEIGHTS = build_weights()


#: Rows of a COG's block: a strip of these decodes each block once.
STRIP_PX = 512


class BandRows:
    """A sliding view of a scene's bands: few rows are held, each is read once.

    Raises:
        MissingField: the item lacks one of ``bands``.
    """

    def __init__(self, reader: AssetReader, scene: Scene, bands: Sequence[str]) -> None:
        for band in bands:
            if band not in scene.asset_hrefs:
                raise MissingField(scene.id, f"assets.{band}")
        self._reader = reader
        self._scene = scene
        self._bands = bands
        self._top = 0
        self._pixels = np.empty((len(bands), 0, scene.grid.shape[1]), np.uint16)

    def read_rows(self, top: int, bottom: int) -> NDArray[np.uint16]:
        """Digital numbers of rows ``top`` to ``bottom``: uint16 ``(bands, bottom - top, width)``.

        ``top`` may be up to a tile's height above that of an earlier call.

        Raises:
            AssetUnavailable, AssetRefused: a band cannot be read, or is not uint16.
        """
        while self._top + self._pixels.shape[1] < bottom:
            self._read_strip(keep_from=max(top - TILE_PX, self._top))
        return self._pixels[:, top - self._top : bottom - self._top]

    def _read_strip(self, keep_from: int) -> None:
        """Read the next strip; drop the rows above ``keep_from``."""
        height, width = self._scene.grid.shape
        next_row = self._top + self._pixels.shape[1]
        window = Window(next_row, 0, min(STRIP_PX, height - next_row), width)
        kept = self._pixels[:, keep_from - self._top :]
        pixels = np.empty((len(self._bands), kept.shape[1] + window.height, width), np.uint16)
        pixels[:, : kept.shape[1]] = kept
        for index, band in enumerate(self._bands):
            pixels[index, kept.shape[1] :] = self._read_band(band, window)
        self._top, self._pixels = keep_from, pixels

    def _read_band(self, band: str, window: Window) -> NDArray[np.uint16]:
        scene = self._scene
        pixels = self._reader.read_band(
            scene.asset_hrefs[band], scene.grid.window_grid(window), resampling="average", item_id=scene.id
        )
        if pixels.dtype != np.uint16:
            raise AssetRefused(f"item {scene.id}: asset {band} holds {pixels.dtype}, not uint16")
        return pixels.astype(np.uint16, copy=False)


#: The one for L2A with six bands; those for four bands or L1C lie beside it.
MODEL = "model_6b_l2a"
#: Sentinel-2's bands by the names that ukis-csmask gives them.
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


#: Labels of the network (ukis-csmask 1.0, ``CSmask._csm``).
CLOUD, SHADOW = 1, 2


def open_engine(tools: EngineTools) -> CsmaskEngine:
    """Open the engine; the network is loaded at the first scene."""
    return CsmaskEngine(tools.reader, tools.parameters)


class CsmaskEngine:
    """Classifies an item's own L2A bands; needs no account, nothing but their pixels.

    ukis-csmask's network tells clouds and shadows on the scene's grid; erosion, dilation and classes
    are those of the other methods. Of ``parameters``, only the buffer plays a part. ``threads`` are the
    cores that one scene may use. One engine serves several scenes at a time.

    Raises:
        SettingsError: the extra ``csmask`` is not installed.
    """

    method = "csmask"

    def __init__(self, reader: AssetReader, parameters: MaskParameters, threads: int = 1) -> None:
        self._reader = reader
        self._parameters = parameters
        self._threads = threads
        self._model = find_model_file()
        self._lock = Lock()

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """An empty identity for each scene: no image of Earth Engine is needed."""
        return {scene.id: EarthEngineImage() for scene in scenes}

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """The mask of one scene.

        Raises:
            MissingField: a band is not among the item's assets.
            AssetUnavailable: a band could not be read now.
            AssetRefused: a band may not be read, or is not what it should be.
            EngineRefused: the network cannot be loaded.
        """
        bands = BandRows(self._reader, scene, self._model.bands)
        tables = self._model.build_tables(build_reflectance_table(scene.processing_baseline))
        found = TiledNetwork(self._load_network(), tables, self._threads).label_scene(
            bands.read_rows, scene.grid.shape
        )
        classes = compose_classes(
            found.label == CLOUD,
            found.label == SHADOW,
            found.valid,
            self._parameters,
            scene.grid.pixel_size_m,
        )
        return DerivedMask(classes, ee_image, read_software())

    def _load_network(self) -> Network:
        with self._lock:
            return self._network

    @cached_property
    def _network(self) -> Network:
        """Loaded at the first scene: a run that derives nothing need not wait for it."""
        try:
            return load_network(self._model)
        except Exception as error:  # onnxruntime has a tree of errors of its own
            reason = str(error).partition("\n")[0]
            raise EngineRefused(
                f"{self._model.path.name}: onnxruntime cannot load it: {reason};"
                " pip install --force-reinstall 'pc-cloudmask[csmask]'"
            ) from error
