"""What a run was asked to do, in plain values that Prefect may show and store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.due import RECENT_DAYS, LookBack
from pc_cloudmask.scene.query import SceneQuery, build_query, parse_datetime_interval
from pc_cloudmask.settings import FIRST_IMAGE, Area, Settings, read_area_file, read_settings


class RunRequest(BaseModel):
    """What differs from the environment's settings, and where items come from if not from a search.

    Nothing secret belongs here: it becomes the parameters of a flow run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bbox: str | None = None
    intersects: Path | None = None
    tiles: tuple[str, ...] = ()
    items: str | None = None
    limit: int | None = None
    method: str | None = None
    compute: str | None = None
    store: str | None = None
    keep_inputs: bool | None = None
    config: Path | None = None
    now: dt.datetime | None = None

    def read_settings(self) -> Settings:
        """Return the environment's settings with this request's own.

        Raises:
            SettingsError: a value that cannot be used.
        """
        own = self.model_dump(include={"method", "compute", "store", "keep_inputs"})
        return read_settings(self.config, as_options=True, **own)


class IngestRequest(RunRequest):
    """The arguments of ``ingest``: which scenes, and how."""

    datetime: str | None = None
    ids: tuple[str, ...] = ()
    force: bool = False

    @property
    def title(self) -> str:
        """A few words for people: ``22KFV 2018-12``."""
        named = [*self.tiles[:3], *(["…"] if len(self.tiles) > 3 else []), self.bbox, self.datetime]
        return " ".join(filter(None, named)) or "scenes"

    def read_query(self) -> SceneQuery:
        """Return the query, its geometry read from its file.

        Raises:
            SettingsError: text that is no bbox, interval, tile or geometry, or no criterion at all.
        """
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
    """Which areas: ``areas`` are names in the settings, all of them by default.

    Tiles, a box or a geometry's file are an area of their own.
    """

    areas: tuple[str, ...] = ()
    since: str | None = None

    def read_areas(self, settings: Settings) -> dict[str, Area]:
        """Return the areas by name, of those in ``settings`` or the request's own.

        Raises:
            SettingsError: none at all, an unknown name, or no place.
        """
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
                "or --tile, --bbox or --intersects"
            )
        if self.since is not None:
            raise SettingsError("--since goes with --tile, --bbox or --intersects: a named area has its own")
        return {name: areas[name] for name in self.areas or areas}


class WatchRequest(AreaRequest):
    """The arguments of ``watch``: how far a run looks back, by default as far as is due.

    ``seconds`` is how long a scan of everything may go on before it is left to the next run.
    """

    look_back: tuple[LookBack, ...] | None = None
    seconds: float | None = None


class BackfillRequest(AreaRequest):
    """The arguments of a backfill: which years, and which deployment carries it out, shard by shard.

    ``attempt`` tells a backfill that is to be done again, failed runs and all, from one that goes on after
    a kill. Without a ``deployment`` the shards are run in the backfill's own process, one after the other.
    """

    years: tuple[int, ...] = ()
    datetime: str | None = None
    deployment: str | None = "ingest/cloudmask"
    attempt: int = 1

    def read_period(self) -> tuple[dt.datetime, dt.datetime | None]:
        """Return the first and last instant; None leaves the end open.

        Raises:
            SettingsError: neither years nor an interval, both of them, or an interval with an open start.
        """
        if bool(self.years) == bool(self.datetime):
            raise SettingsError("a backfill takes years, such as [2018, 2019], or a datetime interval")
        text = self.datetime or f"{min(self.years):04d}/{max(self.years):04d}"
        if self.years and len(self.years) != max(self.years) - min(self.years) + 1:
            raise SettingsError("the years of a backfill must follow one another: begin one for each gap")
        start, end = parse_datetime_interval(text)
        return start or dt.datetime.combine(FIRST_IMAGE, dt.time(), dt.UTC), end


class GapsRequest(AreaRequest):
    """The arguments of ``gaps``: what was taken when, and whether the census is put into the store as a table."""

    datetime: str | None = None
    parquet: bool = False

    def read_period(self, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
        """Return the first and last instant, by default of the last ``RECENT_DAYS``; nothing lies beyond ``now``.

        Raises:
            SettingsError: no interval, or one without a scene: before Sentinel-2, or to come.
        """
        if self.datetime is None:
            return now - dt.timedelta(days=RECENT_DAYS), now
        first_image = dt.datetime.combine(FIRST_IMAGE, dt.time(), dt.UTC)
        start, end = parse_datetime_interval(self.datetime)
        first, last = max(start or first_image, first_image), min(end or now, now)
        if first > last:
            raise SettingsError(
                f"--datetime {self.datetime!r:.60}: Sentinel-2 has taken images from {FIRST_IMAGE} until now"
            )
        return first, last
