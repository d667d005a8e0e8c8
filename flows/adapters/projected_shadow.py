"""The engine that projects the shadows of s2cloudless' clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.adapters.item_inputs import ItemInputs
from flows.errors import EngineRefused
from flows.masking.compose import compose_mask
from flows.masking.inputs import CloudInputs
from flows.masking.parameters import MaskParameters
from flows.ports import CloudInputsSource, DerivedMask
from flows.scene.granule import Granule, Pairing
from flows.scene.scene import Scene


class ProjectedShadowEngine:
    """Computes the mask here, from inputs that come from anywhere."""

    method = "s2cloudless"

    def __init__(self, inputs: CloudInputsSource, parameters: MaskParameters) -> None:
        self._inputs = inputs
        self._parameters = parameters

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet: what the inputs' source says."""
        return self._inputs.find_granules(scenes)

    def derive_mask(self, scene: Scene, granule: Granule) -> DerivedMask:
        """The mask of one scene, with the inputs that it was made from.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        inputs = self._inputs.read_inputs(scene, granule)
        classes = compose_mask(inputs, scene.solar_azimuth_deg, self._parameters, scene.grid.pixel_size_m)
        return DerivedMask(classes, granule, inputs=inputs)


class FirstInputs:
    """The item's own inputs where it carries them, Earth Engine's otherwise."""

    def __init__(self, item_inputs: ItemInputs, earth_engine_inputs: CloudInputsSource | None) -> None:
        self._item_inputs = item_inputs
        self._earth_engine_inputs = earth_engine_inputs

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet; Earth Engine is asked once at the most.

        Raises:
            EngineRefused: every scene needs Earth Engine, which is not configured. Where only some do,
                the others go on and ``read_inputs`` refuses these.
        """
        own = [scene for scene in scenes if self._item_inputs.has_inputs(scene)]
        others = [scene for scene in scenes if not self._item_inputs.has_inputs(scene)]
        granules = dict(self._item_inputs.find_granules(own))
        if others and self._earth_engine_inputs is not None:
            granules.update(self._earth_engine_inputs.find_granules(others))
        elif others and own:
            granules.update({scene.id: Granule() for scene in others})
        elif others:
            raise _not_configured(others[0])
        return granules

    def read_inputs(self, scene: Scene, granule: Granule) -> CloudInputs:
        """The inputs on the scene's grid.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        if self._item_inputs.has_inputs(scene):
            return self._item_inputs.read_inputs(scene, granule)
        if self._earth_engine_inputs is None:
            raise _not_configured(scene)
        return self._earth_engine_inputs.read_inputs(scene, granule)


def _not_configured(scene: Scene) -> EngineRefused:
    return EngineRefused(
        f"item {scene.id}: carries no cloud probability, and Earth Engine is not configured:"
        " set CLOUDMASK_EARTHENGINE_PROJECT, or use --method csmask, which needs no account"
    )
