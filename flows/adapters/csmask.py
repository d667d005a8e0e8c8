"""The engine that asks ukis-csmask's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock

from flows.adapters.asset_reader import AssetReader
from flows.adapters.csmask_bands import BandRows
from flows.adapters.csmask_networks import find_model_file, load_network, read_software
from flows.adapters.csmask_tiles import Network, TiledNetwork
from flows.errors import EngineRefused
from flows.masking.compose import compose_classes
from flows.masking.parameters import MaskParameters
from flows.masking.reflectance import build_reflectance_table
from flows.ports import DerivedMask
from flows.scene.granule import Granule, Pairing
from flows.scene.scene import Scene

CLOUD, SHADOW = 1, 2
"""Labels of the network (ukis-csmask 1.0, ``CSmask._csm``)."""


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

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """An empty granule for each scene: no image of Earth Engine is needed."""
        return {scene.id: Granule() for scene in scenes}

    def derive_mask(self, scene: Scene, granule: Granule) -> DerivedMask:
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
        return DerivedMask(classes, granule, read_software())

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
