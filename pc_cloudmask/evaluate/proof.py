"""A scene proved against the live services, in one command: its mask made in three ways, published, read back.

Each step is a check, which passes, differs, or cannot be tried because something it needs is missing or a service
does not answer now. A mask is made in three ways: here from Earth Engine's inputs, as with ``compute=local``; by Earth
Engine, as with ``compute=server``; and by the tutorial's own code. The first two must be equal on every pixel. The
tutorial's must equal cloud and shadow together wherever there is data, with three exceptions that are deliberate, and
reported where they matter: the sun's azimuth is the item's, a datatake that is split into two images is one mask, and
the filter on cloudiness omits no scene.
"""

from __future__ import annotations

import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
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
from pc_cloudmask.masking.earth_engine.graphs import ImageDescription, build_tutorial_mask, describe_image
from pc_cloudmask.masking.earth_engine.session import SOFTWARE, profiling, read_eecu_seconds
from pc_cloudmask.masking.earth_engine.windows import Raster
from pc_cloudmask.masking.files import read_item_band
from pc_cloudmask.masking.methods import CLASSES_ASSET, METHODS, NIR_ASSET, DerivedMask
from pc_cloudmask.masking.s2cloudless import EarthEngineInputs
from pc_cloudmask.runs.candidate import Candidate, read_candidate
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.scene import build_publication
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.image import EarthEngineImage, read_image_key
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.version import __version__
from pc_cloudmask.viewing.library import find_items, find_mask_grid, read_classes

#: The scene of the article that this project began with, and the grid of its mask that the article prints.
ARTICLE_ID = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849"
ARTICLE_GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (5490, 5490))
METHOD = "s2cloudless"
#: For means over a tile by two processors; a mirrored one is off by more unless the sun is in the east or west.
AZIMUTH_TOLERANCE_DEG = 0.5
#: Side of the window read from each asset.
_ASSET_PX = 64
#: Side of the window that is requested on its own.
WINDOW_PX = 512
T = TypeVar("T")
#: The mask made here, and Earth Engine's, uint8 ``(height, width)`` of ``MaskClass``.
Masks = tuple[DerivedMask, NDArray[np.uint8]]
#: The outcome of a step: a value for the steps that follow, whether all agrees, the check's line and its figures.
Result = tuple[T, bool, str, dict[str, Any]]


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    DIFFERS = "differs"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its finding in a line, and its figures as plain JSON values."""

    name: str
    verdict: Verdict
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The checks of a scene, the versions and servers used, and what was exchanged.

    ``fault`` is the fault of the setup that ended it, if any.
    """

    item_id: str
    checks: tuple[Check, ...]
    versions: dict[str, str]
    servers: tuple[str, ...]
    transfer: dict[str, Any]
    seconds: float
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """Return True if every check passed."""
        return all(check.verdict is Verdict.PASSED for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        checks = [
            {
                "check": check.name,
                "verdict": str(check.verdict),
                "detail": check.detail,
                "figures": check.figures,
                "seconds": round(check.seconds, 3),
            }
            for check in self.checks
        ]
        return {
            "item": self.item_id,
            "holds": self.holds,
            "checks": checks,
            "versions": self.versions,
            "servers": list(self.servers),
            "transfer": self.transfer,
            "seconds": round(self.seconds, 1),
            "fault": self.fault,
        }

    def list_lines(self) -> Iterator[str]:
        """Yield the report as lines for people."""
        counts = Counter(str(check.verdict) for check in self.checks)
        outcome = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if verdict in counts)
        if self.holds:
            outcome = f"all of {len(self.checks)} checks passed"
        yield f"cloudmask prove {self.item_id}: {outcome}"
        for check in self.checks:
            requests, size = check.figures.get("requests", 0), check.figures.get("bytes", 0)
            cost = f"{requests} request{'s' * (requests != 1)}, {size / 1e6:.1f} MB, {check.seconds:.1f} s"
            told = f"{check.detail} [{cost}]" if requests else check.detail
            yield f"  {check.verdict:<9}  {check.name:<9}  {told}"
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield f"against {', '.join(self.servers)}"
        transfer, eecu_s = self.transfer, self.transfer["eecu_seconds"]
        told = "not told" if eecu_s is None else f"{eecu_s:.1f} EECU-seconds"
        yield (
            f"{transfer['requests']} requests to Earth Engine, {transfer['retries']} of them again, "
            f"{transfer['splits']} windows split; {transfer['bytes'] / 1e6:.1f} MB of pixels; {self.seconds:.1f} s; "
            f"computing there: {told}"
        )


def anonymise(text: str, secrets: Mapping[str, str]) -> str:
    """Return ``text`` without the user's home folder, and with each of ``secrets`` replaced by its placeholder."""
    for secret, name in {**secrets, str(Path.home()): "~"}.items():
        if len(secret) > 1:
            text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", name, text)
    return text


def prove(context: RunContext, item_id: str | None = None) -> Proof:
    """Prove the scene ``item_id``, by default the article's, or the only one of the context's items.

    Raises:
        SettingsError: no Earth Engine project, or several items and no choice.
        CloudmaskError: the setup is at fault, before anything could be checked.
    """
    started = time.monotonic()
    context.session.start()
    if not item_id and context.items:
        ids = [str(item.get("id")) for item in context.source.find_items(SceneQuery())]
        if len(ids) != 1:
            held = f"holds {len(ids)} items: name one of them with --item"
            raise SettingsError(f"--items {context.items}: {held}")
        item_id = ids[0]
    item_id, prover = item_id or ARTICLE_ID, _Prover(context)
    with profiling(context.session) as profiles:
        prover.run(item_id)
    transfer = {**context.read_transfer(), "eecu_seconds": read_eecu_seconds(context.session, profiles)}
    versions = {
        "pc-cloudmask": __version__,
        **SOFTWARE,
        "rasterio": rasterio.__version__,
        "GDAL": rasterio.__gdal_version__,
        "numpy": np.__version__,
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}",
    }
    source = "items from a file" if context.items else context.settings.stac_api_url
    servers, seconds = (source, context.settings.earthengine_url), time.monotonic() - started
    return Proof(item_id, tuple(prover.checks), versions, servers, transfer, seconds, prover.fault)


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
        scene = candidate.scene if candidate else None
        image = self._try("pairing", self._pair, scene)
        description = self._try("grid", self._describe, scene, image)
        sun = self._try("sun", self._compare_sun, scene, description)
        if (scene.id if scene else item_id) == ARTICLE_ID:
            self._try("article", self._compare_article, scene)
        self._try("assets", self._read_assets, scene)
        masks = self._try("two masks", self._make_masks, scene, image)
        self._try("tutorial", self._make_tutorial, scene, image, description, sun, masks)
        self._try("window", self._make_window, scene, image, masks)
        self._try("store", self._publish, candidate, image, masks)

    def _try(self, name: str, step: Callable[..., Result[T]], *needs: Any) -> T | None:
        """Record how ``step`` ends, given what it needs; return its value, or None."""
        if self.fault is not None or any(need is None for need in needs):
            self.checks.append(Check(name, Verdict.NOT_TRIED, "needs what did not come about above"))
            return None
        started, before = time.monotonic(), self._context.read_transfer()
        value, figures = None, dict[str, Any]()
        try:
            value, agrees, detail, figures = step(*needs)
            verdict = Verdict.PASSED if agrees else Verdict.DIFFERS
        except Exception as error:
            verdict, detail = self._judge(error)
        after, seconds = self._context.read_transfer(), time.monotonic() - started
        figures |= {name: after[name] - before[name] for name in ("requests", "bytes")}
        self.checks.append(Check(name, verdict, anonymise(detail, self._secrets), figures, seconds))
        return value

    def _judge(self, error: Exception) -> tuple[Verdict, str]:
        """Return what an error means for a check; record it if it is a fault of the setup, raise what is unexpected."""
        fault = error if isinstance(error, CloudmaskError) else find_machine_fault(error)
        if fault is None:
            raise error
        if fault.ends_run:
            self.fault = anonymise(str(fault), self._secrets)
        proven = isinstance(fault, ItemError | AssetRefused | EngineRefused) and not fault.ends_run
        return Verdict.DIFFERS if proven else Verdict.NOT_TRIED, str(fault)

    def _find_item(self, item_id: str) -> Result[Candidate | None]:
        found = list(self._context.source.find_items(build_query(ids=[item_id])))
        if not found:
            return None, False, f"the source has no item {item_id}", {}
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
        return candidate, True, f"{scene.id}, baseline {scene.processing_baseline}", figures

    def _pair(self, scene: Scene) -> Result[EarthEngineImage | None]:
        key = read_image_key(scene)
        pairing = self._engine.find_images([scene])[scene.id]
        figures = {"datastrip": scene.datastrip_id, "expected": key.index}
        if not isinstance(pairing, EarthEngineImage):
            return None, False, f"{pairing.reason}; the item's datastrip is {scene.datastrip_id}", figures
        figures["images"] = images = " and ".join(pairing.image_ids)
        if pairing.image_ids == (key.index,):
            return pairing, True, f"{images}, by its datastrip {scene.datastrip_id}", figures
        detail = f"there is no {key.index} of its datastrip {scene.datastrip_id}; {images} by footprint"
        return pairing, False, detail, figures

    def _describe(self, scene: Scene, image: EarthEngineImage) -> Result[ImageDescription]:
        found = describe_image(self._context.session, image.image_ids[0])
        grid = scene.grid
        figures = {"item": describe_grid(grid), "image": describe_grid(found.grid)}
        detail = f"the item's is {figures['item']}; the image's {figures['image']}"
        if same := grid == found.grid:
            detail = f"the item's and the image's: {figures['item']}"
        return found, same, detail, figures

    def _compare_sun(self, scene: Scene, image: ImageDescription) -> Result[float]:
        mine, other = scene.solar_azimuth_deg, image.solar_azimuth_deg
        apart = abs((mine - other + 180) % 360 - 180)
        detail = f"azimuth {mine:.4f} by the item, {other:.4f} by the image: {apart:.4f} degrees apart"
        figures = {"item_azimuth_deg": mine, "image_azimuth_deg": other, "apart_deg": apart}
        return apart, apart <= AZIMUTH_TOLERANCE_DEG, detail, figures

    def _compare_article(self, scene: Scene) -> Result[bool]:
        printed, grid = describe_grid(ARTICLE_GRID), describe_grid(scene.grid)
        same = scene.grid == ARTICLE_GRID
        detail = f"the article prints {printed}; the item has {grid}"
        if same:
            detail = f"as the article prints it: {printed}"
        return True, same, detail, {"article": printed, "item": grid}

    def _read_assets(self, scene: Scene) -> Result[bool]:
        reader = self._context.reader
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
        return True, not failures, detail, {"read": read, "from": hosts, "window": window.shape}

    def _make_masks(self, scene: Scene, image: EarthEngineImage) -> Result[Masks]:
        inputs = self._engine.download_inputs(scene, image)()
        classes = compose_mask(inputs, scene.solar_azimuth_deg, self._parameters, scene.grid.pixel_size_m)
        local = DerivedMask(classes, image, inputs=inputs, lacking_px=inputs.lacking_px)
        server = self._engine.download_mask(scene, image)().classes
        difference = compare_pixels(classes, server)
        counts = {each.name.lower(): int(np.count_nonzero(classes == each)) for each in MaskClass}
        shortfall = find_shortfall(classes, local.lacking_px, scene.nodata_pct)
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        detail = (
            f"made here and by Earth Engine: {difference} ({told}){f'; {shortfall}' if shortfall else ''}"
        )
        figures = {**difference.as_json(), "pixels": counts}
        return (local, server), difference.is_none and not shortfall, detail, figures

    def _make_tutorial(
        self,
        scene: Scene,
        image: EarthEngineImage,
        description: ImageDescription,
        sun_apart_deg: float,
        masks: Masks,
    ) -> Result[bool]:
        raster = Raster("tutorial's mask", build_tutorial_mask(description, scene.footprint), scene.grid)
        (theirs,) = self._context.downloader.read_rasters(scene.id, [raster])
        difference = _compare_with_tutorial(masks[1], theirs)
        figures = {
            "collection": description.collection,
            "cloud_filter": description.cloudy_limit_pct,
            **difference.as_json(),
        }
        detail = f"ours and by its code as it is, on {description.collection}: {difference}"
        alike = replace(scene, solar_azimuth_deg=description.solar_azimuth_deg)
        on_purpose = len(image.image_ids) > 1 or alike.solar_azimuth_deg != scene.solar_azimuth_deg
        if not difference.is_none and on_purpose and sun_apart_deg <= AZIMUTH_TOLERANCE_DEG:
            ours = self._engine.download_mask(alike, EarthEngineImage(image.image_ids[:1]))().classes
            difference = _compare_with_tutorial(ours, theirs)
            figures["as_the_tutorial"] = difference.as_json()
            detail += f"; by the image's own azimuth, and that image alone, {difference}"
        if others := _list_other_thresholds(self._parameters):
            detail += f"; our thresholds are not the tutorial's: {others}"
        return True, difference.is_none, detail, figures

    def _make_window(self, scene: Scene, image: EarthEngineImage, masks: Masks) -> Result[bool]:
        _, server = masks
        window = choose_window(server)
        alone = self._engine.download_mask(
            replace(scene, grid=scene.grid.window_grid(window)), image
        )().classes
        difference = compare_pixels(alone, server[window.slices])
        place = f"{window.height} x {window.width} pixels at row {window.row}, column {window.col}"
        figures = {"window": place, **difference.as_json()}
        return True, difference.is_none, f"{place}, asked for alone: {difference}", figures

    def _publish(self, candidate: Candidate, image: EarthEngineImage, masks: Masks) -> Result[bool]:
        with TemporaryDirectory(prefix="cloudmask-prove-") as folder:
            self._secrets[folder] = "STORE"
            local = {"store": folder, "public_url": None, "tiler_url": None, "single_writer": False}
            settings = self._context.settings.model_copy(update=local)
            context = RunContext(settings, now=self._context.now)
            chosen = replace(candidate, ee_image=image)
            derived = masks[0] if settings.keep_inputs else replace(masks[0], inputs=None)
            store, now, deep = context.store, context.now, CheckOptions(deep=True)
            path = context.local_folder(chosen.keys.prefix)
            context.publisher.publish_item(build_publication(chosen, derived, settings, now, path))
            context.publisher.publish_catalogs([chosen.keys])
            report = check_catalog(store, CatalogContext(None), repair=False, now=now, options=deep)
            items = find_items(chosen.scene.tile, store=folder)
            if not items:
                return True, False, "published, and not to be found in the catalog", {}
            difference = compare_pixels(read_classes(items[0]), derived.classes)
            grid = find_mask_grid(items[0])
        place = describe_grid(grid)
        found = "nothing wrong found" if report.is_whole else "; ".join(map(str, report.findings))
        detail = (
            "published into a temporary folder, since removed; "
            f"check --deep: {found}; read back, {difference}, {place}"
        )
        files, catalogs = report.files, report.catalogs
        figures = {**difference.as_json(), "files": files, "catalogs": catalogs, "grid": place}
        agrees = report.is_whole and difference.is_none and grid == candidate.scene.grid
        return True, agrees, detail, figures


def list_assets() -> list[str]:
    """Return the keys of the assets that any method reads."""
    return sorted({NIR_ASSET, CLASSES_ASSET, *csmask.ASSETS.values(), *omnicloudmask.BANDS})


def _compare_with_tutorial(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> Difference:
    """Compare our mask, cloud and shadow together, with the tutorial's, which is binary, where there is data."""
    return compare_pixels(ours >= MaskClass.CLOUD, theirs > 0, ours != MaskClass.NO_DATA)


def _list_other_thresholds(parameters: MaskParameters) -> str:
    """Return the names of the thresholds that differ from the defaults, which are the tutorial's."""
    tutorial = MaskParameters()
    values = {
        name: (getattr(parameters, name), getattr(tutorial, name)) for name in METHODS[METHOD].parameters
    }
    return ", ".join(
        f"{name} {ours:g} (tutorial {theirs:g})" for name, (ours, theirs) in values.items() if ours != theirs
    )


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
    compared = one.size
    if valid is not None:
        differs &= valid
        compared = int(np.count_nonzero(valid))
    if not differs.any():
        return Difference(compared)
    row, column = divmod(int(np.argmax(differs)), differs.shape[1])
    first = (row, column, int(one[row, column]), int(other[row, column]))
    return Difference(compared, int(np.count_nonzero(differs)), first)


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
    return max(windows, key=lambda window: np.count_nonzero(np.diff(classes[window.slices])))
