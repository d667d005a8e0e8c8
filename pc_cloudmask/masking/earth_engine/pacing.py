"""How Earth Engine is asked, without its client: in which project, how fast, and how many requests at a time."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.earth_engine.windows import FLOOR_PIXELS, WINDOW_BYTES
from pc_cloudmask.text import decode_text, is_loopback

DEFAULT, ANONYMOUS = "default", "anonymous"
VARIABLE = "CLOUDMASK_EARTHENGINE_CREDENTIALS"


def check_account(project: str | None, url: str, credentials: str) -> str:
    """Return the project to compute in, found without a request; raise SettingsError if one of them is at fault.

    ``anonymous`` is refused beyond this machine.
    """
    if credentials == ANONYMOUS:
        if not is_loopback(url):
            raise SettingsError(f"{VARIABLE}: 'anonymous' is for loopback endpoints only, not for {url}")
        return project or "anonymous"
    if credentials != DEFAULT:
        project = project or read_key(credentials).get("project_id")
    if not project:
        raise SettingsError(
            "set CLOUDMASK_EARTHENGINE_PROJECT to a Google Cloud project registered for Earth Engine"
        )
    return project


def read_key(path: str) -> dict[str, str]:
    """Return the key file's JSON object."""
    try:
        key = json.loads(decode_text(Path(path).expanduser().read_bytes()))
    except OSError as error:
        raise SettingsError(
            f"{VARIABLE}: {path} cannot be read ({error.strerror}); give 'default' or the path of a service "
            "account's key file"
        ) from error
    except ValueError:
        key = None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        kind = f"of type {key.get('type')!r:.40}" if isinstance(key, dict) else "not JSON"
        raise SettingsError(
            f"{VARIABLE}: {path} is {kind}, not a service account's key; other files are for "
            f"GOOGLE_APPLICATION_CREDENTIALS, with {VARIABLE}=default"
        )
    return key


#: Earth Engine's default for a project; further requests get a 429.
CONCURRENT_REQUESTS = 40
#: Factor applied to the limit after a refusal.
LESS_AFTER_REFUSAL = 0.95
#: Factor applied to the assumed capacity after a pause, and the pauses, in seconds. In a simulation of bursts,
#: outages and changing quotas these keep the most in flight (tests/masking/earth_engine/test_places.py).
BORNE_AFTER_PAUSE = 0.8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 4.0
#: Spreads load and protects no secret; separate from the module's own generator, whose seed is the caller's.
_DICE = random.Random()  # nosec B311


@dataclass(frozen=True, slots=True)
class Limits:
    """How a session treats the service.

    ``requests_per_second`` is half of Earth Engine's quota of 100: with requests of a second and more, the
    places in flight are the limit, not the rate. ``attempts`` includes the first.
    ``request_timeout_s`` is a little longer than the five minutes after which Earth Engine itself gives up.
    ``deadline_s`` limits all requests for one raster, ``pairing_deadline_s`` all for a chunk of scenes.
    """

    requests_per_second: float = 50.0
    burst: int = CONCURRENT_REQUESTS
    attempts: int = 6
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    request_timeout_s: float = 320.0
    deadline_s: float = 1800.0
    pairing_deadline_s: float = 900.0
    window_bytes: int = WINDOW_BYTES
    floor_pixels: int = FLOOR_PIXELS

    def delay_s(self, attempt: int, asked_s: float | None = None) -> float:
        """Return the wait after failed attempt ``attempt`` (from 1): what the server asked for, or more.

        Exponential with full jitter, so that requests refused together are not repeated together.
        """
        ceiling = min(self.longest_delay_s, self.first_delay_s * 2 ** (attempt - 1))
        return (asked_s or 0.0) + _DICE.uniform(0.0, ceiling)


class TokenBucket:
    """Lets at most ``burst`` requests through at once, and ``rate`` a second in the long run."""

    def __init__(
        self,
        rate: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = 1.0 / rate
        self._credit_s = (burst - 1) * self._interval_s
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock() - self._credit_s

    def take(self) -> None:
        """Wait until one more request may go out; callers are served in order."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now - self._credit_s)
            self._next = turn + self._interval_s
        if turn > now:
            self._sleep(turn - now)

    def pause(self, seconds: float) -> None:
        """Let no request through for ``seconds``: the server said it was too much."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


@dataclass(frozen=True, slots=True)
class Place:
    """A held place: how many places were held when it was taken, and how many refusals had been counted by then."""

    held: int
    heard: int


class Places:
    """Places in flight: at most ``most``, fewer once the service refuses requests as too many.

    A refusal may mean one of two things, distinguished by the number of requests in flight:

    1. At least as many as the service was ever seen to handle: they are too many. Places fall to what it still works
       on, less five per cent, as other processes may share the quota. Then they grow by one per round (as many answers
       as there are places), by two in the next, by four, and so on until the next refusal. A quota that stays low thus
       costs one refused request per round.
    2. Fewer: the service refuses temporarily. No request begins for one second, then two, then four if refusals
       continue, and the places stay. The assumed capacity falls to 80 % each time, so a quota that has become smaller
       is found after a few pauses.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._places = float(most)
        self._step = 1.0
        self._held = self._heard = 0
        self._borne = 0.0
        self._clock = clock
        self._pauses, self._paused_until = 0, -math.inf
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Return the number of requests that may be in flight now."""
        return int(self._places)

    @property
    def pause_s(self) -> float:
        """Return the number of seconds until the next one may begin."""
        return max(0.0, self._paused_until - self._clock())

    @contextmanager
    def take(self) -> Iterator[Place]:
        """Hold a place as soon as there is one; pass what is yielded to ``grow`` or ``refuse``."""
        with self._changed:
            while (pause_s := self.pause_s) > 0 or self._held >= self.limit:
                self._changed.wait(pause_s or None)
            self._held += 1
            place = Place(self._held, self._heard)
        try:
            yield place
        finally:
            with self._changed:
                self._held -= 1
                self._changed.notify_all()

    def grow(self, place: Place) -> None:
        """Record that the request holding this place was answered."""
        with self._changed:
            self._borne = max(self._borne, min(place.held, self._held, self.limit))
            self._pauses = 0
            self._places = min(self._most, self._places + self._step / self._places)
            self._step = min(self._most, self._step * 2 ** (1 / self._places))
            self._changed.notify_all()

    def refuse(self, place: Place) -> None:
        """Record that the request holding this place was refused as one too many."""
        with self._changed:
            is_new, others = place.heard == self._heard, self._held - 1
            if self._pauses and not is_new:
                return  # it was under way when the pause began, and says nothing new
            if others < self._borne:
                self._borne *= BORNE_AFTER_PAUSE
                self._paused_until = self._clock() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._pauses)
                self._pauses += 1
            else:
                self._borne = min(self._borne, others)
                self._pauses = 0
                self._shrink(max(1.0, others), is_new)
            self._heard += is_new

    def _shrink(self, places: float, is_new: bool) -> None:
        self._places = min(self._places, places)
        self._step = 1.0
        if is_new:
            self._places = max(1.0, self._places * LESS_AFTER_REFUSAL)
