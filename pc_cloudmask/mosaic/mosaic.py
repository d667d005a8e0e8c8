"""The job: compose block by block, write the raster with its pictures and item."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pc_cloudmask.catalog.fields import encode_document
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.mosaic.compose import Composer, Composite
from pc_cloudmask.mosaic.output import (
    Canvas,
    MosaicParts,
    build_mosaic_item,
    draw_picture,
    find_stretch,
    open_canvas,
    read_reduced,
)
from pc_cloudmask.mosaic.plan import MosaicFiles, MosaicPlan, MosaicRequest, name_files
from pc_cloudmask.mosaic.read import OdcBlocks, build_driver, build_source_reader, open_masks
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.settings import Settings, read_clock
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.version import __version__

PICTURE_PX = 1024
PLAIN_MEDIAN = "plain-median"
#: Is told how many blocks of how many are done.
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Tally:
    """Pixels of a composite: all that have a value, and those that truth calls cloud or shadow."""

    filled: int = 0
    residual: int = 0

    def add(self, composite: Composite) -> None:
        """Count a block."""
        self.filled += int(np.count_nonzero(composite.count))
        if composite.residual is not None:
            self.residual += int(np.count_nonzero(composite.residual))

    @property
    def residual_pct(self) -> float:
        """Cloud and shadow left, in percent of the pixels with a value."""
        return 100 * self.residual / max(self.filled, 1)


@dataclass(frozen=True, slots=True)
class MosaicReport:
    """What was made; ``plain`` where the plain median was asked for."""

    plan: MosaicPlan
    files: MosaicFiles
    mosaic: Tally
    plain: Tally | None
    has_truth: bool
    seconds: float

    @property
    def filled_pct(self) -> float:
        """Pixels with a value, in percent of the grid's."""
        height, width = self.plan.grid.shape
        return 100 * self.mosaic.filled / (height * width)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
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
    """Make the mosaic that ``plan`` describes.

    Raises:
        SettingsError: the files cannot be written.
        AssetUnavailable, AssetRefused: naming the item and the asset.
        StoreRefused, StoreUnavailable: the masks.
    """
    started = time.monotonic()
    files = name_files(request.out.absolute())
    mosaic, plain = _write_rasters(store, settings, request, plan, progress or _ignore)
    # The public URL is that of the store in the settings, which a catalog on a server need not be.
    base = store.url if store.url.startswith("http") else settings.public_url or store.url
    try:
        _write_beside(request, plan, files, base)
    except OSError as error:
        raise SettingsError(f"{files.raster}: what goes beside it cannot be written: {error}") from error
    seconds = time.monotonic() - started
    return MosaicReport(plan, files, mosaic, plain, request.truth is not None, seconds)


def _write_beside(request: MosaicRequest, plan: MosaicPlan, files: MosaicFiles, base: str) -> None:
    """Pictures and item."""
    _write_pictures(request, files)
    parts = MosaicParts(
        files=files,
        grid=plan.grid,
        bands=request.bands,
        reducer=request.reducer,
        observations=sorted(plan.observations, key=lambda each: (each.scene.datetime, each.id)),
        base=base,
        now=read_clock(),
        with_plain=request.plain_median,
    )
    files.item.write_bytes(encode_document(build_mosaic_item(parts)))


@dataclass(frozen=True, slots=True)
class _Output:
    """A composite's raster under way, with its tally."""

    canvas: Canvas
    tally: Tally = field(default_factory=Tally)

    def add(self, window: Window, composite: Composite) -> None:
        self.tally.add(composite)
        self.canvas.write_block(window, composite)


def _write_rasters(
    store: ObjectReader,
    settings: Settings,
    request: MosaicRequest,
    plan: MosaicPlan,
    progress: Progress,
) -> tuple[Tally, Tally | None]:
    composer = Composer(request.bands, request.reducer, request.truth)
    with ExitStack() as stack:
        blocks = stack.enter_context(_open_blocks(store, settings, request, plan))
        mosaic, plain = _open_outputs(stack, request, plan)
        for number, block in enumerate(plan.blocks, start=1):
            pixels = blocks.open_block(block.observations, plan.grid.window_grid(block.window))
            mosaic.add(block.window, composer.compose(pixels, block.observations))
            if plain is not None:
                plain.add(block.window, composer.compose_plain(pixels, block.observations))
            progress(number, len(plan.blocks))
    return mosaic.tally, plain.tally if plain else None


@contextmanager
def _open_blocks(
    store: ObjectReader, settings: Settings, request: MosaicRequest, plan: MosaicPlan
) -> Iterator[OdcBlocks]:
    sources = build_source_reader(store, settings, request.files)
    classified = (MASK_ASSET, request.truth) if request.truth else (MASK_ASSET,)
    with open_masks(store, plan.observations) as masks:
        driver = build_driver(masks, sources, plan.observations)
        yield OdcBlocks(driver, masks.paths, request.bands, classified, settings.workers)


def _open_outputs(
    stack: ExitStack, request: MosaicRequest, plan: MosaicPlan
) -> tuple[_Output, _Output | None]:
    """The mosaic's output and, where it is asked for, the plain median's."""
    files = name_files(request.out.absolute())

    def open_output(path: Path, reducer: str) -> _Output:
        tags = {"TIFFTAG_SOFTWARE": f"pc-cloudmask {__version__}", "REDUCER": reducer}
        return _Output(stack.enter_context(open_canvas(path, plan.grid, request.bands, tags)))

    plain = open_output(files.plain, PLAIN_MEDIAN) if request.plain_median else None
    return open_output(files.raster, request.reducer.value), plain


def _write_pictures(request: MosaicRequest, files: MosaicFiles) -> None:
    """Previews, both in the mosaic's stretch, so that they can be compared."""
    values = read_reduced(files.raster, len(request.bands), PICTURE_PX)
    stretch = find_stretch(values)
    files.preview.write_bytes(draw_picture(values, stretch))
    if request.plain_median:
        plain = read_reduced(files.plain, len(request.bands), PICTURE_PX)
        files.plain_preview.write_bytes(draw_picture(plain, stretch))


def _ignore(done: int, total: int) -> None:
    """Tell nobody."""
