"""One scene, from item to published item."""

from __future__ import annotations

import logging
import os.path
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from pc_cloudmask.catalog.fields import (
    COG_MEDIA_TYPE,
    PNG_MEDIA_TYPE,
    AssetFile,
    CatalogContext,
)
from pc_cloudmask.catalog.item import DerivedItemParts, build_derived_item
from pc_cloudmask.catalog.steps import Publication
from pc_cloudmask.catalog.valid_fields import keep_valid
from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.files import build_mask_cog, build_preview, build_probability_cog
from pc_cloudmask.masking.methods import DerivedMask
from pc_cloudmask.masking.statistics import measure_mask
from pc_cloudmask.runs.candidate import Candidate
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.logs import Phase, PhaseClock
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import map_hrefs
from pc_cloudmask.version import __version__

logger = logging.getLogger(__name__)


def publish_cloudmask(context: RunContext, candidate: Candidate) -> SceneOutcome:
    """Derive the mask of ``candidate`` and put it, its preview and its item into the store.

    The catalogs link the item once ``context.publisher.publish_catalogs`` has run.

    Raises:
        CloudmaskError: the scene is not published, and nothing links to what was written of it.
    """
    clock = PhaseClock(candidate.scene.id)
    with clock.measure(Phase.DERIVE):
        derived = context.engine.derive_mask(candidate.scene, candidate.ee_image)
        if not context.settings.keep_inputs:
            derived = replace(derived, inputs=None)  # 60 MB of a full tile that nothing needs any more
    with clock.measure(Phase.ENCODE):
        publication = build_publication(context, candidate, derived)
    with clock.measure(Phase.PUBLISH):
        context.publisher.publish_item(publication)
        logger.info("put as %s", candidate.keys.item)
    return SceneOutcome(
        candidate.scene.id, SceneState.PUBLISHED, item_key=candidate.keys.item, phases=clock.seconds
    )


def build_publication(context: RunContext, candidate: Candidate, derived: DerivedMask) -> Publication:
    """Everything that is written for one scene, as bytes under their keys."""
    scene, keys = candidate.scene, candidate.keys
    if derived.classes.shape != scene.grid.shape:
        raise EngineRefused(
            f"{scene.id}: the mask is {derived.classes.shape}, the item's grid {scene.grid.shape} pixels"
        )
    mask_file = _build_file(keys.mask, build_mask_cog(derived.classes, scene.grid), COG_MEDIA_TYPE)
    preview, _ = build_preview(derived.classes)
    preview_file = _build_file(keys.preview, preview, PNG_MEDIA_TYPE)
    probability_file = None
    if context.settings.keep_inputs and derived.inputs is not None:
        probability = build_probability_cog(derived.inputs.probability_pct, scene.grid)
        probability_file = _build_file(keys.probability, probability, COG_MEDIA_TYPE)
    source = keep_valid(candidate.item)
    if source.left_out:
        logger.warning("not as STAC or its extensions have it, left out of the item: %s", source.summary)
    item = build_derived_item(
        DerivedItemParts(
            source_item=_publishable_hrefs(source.item, context.local_folder(keys.prefix)),
            scene=scene,
            keys=keys,
            method=context.engine.method,
            parameters=context.settings.mask_parameters,
            ee_image=derived.ee_image,
            statistics=measure_mask(derived.classes),
            software={"pc-cloudmask": __version__, **derived.software},
            mask=mask_file,
            preview=preview_file,
            probability=probability_file,
            now=context.now,
            created=candidate.created,
            fingerprint=candidate.fingerprint,
            context=CatalogContext(context.settings.public_url),
        )
    )
    files = tuple(file for file in (mask_file, probability_file, preview_file) if file)
    return Publication(keys, item, files)


def _publishable_hrefs(item: Item, folder: str | None) -> Item:
    """``item`` with local paths made relative to ``folder``, where it will be published locally.

    Readers join an absolute local path to the host of the catalog, so only a relative one resolves.
    """
    if folder is None:
        return item
    return map_hrefs(item, lambda href: os.path.relpath(href, folder) if href.startswith("/") else href)


def _build_file(build_key: Callable[[str], str], body: bytes, media_type: str) -> AssetFile:
    """The file whose key ``build_key`` makes of its content's SHA-256."""
    digest = sha256(body).hexdigest()
    return AssetFile(build_key(digest), body, media_type, digest)
