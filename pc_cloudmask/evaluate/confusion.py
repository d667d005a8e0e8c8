"""Counts of reference class by mask class, and the scores derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import MaskClass


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


#: Names of classes in layouts, tables and JSON.
LABEL_NAMES: Mapping[Label, str] = {
    Label.UNKNOWN: "nodata",
    Label.CLEAR: "clear",
    Label.CLOUD: "cloud",
    Label.SHADOW: "shadow",
    Label.CLOUD_AND_SHADOW: "cloud-and-shadow",
}
#: What is judged: which labels are true, and which classes of a mask are hits.
TARGETS: Mapping[str, tuple[tuple[Label, ...], tuple[MaskClass, ...]]] = {
    "cloud": ((Label.CLOUD, Label.CLOUD_AND_SHADOW), (MaskClass.CLOUD,)),
    "shadow": ((Label.SHADOW, Label.CLOUD_AND_SHADOW), (MaskClass.CLOUD_SHADOW,)),
    "masked": (
        (Label.CLOUD, Label.SHADOW, Label.CLOUD_AND_SHADOW),
        (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW),
    ),
}
#: Pairs of a label and a mask class that agree.
_AGREEING = (
    (Label.CLEAR, MaskClass.CLEAR),
    (Label.CLOUD, MaskClass.CLOUD),
    (Label.SHADOW, MaskClass.CLOUD_SHADOW),
    (Label.CLOUD_AND_SHADOW, MaskClass.CLOUD),
    (Label.CLOUD_AND_SHADOW, MaskClass.CLOUD_SHADOW),
)
_JUDGED = (MaskClass.CLEAR, MaskClass.CLOUD, MaskClass.CLOUD_SHADOW)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one target, between 0 and 1; None where the denominator is 0."""

    iou: float | None
    f1: float | None
    recall: float | None
    precision: float | None
    balanced_accuracy: float | None


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
        return _divide(100 * sum(int(self.counts[pair]) for pair in _AGREEING), self.judged)

    def score(self, target: str) -> Scores:
        """Return the scores of ``target``, a key of ``TARGETS``."""
        labels, classes = TARGETS[target]
        true = np.isin(np.arange(len(Label)), labels)[1:]
        found = np.isin(np.arange(len(MaskClass)), classes)[1:]
        judged = self.counts[1:, 1:]
        hits, missed = int(judged[true][:, found].sum()), int(judged[true][:, ~found].sum())
        wrong, rightly_left = int(judged[~true][:, found].sum()), int(judged[~true][:, ~found].sum())
        recall, specificity = _divide(hits, hits + missed), _divide(rightly_left, rightly_left + wrong)
        return Scores(
            iou=_divide(hits, hits + missed + wrong),
            f1=_divide(2 * hits, 2 * hits + missed + wrong),
            recall=recall,
            precision=_divide(hits, hits + wrong),
            balanced_accuracy=None if recall is None or specificity is None else (recall + specificity) / 2,
        )

    def list_rows(self) -> list[tuple[str, list[int]]]:
        """Return each label's name and its counts by clear, cloud and shadow of the mask.

        Cloud that is also shadow is omitted if no label has it.
        """
        rows = [(LABEL_NAMES[label], [int(self.counts[label, each]) for each in _JUDGED]) for label in Label]
        return [row for row in rows[1:] if row[0] != LABEL_NAMES[Label.CLOUD_AND_SHADOW] or any(row[1])]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values: counts by label, then mask class; scores by target."""
        columns = [LABEL_NAMES[Label(each)] for each in _JUDGED]
        return {
            "judged": self.judged,
            "without_mask": self.without_mask,
            "agreement_percentage": self.agreement_pct,
            "confusion": {name: dict(zip(columns, counts, strict=True)) for name, counts in self.list_rows()},
            "scores": {
                target: {name: getattr(self.score(target), name) for name in Scores.__slots__}
                for target in TARGETS
            },
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
