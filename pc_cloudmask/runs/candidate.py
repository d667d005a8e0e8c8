"""A scene on its way to being published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pc_cloudmask.catalog.item import build_fingerprint
from pc_cloudmask.catalog.layout import ItemKeys, item_keys
from pc_cloudmask.errors import CloudmaskError, find_machine_fault
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.completeness import is_too_empty
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.scene.image import EarthEngineImage, Pairing, read_image_key
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.fields import Item, is_number
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.text import make_printable
from stac_ext.cloudmask import FINGERPRINT_PROP, NODATA_PERCENTAGE_PROP

MAX_ID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Candidate:
    """A source item, our view of it, where it will be published, and what makes its mask unique.

    ``published`` is the item as the catalog holds it now, if it does.
    """

    item: Item = field(hash=False)
    scene: Scene
    keys: ItemKeys
    fingerprint: str
    ee_image: EarthEngineImage = field(default_factory=EarthEngineImage)
    published: Item | None = field(default=None, hash=False)

    @property
    def created(self) -> datetime | None:
        """When the scene was first published; None if it was not, or its item does not say."""
        with suppress(LookupError, TypeError, ValueError):
            return parse_instant((self.published or {})["properties"]["created"])
        return None


def read_candidate(item: Item, method: str, parameters: MaskParameters) -> Candidate:
    """Return the candidate that ``item`` makes, whose hrefs a source has taken the signatures off.

    Raises:
        MissingField, InvalidField: the item cannot become a scene.
    """
    scene = read_scene(item)
    if METHODS[method].needs_earth_engine:
        read_image_key(scene)  # an id that no image can have is a failure, not something to wait for
    keys = item_keys(scene.id, scene.tile, scene.year)
    return Candidate(item, scene, keys, build_fingerprint(item, method, parameters))


def read_candidates(
    items: Iterable[Item], method: str, parameters: MaskParameters
) -> tuple[list[Candidate], list[SceneOutcome]]:
    """Return candidates, and a failed outcome for each item that is none; a repeated id counts once."""
    candidates: dict[str, Candidate] = {}
    refused: list[SceneOutcome] = []
    for item in items:
        try:
            candidate = read_candidate(item, method, parameters)
            candidates.setdefault(candidate.scene.id, candidate)
        except CloudmaskError as error:
            fingerprint = _find_fingerprint(item, method, parameters)
            refused.append(build_failure(_printable_id(item), error, fingerprint))
    return list(candidates.values()), refused


def select_unpublished(
    candidates: list[Candidate],
    find_published: Callable[[ItemKeys], Item | None],
    *,
    force: bool,
    workers: int,
) -> tuple[list[Candidate], list[SceneOutcome]]:
    """Return candidates whose mask is not in the catalog as it would be made now, and the others as skipped.

    A mask with less data than its item promises, which earlier versions published, is made again.

    One read of the store for each candidate, ``workers`` at a time.
    """
    with ThreadPoolExecutor(workers) as pool:
        published = list(pool.map(lambda candidate: find_published(candidate.keys), candidates))
    wanted: list[Candidate] = []
    skipped: list[SceneOutcome] = []
    for candidate, item in zip(candidates, published, strict=True):
        current = item is not None and _is_current(item, candidate)
        if current and not force:
            skipped.append(SceneOutcome(candidate.scene.id, SceneState.SKIPPED))
        else:
            wanted.append(replace(candidate, published=item))
    return wanted, skipped


def _is_current(published: Item, candidate: Candidate) -> bool:
    properties = published["properties"]
    nodata_pct = properties.get(NODATA_PERCENTAGE_PROP)
    is_empty = is_number(nodata_pct) and is_too_empty(nodata_pct, candidate.scene.nodata_pct)
    return properties.get(FINGERPRINT_PROP) == candidate.fingerprint and not is_empty


def pair_candidates(
    candidates: list[Candidate], pairings: Mapping[str, Pairing]
) -> tuple[list[Candidate], list[SceneOutcome]]:
    """Return candidates with their Earth Engine image, and those that have none yet as waiting."""
    paired: list[Candidate] = []
    waiting: list[SceneOutcome] = []
    for candidate in candidates:
        pairing = pairings[candidate.scene.id]
        if isinstance(pairing, EarthEngineImage):
            paired.append(replace(candidate, ee_image=pairing))
        else:
            waiting.append(build_waiting(candidate.scene.id, pairing.reason, candidate.fingerprint))
    return paired, waiting


def build_waiting(scene_id: str, reason: str, fingerprint: str) -> SceneOutcome:
    """Return the outcome of a scene that a later run will try."""
    return SceneOutcome(scene_id, SceneState.WAITING, reason, retryable=True, fingerprint=fingerprint)


def build_failure(scene_id: str, error: Exception, fingerprint: str = "") -> SceneOutcome:
    """Return the outcome of a scene that ``error`` ended; an unexpected error is named by its class.

    A later run tries it again unless the error proves that the item itself is wrong.
    """
    error_class, proven = type(error).__name__, False
    if isinstance(error, CloudmaskError):
        reason, proven = str(error), error.proven
    else:
        reason = make_printable(f"{error_class}: {error}")
    return SceneOutcome(scene_id, SceneState.FAILED, reason, not proven, error_class, fingerprint=fingerprint)


def find_fault(error: Exception) -> CloudmaskError | None:
    """Return what has to end the run, if ``error``, met by one scene, tells that every scene would meet it."""
    if isinstance(error, CloudmaskError):
        return error if error.ends_run else None
    return find_machine_fault(error)


def _find_fingerprint(item: Item, method: str, parameters: MaskParameters) -> str:
    """Return the fingerprint of an item that is no candidate; empty if not even that can be made of it."""
    try:
        return build_fingerprint(item, method, parameters)
    except (CloudmaskError, TypeError, ValueError, AttributeError, RecursionError):
        return ""


def _printable_id(item: Any) -> str:
    item_id = item.get("id") if isinstance(item, dict) else None
    printable = isinstance(item_id, str) and len(item_id) <= MAX_ID_LENGTH and item_id.isprintable()
    return str(item_id) if printable else "?"
