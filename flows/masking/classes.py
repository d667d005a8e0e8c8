"""The values of a published mask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

RGB = tuple[int, int, int]


class MaskClass(IntEnum):
    """uint8 values of the mask: the classification extension's own example."""

    NO_DATA = 0
    CLEAR = 1
    CLOUD = 2
    CLOUD_SHADOW = 3


@dataclass(frozen=True, slots=True)
class ClassStyle:
    """How a class is named and drawn.

    White clouds vanish on a blank map, so the colours are ones that neither a map nor a satellite
    picture contains.
    """

    name: str
    title: str
    description: str
    color: RGB
    opaque: bool

    @property
    def color_hint(self) -> str:
        """The colour in the classification extension's form, ``RRGGBB``."""
        return "{:02X}{:02X}{:02X}".format(*self.color)


CLASS_STYLES: dict[MaskClass, ClassStyle] = {
    MaskClass.NO_DATA: ClassStyle("no-data", "No data", "Outside the swath, or no input", (0, 0, 0), False),
    MaskClass.CLEAR: ClassStyle("clear", "Clear", "Neither cloud nor cloud shadow", (232, 240, 226), False),
    MaskClass.CLOUD: ClassStyle("cloud", "Cloud", "Within the buffer of a cloud", (255, 64, 160), True),
    MaskClass.CLOUD_SHADOW: ClassStyle(
        "cloud-shadow", "Cloud shadow", "Dark ground within the projection of a cloud", (80, 60, 220), True
    ),
}
