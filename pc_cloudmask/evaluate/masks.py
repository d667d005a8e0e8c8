"""The masks that are judged, and for which scenes: published ones, files, or newly derived by a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray

from pc_cloudmask.catalog.layout import AmbiguousItem, join_tiles_and_days, parse_tile_and_day
from pc_cloudmask.errors import AssetRefused, EngineUnavailable, MissingField, SettingsError, StoreRefused
from pc_cloudmask.evaluate.labels import SceneNames
from pc_cloudmask.masking.classes import MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_classes
from pc_cloudmask.masking.files import read_true_colour
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.assets import AssetReader, build_reader
from pc_cloudmask.source.fields import Item, ItemSearch
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.source.item_files import ItemFilesSource
from pc_cloudmask.viewing.library import find_item, find_items, find_mask_grid, read_classes
from stac_ext.cloudmask import METHOD_PROP, PARAMETERS_PROP


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """Which mask of a scene: newly made by ``method``, or the existing one, and with which buffer.

    ``origin`` says where it is. If ``buffer_m`` is None, the mask has its existing buffer, or that of the settings.
    """

    method: str | None = None
    buffer_m: float | None = None
    origin: Literal["published", "file", "made"] = "published"

    @property
    def title(self) -> str:
        """Return a short title for people."""
        name = self.method or ("published mask" if self.origin == "published" else "mask file")
        return name if self.buffer_m is None else f"{name}, buffer {self.buffer_m:g} m"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"origin": self.origin, "method": self.method, "buffer_m": self.buffer_m}


@dataclass(frozen=True, slots=True)
class MaskOnGrid:
    """A mask, uint8 ``(height, width)`` of ``MaskClass`` on ``grid``, and how it was made, if known."""

    classes: NDArray[np.uint8]
    grid: Grid
    method: str | None = None
    buffer_m: float | None = None


def grow_mask(classes: NDArray[np.uint8], buffer_m: float, pixel_size_m: float) -> NDArray[np.uint8]:
    """Return the mask grown by a disk of twice the buffer, like every mask; cloud takes precedence over shadow.

    ``classes`` is uint8 ``(height, width)`` of ``MaskClass``. What was eroded does not come back, so a mask published
    without a buffer becomes nearly, but not exactly, what its method makes with one.
    """
    cloud, shadow = classes == MaskClass.CLOUD, classes == MaskClass.CLOUD_SHADOW
    parameters = MaskParameters(buffer_m=buffer_m)
    return compose_classes(cloud, shadow, classes != MaskClass.NO_DATA, parameters, pixel_size_m, erosion_m=0)


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """GeoTIFFs of masks, named after their scenes; each is treated as a mask without a buffer."""

    paths: Mapping[str, Path]

    @classmethod
    def open(cls, path: Path, ids: Sequence[str]) -> MaskFiles:
        """Open a file, or the files of a folder; with ``ids``, only those of these scenes.

        Raises:
            SettingsError: no file matches.
        """
        paths = [path] if path.is_file() else sorted(path.glob("**/*.tif"))
        if not paths:
            raise SettingsError(f"--masks {path}: no GeoTIFF there")
        if not ids:
            return cls({each.stem: each for each in paths})
        names = SceneNames(ids)
        found = {item_id: each for each in paths if (item_id := names.find(each.stem)) is not None}
        if missing := [item_id for item_id in ids if item_id not in found]:
            raise SettingsError(f"--masks {path}: no file names {', '.join(missing)}")
        return cls(found)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the scenes, in order."""
        return list(self.paths)

    def read(self, scene_id: str, choice: MaskChoice) -> MaskOnGrid:
        """Return the file's mask, grown by the choice's buffer.

        Raises:
            CloudmaskError: it is not a mask, or is to be made.
        """
        path = self.paths[scene_id]
        if choice.method is not None:
            raise SettingsError("--masks and --method exclude each other: masks are there, or made")
        try:
            classes, grid = read_asset(partial(_read_file, path))
        except (Unsuitable, Unreadable) as error:
            raise AssetRefused(f"--masks {path}: {error}") from error
        if choice.buffer_m is not None:
            classes = grow_mask(classes, choice.buffer_m, grid.pixel_size_m)
        return MaskOnGrid(classes, grid, buffer_m=choice.buffer_m)

    def read_true_colour(self, scene_id: str, grid: Grid) -> NDArray[np.uint8]:  # noqa: ARG002
        """Raise: a file has no item, and so no bands."""
        raise MissingField(scene_id, "assets.visual")


def _read_file(path: Path) -> tuple[NDArray[np.uint8], Grid]:
    with rasterio.open(path, driver="GTiff") as dataset:
        check_raster(dataset)
        if dataset.dtypes[0] != "uint8" or not dataset.crs:
            raise Unsuitable(f"holds {dataset.dtypes[0]} in {dataset.crs or 'no CRS'}: is no mask")
        classes: NDArray[np.uint8] = dataset.read(1)
        if classes.max(initial=0) > max(MaskClass):
            raise Unsuitable(f"holds {classes.max()}: a mask has 0 to {max(MaskClass):d}")
        a, b, c, d, e, f, *_ = dataset.transform
        return classes, Grid(dataset.crs.to_string(), (a, b, c, d, e, f), dataset.shape)


@dataclass(frozen=True, slots=True)
class Subject:
    """A scene: its item, what reads the item's assets, and the published item if there is one."""

    item: Item
    reader: AssetReader
    published: pystac.Item | None = None


@dataclass(frozen=True, slots=True)
class ItemMasks:
    """Masks of items: published, or newly derived.

    ``settings`` are those with which each choice of mask is made. A network that a method loads stays loaded for all
    scenes.
    """

    subjects: Mapping[str, Subject]
    settings: Mapping[MaskChoice, Settings]
    _contexts: dict[tuple[MaskChoice, int], RunContext] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the scenes, in order."""
        return list(self.subjects)

    def read(self, scene_id: str, choice: MaskChoice) -> MaskOnGrid:
        """Return the published mask, or make it.

        Raises:
            CloudmaskError: it does not exist, or cannot be made.
        """
        subject = self.subjects[scene_id]
        if choice.method is None:
            return _read_published(scene_id, subject, choice.buffer_m)
        scene, context = read_scene(subject.item), self._open_context(subject, choice)
        engine = context.engines[choice.method]
        image = engine.find_images([scene])[scene.id]
        if not isinstance(image, EarthEngineImage):
            raise EngineUnavailable(f"{scene.id}: {choice.method}: {image.reason}")
        classes = engine.derive_mask(scene, image).classes
        return MaskOnGrid(classes, scene.grid, choice.method, context.read_parameters(choice.method).buffer_m)

    def read_true_colour(self, scene_id: str, grid: Grid) -> NDArray[np.uint8]:
        """Return ESA's picture, or one from the bands, uint8 ``(height, width, 3)`` on ``grid``.

        Raises:
            CloudmaskError: it has none that can be read.
        """
        subject = self.subjects[scene_id]
        return read_true_colour(subject.reader, read_scene(subject.item), grid)

    def _open_context(self, subject: Subject, choice: MaskChoice) -> RunContext:
        key = (choice, id(subject.reader))
        if key not in self._contexts:
            self._contexts[key] = RunContext(self.settings[choice], read_only=True)
            self._contexts[key].reader = subject.reader
        return self._contexts[key]


#: The scenes that are judged, and their masks.
MaskSource = MaskFiles | ItemMasks


def _read_published(scene_id: str, subject: Subject, buffer_m: float | None) -> MaskOnGrid:
    """Return the published mask, grown if it was published without a buffer.

    Raises:
        SettingsError: it is not published, or has a buffer, which cannot be removed.
    """
    item = subject.published
    if item is None:
        raise SettingsError(f"{scene_id}: is not published: give --method, or the --store that has it")
    has = item.properties.get(PARAMETERS_PROP, {}).get("buffer_m")
    mask = MaskOnGrid(read_classes(item), find_mask_grid(item), item.properties.get(METHOD_PROP), has)
    if buffer_m is None or buffer_m == has:
        return mask
    if has != 0:
        method = item.properties.get(METHOD_PROP, "METHOD")
        raise SettingsError(
            f"--buffer {buffer_m:g}: {scene_id} was published with a buffer of {has} m, which cannot be taken off: "
            f"--method {method} makes it afresh"
        )
    grown = grow_mask(mask.classes, buffer_m, mask.grid.pixel_size_m)
    return replace(mask, classes=grown, buffer_m=buffer_m)


@dataclass(frozen=True, slots=True)
class SceneChoice:
    """Which scenes: ``named`` are ids or files of items; the other fields select among all.

    ``items`` is the value of ``--items``, ``store`` a catalog of published masks, ``files`` another folder that
    local bands may be in.
    """

    named: Sequence[str] = ()
    tiles: Sequence[str] = ()
    datetime: str | None = None
    items: str | None = None
    store: str | None = None
    files: Path | None = None


def find_subjects(choice: SceneChoice, settings: Settings, *, needs_source: bool) -> dict[str, Subject]:
    """Return the scenes by id, in order of time.

    An item comes from ``items``, otherwise it is the published one, which has the source's assets. An id that is not
    published is looked up in the source API if ``needs_source`` says that masks are to be made.

    Raises:
        SettingsError: nothing is selected, or there is no such item.
        StoreRefused: it is not published.
    """
    paths = [name for name in choice.named if name.endswith(".json") and Path(name).is_file()]
    ids = join_tiles_and_days(name for name in choice.named if name not in paths)
    files = [name for name in ids if "://" not in name and parse_tile_and_day(name) is None]
    if missing := [name for name in files if "/" in name or name.endswith(".json")]:
        raise SettingsError(f"ITEM {missing[0]}: no such file")
    subjects: dict[str, Subject] = {}
    for path in paths:
        subjects |= _find_in_file(path, SceneQuery(), choice)
    if choice.items is not None:
        if ids or not paths:
            query = build_query(ids=ids, tiles=choice.tiles, datetime=choice.datetime)
            subjects |= _check_ids(ids, _find_in_file(choice.items, query, choice))
    elif ids:
        for item_id in ids:
            subjects |= _find_one(item_id, choice, settings, needs_source=needs_source)
    elif not paths:
        found = find_items(choice.tiles, datetime=choice.datetime, store=choice.store)
        subjects = {item.id: _build_published(item, choice) for item in found}
    return subjects


def _find_in_file(name: str, query: SceneQuery, choice: SceneChoice) -> dict[str, Subject]:
    source = ItemFilesSource(name, choice.files)
    return _find_in(source, build_reader((name,), source.local_root), query, choice)


def _find_in(
    source: ItemSearch, reader: AssetReader, query: SceneQuery, choice: SceneChoice
) -> dict[str, Subject]:
    """Return the matches, each with its published item if the catalog has it."""
    found = {}
    for item in source.find_items(query):
        scene_id, published = read_scene(item).id, None
        with suppress(SettingsError, StoreRefused):  # no such item, or no catalog yet
            published = find_item(scene_id, store=choice.store)
        found[scene_id] = Subject(item, reader, published)
    return found


def _check_ids(ids: Sequence[str], found: dict[str, Subject]) -> dict[str, Subject]:
    if ids and not found:
        raise SettingsError(f"no scene matches: {', '.join(ids)}")
    return found


def _find_one(
    item_id: str, choice: SceneChoice, settings: Settings, *, needs_source: bool
) -> dict[str, Subject]:
    try:
        item = find_item(item_id, store=choice.store)
        return {item.id: _build_published(item, choice)}
    except (SettingsError, StoreRefused) as error:
        if not needs_source or isinstance(error, AmbiguousItem):
            raise
    context, query = RunContext(settings), build_query(ids=[item_id])
    return _check_ids([item_id], _find_in(context.source, context.reader, query, choice))


def _build_published(item: pystac.Item, choice: SceneChoice) -> Subject:
    """Return the subject of a published item; its assets lie below its catalog or ``files``, or on its host."""
    root = item.get_root_link()
    catalog = (root.get_absolute_href() if root is not None else None) or ""
    files = choice.files or (Path(catalog).parent if catalog.startswith("/") else None)
    document: Item = item.to_dict(include_self_link=False, transform_hrefs=False)
    return Subject(document, build_reader((catalog,), files), item)
