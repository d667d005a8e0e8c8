"""The proof itself, step by step against the services that the settings name, and how masks and grids differ.

Each step is a check, which passes, differs, or cannot be tried because something it needs is missing or a service
does not answer now. A mask is made in three ways: here from Earth Engine's inputs, as with ``compute=local``; by Earth
Engine, as with ``compute=server``; and by the tutorial's own code. The first two must be equal on every pixel. The
tutorial's must equal cloud and shadow together wherever there is data, with three exceptions that are deliberate, and
reported where they matter: the sun's azimuth is the item's, a datatake that is split into two images is one mask, and
the filter on cloudiness omits no scene.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.catalog.check import CheckOptions, check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.errors import (
    AssetRefused,
    CloudmaskError,
    EngineRefused,
    ItemError,
    SettingsError,
    find_machine_fault,
)
from pc_cloudmask.masking import csmask, omnicloudmask
from pc_cloudmask.masking.classes import MaskClass, MaskParameters, find_shortfall
from pc_cloudmask.masking.clouds_and_shadows import compose_mask
from pc_cloudmask.masking.earth_engine.graphs import (
    ImageDescription,
    build_tutorial_mask,
    describe_image,
)
from pc_cloudmask.masking.earth_engine.session import SOFTWARE, profiling, read_eecu_seconds
from pc_cloudmask.masking.earth_engine.windows import Raster
from pc_cloudmask.masking.files import read_item_band
from pc_cloudmask.masking.methods import CLASSES_ASSET, METHODS, NIR_ASSET, DerivedMask
from pc_cloudmask.masking.s2cloudless import EarthEngineInputs
from pc_cloudmask.prove.report import Check, Proof, Verdict, anonymise, read_versions
from pc_cloudmask.runs.candidate import Candidate, read_candidate
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.scene import build_publication
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.image import EarthEngineImage, read_image_key
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.viewing.library import find_items, find_mask_grid, read_classes

#: The scene of the article that this project began with, and the grid of its mask that the article prints.
ARTICLE_ID = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849"
ARTICLE_GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (5490, 5490))
METHOD = "s2cloudless"
#: For means over a tile by two processors; a mirrored one is off by more unless the sun is in the east or west.
AZIMUTH_TOLERANCE_DEG = 0.5
#: Side of the window read from each asset.
_ASSET_PX = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """The outcome of a step: ``value`` for the steps that follow, and the check's verdict, line and figures."""

    value: T
    detail: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    agrees: bool = True


@dataclass(frozen=True, slots=True)
class Masks:
    """The mask made here, and Earth Engine's: ``server`` is uint8 ``(height, width)`` of ``MaskClass``."""

    local: DerivedMask
    server: NDArray[np.uint8]


def prove(context: RunContext, item_id: str | None = None) -> Proof:
    """Prove the scene ``item_id``, by default the article's, or the only one of the context's items.

    Raises:
        SettingsError: no Earth Engine project, or several items and no choice.
        CloudmaskError: the setup is at fault, before anything could be checked.
    """
    started = time.monotonic()
    context.session.start()
    item_id = item_id or (_find_only(context) if context.items else ARTICLE_ID)
    prover = _Prover(context)
    with profiling(context.session) as profiles:
        prover.run(item_id)
    transfer = {**context.read_transfer(), "eecu_seconds": read_eecu_seconds(context.session, profiles)}
    settings = context.settings
    source = "items from a file" if context.items else settings.stac_api_url
    return Proof(
        item_id,
        tuple(prover.checks),
        read_versions(SOFTWARE),
        (source, settings.earthengine_url),
        transfer,
        time.monotonic() - started,
        prover.fault,
    )


def _find_only(context: RunContext) -> str:
    ids = [str(item.get("id")) for item in context.source.find_items(SceneQuery())]
    if len(ids) != 1:
        raise SettingsError(f"--items {context.items}: holds {len(ids)} items: name one of them with --item")
    return ids[0]


class _Prover:
    """Tries the steps one after the other; ``checks`` are their outcomes."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._parameters = context.read_parameters(METHOD)
        self._engine = EarthEngineInputs(context.downloader, self._parameters)
        self._secrets = {context.session.project: "PROJECT"}
        self.checks: list[Check] = []
        self.fault: str | None = None

    def run(self, item_id: str) -> None:
        """Try all steps, the cheap ones first."""
        candidate = self._try("item", self._find_item, item_id)
        image = self._try("pairing", self._pair, candidate)
        description = self._try("grid", self._describe, candidate, image)
        sun = self._try("sun", self._compare_sun, candidate, description)
        if (candidate.scene.id if candidate else item_id) == ARTICLE_ID:
            self._try("article", self._compare_article, candidate)
        self._try("assets", self._read_assets, candidate)
        masks = self._try("two masks", self._make_masks, candidate, image)
        self._try("tutorial", self._make_tutorial, candidate, image, description, sun, masks)
        self._try("window", self._make_window, candidate, image, masks)
        self._try("store", self._publish, candidate, image, masks)

    def _try(self, name: str, step: Callable[..., Result[T]], *needs: Any) -> T | None:
        """Record how ``step`` ends, given what it needs; return its value, or None."""
        if self.fault is not None or any(need is None for need in needs):
            self.checks.append(Check(name, Verdict.NOT_TRIED, "needs what did not come about above"))
            return None
        started, before = time.monotonic(), self._context.read_transfer()
        value, figures = None, {}
        try:
            result = step(*needs)
        except Exception as error:
            verdict, detail = self._judge(error)
        else:
            value, detail, figures = result.value, result.detail, dict(result.figures)
            verdict = Verdict.PASSED if result.agrees else Verdict.DIFFERS
        after = self._context.read_transfer()
        figures |= {name: after[name] - before[name] for name in ("requests", "bytes")}
        self.checks.append(Check(name, verdict, self._hide(detail), figures, time.monotonic() - started))
        return value

    def _judge(self, error: Exception) -> tuple[Verdict, str]:
        """Return what an error means for a check; record it if it is a fault of the setup.

        Raises:
            Exception: it is unexpected.
        """
        fault = error if isinstance(error, CloudmaskError) else find_machine_fault(error)
        if fault is None:
            raise error
        if fault.ends_run:
            self.fault = self._hide(str(fault))
        proven = isinstance(fault, ItemError | AssetRefused | EngineRefused) and not fault.ends_run
        return Verdict.DIFFERS if proven else Verdict.NOT_TRIED, str(fault)

    def _hide(self, text: str) -> str:
        return anonymise(text, self._secrets)

    def _find_item(self, item_id: str) -> Result[Candidate | None]:
        found = list(self._context.source.find_items(build_query(ids=[item_id])))
        if not found:
            return Result(None, f"the source has no item {item_id}", agrees=False)
        candidate = read_candidate(found[0], {METHOD: self._parameters})
        scene = candidate.scene
        figures = {
            "id": scene.id,
            "tile": scene.tile,
            "datetime": scene.datetime.isoformat(),
            "datastrip": scene.datastrip_id,
            "processing_baseline": scene.processing_baseline,
            "solar_azimuth_deg": scene.solar_azimuth_deg,
        }
        return Result(candidate, f"{scene.id}, baseline {scene.processing_baseline}", figures)

    def _pair(self, candidate: Candidate) -> Result[EarthEngineImage | None]:
        scene = candidate.scene
        key = read_image_key(scene)
        pairing = self._engine.find_images([scene])[scene.id]
        figures = {"datastrip": scene.datastrip_id, "expected": key.index}
        if not isinstance(pairing, EarthEngineImage):
            detail = f"{pairing.reason}; the item's datastrip is {scene.datastrip_id}"
            return Result(None, detail, figures, agrees=False)
        images = " and ".join(pairing.image_ids)
        figures |= {"images": images}
        if pairing.image_ids == (key.index,):
            return Result(pairing, f"{images}, by its datastrip {scene.datastrip_id}", figures)
        detail = f"there is no {key.index} of its datastrip {scene.datastrip_id}; {images} by footprint"
        return Result(pairing, detail, figures, agrees=False)

    def _describe(self, candidate: Candidate, image: EarthEngineImage) -> Result[ImageDescription]:
        found = describe_image(self._context.session, image.image_ids[0])
        grid = candidate.scene.grid
        figures = {"item": describe_grid(grid), "image": describe_grid(found.grid)}
        if grid == found.grid:
            return Result(found, f"the item's and the image's: {figures['item']}", figures)
        detail = f"the item's is {figures['item']}; the image's {figures['image']}"
        return Result(found, detail, figures, agrees=False)

    def _compare_sun(self, candidate: Candidate, image: ImageDescription) -> Result[float]:
        mine, other = candidate.scene.solar_azimuth_deg, image.solar_azimuth_deg
        apart = abs((mine - other + 180) % 360 - 180)
        figures = {"item_azimuth_deg": mine, "image_azimuth_deg": other, "apart_deg": apart}
        detail = f"azimuth {mine:.4f} by the item, {other:.4f} by the image: {apart:.4f} degrees apart"
        return Result(apart, detail, figures, agrees=apart <= AZIMUTH_TOLERANCE_DEG)

    def _compare_article(self, candidate: Candidate) -> Result[bool]:
        printed, grid = describe_grid(ARTICLE_GRID), describe_grid(candidate.scene.grid)
        figures = {"article": printed, "item": grid}
        if candidate.scene.grid == ARTICLE_GRID:
            return Result(True, f"as the article prints it: {printed}", figures)
        return Result(False, f"the article prints {printed}; the item has {grid}", figures, agrees=False)

    def _read_assets(self, candidate: Candidate) -> Result[bool]:
        scene, reader = candidate.scene, self._context.reader
        height, width = scene.grid.shape
        corner = (max(0, height // 2 - _ASSET_PX // 2), max(0, width // 2 - _ASSET_PX // 2))
        window = Window(*corner, min(_ASSET_PX, height), min(_ASSET_PX, width))
        read: dict[str, str] = {}
        failures: list[CloudmaskError] = []
        for key in list_assets():
            dtype = np.uint8 if key == CLASSES_ASSET else np.uint16
            try:
                pixels = read_item_band(reader, scene, key, dtype, "nearest", window)
                read[key] = f"{pixels.dtype}, {pixels.min()} to {pixels.max()}"
            except CloudmaskError as error:
                if error.ends_run:
                    raise
                failures.append(error)
        if failures and all(error.retryable for error in failures):
            raise failures[0]
        hosts = sorted({urlsplit(scene.asset_hrefs[key]).hostname or "local files" for key in read})
        told = f"{len(read)} of {len(list_assets())} read{' from ' if hosts else ''}{', '.join(hosts)}"
        detail = "; ".join([told, *(str(error).removeprefix(f"item {scene.id}: ") for error in failures)])
        return Result(
            not failures, detail, {"read": read, "from": hosts, "window": window.shape}, agrees=not failures
        )

    def _make_masks(self, candidate: Candidate, image: EarthEngineImage) -> Result[Masks]:
        scene = candidate.scene
        inputs = self._engine.download_inputs(scene, image)()
        classes = compose_mask(inputs, scene.solar_azimuth_deg, self._parameters, scene.grid.pixel_size_m)
        local = DerivedMask(classes, image, inputs=inputs, lacking_px=inputs.lacking_px)
        server = self._engine.download_mask(scene, image)().classes
        difference = compare_pixels(classes, server)
        counts = {each.name.lower(): int(np.count_nonzero(classes == each)) for each in MaskClass}
        shortfall = find_shortfall(classes, local.lacking_px, scene.nodata_pct)
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        detail = f"made here and by Earth Engine: {difference} ({told})" + (
            f"; {shortfall}" if shortfall else ""
        )
        figures = {**difference.as_json(), "pixels": counts}
        return Result(Masks(local, server), detail, figures, agrees=difference.is_none and not shortfall)

    def _make_tutorial(
        self,
        candidate: Candidate,
        image: EarthEngineImage,
        description: ImageDescription,
        sun_apart_deg: float,
        masks: Masks,
    ) -> Result[bool]:
        scene = candidate.scene
        raster = Raster("tutorial's mask", build_tutorial_mask(description, scene.footprint), scene.grid)
        (theirs,) = self._context.downloader.read_rasters(scene.id, [raster])
        difference = compare_pixels(*_as_tutorial(masks.server, theirs))
        figures: dict[str, Any] = {
            "collection": description.collection,
            "cloud_filter": description.cloudy_limit_pct,
        }
        figures |= difference.as_json()
        detail = f"ours and by its code as it is, on {description.collection}: {difference}"
        alike = replace(scene, solar_azimuth_deg=description.solar_azimuth_deg)
        on_purpose = len(image.image_ids) > 1 or alike.solar_azimuth_deg != scene.solar_azimuth_deg
        if not difference.is_none and on_purpose and sun_apart_deg <= AZIMUTH_TOLERANCE_DEG:
            ours = self._engine.download_mask(alike, EarthEngineImage(image.image_ids[:1]))().classes
            explained = compare_pixels(*_as_tutorial(ours, theirs))
            figures["as_the_tutorial"] = explained.as_json()
            detail += f"; by the image's own azimuth, and that image alone, {explained}"
            difference = explained
        if others := _list_other_thresholds(self._parameters):
            detail += f"; our thresholds are not the tutorial's: {others}"
        return Result(True, detail, figures, agrees=difference.is_none)

    def _make_window(self, candidate: Candidate, image: EarthEngineImage, masks: Masks) -> Result[bool]:
        scene = candidate.scene
        window = choose_window(masks.server)
        alone = self._engine.download_mask(
            replace(scene, grid=scene.grid.window_grid(window)), image
        )().classes
        difference = compare_pixels(alone, masks.server[window.slices])
        place = f"{window.height} x {window.width} pixels at row {window.row}, column {window.col}"
        figures = {"window": place, **difference.as_json()}
        return Result(True, f"{place}, asked for alone: {difference}", figures, agrees=difference.is_none)

    def _publish(self, candidate: Candidate, image: EarthEngineImage, masks: Masks) -> Result[bool]:
        with TemporaryDirectory(prefix="cloudmask-prove-") as folder:
            self._secrets[folder] = "STORE"
            local = {"store": folder, "public_url": None, "tiler_url": None, "single_writer": False}
            settings = self._context.settings.model_copy(update=local)
            context = RunContext(settings, now=self._context.now)
            chosen = replace(candidate, ee_image=image)
            derived = masks.local if settings.keep_inputs else replace(masks.local, inputs=None)
            path = context.local_folder(chosen.keys.prefix)
            publication = build_publication(chosen, derived, settings, context.now, path)
            context.publisher.publish_item(publication)
            context.publisher.publish_catalogs([chosen.keys])
            report = check_catalog(
                context.store,
                CatalogContext(None),
                repair=False,
                now=context.now,
                options=CheckOptions(deep=True),
            )
            items = find_items(chosen.scene.tile, store=folder)
            if not items:
                return Result(False, "published, and not to be found in the catalog", agrees=False)
            item = items[0]
            difference = compare_pixels(read_classes(item), derived.classes)
            grid = find_mask_grid(item)
        same_grid = grid == candidate.scene.grid
        found = "nothing wrong found" if report.is_whole else "; ".join(map(str, report.findings))
        detail = (
            f"published into a temporary folder, since removed; check --deep: {found}; read back, {difference}, "
            f"{describe_grid(grid)}"
        )
        figures = {
            **difference.as_json(),
            "files": report.files,
            "catalogs": report.catalogs,
            "grid": describe_grid(grid),
        }
        return Result(True, detail, figures, agrees=report.is_whole and difference.is_none and same_grid)


def list_assets() -> list[str]:
    """Return the keys of the assets that any method reads."""
    return sorted({NIR_ASSET, CLASSES_ASSET, *csmask.ASSETS.values(), *omnicloudmask.BANDS})


def _as_tutorial(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return our mask and the tutorial's as binary masks, cloud or shadow, and where there is data."""
    return ours >= MaskClass.CLOUD, theirs > 0, ours != MaskClass.NO_DATA


def _list_other_thresholds(parameters: MaskParameters) -> str:
    """Return the names of the thresholds that differ from the defaults, which are the tutorial's."""
    tutorial = MaskParameters()
    return ", ".join(
        f"{each.name} {getattr(parameters, each.name):g} (tutorial {getattr(tutorial, each.name):g})"
        for each in fields(MaskParameters)
        if each.name in METHODS[METHOD].parameters
        and getattr(parameters, each.name) != getattr(tutorial, each.name)
    )


#: Side of the window that is requested on its own.
WINDOW_PX = 512


@dataclass(frozen=True, slots=True)
class Difference:
    """How many of ``compared`` pixels differ, and the first of them: row, column, value here and there."""

    compared: int
    different: int = 0
    first: tuple[int, int, int, int] | None = None

    @property
    def is_none(self) -> bool:
        """Return True if something was compared, and all of it is equal."""
        return self.compared > 0 and self.different == 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("row", "column", "value", "other")
        first = None if self.first is None else dict(zip(names, self.first, strict=True))
        return {"compared": self.compared, "different": self.different, "first": first}

    def __str__(self) -> str:
        if not self.compared:
            return "no pixel has data, so none could be compared"
        if self.first is None:
            return f"equal on all of {self.compared} pixels"
        row, column, value, other = self.first
        return (
            f"{self.different} of {self.compared} pixels differ, the first at row {row}, column {column}: "
            f"{value} and {other}"
        )


def compare_pixels(
    one: NDArray[Any], other: NDArray[Any], valid: NDArray[np.bool_] | None = None
) -> Difference:
    """Compare rasters of the same shape, ``(height, width)``, where ``valid`` is true, or everywhere."""
    differs = one != other
    if valid is not None:
        differs &= valid
    compared = int(one.size if valid is None else np.count_nonzero(valid))
    count = int(np.count_nonzero(differs))
    if not count:
        return Difference(compared)
    row, column = divmod(int(np.argmax(differs)), differs.shape[1])
    return Difference(compared, count, (row, column, int(one[row, column]), int(other[row, column])))


def describe_grid(grid: Grid) -> str:
    """Return a grid in the notation of rasterio's users."""
    height, width = grid.shape
    return f"{height} x {width} pixels, transform {', '.join(f'{each:.10g}' for each in grid.transform)}, {grid.crs}"


def choose_window(classes: NDArray[np.uint8]) -> Window:
    """Return the window of ``classes``, ``(height, width)``, that crosses most edges between classes.

    It begins on odd pixels, away from the seams of the windows in which a full raster is downloaded.
    """
    height, width = classes.shape
    side = min(WINDOW_PX, max(1, min(height, width) // 2))
    windows = [
        Window(row, column, min(side, height - row), min(side, width - column))
        for row in range(min(side // 5 | 1, height - 1), height, side)
        for column in range(min(side // 5 | 1, width - 1), width, side)
    ]
    return max(windows, key=lambda window: _count_edges(classes[window.slices]))


def _count_edges(classes: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(classes[:, 1:] != classes[:, :-1]))
