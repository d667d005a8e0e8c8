"""The methods that derive a mask, one row each, and where their networks run.

What differs between methods is in ``METHODS``: settings, the run's adapters, the budget, the dry run,
``doctor``, the published item and the documentation read it. A new method is a module named after it with a
function ``open_engine``, a row here, its tests and its page in ``docs/methods``. If it has a ``package`` of its own,
it also has ``list_checks``, for ``doctor``, and if it has weights, ``identify``, for the item's fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import COARSE_MODEL, COARSE_PIXEL_M, CloudInputs, MaskParameters
from pc_cloudmask.masking.earth_engine.windows import (
    CLOUD_PROBABILITY,
    CLOUD_SCORE_PLUS,
    L2A,
    CostEstimate,
    estimate_assets,
    estimate_raster,
)
from pc_cloudmask.scene.image import EarthEngineImage, Pairing
from pc_cloudmask.scene.scene import PROBABILITY_ASSET, Scene

if TYPE_CHECKING:
    from pc_cloudmask.masking.earth_engine.session import PixelDownloader
    from pc_cloudmask.source.assets import AssetReader

#: What the settings may name; ``auto`` is the first of ``DEVICES`` that is available.
Device = Literal["auto", "cpu", "cuda", "mps"]
#: Devices, a GPU before the CPU.
DEVICES: tuple[str, ...] = ("cuda", "mps", "cpu")


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a network runs.

    ``batch_size`` patches are computed at a time. ``model_version`` names a release of the model, and ``weights`` the
    folder of its files; None means where its package keeps them. All except ``device`` are OmniCloudMask's.
    """

    device: Device = "auto"
    batch_size: int = 1
    model_version: float = 4.0
    weights: Path | None = None


#: Assets of an item that itself has the inputs of s2cloudless.
NIR_ASSET, CLASSES_ASSET = "B08", "SCL"


@dataclass(frozen=True, slots=True)
class DerivedMask:
    """A mask, and how it was made.

    ``classes`` is uint8 ``(height, width)`` on the scene's grid with values of ``MaskClass``.
    ``software`` maps a package or model to its version, for ``processing:software``.
    ``inputs`` is kept if the engine has them, to publish the probability with the mask.
    ``lacking_px`` counts the pixels with reflectance but no data in the mask, because another input is missing.
    """

    classes: NDArray[np.uint8]
    ee_image: EarthEngineImage = field(default_factory=EarthEngineImage)
    software: Mapping[str, str] = field(default_factory=dict)
    inputs: CloudInputs | None = None
    lacking_px: int = 0


def need_no_image(scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
    """Return an empty pairing for each scene: its mask needs no Earth Engine image."""
    return {scene.id: EarthEngineImage() for scene in scenes}


BeginMask = Callable[[Scene, EarthEngineImage], Callable[[], DerivedMask]]


def compute_only(derive_mask: Callable[[Scene, EarthEngineImage], DerivedMask]) -> BeginMask:
    """Return the ``begin_mask`` of an engine that has nothing to download: all of ``derive_mask`` follows later."""
    return lambda scene, ee_image: partial(derive_mask, scene, ee_image)


@dataclass(frozen=True, slots=True)
class MaskEngine:
    """Derives masks by one method.

    ``begin_mask`` downloads what Earth Engine has for the mask of one scene, if anything, and returns what makes the
    mask from it, once. Both raise EngineUnavailable or AssetUnavailable if it may succeed later, EngineRefused,
    AssetRefused or MissingField if it never will. ``find_images`` returns, by scene id, the Earth Engine image or why
    there is none yet, in one round trip for many scenes.
    """

    method: str
    begin_mask: BeginMask
    find_images: Callable[[Sequence[Scene]], Mapping[str, Pairing]] = need_no_image

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """Return the mask of one scene; raise as ``begin_mask`` does."""
        return self.begin_mask(scene, ee_image)()


class EngineTools(Protocol):
    """What an engine may be built from, by a run's settings; each part is opened on first use."""

    @property
    def now(self) -> datetime:
        """Return when the run began."""

    def read_parameters(self, method: str) -> MaskParameters:
        """Return the thresholds of masks of ``method``."""

    @property
    def compute(self) -> str:
        """Return ``local`` or ``server``."""

    @property
    def network(self) -> NetworkOptions:
        """Return where and how networks run."""

    @property
    def reader(self) -> AssetReader:
        """Return the reader of source assets."""

    @property
    def has_earth_engine(self) -> bool:
        """Return True if the settings name an Earth Engine account."""

    @property
    def downloader(self) -> PixelDownloader:
        """Return the downloader of rasters from Earth Engine."""


class CostSettings(Protocol):
    """The settings that a scene's cost depends on."""

    @property
    def compute(self) -> str:
        """Return ``local`` or ``server``."""

    @property
    def csmask_model(self) -> str:
        """Return the name of ukis-csmask's network."""


@dataclass(frozen=True, slots=True)
class MaskMethod:
    """One way to derive a mask; ``open_engine`` of the module named after it opens the engine.

    ``parameters`` are the thresholds that its masks depend on; no others affect them. ``choices`` are names of further
    parameters that they depend on, recorded only if not the default. ``buffer_m`` is the buffer that suits the method,
    used if the settings name none. ``description`` is Markdown, one paragraph of the collection's description.
    ``collections`` are those of Earth Engine that a scene is paired with; a method without any needs no account.
    ``extra`` is the extra of this distribution that installs its packages, ``package`` the one that it requires. With
    ``has_weights`` the user downloads files that its masks also depend on. ``estimate`` returns what a scene costs.
    """

    name: str
    title: str
    parameters: tuple[str, ...]
    description: str
    licence: str
    citation: str
    buffer_m: float
    collections: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    extra: str | None = None
    package: str | None = None
    has_weights: bool = False
    estimate: Callable[[Scene, CostSettings], CostEstimate] = lambda _scene, _settings: CostEstimate()

    @property
    def module(self) -> str:
        """Return the name of the module that derives its masks."""
        return f"pc_cloudmask.masking.{self.name.replace('-', '_')}"

    @property
    def doi(self) -> str:
        """Return the DOI at the end of the citation."""
        return self.citation.rpartition("doi:")[2]

    @property
    def needs_earth_engine(self) -> bool:
        """Return True if scenes are paired with Earth Engine images."""
        return bool(self.collections)

    def identify(self, options: NetworkOptions) -> Mapping[str, float | str]:
        """Return, by name, what masks depend on besides the settings: the weights; SettingsError: they are missing."""
        return import_module(self.module).identify(options) if self.has_weights else {}

    def list_checks(self, options: NetworkOptions) -> Mapping[str, Callable[[], str]]:
        """Return the checks for ``doctor`` by name: each describes what is there, or raises a CloudmaskError."""
        return import_module(self.module).list_checks(options) if self.package else {}

    def open_engine(self, tools: EngineTools) -> MaskEngine:
        """Open what derives masks by this method; raise SettingsError if something it needs is missing."""
        engine: MaskEngine = import_module(self.module).open_engine(tools)
        return engine


def has_own_inputs(scene: Scene) -> bool:
    """Return True if the item itself has the inputs of s2cloudless."""
    return {PROBABILITY_ASSET, NIR_ASSET, CLASSES_ASSET} <= scene.asset_hrefs.keys()


def _estimate_s2cloudless(scene: Scene, settings: CostSettings) -> CostEstimate:
    if settings.compute != "local":
        return estimate_raster(scene.grid)
    if has_own_inputs(scene):
        return estimate_assets(scene.grid, 1, 2, 1)
    return estimate_raster(scene.grid) + estimate_raster(scene.grid.at_pixel_size(COARSE_PIXEL_M))


METHODS: Mapping[str, MaskMethod] = {
    method.name: method
    for method in (
        MaskMethod(
            "s2cloudless",
            "s2cloudless with projected shadows",
            ("cloud_probability_pct", "dark_nir_reflectance", "shadow_distance_m", "buffer_m"),
            description=(
                "cloud where the s2cloudless probability exceeds a threshold. Clouds are projected away from "
                "the sun over a given distance; what lies there and is dark in the near infrared, and is not "
                "water, is shadow. Specks are removed by an erosion of 2 pixels, then clouds and shadows grow "
                "by the buffer."
            ),
            licence="CC-BY-4.0",
            citation="Sentinel Hub, s2cloudless; compared in Skakun et al. 2022, doi:10.1016/j.rse.2022.112990",
            buffer_m=50.0,
            collections=(L2A, CLOUD_PROBABILITY),
            estimate=_estimate_s2cloudless,
        ),
        MaskMethod(
            "cloud-score-plus",
            "Google's Cloud Score+, divided into cloud and shadow",
            ("clear_score", "dark_nir_reflectance", "shadow_distance_m", "buffer_m"),
            description=(
                "not clear where Google's Cloud Score+ is below a threshold; divided into cloud and shadow by "
                "the same projection."
            ),
            licence="CC-BY-4.0",
            citation="Pasquarella et al. 2023, doi:10.1109/CVPRW59228.2023.00206",
            # The dilation grows back what the erosion removed: except for specks, the mask equals the threshold's.
            buffer_m=20.0,
            collections=(L2A, CLOUD_SCORE_PLUS),
            choices=("clear_score_band",),
            estimate=lambda scene, _settings: estimate_raster(scene.grid),
        ),
        MaskMethod(
            "csmask",
            "the network of ukis-csmask, on the item's own bands",
            ("buffer_m",),
            description=(
                "a neural network (ukis-csmask) on the scene's own bands; specks are removed by the same erosion, and "
                "the buffer is 0 unless set."
            ),
            licence="Apache-2.0",
            citation="Wieland et al. 2019, doi:10.1016/j.rse.2019.05.022",
            # On a labelled chip any growth costs more than it gains: docs/methods/csmask.md.
            buffer_m=0.0,
            extra="csmask",
            package="ukis_csmask",
            choices=("csmask_model",),
            estimate=lambda scene, settings: estimate_assets(
                scene.grid, *[2] * (4 if settings.csmask_model == COARSE_MODEL else 6)
            ),
        ),
        MaskMethod(
            "omnicloudmask",
            "OmniCloudMask's networks, on the item's own bands",
            ("buffer_m", "model_version", "weights_sha256"),
            description=(
                "neural networks (OmniCloudMask) on the scene's own red, green and near infrared; thin cloud is "
                "cloud, nothing is eroded, and the buffer is 0 unless set."
            ),
            licence="MIT",
            citation="Wright et al. 2025, doi:10.1016/j.rse.2025.114694",
            # Its accuracy is published without any.
            buffer_m=0.0,
            extra="omnicloudmask",
            package="omnicloudmask",
            has_weights=True,
            estimate=lambda scene, _settings: estimate_assets(scene.grid, 2, 2, 2),
        ),
    )
}
