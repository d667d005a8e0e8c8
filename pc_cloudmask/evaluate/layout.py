"""What labels mean and where they are, according to a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.evaluate.confusion import LABEL_NAMES, Label
from pc_cloudmask.scene.scene import drop_baseline
from pc_cloudmask.text import decode_text

#: Layouts that come with the package, by name.
PRESETS = ("cloudmask", "cloudsen12", "pixbox-s2-cmix")
#: Unknown values that an error names.
_SHOWN = 10
_LABELS = {name: label for label, name in LABEL_NAMES.items()}
#: The time of the datatake and the tile, in the name of a product, an item or an Earth Engine image.
_DATATAKE_AND_TILE = re.compile(
    r"(?<![0-9A-Z])(\d{8}T\d{6})_(?:[^/]*?_)?T(\d{2}[A-Z]{3})(?![0-9A-Z])", re.ASCII
)

ClassMap = dict[str, Label]


class PointColumns(BaseModel):
    """The columns of a CSV of points.

    By default, ``x`` may be called lon or longitude, ``y`` lat or latitude, ``class`` label, ``item``
    scene or id, ``crs`` epsg, in any case. ``shadow`` is a second column of classes, for collections that
    label cloud and shadow separately.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: str | None = None
    y: str | None = None
    label: Annotated[str | None, Field(alias="class")] = None
    shadow: str | None = None
    item: str | None = None
    crs: str | None = None


class Rasters(BaseModel):
    """Which files of a folder are labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: str = "**/*.tif"


class LabelLayout(BaseModel):
    """What label values mean, and how labels find their items.

    ``items`` maps the labels' name of a scene (a file's path below the folder, a value of the column
    ``item``) to an item's id, or to another name of the scene with its datatake and tile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        unknown = {str(name) for name in classes.values() if not isinstance(name, str) or name not in _LABELS}
        if unknown:
            raise ValueError(f"{_name_some(unknown)}: must be one of {', '.join(_LABELS)}")
        return {value: _LABELS[name] for value, name in classes.items()}


def read_layout(name: str) -> LabelLayout:
    """Read the layout called ``name``: one of ``PRESETS``, or a TOML file.

    Raises:
        SettingsError: there is no such file, it cannot be read, or its contents are invalid.
    """
    try:
        body = (
            files(__package__).joinpath("layouts", f"{name}.toml").read_bytes()
            if name in PRESETS
            else Path(name).read_bytes()
        )
        return LabelLayout.model_validate(tomllib.loads(decode_text(body)))
    except OSError as error:
        raise SettingsError(
            f"--classes {name}: cannot be read: {error.strerror}; name a TOML file, or {', '.join(PRESETS)}"
        ) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"--classes {name}: {where}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--classes {name}: not valid TOML: {error}") from error


def refuse_values(where: object, values: Iterable[object], table: str = "classes") -> SettingsError:
    """Return the error for label values that the layout does not name."""
    return SettingsError(
        f"{where}: [{table}] of --classes does not say what {_name_some(values)} means; "
        f"name it {', '.join(_LABELS)}"
    )


def _name_some(values: Iterable[object]) -> str:
    names = sorted(map(str, values), key=lambda text: (len(text), text))
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


class SceneNames:
    """The names by which labels may refer to one of several scenes."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = {drop_baseline(item_id): item_id for item_id in ids}
        self._by_datatake: dict[tuple[str, str], list[str]] = {}
        for item_id in self._ids.values():
            if (key := _find_datatake(item_id)) is not None:
                self._by_datatake.setdefault(key, []).append(item_id)

    def find(self, name: str) -> str | None:
        """Return the id of the scene that ``name`` belongs to: it is or contains the id, or has its datatake and tile.

        None if it belongs to no scene, or to several that it does not distinguish.
        """
        if (exact := self._ids.get(drop_baseline(name))) is not None:
            return exact
        held = [item_id for item_id in self._ids.values() if item_id in name]
        if held:
            return max(held, key=len)
        key = _find_datatake(name)
        same = self._by_datatake.get(key, []) if key else []
        return same[0] if len(same) == 1 else None


def _find_datatake(name: str) -> tuple[str, str] | None:
    found = _DATATAKE_AND_TILE.search(name)
    return (found[1], found[2]) if found else None
