"""The engine that projects the shadows of s2cloudless' clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, EngineRefused
from pc_cloudmask.masking.classes import PROBABILITY_NODATA, CloudInputs, MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import find_dark
from pc_cloudmask.masking.earth_engine.graphs import (
    CLOUD_PROBABILITY,
    DARK_BIT,
    build_coarse_probability_image,
    build_packed_inputs,
    build_server_mask,
)
from pc_cloudmask.masking.earth_engine.images import ImageFinder
from pc_cloudmask.masking.earth_engine.session import SOFTWARE, EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import COARSE_PIXEL_M, Bytes, PixelDownloader, Raster
from pc_cloudmask.masking.methods import (
    CLASSES_ASSET,
    NIR_ASSET,
    CloudInputsSource,
    DerivedMask,
    EngineTools,
    MaskEngine,
    has_own_inputs,
)
from pc_cloudmask.masking.morphology import compose_mask
from pc_cloudmask.masking.pyramid import build_coarse_probability
from pc_cloudmask.raster.read import ResamplingName
from pc_cloudmask.scene.ids import PROBABILITY_ASSET
from pc_cloudmask.scene.image import EarthEngineImage, Pairing
from pc_cloudmask.scene.scene import Scene, reflectance_offset_dn
from pc_cloudmask.source.assets import AssetReader

#: Rows that are checked at a time, to need no further raster of the scene's size.
_ROWS = 128


def open_engine(tools: EngineTools) -> MaskEngine:
    """Open the engine: the mask computed by Earth Engine, or here, from the item's own probability if it has one."""
    if tools.compute == "server":
        return ServerMaskEngine(tools.session, tools.parameters, tools.downloader)
    earth_engine = None
    if tools.has_earth_engine:
        earth_engine = EarthEngineInputs(tools.session, tools.parameters, tools.downloader)
    inputs = FirstInputs(ItemInputs(tools.reader, tools.parameters), earth_engine)
    return ProjectedShadowEngine(inputs, tools.parameters)


class ItemInputs:
    """Reads the cloud probability, the near infrared, the scene classes that an item itself carries.

    The probability is what s2cloudless gives: percent, 255 no data, at 10 m, or at 20 m as this package
    publishes it with ``keep_inputs``. It stands in for Earth Engine's COPERNICUS/S2_CLOUD_PROBABILITY.
    """

    def __init__(self, reader: AssetReader, parameters: MaskParameters) -> None:
        self._reader = reader
        self._parameters = parameters

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """An empty identity for each scene: no image of Earth Engine is needed."""
        return {scene.id: EarthEngineImage() for scene in scenes}

    def read_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> CloudInputs:  # noqa: ARG002 - the port's
        """The inputs on the scene's grid.

        Means of the valid 10 m pixels, rounded half up, are what Earth Engine's pyramid holds at 20 m;
        its levels above follow from them, so a probability published at 20 m gives the same mask.

        Raises:
            AssetUnavailable: an asset could not be read now.
            AssetRefused: an asset is missing, may not be read, or is not what it should be.
        """
        dark = self._read_dark(scene)  # first: the near infrared takes most memory, and is not kept
        probability_pct = self._read_uint8(scene, PROBABILITY_ASSET, "average")
        if not _are_percent(probability_pct):
            raise AssetRefused(f"item {scene.id}: asset {PROBABILITY_ASSET} holds more than 100 percent")
        return CloudInputs(probability_pct, dark, build_coarse_probability(probability_pct))

    def _read_dark(self, scene: Scene) -> NDArray[np.bool_]:
        nir = self._read(scene, NIR_ASSET, "average")
        if nir.dtype != np.uint16:
            raise AssetRefused(f"item {scene.id}: asset {NIR_ASSET} holds {nir.dtype}, not uint16")
        return find_dark(
            nir.astype(np.uint16, copy=False),
            self._read_uint8(scene, CLASSES_ASSET, "nearest"),
            self._parameters.dark_nir_reflectance,
            reflectance_offset_dn(scene.processing_baseline),
        )

    def _read_uint8(self, scene: Scene, key: str, resampling: ResamplingName) -> NDArray[np.uint8]:
        pixels = self._read(scene, key, resampling)
        if pixels.dtype != np.uint8:
            raise AssetRefused(f"item {scene.id}: asset {key} holds {pixels.dtype}, not uint8")
        return pixels.astype(np.uint8, copy=False)

    def _read(self, scene: Scene, key: str, resampling: ResamplingName) -> NDArray[np.generic]:
        href = scene.asset_hrefs.get(key)
        if href is None:
            raise AssetRefused(f"item {scene.id}: asset {key} is missing; the mask needs it")
        return self._reader.read_band(href, scene.grid, resampling=resampling, item_id=scene.id)


def _are_percent(values: NDArray[np.uint8]) -> bool:
    """Whether all are 0..100 or 255, no data, which one more makes 0."""
    strips = (values[row : row + _ROWS] + np.uint8(1) for row in range(0, len(values), _ROWS))
    return all(strip.max(initial=0) <= 101 for strip in strips)


class ProjectedShadowEngine:
    """Computes the mask here, from inputs that come from anywhere."""

    method = "s2cloudless"

    def __init__(self, inputs: CloudInputsSource, parameters: MaskParameters) -> None:
        self._inputs = inputs
        self._parameters = parameters

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet: what the inputs' source says."""
        return self._inputs.find_images(scenes)

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """The mask of one scene, with the inputs that it was made from.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        inputs = self._inputs.read_inputs(scene, ee_image)
        classes = compose_mask(inputs, scene.solar_azimuth_deg, self._parameters, scene.grid.pixel_size_m)
        return DerivedMask(classes, ee_image, inputs=inputs)


class FirstInputs:
    """The item's own inputs where it carries them, Earth Engine's otherwise."""

    def __init__(self, item_inputs: ItemInputs, earth_engine_inputs: CloudInputsSource | None) -> None:
        self._item_inputs = item_inputs
        self._earth_engine_inputs = earth_engine_inputs

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet; Earth Engine is asked once at the most.

        Raises:
            EngineRefused: every scene needs Earth Engine, which is not configured. Where only some do,
                the others go on and ``read_inputs`` refuses these.
        """
        own = [scene for scene in scenes if has_own_inputs(scene)]
        others = [scene for scene in scenes if not has_own_inputs(scene)]
        ee_images = dict(self._item_inputs.find_images(own))
        if others and self._earth_engine_inputs is not None:
            ee_images.update(self._earth_engine_inputs.find_images(others))
        elif others and own:
            ee_images.update({scene.id: EarthEngineImage() for scene in others})
        elif others:
            raise _not_configured(others[0])
        return ee_images

    def read_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> CloudInputs:
        """The inputs on the scene's grid.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        if has_own_inputs(scene):
            return self._item_inputs.read_inputs(scene, ee_image)
        if self._earth_engine_inputs is None:
            raise _not_configured(scene)
        return self._earth_engine_inputs.read_inputs(scene, ee_image)


def _not_configured(scene: Scene) -> EngineRefused:
    return EngineRefused(
        f"item {scene.id}: carries no cloud probability, and Earth Engine is not configured:"
        " set CLOUDMASK_EARTHENGINE_PROJECT, or use --method csmask, which needs no account"
    )


class EarthEngineInputs:
    """A ``CloudInputsSource``: cloud probability and dark ground at 20 m, the probability at 100 m.

    Both scales come from Earth Engine's own pyramid, so the mask equals the one that it would compute.
    """

    def __init__(
        self, session: EarthEngineSession, parameters: MaskParameters, downloader: PixelDownloader
    ) -> None:
        self._session = session
        self._parameters = parameters
        self._downloader = downloader
        self._finder = ImageFinder(session, CLOUD_PROBABILITY)

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet."""
        return self._finder.find_images(scenes)

    def read_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> CloudInputs:
        """The inputs on the scene's grid; see ``CloudInputsSource``."""
        self._session.start()
        packed, coarse = self._downloader.read_rasters(
            scene.id,
            [
                Raster("cloud inputs", build_packed_inputs(ee_image, self._parameters), scene.grid),
                Raster(
                    "cloud probability at 100 m",
                    build_coarse_probability_image(ee_image),
                    scene.grid.at_pixel_size(COARSE_PIXEL_M),
                ),
            ],
        )
        probability_pct, dark = unpack_inputs(packed)
        for values in (probability_pct, coarse):
            _check_probability(values, scene.id)
        return CloudInputs(probability_pct, dark, coarse)


def unpack_inputs(packed: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
    """Probability (uint8 per cent, 255 no data) and dark (bool) of ``build_packed_inputs``."""
    missing = packed == PROBABILITY_NODATA
    dark = (packed >= DARK_BIT) & ~missing
    probability_pct: Bytes = packed & np.uint8(DARK_BIT - 1)
    probability_pct[missing] = PROBABILITY_NODATA
    return probability_pct, dark


def _check_probability(values: Bytes, scene_id: str) -> None:
    wrong = (values > 100) & (values != PROBABILITY_NODATA)
    if wrong.any():
        raise EngineRefused(f"{scene_id}: Earth Engine gave a cloud probability of {values[wrong].max()} %")


class ServerMaskEngine:
    """A ``MaskEngine`` for s2cloudless: one byte a pixel comes back, its class."""

    method = "s2cloudless"

    def __init__(
        self, session: EarthEngineSession, parameters: MaskParameters, downloader: PixelDownloader
    ) -> None:
        self._session = session
        self._parameters = parameters
        self._downloader = downloader
        self._finder = ImageFinder(session, CLOUD_PROBABILITY)

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet."""
        return self._finder.find_images(scenes)

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """The mask of one scene; see ``MaskEngine``."""
        self._session.start()
        image = build_server_mask(ee_image, scene.solar_azimuth_deg, self._parameters)
        (classes,) = self._downloader.read_rasters(scene.id, [Raster("cloud mask", image, scene.grid)])
        if classes.max(initial=0) > max(MaskClass):
            raise EngineRefused(f"{scene.id}: Earth Engine gave a mask with a class {classes.max()}")
        return DerivedMask(classes, ee_image, SOFTWARE)
