"""Engines whose masks, or whose clouds, come from Earth Engine.

``ServerMaskEngine``: s2cloudless, the whole mask computed by Earth Engine.

``CloudScorePlusEngine``: Cloud Score+ tells one class, "not clear", which holds clouds and shadows
alike. It is split by the same rule that s2cloudless needs to find shadows: a pixel that is not clear is
shadow where it is dark (near infrared below the threshold, not water) and stands, seen towards the sun,
behind a pixel that is not clear and not dark, within the shadow distance at 100 m; else it is cloud. The
result is eroded, grown and classed as every mask here, so its buffer means the same. Earth Engine
computes flags alone; the rest is done here, whatever ``compute`` says: a neighbourhood costs more there
than a byte does on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import ee
import numpy as np
from numpy.typing import NDArray

from flows.adapters.earth_engine.cost import COARSE_PIXEL_M
from flows.adapters.earth_engine.granules import GranuleFinder
from flows.adapters.earth_engine.graphs import (
    CLOUD_PROBABILITY,
    CLOUD_SCORE_PLUS,
    DARK,
    NOT_CLEAR,
    VALID,
    build_score_flags,
    build_server_mask,
)
from flows.adapters.earth_engine.raster import Bytes, PixelDownloader, Raster
from flows.adapters.earth_engine.session import EarthEngineSession
from flows.errors import EngineRefused
from flows.masking.classes import MaskClass
from flows.masking.compose import compose_classes
from flows.masking.parameters import MaskParameters
from flows.masking.shadow import find_shadow_candidates
from flows.ports import DerivedMask
from flows.scene.granule import Granule, Pairing
from flows.scene.scene import Scene

SOFTWARE: Mapping[str, str] = {"earthengine-api": ee.__version__}


class ServerMaskEngine:
    """A ``MaskEngine`` for s2cloudless: one byte a pixel comes back, its class."""

    method = "s2cloudless"

    def __init__(
        self, session: EarthEngineSession, parameters: MaskParameters, downloader: PixelDownloader
    ) -> None:
        self._session = session
        self._parameters = parameters
        self._downloader = downloader
        self._finder = GranuleFinder(session, CLOUD_PROBABILITY)

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet."""
        return self._finder.find_granules(scenes)

    def derive_mask(self, scene: Scene, granule: Granule) -> DerivedMask:
        """The mask of one scene; see ``MaskEngine``."""
        self._session.start()
        image = build_server_mask(granule, scene.solar_azimuth_deg, self._parameters)
        (classes,) = self._downloader.read_rasters(scene.id, [Raster("cloud mask", image, scene.grid)])
        if classes.max(initial=0) > max(MaskClass):
            raise EngineRefused(f"{scene.id}: Earth Engine gave a mask with a class {classes.max()}")
        return DerivedMask(classes, granule, SOFTWARE)


class CloudScorePlusEngine:
    """A ``MaskEngine`` for Cloud Score+; ``band`` is ``cs_cdf``, which varies less over time, or ``cs``."""

    method = "cloud-score-plus"

    def __init__(
        self,
        session: EarthEngineSession,
        parameters: MaskParameters,
        downloader: PixelDownloader,
        band: Literal["cs", "cs_cdf"] = "cs_cdf",
    ) -> None:
        self._session = session
        self._parameters = parameters
        self._downloader = downloader
        self._band = band
        self._finder = GranuleFinder(session, CLOUD_SCORE_PLUS)

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet."""
        return self._finder.find_granules(scenes)

    def derive_mask(self, scene: Scene, granule: Granule) -> DerivedMask:
        """The mask of one scene; see ``MaskEngine``."""
        self._session.start()
        image = build_score_flags(granule, self._band, self._parameters)
        flags, coarse = self._downloader.read_rasters(
            scene.id,
            [
                Raster("cloud score flags", image, scene.grid),
                Raster("cloud score flags at 100 m", image, scene.grid.at_pixel_size(COARSE_PIXEL_M)),
            ],
        )
        classes = classify_flags(flags, coarse, scene, self._parameters)
        return DerivedMask(classes, granule, SOFTWARE)


def classify_flags(flags: Bytes, coarse: Bytes, scene: Scene, parameters: MaskParameters) -> Bytes:
    """Classes of ``MaskClass`` on the scene's grid, uint8, from Cloud Score+'s flags at 20 m and 100 m."""
    # Dark where it is not clear is what may be shadow, so it casts none.
    casting = (coarse & (NOT_CLEAR | DARK)) == NOT_CLEAR
    candidates = _expand(
        find_shadow_candidates(
            casting, scene.solar_azimuth_deg, parameters.shadow_distance_m / COARSE_PIXEL_M
        ),
        scene,
    )
    not_clear = (flags & NOT_CLEAR) > 0
    shadow = ((flags & (NOT_CLEAR | DARK)) == (NOT_CLEAR | DARK)) & candidates
    return compose_classes(
        not_clear & ~shadow, shadow, (flags & VALID) > 0, parameters, scene.grid.pixel_size_m
    )


def _expand(coarse: NDArray[np.bool_], scene: Scene) -> NDArray[np.bool_]:
    """``coarse`` on the scene's grid, nearest pixel."""
    factor = round(COARSE_PIXEL_M / scene.grid.pixel_size_m)
    height, width = scene.grid.shape
    return coarse.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
