"""Masks from s2cloudless: clouds by its probability, shadows by projecting them away from the sun.

With ``compute=local`` the mask is composed here (``clouds_and_shadows.compose_mask``), from the item's own
probability if it has one, otherwise from Earth Engine's; with ``compute=server`` Earth Engine computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, EngineRefused
from pc_cloudmask.masking.classes import (
    COARSE_PIXEL_M,
    PROBABILITY_NODATA,
    CloudInputs,
    MaskClass,
    MaskParameters,
)
from pc_cloudmask.masking.clouds_and_shadows import compose_mask, find_dark
from pc_cloudmask.masking.earth_engine import graphs
from pc_cloudmask.masking.earth_engine.images import ImageFinder
from pc_cloudmask.masking.earth_engine.session import SOFTWARE, PixelDownloader
from pc_cloudmask.masking.earth_engine.windows import CLOUD_PROBABILITY, Bytes, Raster
from pc_cloudmask.masking.files import read_item_band
from pc_cloudmask.masking.methods import (
    CLASSES_ASSET,
    NIR_ASSET,
    DerivedMask,
    EngineTools,
    MaskEngine,
    has_own_inputs,
    need_no_image,
)
from pc_cloudmask.raster.read import average_valid
from pc_cloudmask.scene.image import EarthEngineImage, Pairing
from pc_cloudmask.scene.scene import PROBABILITY_ASSET, Scene, reflectance_offset_dn
from pc_cloudmask.source.assets import AssetReader

#: Rows computed at a time, so that they stay in the processor's cache; an even number.
_ROWS = 128
Pixel = TypeVar("Pixel", np.uint8, np.bool_)


def open_engine(tools: EngineTools) -> MaskEngine:
    """Open the engine; without an Earth Engine account it masks only items that have a probability."""
    parameters, on_server = tools.read_parameters("s2cloudless"), tools.compute == "server"
    earth_engine = None
    if on_server or tools.has_earth_engine:
        earth_engine = EarthEngineInputs(tools.downloader, parameters)
    if earth_engine and on_server:
        return MaskEngine("s2cloudless", earth_engine.download_mask, earth_engine.find_images)
    local = LocalEngine(tools.reader, parameters, earth_engine)
    return MaskEngine("s2cloudless", local.begin_mask, local.find_images)


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Computes masks here, from an item's own inputs if it has them, otherwise from Earth Engine's."""

    reader: AssetReader
    parameters: MaskParameters
    earth_engine: EarthEngineInputs | None

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """Return, by scene id, the Earth Engine image or why there is none yet; send at most one request.

        If Earth Engine is not configured and all scenes need it, it raises EngineRefused. If only some do, the others
        continue and ``begin_mask`` refuses these.
        """
        pairings = dict(need_no_image(scenes))
        others = [scene for scene in scenes if not has_own_inputs(scene)]
        if others and self.earth_engine is not None:
            pairings.update(self.earth_engine.find_images(others))
        elif others and len(others) == len(scenes):
            raise _not_configured(others[0])
        return pairings

    def begin_mask(self, scene: Scene, ee_image: EarthEngineImage) -> Callable[[], DerivedMask]:
        """Download the inputs, unless the item has its own, and return what composes the mask; see ``MaskEngine``."""
        read_inputs: Callable[[], CloudInputs]
        if has_own_inputs(scene):
            read_inputs = partial(read_item_inputs, self.reader, scene, self.parameters)
        elif self.earth_engine is None:
            raise _not_configured(scene)
        else:
            read_inputs = self.earth_engine.download_inputs(scene, ee_image)
        return partial(self._compose, scene, ee_image, read_inputs)

    def _compose(
        self, scene: Scene, ee_image: EarthEngineImage, read_inputs: Callable[[], CloudInputs]
    ) -> DerivedMask:
        inputs = read_inputs()
        classes = compose_mask(inputs, scene.solar_azimuth_deg, self.parameters, scene.grid.pixel_size_m)
        return DerivedMask(classes, ee_image, inputs=inputs, lacking_px=inputs.lacking_px)


def _not_configured(scene: Scene) -> EngineRefused:
    return EngineRefused(
        f"item {scene.id}: carries no cloud probability, and Earth Engine is not configured:"
        " set CLOUDMASK_EARTHENGINE_PROJECT, or use --method csmask, which needs no account"
    )


def read_item_inputs(reader: AssetReader, scene: Scene, parameters: MaskParameters) -> CloudInputs:
    """Return the inputs that an item itself has, on the scene's grid; raise as ``read_item_band`` does.

    Its cloud probability stands in for Earth Engine's COPERNICUS/S2_CLOUD_PROBABILITY: percent, 255 no data, at
    10 m, or at 20 m as this package publishes it with ``keep_inputs``. Means of the valid 10 m pixels, rounded
    half up, are what Earth Engine's pyramid holds at 20 m; its levels above follow from them, so a probability
    published at 20 m gives the same mask.
    """
    # Dark first: the near infrared takes the most memory, and is not kept.
    nir_dn = read_item_band(reader, scene, NIR_ASSET, np.uint16)
    dark = find_dark(
        nir_dn,
        read_item_band(reader, scene, CLASSES_ASSET, np.uint8, "nearest"),
        parameters.dark_nir_reflectance,
        reflectance_offset_dn(scene.processing_baseline),
    )
    lacking = nir_dn > 0
    del nir_dn
    probability_pct = read_item_band(reader, scene, PROBABILITY_ASSET, np.uint8)
    if _find_highest(probability_pct) > 100:
        raise AssetRefused(f"item {scene.id}: asset {PROBABILITY_ASSET} holds more than 100 percent")
    lacking &= probability_pct == PROBABILITY_NODATA
    lacking_px = int(np.count_nonzero(lacking))
    return CloudInputs(probability_pct, dark, build_coarse_probability(probability_pct), lacking_px)


class EarthEngineInputs:
    """Earth Engine's cloud probability and dark ground at 20 m, the probability at 100 m; or its own mask of them.

    Both scales come from Earth Engine's own pyramid, so the mask made here equals the one that it computes.
    """

    def __init__(self, downloader: PixelDownloader, parameters: MaskParameters) -> None:
        self._downloader = downloader
        self._parameters = parameters
        self.find_images = ImageFinder(downloader.session, CLOUD_PROBABILITY).find_images

    def download_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> Callable[[], CloudInputs]:
        """Download the inputs on the scene's grid, packed, and return what unpacks them, once; see ``MaskEngine``."""
        self._downloader.session.start()
        fine = graphs.build_packed_inputs(ee_image, self._parameters)
        coarse = graphs.build_coarse_probability_image(ee_image, self._parameters)
        rasters = [
            Raster("cloud inputs", fine, scene.grid),
            Raster("cloud probability at 100 m", coarse, scene.grid.at_pixel_size(COARSE_PIXEL_M)),
        ]
        return partial(self._unpack, scene, self._downloader.read_rasters(scene.id, rasters))

    def _unpack(self, scene: Scene, rasters: list[Bytes]) -> CloudInputs:
        coarse_pct, packed = rasters.pop(), rasters.pop()  # so that no other reference keeps them in memory
        lacking_px = sum(int(np.count_nonzero(strip == graphs.LACKING_INPUT)) for strip in _strips(packed))
        probability_pct, dark = unpack_inputs(packed)
        highest = max(_find_highest(probability_pct), _find_highest(coarse_pct))
        if highest > 100:
            raise EngineRefused(f"{scene.id}: Earth Engine gave a cloud probability of {highest} %")
        return CloudInputs(probability_pct, dark, coarse_pct, lacking_px)

    def download_mask(self, scene: Scene, ee_image: EarthEngineImage) -> Callable[[], DerivedMask]:
        """Download the mask that Earth Engine computes, one byte per pixel, its class; return what reads it."""
        self._downloader.session.start()
        image = graphs.build_server_mask(ee_image, scene.solar_azimuth_deg, self._parameters)
        (classes,) = self._downloader.read_rasters(scene.id, [Raster("cloud mask", image, scene.grid)])
        return partial(self._read_classes, scene, ee_image, classes)

    def _read_classes(self, scene: Scene, ee_image: EarthEngineImage, classes: Bytes) -> DerivedMask:
        lacking = classes == graphs.LACKING_CLASS
        classes[lacking] = MaskClass.NO_DATA
        if classes.max(initial=0) > max(MaskClass):
            raise EngineRefused(f"{scene.id}: Earth Engine gave a mask with a class {classes.max()}")
        return DerivedMask(classes, ee_image, SOFTWARE, lacking_px=int(np.count_nonzero(lacking)))


def unpack_inputs(packed: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
    """Return probability (uint8 percent, 255 no data) and dark (bool) of ``graphs.build_packed_inputs``.

    The probability overwrites ``packed``.
    """
    dark = np.empty(packed.shape, np.bool_)
    for strip, dark_strip in zip(_strips(packed), _strips(dark), strict=True):
        missing = strip >= graphs.LACKING_INPUT
        np.greater(strip >= graphs.DARK_BIT, missing, out=dark_strip)
        np.bitwise_and(strip, np.uint8(graphs.DARK_BIT - 1), out=strip)
        # The negative of a 1 is 255, no data: several times faster than an assignment by a mask.
        np.bitwise_or(strip, np.negative(missing.view(np.uint8)), out=strip)
    return packed, dark


def _find_highest(probability_pct: Bytes) -> int:
    """Return the highest value except 255, no data, which one more makes 0; -1 if there is none."""
    highest = (int((strip + np.uint8(1)).max(initial=0)) for strip in _strips(probability_pct))
    return max(highest, default=0) - 1


def _strips(pixels: NDArray[Pixel]) -> Iterator[NDArray[Pixel]]:
    return (pixels[row : row + _ROWS] for row in range(0, len(pixels), _ROWS))


#: The level at or below 100 m in a pyramid of 10 m pixels: 10, 20, 40, 80.
_LEVEL_SCALE_M = 80
_PIXEL_SIZE_M = 20


def build_coarse_probability(probability_pct: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what Earth Engine uses as the probability at 100 m, from the probability at 20 m.

    ``reproject(scale=100)`` reads the nearest pixel of the level at or below 100 m, which is 80 m: a
    100 m pixel gets the mean of the 80 m pixel that contains its centre, not the mean of its own ground. From uint8
    (h, w), 255 no data, it makes uint8 (ceil(h / 5), ceil(w / 5)) from the same upper-left corner.
    """
    level = mean_pyramid(mean_pyramid(probability_pct, PROBABILITY_NODATA), PROBABILITY_NODATA)
    height, width = probability_pct.shape
    # The centre of a 100 m pixel that only begins inside the image may lie outside: no data there.
    padded = np.pad(level, ((0, 1), (0, 1)), constant_values=PROBABILITY_NODATA)
    return padded[np.ix_(_nearest_in_level(height), _nearest_in_level(width))]


def mean_pyramid(values: NDArray[np.uint8], nodata: int) -> NDArray[np.uint8]:
    """Return the next coarser level: means of the valid pixels of each 2 x 2, ``nodata`` where there are none.

    Earth Engine computes each level of a MEAN pyramid from the finer one, masked pixels left out, in
    the type of the band. Its rounding is not documented; here it is to the nearest, halves up, as in
    GDAL's overviews. From uint8 (h, w) it makes uint8 (ceil(h / 2), ceil(w / 2)).
    """
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=nodata)
    return np.concatenate([average_valid(strip, 2, nodata) for strip in _strips(values)])


def _nearest_in_level(length: int) -> NDArray[np.intp]:
    """Return the index of the 80 m pixel that holds the centre of each 100 m pixel, for ``length`` pixels of 20 m."""
    centre_m = np.arange(0, length * _PIXEL_SIZE_M, COARSE_PIXEL_M) + COARSE_PIXEL_M / 2
    return np.asarray(centre_m // _LEVEL_SCALE_M, np.intp)
