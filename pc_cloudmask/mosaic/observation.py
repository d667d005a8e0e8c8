"""A published scene as a mosaic uses it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pc_cloudmask.catalog.layout import ItemKeys
from pc_cloudmask.catalog.search import PublishedItem
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.mosaic.reducers import Reducer
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.scene.scene import Scene, reflectance_offset_dn
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectReader
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP

#: Level-2A's reflectances and their pixels: the Sentinel-2 Products Specification Document.
BAND_PIXEL_SIZES_M: Mapping[str, int] = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One scene.

    Attributes:
        scene: What its item says.
        keys: Where the item is in the store.
        hrefs: URLs or absolute paths by asset key, unsigned.
        mask_key: Where its mask is in the store.
        clear_pct: Clear pixels in percent of the valid ones.
    """

    scene: Scene
    keys: ItemKeys
    hrefs: Mapping[str, str] = field(hash=False)
    mask_key: str
    clear_pct: float

    @property
    def id(self) -> str:
        """The item's id."""
        return self.scene.id

    @property
    def pass_id(self) -> str:
        """What all tiles have in common that the satellite saw in one pass."""
        return self.scene.datatake_id

    @property
    def offset_dn(self) -> int:
        """Return what harmonises its digital numbers with those of older baselines: -1000 or 0."""
        return reflectance_offset_dn(self.scene.processing_baseline)


def check_bands(bands: Sequence[str]) -> None:
    """Raise ``SettingsError`` unless each band is a reflectance of Level-2A, and none comes twice."""
    known = ", ".join(sorted(BAND_PIXEL_SIZES_M))
    if not bands:
        raise SettingsError(f"--bands: name at least one of {known}")
    for band in bands:
        if band not in BAND_PIXEL_SIZES_M:
            raise SettingsError(f"--bands {band!r:.20}: not a reflectance of Sentinel-2 Level-2A: {known}")
    if len(set(bands)) < len(bands):
        raise SettingsError(f"--bands {','.join(bands)}: one band comes twice")


def read_observation(published: PublishedItem, assets: Sequence[str], store: ObjectReader) -> Observation:
    """Return the observation that a published item makes, with the hrefs of ``assets``.

    Raises:
        SettingsError: It lacks one of ``assets``.
        MissingField, InvalidField: The item is not as we publish them.
    """
    scene, keys = read_scene(published.item), published.keys
    lacking = [name for name in (*assets, MASK_ASSET) if name not in scene.asset_hrefs]
    if lacking:
        bands = ", ".join(sorted(BAND_PIXEL_SIZES_M.keys() & scene.asset_hrefs.keys())) or "no band"
        raise SettingsError(
            f"item {scene.id} has no asset {', '.join(lacking)}; it has {bands}: name others by --bands, "
            "or a --datetime without it"
        )
    clear_pct = published.item["properties"].get(CLEAR_PERCENTAGE_PROP)
    return Observation(
        scene=scene,
        keys=keys,
        hrefs={name: _resolve(scene.asset_hrefs[name], keys, store) for name in assets},
        # Whatever base URL the catalog was published for, the file lies in the item's folder.
        mask_key=keys.prefix + scene.asset_hrefs[MASK_ASSET].rpartition("/")[2],
        clear_pct=float(clear_pct) if isinstance(clear_pct, int | float) else 0.0,
    )


def sort_observations(observations: Sequence[Observation], reducer: Reducer) -> list[Observation]:
    """Return the observations with the one that ``reducer`` likes best first; by time if it likes none."""
    by_time = sorted(observations, key=lambda observation: (observation.scene.datetime, observation.id))
    if reducer is Reducer.MEDIAN:
        return by_time
    by_time.reverse()
    if reducer is Reducer.LEAST_CLOUDY:
        by_time.sort(key=lambda observation: -observation.clear_pct)
    return by_time


def _resolve(href: str, keys: ItemKeys, store: ObjectReader) -> str:
    """Return ``href`` as the item means it: a relative one leads into a directory or to a server, not a bucket."""
    if "://" in href or href.startswith("/"):
        return href
    key = posixpath.normpath(f"{keys.prefix}{href}")
    if isinstance(store, LocalStore):
        return posixpath.normpath(f"{store.root}/{key}")
    if store.url.startswith("http"):
        return f"{store.url}/{key}"
    raise SettingsError(
        f"item {keys.item_id}: {key} lies in {store.url} itself, where mosaics read masks alone: "
        "copy the store to a directory, or name its https URL"
    )
