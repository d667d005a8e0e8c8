"""What labels mean and whose they are, according to a TOML file, and their counts by the mask's classes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.scene.scene import drop_baseline
from pc_cloudmask.text import decode_text


class Label(IntEnum):
    """Values of a reference: those of ``MaskClass``, so that a mask may be one, and two that no mask has.

    ``UNKNOWN`` is a pixel that nobody labelled; it is not counted. ``CLOUD_AND_SHADOW`` is a cloud in the
    shadow of another; collections that label both separately, such as PixBox, have it. It is a true cloud where
    clouds are judged, and a true shadow where shadows are.
    """

    UNKNOWN = MaskClass.NO_DATA
    CLEAR = MaskClass.CLEAR
    CLOUD = MaskClass.CLOUD
    SHADOW = MaskClass.CLOUD_SHADOW
    CLOUD_AND_SHADOW = 4


#: Labels by their names in layouts, tables and JSON.
LABELS: Mapping[str, Label] = {
    "nodata": Label.UNKNOWN,
    "clear": Label.CLEAR,
    "cloud": Label.CLOUD,
    "shadow": Label.SHADOW,
    "cloud-and-shadow": Label.CLOUD_AND_SHADOW,
}
#: Pairs of a label and a mask class that agree.
AGREEING = (
    (Label.CLEAR, MaskClass.CLEAR),
    (Label.CLOUD, MaskClass.CLOUD),
    (Label.SHADOW, MaskClass.CLOUD_SHADOW),
    (Label.CLOUD_AND_SHADOW, MaskClass.CLOUD),
    (Label.CLOUD_AND_SHADOW, MaskClass.CLOUD_SHADOW),
)
#: What is judged: which classes of a mask are hits. The labels that agree with any of them are true.
TARGETS: Mapping[str, tuple[MaskClass, ...]] = {
    "cloud": (MaskClass.CLOUD,),
    "shadow": (MaskClass.CLOUD_SHADOW,),
    "masked": (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW),
}


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each mask class coincides with each label: int64 ``(len(Label), len(MaskClass))``."""

    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(Label), len(MaskClass)), np.int64)
    )

    def __add__(self, other: Confusion) -> Confusion:
        """Return the sum of both counts."""
        return Confusion(self.counts + other.counts)

    @property
    def judged(self) -> int:
        """Return the number of pixels or points that have a label, and data in the mask."""
        return int(self.counts[1:, 1:].sum())

    @property
    def without_mask(self) -> int:
        """Return the number of pixels or points with a label but no data in the mask: nothing else counts them."""
        return int(self.counts[1:, MaskClass.NO_DATA].sum())

    @property
    def agreement_pct(self) -> float | None:
        """Return the share of judged pixels with the same class in both, in percent; None if none is judged."""
        return _divide(100 * sum(int(self.counts[pair]) for pair in AGREEING), self.judged)

    def score(self, target: str) -> dict[str, float | None]:
        """Return scores of ``target``, a key of ``TARGETS``, between 0 and 1; None where the denominator is 0."""
        classes = TARGETS[target]
        labels = [label for label, mask_class in AGREEING if mask_class in classes]
        true = np.isin(np.arange(len(Label)), labels)[1:]
        found = np.isin(np.arange(len(MaskClass)), classes)[1:]
        judged = self.counts[1:, 1:]
        hits, missed = int(judged[true][:, found].sum()), int(judged[true][:, ~found].sum())
        wrong, rightly_left = int(judged[~true][:, found].sum()), int(judged[~true][:, ~found].sum())
        recall, specificity = _divide(hits, hits + missed), _divide(rightly_left, rightly_left + wrong)
        balanced = None if recall is None or specificity is None else (recall + specificity) / 2
        return {
            "iou": _divide(hits, hits + missed + wrong),
            "f1": _divide(2 * hits, 2 * hits + missed + wrong),
            "recall": recall,
            "precision": _divide(hits, hits + wrong),
            "balanced_accuracy": balanced,
        }

    def list_rows(self) -> list[tuple[str, list[int]]]:
        """Return each label's name and its counts by clear, cloud and shadow of the mask.

        Cloud that is also shadow is omitted if no label has it.
        """
        rows = [(name, self.counts[label, 1:].tolist()) for name, label in LABELS.items() if label]
        return rows if any(rows[-1][1]) else rows[:-1]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values: counts by label, then mask class; scores by target."""
        return {
            "judged": self.judged,
            "without_mask": self.without_mask,
            "agreement_percentage": self.agreement_pct,
            "confusion": {
                name: dict(zip(("clear", "cloud", "shadow"), counts, strict=True))
                for name, counts in self.list_rows()
            },
            "scores": {target: self.score(target) for target in TARGETS},
        }


def count_confusion(labels: NDArray[np.uint8], classes: NDArray[np.uint8]) -> Confusion:
    """Count the pairs of two arrays of the same shape, uint8 of ``Label`` and of ``MaskClass``.

    Raises:
        ValueError: the shapes differ.
    """
    if labels.shape != classes.shape:
        raise ValueError(f"labels of {labels.shape} pixels are not those of a mask of {classes.shape}")
    pairs = labels.ravel() * np.uint8(len(MaskClass)) + classes.ravel()
    counts = np.bincount(pairs, minlength=len(Label) * len(MaskClass))
    return Confusion(counts.reshape(len(Label), len(MaskClass)).astype(np.int64))


def sum_confusions(confusions: Iterable[Confusion]) -> Confusion:
    """Return the sum, from which scores *in all* are derived: each pixel weighs the same, not each scene."""
    return sum(confusions, Confusion())


def _divide(part: int, of: int) -> float | None:
    return part / of if of else None


#: Layouts that come with the package, by name.
PRESETS = ("cloudmask", "cloudsen12", "pixbox-s2-cmix")
#: Unknown values that an error names.
_SHOWN = 10
#: The time of the datatake and the tile, in the name of a product, an item or an Earth Engine image.
_DATATAKE_AND_TILE = re.compile(
    r"(?<![0-9A-Z])(\d{8}T\d{6})_(?:[^/]*?_)?T(\d{2}[A-Z]{3})(?![0-9A-Z])", re.ASCII
)
ClassMap = dict[str, Label]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PointColumns(_Section):
    """The columns of a CSV of points.

    By default, ``x`` may be called lon or longitude, ``y`` lat or latitude, ``class`` label, ``item``
    scene or id, ``crs`` epsg, in any case. ``shadow`` is a second column of classes, for collections that
    label cloud and shadow separately.
    """

    x: str | None = None
    y: str | None = None
    label: Annotated[str | None, Field(alias="class")] = None
    shadow: str | None = None
    item: str | None = None
    crs: str | None = None


class Rasters(_Section):
    """Which files of a folder are labels."""

    files: str = "**/*.tif"


class LabelLayout(_Section):
    """What label values mean, and how labels find their items.

    ``items`` maps the labels' name of a scene (a file's path below the folder, a value of the column
    ``item``) to an item's id, or to another name of the scene with its datatake and tile.
    """

    classes: ClassMap
    shadow_classes: Annotated[ClassMap, Field(alias="shadow-classes")] = {}
    points: PointColumns = PointColumns()
    rasters: Rasters = Rasters()
    items: dict[str, str] = {}

    @field_validator("classes", "shadow_classes", mode="before")
    @classmethod
    def _name_classes(cls, classes: object) -> object:
        if not isinstance(classes, Mapping) or not classes:
            raise ValueError('must be a table of a label\'s values, such as 1 = "cloud"')
        unknown = {str(name) for name in classes.values() if not isinstance(name, str) or name not in LABELS}
        if unknown:
            raise ValueError(f"{_name_some(unknown)}: must be one of {', '.join(LABELS)}")
        return {value: LABELS[name] for value, name in classes.items()}


def read_layout(name: str) -> LabelLayout:
    """Read the layout called ``name``: one of ``PRESETS``, or a TOML file.

    Raises:
        SettingsError: there is no such file, it cannot be read, or its contents are invalid.
    """
    path = files(__package__).joinpath("layouts", f"{name}.toml") if name in PRESETS else Path(name)
    try:
        return LabelLayout.model_validate(tomllib.loads(decode_text(path.read_bytes())))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}; name a TOML file, or {', '.join(PRESETS)}"
        raise SettingsError(f"--classes {name}: {problem}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        raise SettingsError(f"--classes {name}: {problem}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--classes {name}: not valid TOML: {error}") from error


def refuse_values(where: object, values: Iterable[object], table: str = "classes") -> SettingsError:
    """Return the error for label values that the layout does not name."""
    return SettingsError(
        f"{where}: [{table}] of --classes does not say what {_name_some(values)} means; "
        f"name it {', '.join(LABELS)}"
    )


def _name_some(values: Iterable[object]) -> str:
    names = sorted(map(str, values), key=lambda text: (len(text), text))
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


class SceneNames:
    """The names by which labels may refer to one of several scenes."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {drop_baseline(item_id): item_id for item_id in ids}
        self._datatakes = {item_id: _find_datatake(item_id) for item_id in self._ids.values()}

    def find(self, name: str) -> str | None:
        """Return the id of the scene that ``name`` belongs to: it is or contains the id, or has its datatake and tile.

        None if it belongs to no scene, or to several that it does not distinguish.
        """
        if (exact := self._ids.get(drop_baseline(name))) is not None:
            return exact
        if held := [item_id for item_id in self._datatakes if item_id in name]:
            return max(held, key=len)
        key = _find_datatake(name)
        same = [item_id for item_id, datatake in self._datatakes.items() if key and datatake == key]
        return same[0] if len(same) == 1 else None


def _find_datatake(name: str) -> tuple[str, ...] | None:
    found = _DATATAKE_AND_TILE.search(name)
    return found.groups() if found else None
