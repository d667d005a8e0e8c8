"""Masks compared with labels, or with each other, scene by scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.evaluate.confusion import Confusion, sum_confusions
from pc_cloudmask.evaluate.labels import LabelRasters, LabelSource, MaskReference, Reference, read_points
from pc_cloudmask.evaluate.layout import read_layout
from pc_cloudmask.evaluate.masks import MaskChoice, MaskOnGrid, MaskSource

#: Called with each comparison once it is made: the scene, the comparison, the mask, and its reference.
Look = Callable[[str, "Comparison", MaskOnGrid, Reference], None]


@dataclass(frozen=True, slots=True)
class SceneCounts:
    """The counts of one scene, and how its mask was made, if known."""

    confusion: Confusion
    method: str | None
    buffer_m: float | None


@dataclass(slots=True)
class Comparison:
    """One choice of mask against a reference, over all scenes; ``reference`` is None for labels."""

    mask: MaskChoice
    reference: MaskChoice | None = None
    scenes: dict[str, SceneCounts] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return a short title for people."""
        return f"{self.mask.title} against {self.reference.title if self.reference else 'the labels'}"

    @property
    def total(self) -> Confusion:
        """Return the counts of all scenes together: every pixel weighs the same."""
        return sum_confusions(scene.confusion for scene in self.scenes.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "mask": self.mask.as_json(),
            "reference": self.reference.as_json() if self.reference else "labels",
            "scenes": [
                {
                    "id": scene_id,
                    "method": scene.method,
                    "buffer_m": scene.buffer_m,
                    **scene.confusion.as_json(),
                }
                for scene_id, scene in self.scenes.items()
            ],
            "all": self.total.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was compared, and the scenes that could not be, by id."""

    comparisons: Sequence[Comparison]
    left_out: Mapping[str, CloudmaskError]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "left_out": [{"id": name, "error": str(error)} for name, error in self.left_out.items()],
        }


def open_labels(path: Path, classes: str | None, crs: str | None = None) -> LabelSource:
    """Open the labels at ``path``: a CSV of points, a GeoTIFF, or a folder of GeoTIFFs.

    ``classes`` is a layout's name or file, ``crs`` that of points which do not state it themselves.

    Raises:
        SettingsError: nothing is there, or nothing that can be read.
    """
    if classes is None:
        raise SettingsError(
            "--labels needs --classes: a TOML file that says what label values mean, or a layout"
        )
    layout = read_layout(classes)
    if not path.exists():
        raise SettingsError(f"--labels {path}: is not there")
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        return read_points(path, layout, crs)
    return LabelRasters(path, layout)


def list_choices(
    methods: Sequence[str], buffers: Sequence[float], given: Literal["published", "file"]
) -> list[MaskChoice]:
    """Return a choice for each method, or for the ``given`` masks if there are no methods, with each buffer."""
    origin: Literal["published", "file", "made"] = "made" if methods else given
    return [
        MaskChoice(method, buffer, origin) for method in methods or (None,) for buffer in buffers or (None,)
    ]


def evaluate(
    masks: MaskSource,
    choices: Sequence[MaskChoice],
    labels: Mapping[str, Reference] | None,
    look: Look | None = None,
) -> Evaluation:
    """Compare the masks of each scene with its labels, or without labels each choice with the others.

    A scene that cannot be read is left out. Two masks of one scene are in memory at a time; labels are read in blocks.

    Raises:
        CloudmaskError: the setup or a layout is at fault: no scene could be compared.
    """
    if labels is None and len(choices) < 2:
        raise SettingsError("give --labels, or two masks to compare: --method A --method B")
    pairs = [(choice, None) for choice in choices] if labels is not None else list(combinations(choices, 2))
    comparisons = [
        Comparison(mask, None) if other is None else Comparison(other, mask) for mask, other in pairs
    ]
    left_out: dict[str, CloudmaskError] = {}
    for scene_id in labels if labels is not None else masks.ids:
        try:
            found = list(_compare(masks, scene_id, comparisons, labels[scene_id] if labels else None, look))
        except CloudmaskError as error:
            if error.ends_run:
                raise
            left_out[scene_id] = error
            continue
        for comparison, counts in found:
            comparison.scenes[scene_id] = counts
    return Evaluation(comparisons, left_out)


def _compare(
    masks: MaskSource,
    scene_id: str,
    comparisons: Sequence[Comparison],
    labels: Reference | None,
    look: Look | None,
) -> Iterator[tuple[Comparison, SceneCounts]]:
    """Yield the counts of one scene; a choice's mask is made only once."""
    made: dict[MaskChoice, MaskOnGrid] = {}

    def make(choice: MaskChoice) -> MaskOnGrid:
        if choice not in made:
            if labels is not None:
                made.clear()  # each is needed only once
            made[choice] = masks.read(scene_id, choice)
        return made[choice]

    for comparison in comparisons:
        reference = labels or MaskReference(make(comparison.reference or comparison.mask).classes)
        mask = make(comparison.mask)
        counted = reference.count(mask.classes, mask.grid)
        yield comparison, SceneCounts(counted, mask.method, mask.buffer_m)
        if look is not None:
            look(scene_id, comparison, mask, reference)
