"""A scene on its way to publication, and the ladder of methods that may make its mask, best first.

How the ladder decides
----------------------
A method is a rung. Its input is available or late: Earth Engine lacks an image, a cloud layer is masked, the item lacks
a band. A run asks for the inputs of the rungs that ``list_rungs`` returns, in order; the first rung with its input
makes the mask, and those below it are not asked for. The rungs depend on the published mask:

    none                            the first rung alone for ``patience`` after sensing, then every rung
    a current mask                  the rungs above its own: for the first rung there are none, the mask is final
    a mask of another item or       its own rung and those above it
    with other parameters

Invariants:

1. A mask never replaces a better one. If the better input of a changed item is late, the scene waits for it, and the
   mask of the old item stays. This holds between writers that do not see each other, too: an item is put with the
   methods whose masks it may not replace (``Publication.better``), and the swap checks the item that is there.
2. A mask of any rung but the first is provisional, and its item says so. The scene is tried again with the rungs above,
   less and less often (``StateKind.PROVISIONAL``), until one of them replaces it.
3. A scene waits if no rung that may be used has its input. Patience delays nothing else: an upgrade comes at once.
4. The answer depends only on what is published and on the time. Losing a scene's state costs one try. The state
   contains a digest of the rungs that were tried, so that a scene is tried at once when its item, the ladder or the end
   of its patience changes what may be tried.
5. With one method, the ladder is that method: it makes every mask, or the scene waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from pc_cloudmask.catalog.item import build_fingerprint
from pc_cloudmask.catalog.layout import ItemKeys, item_keys
from pc_cloudmask.errors import AssetRefused, CloudmaskError, ItemError, find_machine_fault
from pc_cloudmask.masking.classes import MaskParameters, is_too_empty
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.scene.image import EarthEngineImage, read_image_key
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.fields import Item, is_number
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.text import make_printable
from stac_ext.cloudmask import (
    CLOUD_PERCENTAGE_PROP,
    FINGERPRINT_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    PROVISIONAL_PROP,
    SHADOW_PERCENTAGE_PROP,
)

#: Longer ids of refused items are not shown.
MAX_ID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class PublishedMask:
    """The mask of a scene in the catalog.

    ``is_current`` says that ``method`` would make the same mask and item from the source's present item.
    """

    method: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """Names of methods, best first, and how long after sensing a scene waits for the first one's input."""

    methods: tuple[str, ...]
    patience: timedelta = timedelta()

    def list_rungs(
        self, taken: datetime, now: datetime, published: PublishedMask | None = None
    ) -> tuple[str, ...]:
        """Return the methods that may make the mask of a scene now, best first; none if it is final.

        The scene was sensed at ``taken``; ``published`` is its mask in the catalog, if there is one. A mask by a method
        that is not on the ladder may be replaced as if there were none.
        """
        if published is None or published.method not in self.methods:
            return self.methods if now - taken >= self.patience else self.methods[:1]
        better = self.list_better(published.method)
        return better if published.is_current else (*better, published.method)

    def list_better(self, method: str) -> tuple[str, ...]:
        """Return the rungs above ``method``."""
        return self.methods[: self.methods.index(method)]

    def is_provisional(self, method: str) -> bool:
        """Return True if a mask by ``method`` will be replaced once a better input is available."""
        return method != self.methods[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A source item, its scene, where it will be published, and the methods that may make its mask now.

    ``fingerprints`` maps each method of the ladder to what its mask would be determined by. ``rungs`` are the methods
    that may make the mask now, best first, and ``tried`` the outcomes of those already tried. ``published`` is the item
    in the store, if any; ``standing`` is the scene's mask in the catalog.
    """

    item: Item = field(hash=False)
    scene: Scene
    keys: ItemKeys
    fingerprints: Mapping[str, str] = field(hash=False)
    rungs: tuple[str, ...]
    tried: tuple[SceneOutcome, ...] = ()
    ee_image: EarthEngineImage = field(default_factory=EarthEngineImage)
    published: Item | None = field(default=None, hash=False)
    standing: PublishedMask | None = None

    @property
    def method(self) -> str:
        """The method to try now: the first of ``rungs`` not yet tried."""
        return self.rungs[len(self.tried)]

    @property
    def better(self) -> tuple[str, ...]:
        """The better methods, whose inputs are not available yet."""
        return self.rungs[: len(self.tried)]

    @property
    def is_spent(self) -> bool:
        """True if no method is left to try."""
        return len(self.tried) == len(self.rungs)

    @property
    def is_current(self) -> bool:
        """True if the catalog has a mask of the item in its present form, even if a provisional one."""
        return self.standing is not None and self.standing.is_current

    @property
    def fingerprint(self) -> str:
        """Identifies this attempt, by item and methods."""
        return self.digest(self.rungs)

    @property
    def late(self) -> str:
        """Why the methods already tried did not make the mask."""
        several, named = len(self.fingerprints) > 1, zip(self.rungs, self.tried, strict=False)
        return "; ".join(f"{method}: {each.reason}" if several else each.reason for method, each in named)

    @property
    def created(self) -> datetime | None:
        """When the scene was first published; None if it was not, or if its item does not say."""
        with suppress(LookupError, TypeError, ValueError):
            return parse_instant((self.published or {})["properties"]["created"])
        return None

    def note_lack(self, outcome: SceneOutcome) -> Candidate:
        """Return this after the current method turned out to lack its input; ``outcome`` says which."""
        return replace(self, tried=(*self.tried, outcome), ee_image=EarthEngineImage())

    def digest(self, methods: Iterable[str]) -> str:
        """Return a text that identifies masks by ``methods``."""
        return _join_fingerprints([self.fingerprints[method] for method in methods])


def read_candidate(item: Item, rungs: Mapping[str, MaskParameters]) -> Candidate:
    """Return the candidate for ``item``, with unsigned hrefs; ``rungs`` are methods, best first, with their thresholds.

    Raise ``MissingField`` or ``InvalidField`` for an item that cannot become a scene.
    """
    scene = read_scene(item)
    if all(METHODS[method].needs_earth_engine for method in rungs):
        read_image_key(scene)  # an id that no image can have is a failure; waiting for it would be in vain
    keys = item_keys(scene.id, scene.tile, scene.year)
    return Candidate(item, scene, keys, _build_fingerprints(item, rungs), tuple(rungs))


def read_candidates(
    items: Iterable[Item], rungs: Mapping[str, MaskParameters]
) -> tuple[list[Candidate], list[SceneOutcome]]:
    """Return the candidates, and a failed outcome for each invalid item; a repeated id counts once."""
    candidates: dict[str, Candidate] = {}
    refused: list[SceneOutcome] = []
    for item in items:
        try:
            candidate = read_candidate(item, rungs)
            candidates.setdefault(candidate.scene.id, candidate)
        except CloudmaskError as error:
            refused.append(build_failure(_read_printable_id(item), error, _find_fingerprint(item, rungs)))
    return list(candidates.values()), refused


def select_unpublished(
    candidates: list[Candidate],
    find_published: Callable[[ItemKeys], Item | None],
    ladder: Ladder,
    now: datetime,
    *,
    force: bool,
    workers: int,
) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates whose mask may be made, each with the methods for it, and those whose mask is final.

    Masks with less data than their items promise, which earlier versions published, are made again. This reads the
    store once for each candidate, ``workers`` in parallel.
    """
    with ThreadPoolExecutor(workers) as pool:
        published = list(pool.map(lambda candidate: find_published(candidate.keys), candidates))
    wanted: list[Candidate] = []
    final: list[Candidate] = []
    for candidate, item in zip(candidates, published, strict=True):
        standing = None if item is None else _read_standing(item, candidate, ladder)
        if standing and force:
            standing = replace(standing, is_current=False)
        rungs = ladder.list_rungs(candidate.scene.datetime, now, standing)
        found = replace(candidate, published=item, standing=standing, rungs=rungs)
        (wanted if rungs else final).append(found)
    return wanted, final


def _read_standing(published: Item, candidate: Candidate, ladder: Ladder) -> PublishedMask | None:
    """Return the scene's mask in the catalog, according to its item in the store; None if it was withdrawn."""
    properties = published["properties"]
    if FINGERPRINT_PROP not in properties:
        return None
    method = str(properties.get(METHOD_PROP))
    nodata_pct = properties.get(NODATA_PERCENTAGE_PROP)
    is_empty = is_number(nodata_pct) and is_too_empty(nodata_pct, candidate.scene.nodata_pct)
    is_current = (
        properties[FINGERPRINT_PROP] == candidate.fingerprints.get(method)
        and properties.get(PROVISIONAL_PROP, False) == ladder.is_provisional(method)
        and not is_empty
    )
    return PublishedMask(method, is_current)


def conclude(candidate: Candidate, ladder: Ladder) -> SceneOutcome:
    """Return the outcome of a scene for which every method that may make its mask now lacks its input."""
    scene_id, reason, fingerprint = candidate.scene.id, candidate.late, candidate.fingerprint
    if candidate.is_current:
        return SceneOutcome(
            scene_id, SceneState.SKIPPED, reason, provisional=True, retryable=True, fingerprint=fingerprint
        )
    if candidate.standing is None and candidate.rungs != ladder.methods:
        others = " or ".join(ladder.methods[len(candidate.rungs) :])
        patient_until = candidate.scene.datetime + ladder.patience
        reason = f"{reason}; from {patient_until:%Y-%m-%d %H:%M} UTC on {others} may make the mask"
    if all(outcome.state is SceneState.FAILED for outcome in candidate.tried):
        retryable = any(outcome.retryable for outcome in candidate.tried)
        return replace(candidate.tried[-1], reason=reason, retryable=retryable)
    return build_waiting(scene_id, reason, fingerprint)


def build_published(candidate: Candidate, item: Item, phases: Mapping[str, float]) -> SceneOutcome:
    """Return the outcome of a scene published as ``item`` by the current method; ``phases`` are seconds by phase."""
    better, properties = candidate.better, item["properties"]
    shares = {"cloud": CLOUD_PERCENTAGE_PROP, "shadow": SHADOW_PERCENTAGE_PROP}
    return SceneOutcome(
        candidate.scene.id,
        SceneState.PUBLISHED,
        candidate.late,
        item_key=candidate.keys.item,
        # None if the mask has no valid pixel.
        cover_pct={
            name: properties[prop] for name, prop in shares.items() if is_number(properties.get(prop))
        },
        fingerprint=candidate.digest(better) if better else "",
        provisional=bool(better),
        phases=phases,
    )


def build_waiting(scene_id: str, reason: str, fingerprint: str) -> SceneOutcome:
    """Return the outcome of a scene that a later run will try."""
    return SceneOutcome(
        scene_id, SceneState.WAITING, reason, retryable=True, fingerprint=fingerprint, lacks_input=True
    )


def build_failure(scene_id: str, error: Exception, fingerprint: str = "") -> SceneOutcome:
    """Return the outcome of a scene that failed with ``error``; an unexpected error is named by its class.

    A later run tries it again unless the error proves that the item itself is wrong.
    """
    name, proven = type(error).__name__, isinstance(error, CloudmaskError) and error.proven
    return SceneOutcome(
        scene_id,
        SceneState.FAILED,
        str(error) if isinstance(error, CloudmaskError) else make_printable(f"{name}: {error}"),
        retryable=not proven,
        error_class=name,
        fingerprint=fingerprint,
        lacks_input=isinstance(error, ItemError | AssetRefused),
    )


def find_fault(error: Exception) -> CloudmaskError | None:
    """Return the error that must end the run if ``error``, raised by one scene, would affect every scene."""
    if isinstance(error, CloudmaskError):
        return error if error.ends_run else None
    return find_machine_fault(error)


def _build_fingerprints(item: Item, rungs: Mapping[str, MaskParameters]) -> dict[str, str]:
    return {method: build_fingerprint(item, method, parameters) for method, parameters in rungs.items()}


def _join_fingerprints(fingerprints: Sequence[str]) -> str:
    """Return one text for several; a single one stays as it is, to match states recorded before there were ladders."""
    if len(fingerprints) == 1:
        return fingerprints[0]
    return sha256(" ".join(fingerprints).encode()).hexdigest()


def _find_fingerprint(item: Item, rungs: Mapping[str, MaskParameters]) -> str:
    """Return the fingerprint of an item that is not a valid candidate; empty if it cannot be computed."""
    try:
        return _join_fingerprints(list(_build_fingerprints(item, rungs).values()))
    except (CloudmaskError, TypeError, ValueError, AttributeError, RecursionError):
        return ""


def _read_printable_id(item: Any) -> str:
    item_id = item.get("id") if isinstance(item, dict) else None
    is_shown = isinstance(item_id, str) and len(item_id) <= MAX_ID_LENGTH and item_id.isprintable()
    return str(item_id) if is_shown else "?"
