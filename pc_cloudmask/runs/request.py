"""What a run is asked to do, in plain values that Prefect can show and store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.area_state import RECENT_DAYS, LookBack
from pc_cloudmask.scene.query import SceneQuery, build_query, parse_datetime_interval
from pc_cloudmask.settings import FIRST_IMAGE, Area, Settings, read_area_file, read_settings
from pc_cloudmask.text import make_printable, unsigned_href

#: Tiles, areas or ids shown in the name of a run.
SHOWN = 3
FIRST_INSTANT = dt.datetime.combine(FIRST_IMAGE, dt.time(), dt.UTC)


def shorten(names: Sequence[str]) -> list[str]:
    """Return the first few names, with dots in place of the others."""
    return [*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])]


class RunRequest(BaseModel):
    """Overrides of the environment's settings, and where items come from if not from a search.

    Nothing secret belongs here: requests become parameters of flow runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bbox: str | None = Field(default=None, description="A box in degrees: west,south,east,north.")
    intersects: Path | None = Field(
        default=None, description="A GeoJSON file of the worker, whose geometry scenes must meet."
    )
    tiles: tuple[str, ...] = Field(default=(), description="MGRS tiles, such as 22KFV.")
    items: str | None = Field(
        default=None, description="Items instead of a search: a file, folder or URL that holds no signature."
    )
    limit: int | None = Field(default=None, description="At most so many scenes.")
    method: str | None = Field(
        default=None, description="What makes masks, such as s2cloudless; the worker's setting if left empty."
    )
    compute: str | None = Field(
        default=None,
        description="Where Earth Engine's methods compute: local or server; the worker's setting if empty.",
    )
    store: str | None = Field(
        default=None,
        description="s3://bucket/prefix or a folder of the worker; its CLOUDMASK_STORE if left empty.",
    )
    keep_inputs: bool | None = Field(
        default=None, description="Publish the cloud probability next to the mask."
    )
    config: Path | None = Field(
        default=None,
        description="A settings file of the worker; its cloudmask.toml, if it has one, if left empty.",
    )
    now: dt.datetime | None = Field(
        default=None, description="The time that the run takes for now, for tests; leave it empty."
    )

    @property
    def place(self) -> str:
        """A short description of the place: ``22KFV 33UUP``; empty if the request names none."""
        geometry = self.intersects.stem if self.intersects else None
        return " ".join(filter(None, [*shorten(self.tiles), self.bbox, geometry]))

    def read_settings(self) -> Settings:
        """Return the environment's settings with this request's overrides, or raise ``SettingsError``."""
        own = self.model_dump(include={"method", "compute", "store", "keep_inputs"})
        return read_settings(self.config, as_options=True, **own)


class IngestRequest(RunRequest):
    """The arguments of ``ingest``: which scenes, and how."""

    datetime: str | None = Field(
        default=None,
        description="When they were taken: 2018-12, or an interval such as 2018/2020-06 or 2026-11-01/..",
    )
    ids: tuple[str, ...] = Field(default=(), description="Ids of scenes, in the source's form or ESA's.")
    force: bool = Field(default=False, description="Make masks again that are published already.")

    @property
    def title(self) -> str:
        """A short description: ``22KFV 2018-12``."""
        items = make_printable(unsigned_href(self.items)).rpartition("/")[2] if self.items else None
        named = [self.place, *shorten(self.ids), items, self.datetime]
        return " ".join(filter(None, named)) or "scenes"

    def read_query(self) -> SceneQuery:
        """Return the query, with its geometry read; ``SettingsError`` for an invalid criterion, or without any."""
        query = build_query(
            bbox=self.bbox,
            intersects=read_area_file(self.intersects, "--intersects") if self.intersects else None,
            tiles=self.tiles,
            datetime=self.datetime,
            ids=self.ids,
            limit=self.limit,
        )
        if self.items is None and query.is_open:
            raise SettingsError("name what to look for: --tile, --bbox, --intersects, --ids or --items")
        return query


class AreaRequest(RunRequest):
    """Which areas: ``areas`` are names in the settings, by default all of them.

    Tiles, a box or a geometry file define an area of their own.
    """

    areas: tuple[str, ...] = Field(
        default=(), description="Names of areas in the worker's settings; all of them if empty."
    )
    since: str | None = Field(
        default=None,
        description="With tiles, a box or a geometry: since when they are watched, such as 2018-12.",
    )

    def read_areas(self, settings: Settings) -> dict[str, Area]:
        """Return the areas by name, from ``settings`` or the request's own; ``SettingsError`` if none or unknown."""
        if self.tiles or self.bbox or self.intersects:
            if self.areas:
                raise SettingsError("--area and --tile, --bbox, --intersects exclude each other")
            try:
                area = Area(tiles=self.tiles, bbox=self.bbox, intersects=self.intersects, since=self.since)
            except ValidationError as error:
                first = error.errors(include_input=False, include_url=False)[0]
                field = first["loc"][0] if first["loc"] else None
                named = "--tile" if field == "tiles" else f"--{field}" if field else "the watched area"
                raise SettingsError(f"{named}: {first['msg'].removeprefix('Value error, ')}") from error
            return {f"unnamed-{area.digest}": area}
        areas = settings.areas
        if unknown := sorted(set(self.areas) - set(areas)):
            known = ", ".join(sorted(areas)) or "none"
            raise SettingsError(
                f"--area {unknown[0]!r:.60}: no such area in the settings, which have {known}"
            )
        if not areas:
            raise SettingsError(
                'name what to watch: areas in the settings file, such as [areas.home] with tiles = ["22KFV"], '
                'in CLOUDMASK_AREAS, such as {"home": {"tiles": ["22KFV"]}}, or --tile, --bbox or --intersects'
            )
        if self.since is not None:
            raise SettingsError("--since goes with --tile, --bbox or --intersects: a named area has its own")
        return {name: areas[name] for name in self.areas or areas}


class WatchRequest(AreaRequest):
    """The arguments of ``watch``: how far a run looks back, by default as far as is due.

    ``seconds`` limits how long a full scan may take before the rest is left to the next run.
    """

    look_back: tuple[LookBack, ...] | None = Field(
        default=None,
        description="hot: the last days; recent: the last 60 days; full: everything; what is due if empty.",
    )
    seconds: float | None = Field(
        default=None,
        description="Leave the rest of a scan of everything to the next run after so many seconds.",
    )

    def find_start(self, areas: Mapping[str, Area], settings: Settings, now: dt.datetime) -> dt.datetime:
        """Return the first instant of the widest look-back window; of the hot one if none is named."""
        days = {LookBack.HOT: settings.look_back_days, LookBack.RECENT: RECENT_DAYS}
        first = min(area.start for area in areas.values())
        windows = self.look_back or (LookBack.HOT,)
        if LookBack.FULL in windows:
            return first
        return max(first, now - dt.timedelta(days=max(days[each] for each in windows)))


class BackfillRequest(AreaRequest):
    """The arguments of a backfill: which years, and which deployment runs the shards.

    ``attempt`` distinguishes a backfill to be repeated, including failed runs, from one that continues after a kill.
    Without a ``deployment``, the shards run one after the other in the backfill's own process.
    """

    years: tuple[int, ...] = Field(
        default=(), description="Years that follow one another, such as 2018, 2019, 2020."
    )
    datetime: str | None = Field(
        default=None, description="An interval instead of years, such as 2018-06/2019-03."
    )
    deployment: str | None = Field(
        default="ingest/cloudmask",
        description="What runs a shard; if empty, this run does, one after the other.",
    )
    attempt: int = Field(
        default=1,
        description="Begun with the same number, only the shards begin that are missing; raise it to begin all.",
    )

    def read_period(self) -> tuple[dt.datetime, dt.datetime | None]:
        """Return the first and last instant, None for an open end; ``SettingsError`` unless one period is given."""
        if bool(self.years) == bool(self.datetime):
            raise SettingsError("a backfill takes years, such as [2018, 2019], or a datetime interval")
        text = self.datetime or f"{min(self.years):04d}/{max(self.years):04d}"
        if self.years and len(self.years) != max(self.years) - min(self.years) + 1:
            raise SettingsError("the years of a backfill must follow one another: begin one for each gap")
        start, end = parse_datetime_interval(text)
        return start or FIRST_INSTANT, end


class GapsRequest(AreaRequest):
    """The arguments of ``gaps``: the acquisition period, and whether to put the census into the store as a table."""

    datetime: str | None = Field(
        default=None, description="When scenes were taken; the last 60 days if empty."
    )
    parquet: bool = Field(default=False, description="Put the census into the store too, as gaps.parquet.")

    def read_period(self, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
        """Return the first and last instant, by default of the last ``RECENT_DAYS``, and never later than ``now``.

        Raise ``SettingsError`` for an interval that is invalid, before Sentinel-2 or in the future.
        """
        if self.datetime is None:
            return now - dt.timedelta(days=RECENT_DAYS), now
        start, end = parse_datetime_interval(self.datetime)
        first, last = max(start or FIRST_INSTANT, FIRST_INSTANT), min(end or now, now)
        if first > last:
            raise SettingsError(
                f"--datetime {self.datetime!r:.60}: Sentinel-2 has taken images from {FIRST_IMAGE} until now"
            )
        return first, last
