"""The session with Earth Engine: signing in, the one loop that sends and retries requests, and what they cost."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

import ee
import google.auth
import google.auth.exceptions
from google.auth import environment_vars
from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as UserCredentials

from pc_cloudmask.errors import EngineError, EngineUnavailable, SettingsError
from pc_cloudmask.masking.earth_engine.pacing import (
    ANONYMOUS,
    CONCURRENT_REQUESTS,
    DEFAULT,
    VARIABLE,
    Limits,
    Places,
    TokenBucket,
    check_account,
    read_key,
)
from pc_cloudmask.masking.earth_engine.transport import (
    CLIENT_FAILURES,
    BoundedHttp,
    Failure,
    classify_failure,
)
from pc_cloudmask.masking.earth_engine.windows import Bytes, Raster
from pc_cloudmask.web import Deadline

#: The requested access: without storage and Drive, which the client's own scopes include.
SCOPES = (
    "https://www.googleapis.com/auth/earthengine",
    # The project's quota is used through Google Cloud's own scope.
    "https://www.googleapis.com/auth/cloud-platform",
)
#: It warns about a file without a project, which does not matter: the project is always set.
logging.getLogger("google.auth._default").setLevel(logging.ERROR)


def find_credentials(credentials: str) -> Credentials:
    """Return the credentials that the setting names; raise SettingsError if they cannot be read.

    ``default`` is the file that GOOGLE_APPLICATION_CREDENTIALS names (a service account's key, or the
    configuration of workload identity federation); otherwise what ``earthengine authenticate`` left, as in
    ``ee.Initialize``; otherwise what Google's libraries find: gcloud's credentials, or the machine's. A path is a
    service account's key.
    """
    if credentials == ANONYMOUS:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google.auth has half its types
    if credentials != DEFAULT:
        return _load_key(credentials)
    if environment_vars.CREDENTIALS not in os.environ and (stored := _find_stored_token()):
        return stored
    try:
        with warnings.catch_warnings():
            # About a missing quota project, which does not matter: the project is always set.
            warnings.simplefilter("ignore", UserWarning)
            found, _ = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise SettingsError(
            "no Google credentials were found: run 'earthengine authenticate' or 'gcloud auth "
            "application-default login', let GOOGLE_APPLICATION_CREDENTIALS name a file, or set "
            f"{VARIABLE} to a service account's key file"
        ) from error
    return found


def _find_stored_token() -> Credentials | None:
    """Return what ``earthengine authenticate`` left on this machine."""
    try:
        arguments = ee.oauth.get_credentials_arguments()
    except (OSError, ValueError, AttributeError):
        return None
    if not arguments.get("refresh_token"):
        return None  # from a sign-in through gcloud, which keeps the token itself
    return UserCredentials(None, **arguments)  # type: ignore[no-untyped-call]  # as above


def _load_key(path: str) -> Credentials:
    key = read_key(path)
    try:
        found: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]  # as above
            key, scopes=SCOPES
        )
    except (ValueError, google.auth.exceptions.GoogleAuthError):
        # The cause may quote the key.
        raise SettingsError(f"{VARIABLE}: {path} is not a complete service account key") from None
    return found


#: For ``processing:software`` of every mask that Earth Engine contributed to.
SOFTWARE: Mapping[str, str] = {"earthengine-api": ee.__version__}
logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class TooMuch(EngineUnavailable):
    """Earth Engine cannot compute this much at a time; a part of it may succeed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class TransferStatistics:
    """Counts of what was exchanged, collected from many threads.

    ``retries`` are requests sent again after a failure, ``splits`` those that were too much at a time, ``bytes`` are of
    pixels, uncompressed, ``seconds`` by phase, summed over threads: with four scenes at a time, four pass in one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = self.retries = self.splits = self.bytes = 0
        self.seconds: dict[str, float] = {}

    def count(self, *, requests: int = 0, retries: int = 0, splits: int = 0, size: int = 0) -> None:
        """Add to the counts; ``size`` is in bytes."""
        with self._lock:
            self.requests += requests
            self.retries += retries
            self.splits += splits
            self.bytes += size

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the phase ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def as_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values for a report."""
        with self._lock:
            return {
                **{name: getattr(self, name) for name in ("requests", "retries", "splits", "bytes")},
                "seconds": {phase: round(seconds, 3) for phase, seconds in sorted(self.seconds.items())},
            }


class EarthEngineSession:
    """One project at one endpoint, with up to ``in_flight`` requests at a time; nothing is sent before the first.

    ``credentials``: ``default``, a service account's key file, or ``anonymous`` on loopback; see ``check_account``.

    The ``ee`` client keeps its state for the process, so it belongs to the session used last: sessions may
    follow each other, but two must not be used at the same time.
    """

    _owner: ClassVar[EarthEngineSession | None] = None
    _ownership: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        project: str | None,
        url: str,
        credentials: str,
        in_flight: int = CONCURRENT_REQUESTS,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self.project = check_account(project, url, credentials)
        self.url = url
        self.limits = limits
        self.in_flight = in_flight
        self.statistics = TransferStatistics()
        #: Called with the id of each request's profile, if Earth Engine is to make one.
        self.profile_hook: Callable[[str], None] | None = None
        #: Marks every request, for Google's own account of its cost.
        self.workload_tag = ""
        #: If True, each request of a scene is profiled, for ``take_profiles``.
        self.keeps_profiles = False
        self._profiles: dict[str, list[str]] = {}
        self._credentials = credentials
        self._transport = BoundedHttp(limits.request_timeout_s, in_flight, url)
        self._places = Places(in_flight)
        self._bucket = TokenBucket(limits.requests_per_second, limits.burst)

    def start(self) -> None:
        """Sign in and learn the API's functions, once; every request does this automatically.

        It raises SettingsError without credentials, EngineRefused if they are not accepted,
        EngineUnavailable if nothing answers.
        """
        if EarthEngineSession._owner is self:
            return
        with EarthEngineSession._ownership:
            if EarthEngineSession._owner is self:
                return
            EarthEngineSession._owner = None
            with self.statistics.phase("start"):
                self._repeat("Earth Engine", self._initialise, Deadline(self.limits.deadline_s))
            EarthEngineSession._owner = self

    def _initialise(self) -> None:
        credentials = find_credentials(self._credentials)
        ee.Reset()
        # Retried here, where it is counted and bounded.
        ee.data.setMaxRetries(0)
        with _no_list_of_deprecated_assets():
            ee.Initialize(credentials, url=self.url, project=self.project, http_transport=self._transport)
        ee.data.setWorkloadTag(self.workload_tag)

    def call(
        self, what: str, function: Callable[[], Answer], deadline: Deadline, scene_id: str = ""
    ) -> Answer:
        """Return what ``function``, one request, returns; retry while that can help.

        ``what`` names the request in errors, ``scene_id`` the scene whose pixels it asks for.

        Raises:
            TooMuch: a smaller request may succeed.
            EngineRefused: this request never will.
            EngineUnavailable: attempts or time are used up.
        """
        self.start()
        hook = self.profile_hook
        if scene_id and self.keeps_profiles and hook is None:
            hook = self._profiles.setdefault(scene_id, []).append

        def counted() -> Answer:
            self.statistics.count(requests=1)
            with ee.data.profiling(hook) if hook else nullcontext():
                return function()

        return self._repeat(what, counted, deadline)

    def compute(self, what: str, value: ee.ComputedObject, deadline: Deadline | None = None) -> Any:
        """Return what ``value`` is, by one request, as ``call`` does; by default within a chunk's deadline."""
        ask = partial(ee.data.computeValue, value)
        return self.call(what, ask, deadline or Deadline(self.limits.pairing_deadline_s))

    def take_profiles(self, scene_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return, once, the profile ids of those scenes whose pixels were requested, even if there are none."""
        return {
            scene_id: self._profiles.pop(scene_id) for scene_id in scene_ids if scene_id in self._profiles
        }

    def close(self) -> None:
        """Close the connections; a session that is used again opens new ones."""
        self._transport.close()

    def _repeat(self, what: str, function: Callable[[], Answer], deadline: Deadline) -> Answer:
        """Call ``function`` until it succeeds, each time in its turn; the only place where a request is retried.

        The service's answers decide how many requests may be in flight.
        """
        attempt = 0
        while True:
            attempt += 1
            with self._places.take() as place:
                self._bucket.take()
                if deadline.remaining_s() <= 0:
                    # Parts of a split window, or the wait for a place, may have used up the time.
                    raise EngineUnavailable(f"{what}: not begun within {deadline.seconds:g} s")
                try:
                    answer = function()
                except CLIENT_FAILURES as error:
                    cause, failure = error, classify_failure(error, self.project)
                    if failure.throttled:
                        self._places.refuse(place)
                else:
                    self._places.grow(place)
                    return answer
            if failure.remedy == "split":
                raise TooMuch(failure) from cause
            delay_s = self._delay_s(failure, attempt, deadline)
            if delay_s is None:
                gave_up = f"; gave up after {attempt} attempts" if failure.remedy == "retry" else ""
                raise failure.error_class(f"{what}: {failure.text}{gave_up}") from cause
            self.statistics.count(retries=1)
            logger.info("%s: %s; attempt %d follows in %.1f s", what, failure.text, attempt + 1, delay_s)
            time.sleep(delay_s)

    def _delay_s(self, failure: Failure, attempt: int, deadline: Deadline) -> float | None:
        """Return the seconds until the next attempt, or None if there is none."""
        if failure.remedy != "retry" or attempt >= self.limits.attempts:
            return None
        delay_s = self.limits.delay_s(attempt, failure.retry_after_s)
        if delay_s >= deadline.remaining_s():
            return None
        if failure.throttled and failure.retry_after_s:
            # Only for a wait within the deadline: a server that asks for an hour would block everybody.
            self._bucket.pause(failure.retry_after_s)
        return delay_s


@contextmanager
def _no_list_of_deprecated_assets() -> Iterator[None]:
    """Keep ``ee.Initialize`` from asking another host, without a time-out, for a list that is not needed here."""
    fetch = ee.deprecation.InitializeDeprecatedAssets
    ee.deprecation.InitializeDeprecatedAssets = lambda: None
    try:
        yield
    finally:
        ee.deprecation.InitializeDeprecatedAssets = fetch


class PixelDownloader(Protocol):
    """Downloads rasters."""

    session: EarthEngineSession

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Bytes]:
        """Download ``rasters``: uint8 of the shape of each one's grid.

        Raises:
            EngineUnavailable: it may succeed later.
            EngineRefused: it never will.
        """


#: Scenes whose profiles are read in one request.
SCENES_AT_ONCE = 50
#: How a profile's table begins; the column holds a figure, or a dash if there is none.
_FIRST_COLUMN = "EECU·s"


@contextmanager
def profiling(session: EarthEngineSession) -> Iterator[list[str]]:
    """Ask Earth Engine to profile the requests of the block; yield the list of their profiles' ids."""
    ids: list[str] = []
    session.profile_hook = ids.append
    try:
        yield ids
    finally:
        session.profile_hook = None


def read_eecu_seconds(session: EarthEngineSession, ids: Sequence[str]) -> float | None:
    """Return the EECU-seconds of profiles; None if Earth Engine does not report them."""
    return read_scene_eecu(session, {"": ids})[""]


def read_scene_eecu(
    session: EarthEngineSession, profiles: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    """Return the EECU-seconds of each scene by its profiles' ids, some scenes per request; None if not reported."""
    told: dict[str, float | None] = dict.fromkeys(profiles)
    known = [scene_id for scene_id, ids in profiles.items() if ids]
    for first in range(0, len(known), SCENES_AT_ONCE):
        scene_ids = known[first : first + SCENES_AT_ONCE]
        asked = [ee.ApiFunction.call_("Profile.getProfiles", list(profiles[each])) for each in scene_ids]
        try:
            texts = session.compute("reading profiles", ee.List(asked))
        except EngineError:  # a missing figure is no reason to lose the others
            continue
        if isinstance(texts, list) and len(texts) == len(scene_ids):
            told |= dict(zip(scene_ids, map(sum_eecu_seconds, map(str, texts)), strict=True))
    return told


def sum_eecu_seconds(text: str) -> float | None:
    """Return the sum of a profile's first column, or None if it is not the expected one."""
    header, *rows = (line.split() for line in text.splitlines() or [""])
    if header[:1] != [_FIRST_COLUMN]:
        return None
    return sum(float(row[0]) for row in rows if row and row[0].replace(".", "", 1).isdecimal())
