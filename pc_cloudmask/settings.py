"""Settings: the only place where `CLOUDMASK_…` variables are read."""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import CsmaskModel, MaskParameters
from pc_cloudmask.masking.methods import METHODS, Device, NetworkOptions
from pc_cloudmask.scene.query import (
    Interval,
    SceneQuery,
    build_query,
    format_datetime_interval,
    parse_bbox,
    parse_datetime_interval,
    parse_tile,
)
from pc_cloudmask.text import decode_text, is_loopback, read_file_uri, unsigned_href

#: When Sentinel-2A took its first image.
FIRST_IMAGE = date(2015, 6, 27)
T = TypeVar("T")
logger = logging.getLogger(__name__)
#: Variables that Kubernetes derives from a service called cloudmask.
_OF_KUBERNETES = re.compile(r"(^|_)(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)")
_OPTION = re.compile(r"^--[a-z]+:? ")
#: What a tiler's URL holds in braces, or a brace alone.
_PLACEHOLDER, _TILER_PLACEHOLDERS = re.compile(r"\{\w*\}|[{}]"), ["{url}", "{x}", "{y}", "{z}"]
_OF_MASK = re.compile(r"\w+=\{url\}")
_TAG = re.compile(r"[a-z0-9]([-_a-z0-9]{0,40}[a-z0-9])?")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,251}(\.fifo)?", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def _value_error(parse: Callable[[str], T], text: str) -> T:
    """Return the result of ``parse``, raising its errors as ``ValueError``, which pydantic requires."""
    try:
        return parse(text)
    except SettingsError as error:
        # Remove the name of the command-line option, which was not given here.
        raise ValueError(_OPTION.sub("", str(error))) from error


def _check_tiles(tiles: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_value_error(parse_tile, tile) for tile in tiles))


def _check_box(bbox: str) -> str:
    _value_error(parse_bbox, bbox)
    return bbox


def _check_day(since: Any) -> str:
    text = since.isoformat() if isinstance(since, date) else str(since)  # TOML has its own dates
    if "/" in text or _value_error(parse_datetime_interval, text)[0] is None:
        raise ValueError(f"{text!r:.40}: write 2018, 2018-12 or 2018-12-14")
    return text


class Area(BaseModel):
    """Where to look, by tiles, a box or a geometry file, and since when; all of these must match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiles: Annotated[tuple[str, ...], AfterValidator(_check_tiles)] = ()
    bbox: Annotated[str, AfterValidator(_check_box)] | None = None
    intersects: Path | None = None
    since: Annotated[str, BeforeValidator(_check_day)] | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Area:
        if not (self.tiles or self.bbox or self.intersects):
            raise ValueError("name where to look: tiles, bbox or intersects")
        if self.bbox and self.intersects:
            raise ValueError("bbox and intersects exclude each other: give one of them")
        return self

    @property
    def start(self) -> datetime:
        """The first instant that is watched."""
        if self.since is None:
            return datetime.combine(FIRST_IMAGE, time(), UTC)
        return cast(datetime, parse_datetime_interval(self.since)[0])  # checked by the validator

    @property
    def digest(self) -> str:
        """A text that identifies this area's extent and start, apart from its name."""
        geometry = self._read_geometry() or b""
        return sha256(self.model_dump_json().encode() + geometry).hexdigest()[:16]

    def read_query(self, interval: Interval) -> SceneQuery:
        """Return the query for the area within ``interval``; raise ``SettingsError`` for a broken geometry file."""
        query = build_query(bbox=self.bbox, intersects=self._read_geometry(), tiles=self.tiles)
        return replace(query, datetime=format_datetime_interval(interval))

    def _read_geometry(self) -> bytes | None:
        return None if self.intersects is None else read_area_file(self.intersects, "the area's geometry")


def read_area_file(path: Path, what: str) -> bytes:
    """Return the content of an area's file, given as a path or a ``file:`` URI; ``what`` describes it in errors."""
    try:
        return Path(read_file_uri(str(path))).read_bytes()
    except OSError as error:
        raise SettingsError(f"{what}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{what}: {path} {error}") from error


def check_area_name(name: str) -> str:
    """Return ``name`` if it is valid for an area, whose keys contain it, else raise ``ValueError``."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"area {name!r:.60}: a name is 1 to 40 of a-z, 0-9 and '-'")
    return name


_DEFAULTS = MaskParameters()
LogFormat = Literal["text", "json"]
_SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "PC_SDK_SUBSCRIPTION_KEY",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
)


def _check_url(url: str) -> str:
    if not _is_plain_url(url):
        raise ValueError(
            "must begin with https:// (or http:// on loopback), name a host, and have no user, password, "
            "query or fragment: it is shown, and paths are appended to it"
        )
    return url.rstrip("/")


def _is_plain_url(url: str) -> bool:
    """Return True if ``url`` is http or https, and has a host and nothing else but a port and a path."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_web = url.startswith(("https://", "http://")) and bool(parts.hostname)
    return is_web and port_is_one and not ("@" in parts.netloc or "?" in url or "#" in url)


def _check_tiler(template: str) -> str:
    if sorted(_PLACEHOLDER.findall(template)) != _TILER_PLACEHOLDERS:
        raise ValueError("must hold {z}, {x}, {y} and {url}, each once, and no other braces")
    path, _, query = template.partition("?")
    kept = "&".join(each for each in query.split("&") if not _OF_MASK.fullmatch(each))
    rest = f"{path}?{kept}" if kept else path
    if not _is_plain_url(path) or "{" in urlsplit(path).netloc:
        raise ValueError("must begin with https:// or http://, name a host, and have no user or password")
    if "#" in query or " " in template or not template.isprintable() or unsigned_href(rest) != rest:
        raise ValueError("must hold no fragment, blank, key, token or signature: it is published")
    return template


def _check_store(store: str) -> str:
    scheme, separator, rest = store.partition("://")
    mistyped = store.startswith("s3:") and not separator  # it would become a folder of that name
    if mistyped or (separator and (scheme not in {"s3", "file", "FILE"} or not rest)):
        raise ValueError("must be a directory, file:///PATH or s3://bucket/prefix")
    if not store:
        raise ValueError("must not be empty")
    if scheme == "s3" and (set("@?#:") & set(rest)):
        raise ValueError(
            "must be s3://bucket/prefix without user, password or query: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    read_file_uri(store)
    return store.rstrip("/") or "/"


def _check_credentials(name: str) -> str:
    if "{" in name or not name.isprintable():  # an error that names the file would show the key
        raise ValueError("must be 'default', 'anonymous' or the path of a key file, not the key itself")
    return name


def _check_topic(arn: str) -> str:
    if not _TOPIC.fullmatch(arn):
        raise ValueError("must be an SNS topic's ARN such as arn:aws:sns:eu-central-1:123456789012:masks")
    return arn


def _check_tag(tag: str) -> str:
    if not _TAG.fullmatch(tag):  # out of 63 characters, the time of the run takes 17
        raise ValueError("must be 1 to 42 of a-z, 0-9, '-' and '_', beginning and ending with a-z or 0-9")
    return tag


def _parse_methods(value: Any) -> tuple[str, ...]:
    """Return the names of methods in a list or a comma-separated text; they must be known and differ."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be names of methods, the best first, with commas between them")
    names = tuple(part.strip() for part in parts)
    if not names or not METHODS.keys() >= set(names):
        raise ValueError(f"must be {', '.join(METHODS)}, or several of them, the best first")
    if len(set(names)) < len(names):
        raise ValueError("names a method twice")
    return names


_Url = Annotated[str, AfterValidator(_check_url)]


class Settings(BaseSettings):
    """Every setting, frozen. Variables are ``CLOUDMASK_`` plus the name in upper case."""

    model_config = SettingsConfigDict(env_prefix="CLOUDMASK_", frozen=True, extra="forbid")

    stac_api_url: _Url = "https://planetarycomputer.microsoft.com/api/stac/v1"
    collection: str = "sentinel-2-l2a"
    second_api: _Url | None = None
    second_collection: str = "sentinel-2-l2a"
    store: Annotated[str, AfterValidator(_check_store)] = "./out"
    public_url: _Url | None = None
    alternate: Literal["s3"] | None = None
    tiler_url: Annotated[str, AfterValidator(_check_tiler)] | None = None
    method: Annotated[str, AfterValidator(_parse_methods), AfterValidator(", ".join)] | None = None
    methods: Annotated[Annotated[tuple[str, ...], BeforeValidator(_parse_methods)] | None, NoDecode] = None
    patience: Annotated[float, Field(ge=0, le=3650)] = 3
    compute: Literal["local", "server"] = "local"
    earthengine_project: str | None = None
    earthengine_url: _Url = "https://earthengine-highvolume.googleapis.com"
    earthengine_credentials: Annotated[str, AfterValidator(_check_credentials)] = "default"
    downloader: Literal["compute-pixels", "gees2downloader"] = "compute-pixels"
    runner: Literal["threads", "dask"] = "threads"
    workers: Annotated[int, Field(ge=1, le=64)] = 4
    keep_inputs: bool = False
    single_writer: bool = False
    mirror: bool = False
    areas: dict[str, Area] = Field(default_factory=dict)
    look_back_days: Annotated[int, Field(ge=1, le=60)] = 10
    request_budget: Annotated[int | None, Field(ge=1)] = None
    eecu_budget: Annotated[float | None, Field(gt=0)] = None
    profile: bool = False
    workload_tag: Annotated[str, AfterValidator(_check_tag)] = "cloudmask"
    withdraw_limit: Annotated[int, Field(ge=0, le=10_000)] = 20
    log_format: LogFormat = "text"
    metrics: Path | None = None
    browser: Path | None = None
    sns_topic: Annotated[str, AfterValidator(_check_topic)] | None = None
    cloud_probability_pct: Annotated[float, Field(ge=0, le=100)] = _DEFAULTS.cloud_probability_pct
    dark_nir_reflectance: Annotated[float, Field(ge=0, le=1)] = _DEFAULTS.dark_nir_reflectance
    shadow_distance_m: Annotated[float, Field(ge=0, le=20_000)] = _DEFAULTS.shadow_distance_m
    buffer_m: Annotated[float | None, Field(ge=0, le=1_000)] = None
    clear_score: Annotated[float, Field(ge=0, le=1)] = _DEFAULTS.clear_score
    clear_score_band: Literal["cs_cdf", "cs"] = "cs_cdf"
    csmask_model: CsmaskModel = _DEFAULTS.csmask_model
    device: Device = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] = 1
    model_version: Annotated[float, Field(gt=0, le=1_000)] = _DEFAULTS.model_version
    weights: Path | None = None

    @field_validator("areas")
    @classmethod
    def _areas_are_named(cls, areas: dict[str, Area]) -> dict[str, Area]:
        return {check_area_name(name): area for name, area in areas.items()}

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.earthengine_credentials == "anonymous" and not is_loopback(self.earthengine_url):
            raise ValueError("earthengine_credentials 'anonymous' is for loopback endpoints only")
        if self.tiler_url and not self.public_url:
            raise ValueError(
                "CLOUDMASK_TILER_URL, or the file's tiler_url, needs CLOUDMASK_PUBLIC_URL: a tiler reads masks by it"
            )
        if self.methods and self.method and self.methods != _parse_methods(self.method):
            raise ValueError(
                f"CLOUDMASK_METHOD ({self.method}) and CLOUDMASK_METHODS ({', '.join(self.methods)}), or the "
                "file's method and methods, differ: both name what makes masks, give one of them"
            )
        if self.compute == "server" and not any(METHODS[name].needs_earth_engine for name in self.ladder):
            names = " and ".join(self.ladder)
            are = "is" if len(self.ladder) == 1 else "are"
            raise ValueError(f"method {names} {are} computed on this machine: leave compute 'server' out")
        return self

    @property
    def ladder(self) -> tuple[str, ...]:
        """Names of the methods that make masks, best first: ``methods``, or those that ``method`` names."""
        return self.methods or _parse_methods(self.method or "s2cloudless")

    def read_parameters(self, method: str) -> MaskParameters:
        """Return the parameters of masks by ``method``: the settings' thresholds or its own, and its weights."""
        names = {each.name for each in fields(MaskParameters)}
        given = self.model_dump(include=names, exclude_none=True)
        found = METHODS[method].identify(self.network)
        return MaskParameters(**{"buffer_m": METHODS[method].buffer_m, **given, **found})

    @property
    def network(self) -> NetworkOptions:
        """Where and how networks run."""
        return NetworkOptions(self.device, self.batch_size, self.model_version, self.weights)

    @property
    def rungs(self) -> dict[str, MaskParameters]:
        """The methods that make masks, best first, with their parameters; ``SettingsError`` if one lacks weights."""
        return {name: self.read_parameters(name) for name in self.ladder}


#: Two names of one setting: giving either of them overrides both in sources of lower precedence.
_SAME_SETTING = {"method", "methods"}


def read_settings(config: Path | None = None, *, as_options: bool = False, **overrides: Any) -> Settings:
    """Return the settings from ``overrides`` (None: not given), environment, file and defaults, in this order.

    With ``as_options``, errors name overrides as options on the command line.

    Raises:
        SettingsError: the file cannot be read, a name is not a setting, or a value is out of range.
    """
    path = config or Path("cloudmask.toml")
    values = _read_config(path, needed=config is not None)
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in unknown)
        raise SettingsError(f"{path}: {shown}: no such setting{_suggest(unknown[0])}")
    _tell_misspelt_variables()
    overridden = {name for name in Settings.model_fields if f"CLOUDMASK_{name.upper()}" in os.environ}
    overridden |= _SAME_SETTING if overridden & _SAME_SETTING else set()
    values = {name: value for name, value in values.items() if name not in overridden}
    given = {name: value for name, value in overrides.items() if value is not None}
    if given.keys() & _SAME_SETTING:
        given = dict.fromkeys(_SAME_SETTING) | given
    sources = dict.fromkeys(values, f"{path}: {{}}")
    sources |= {name: f"--{name.replace('_', '-')}" if as_options else name for name in given}
    try:
        return Settings(**{**values, **given})
    except ValidationError as error:
        raise SettingsError(_one_line(error, sources)) from error
    except UnreadableSetting as error:
        raise SettingsError('CLOUDMASK_AREAS: not JSON such as \'{"home": {"tiles": ["22KFV"]}}\'') from error


def read_clock() -> datetime:
    """Return the current time, or the seconds in ``SOURCE_DATE_EPOCH``, which make a run reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SettingsError(f"SOURCE_DATE_EPOCH: {epoch!r} is not a number of seconds") from error


def find_cache_folder() -> Path | None:
    """Return the folder for cached data, which may not exist yet; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "cloudmask"
    except RuntimeError:
        return None


def read_secrets() -> list[str]:
    """Return the values of other programs' variables that must never be shown."""
    return [value for name in _SECRET_VARIABLES if (value := os.environ.get(name))]


def _read_config(path: Path, *, needed: bool) -> dict[str, Any]:
    """Return the content of the file; empty if it does not exist and was not ``needed``."""
    try:
        return tomllib.loads(decode_text(path.read_bytes()))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not needed:
            return {}
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: nested too deeply; settings are plain values") from error


def _suggest(name: str) -> str:
    """Return a suggestion of the setting that may be meant, or a list of all."""
    known = [*Settings.model_fields]
    close = get_close_matches(name.lower(), known, 1)
    return f"; {close[0]} is meant?" if close else f"; there are {', '.join(known)}"


@cache
def _tell_misspelt_variables() -> None:
    """Warn, once, about variables that look like settings but are not; Kubernetes sets some of its own."""
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix("CLOUDMASK_")
        if variable.upper() == name or name.lower() in Settings.model_fields or _OF_KUBERNETES.search(name):
            continue
        logger.warning("%s: no such setting%s", variable, _suggest(name))


def _one_line(error: ValidationError, sources: Mapping[str, str]) -> str:
    """Return pydantic's findings on one line, without values, which may be secret.

    ``sources`` say how the user named a setting; settings not among them come from the environment.
    """
    findings = []
    for finding in error.errors(include_input=False, include_url=False):
        first, *rest = (str(part) for part in finding["loc"] or ("settings",))
        source = sources.get(first, f"CLOUDMASK_{first.upper()}") if finding["loc"] else first
        path = ".".join([first, *rest])
        name = source.format(path) if "{}" in source else ".".join([source, *rest])
        findings.append(f"{name}: {finding['msg'].removeprefix('Value error, ')}")
    return "; ".join(findings)
