"""Process one scene, from source item to published item."""

from __future__ import annotations

import logging
import os.path
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, PNG_MEDIA_TYPE, AssetFile, CatalogContext
from pc_cloudmask.catalog.item import DerivedItemParts, build_derived_item
from pc_cloudmask.catalog.publisher import Publication
from pc_cloudmask.catalog.valid_fields import keep_valid
from pc_cloudmask.catalog.versions import is_current
from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.classes import find_shortfall, measure_mask
from pc_cloudmask.masking.files import build_mask_cog, build_preview, build_probability_cog
from pc_cloudmask.masking.methods import DerivedMask
from pc_cloudmask.runs.budget import estimate_scene_cost
from pc_cloudmask.runs.candidate import Candidate, build_published, build_waiting
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import Phase, PhaseClock, SceneOutcome
from pc_cloudmask.runs.runners import shared_limit
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import map_hrefs
from pc_cloudmask.storage.store import BucketPlace
from pc_cloudmask.version import __version__

logger = logging.getLogger(__name__)


def publish_cloudmask(context: RunContext, candidate: Candidate) -> SceneOutcome:
    """Derive the mask of ``candidate`` and put it, its preview and its item into the store.

    The catalogs link the item once ``context.publisher.publish_catalogs`` has run. A worker in another process has its
    own context. A scene whose mask would lack data that its reflectance or its item has waits, or is left to the next
    method. If an error is raised, nothing links to what was written for the scene.
    """
    scene = candidate.scene
    clock = PhaseClock(scene.id)
    cost = estimate_scene_cost(context.settings, candidate)
    with context.pipeline.memory.hold(cost.bytes):
        with clock.measure(Phase.DOWNLOAD), shared_limit.get()(cost.requests):
            make_mask = context.engines[candidate.method].begin_mask(scene, candidate.ee_image)
        with context.pipeline.turns:
            made = _make_publication(context, candidate, make_mask, clock)
    if isinstance(made, SceneOutcome):
        return made
    with clock.measure(Phase.PUBLISH):
        context.publisher.publish_item(made)
        logger.info("put as %s", candidate.keys.item)
    return build_published(candidate, made.item, clock.seconds)


def _make_publication(
    context: RunContext, candidate: Candidate, make_mask: Callable[[], DerivedMask], clock: PhaseClock
) -> Publication | SceneOutcome:
    """Return what to write for the scene, or its outcome if its mask would lack too much data."""
    scene, settings = candidate.scene, context.settings
    with clock.measure(Phase.DERIVE):
        derived = make_mask()
        shortfall = find_shortfall(derived.classes, derived.lacking_px, scene.nodata_pct)
        if shortfall:
            logger.info("%s: no mask by %s yet: %s", scene.id, candidate.method, shortfall)
            return build_waiting(scene.id, shortfall, candidate.fingerprint)
        if not settings.keep_inputs:
            derived = replace(derived, inputs=None)  # frees 60 MB for a full tile
    with clock.measure(Phase.ENCODE):
        folder = context.local_folder(candidate.keys.prefix)
        return build_publication(candidate, derived, settings, context.now, folder, context.bucket)


def build_publication(
    candidate: Candidate,
    derived: DerivedMask,
    settings: Settings,
    now: datetime,
    folder: str | None,
    bucket: BucketPlace | None = None,
) -> Publication:
    """Return everything to be written for one scene, as bytes under their keys.

    ``now`` is when the run began, ``folder`` the absolute path of the item's folder if the store is a local directory,
    ``bucket`` what the item names besides. The cloud probability is published if ``derived`` has its inputs. Raise
    ``EngineRefused`` for a mask that is not on the scene's grid.
    """
    mask, probability, preview = files = _build_files(candidate, derived)
    parts = DerivedItemParts(
        source_item=_build_source_item(candidate.item, folder),
        scene=candidate.scene,
        keys=candidate.keys,
        method=candidate.method,
        parameters=settings.rungs[candidate.method],
        ee_image=derived.ee_image,
        statistics=measure_mask(derived.classes),
        software={"pc-cloudmask": __version__, **derived.software},
        mask=mask,
        preview=preview,
        probability=probability,
        now=now,
        created=candidate.created,
        fingerprint=candidate.fingerprints[candidate.method],
        context=CatalogContext(settings.public_url),
        provisional=bool(candidate.better),
        bucket=bucket,
        tiler_url=settings.tiler_url,
    )
    item, replaces = build_derived_item(parts), is_current(candidate.published)
    return Publication(candidate.keys, item, tuple(filter(None, files)), candidate.better, replaces)


def _build_files(candidate: Candidate, derived: DerivedMask) -> tuple[AssetFile, AssetFile | None, AssetFile]:
    """Return mask, cloud probability (None without inputs) and preview."""
    scene, keys = candidate.scene, candidate.keys
    if derived.classes.shape != scene.grid.shape:
        raise EngineRefused(
            f"{scene.id}: the mask is {derived.classes.shape}, the item's grid {scene.grid.shape} pixels"
        )
    mask = _build_file(keys.mask, build_mask_cog(derived.classes, scene.grid), COG_MEDIA_TYPE)
    preview = _build_file(keys.preview, build_preview(derived.classes)[0], PNG_MEDIA_TYPE)
    if derived.inputs is None:
        return mask, None, preview
    cog = build_probability_cog(derived.inputs.probability_pct, scene.grid)
    return mask, _build_file(keys.probability, cog, COG_MEDIA_TYPE), preview


def _build_source_item(item: Item, folder: str | None) -> Item:
    """Return the valid part of ``item``, with local paths relative to ``folder`` if published locally.

    Readers join an absolute local path to the host of the catalog, so only a relative one resolves.
    """
    source = keep_valid(item)
    if source.left_out:
        logger.warning("not as STAC or its extensions have it, left out of the item: %s", source.summary)
    if folder is None:
        return source.item
    return map_hrefs(
        source.item, lambda href: os.path.relpath(href, folder) if href.startswith("/") else href
    )


def _build_file(build_key: Callable[[str], str], body: bytes, media_type: str) -> AssetFile:
    """Return the file, with the key that ``build_key`` returns for its content's SHA-256."""
    digest = sha256(body).hexdigest()
    return AssetFile(build_key(digest), body, media_type, digest)
