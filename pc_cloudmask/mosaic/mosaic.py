"""The job: compose block by block, and write the raster with its pictures and item."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pc_cloudmask.catalog.fields import encode_document
from pc_cloudmask.errors import AssetError, SettingsError
from pc_cloudmask.mosaic.compose import Composer
from pc_cloudmask.mosaic.output import Canvas, Tally, build_mosaic_item, open_canvas, write_pictures
from pc_cloudmask.mosaic.plan import MosaicFiles, MosaicPlan, MosaicRequest, leave_out
from pc_cloudmask.mosaic.read import BrokenScenes, open_blocks
from pc_cloudmask.settings import Settings, read_clock
from pc_cloudmask.storage.store import ObjectReader

PLAIN_MEDIAN = "plain-median"
#: Called with the number of finished blocks and of all blocks.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MosaicReport:
    """What was made; ``plain`` if the plain median was requested."""

    plan: MosaicPlan
    files: MosaicFiles
    mosaic: Tally
    plain: Tally | None
    has_truth: bool
    seconds: float

    @property
    def filled_pct(self) -> float:
        """Return the pixels with a value, in percent of the grid's."""
        height, width = self.plan.grid.shape
        return 100 * self.mosaic.filled / (height * width)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("raster", "preview", "item", *(("plain", "plain_preview") if self.plain else ()))
        document = {
            **self.plan.as_json(),
            "files": {name: str(getattr(self.files, name)) for name in names},
            "filled_percentage": round(self.filled_pct, 2),
            "seconds": round(self.seconds, 1),
        }
        if self.has_truth:
            document["residual_percentage"] = round(self.mosaic.residual_pct, 3)
            if self.plain:
                document["plain_residual_percentage"] = round(self.plain.residual_pct, 3)
        return document


def build_mosaic(
    store: ObjectReader,
    settings: Settings,
    request: MosaicRequest,
    plan: MosaicPlan,
    progress: Progress | None = None,
) -> MosaicReport:
    """Make the mosaic that ``plan`` describes, from those of its scenes that can be read.

    If a band or the mask of a scene cannot be read, the scene is left out of the entire mosaic, which is then started
    again: the result is the mosaic of the other scenes. The report's plan names the scene.

    Raises:
        SettingsError: The files cannot be written.
        AssetUnavailable, AssetRefused, StoreRefused: No scene can be read; they name an asset and its item.
        StoreUnavailable: The store does not answer.
    """
    started = time.monotonic()
    files = request.outputs
    while True:
        try:
            mosaic, plain = _write_rasters(store, settings, request, plan, progress)
            break
        except BrokenScenes as found:
            plan = leave_out(plan, request, found.errors)
        # The public URL belongs to the store in the settings, which a catalog on a server need not be.
    base = store.url if store.url.startswith("http") else settings.public_url or store.url
    try:
        pictures = {files.raster: files.preview, files.plain: files.plain_preview}
        if plain is None:
            del pictures[files.plain]
        write_pictures(pictures, len(request.bands))
        files.item.write_bytes(encode_document(build_mosaic_item(request, plan, base, read_clock())))
    except OSError as error:
        raise SettingsError(f"{files.raster}: what goes next to it cannot be written: {error}") from error
    seconds = time.monotonic() - started
    return MosaicReport(plan, files, mosaic, plain, request.truth is not None, seconds)


def _write_rasters(
    store: ObjectReader,
    settings: Settings,
    request: MosaicRequest,
    plan: MosaicPlan,
    progress: Progress | None,
) -> tuple[Tally, Tally | None]:
    """Write the mosaic and, if requested, the plain median; return the counts of their pixels."""
    composer = Composer(request.bands, request.reducer, request.truth)
    with ExitStack() as stack:

        def open_output(name: str, reducer: str) -> Canvas:
            path = getattr(request.outputs, name)
            return stack.enter_context(open_canvas(path, plan.grid, request.bands, reducer))

        reader = stack.enter_context(open_blocks(store, settings, request, plan.observations))
        plain = open_output("plain", PLAIN_MEDIAN) if request.plain_median else None
        mosaic = open_output("raster", request.reducer)
        for number, block in enumerate(plan.blocks, start=1):
            grid = plan.grid.window_grid(block.window)
            read = reader.open_block(block.observations, grid)
            try:
                mosaic.write_block(block.window, composer.compose(read, block.observations))
                if plain is not None:
                    plain.write_block(block.window, composer.compose_plain(read, block.observations))
            except AssetError:
                if broken := reader.find_broken(block.observations, grid):
                    raise BrokenScenes(broken) from None
                raise
            if progress is not None:
                progress(number, len(plan.blocks))
    return mosaic.tally, plain.tally if plain else None
