"""How scenes share a process: many wait for Earth Engine, few compute, and what they hold fits the memory.

How a queue of scenes keeps Earth Engine busy
---------------------------------------------
A scene waits some seconds for Earth Engine, then computes for half a second, then waits for the store. So there are
as many threads as scenes may wait (``count_threads``), and three things bound what they do at the same time:

1. requests in flight, by ``masking.earth_engine.pacing.Places``: those that the quota allows, or the service bears;
2. pixels in memory, by ``Memory``: a scene begins to download once there is room for its rasters, and gives the room
   back once its files are encoded;
3. computing, by ``turns``: ``CLOUDMASK_WORKERS`` scenes at a time derive and encode.

Room is taken before a turn and never waited for by who has one, so no two scenes wait for each other.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from pc_cloudmask.masking.earth_engine.pacing import CONCURRENT_REQUESTS
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.settings import Settings

#: Bytes of downloaded rasters that a process holds: 16 full tiles of 20 m, of which ten wait for forty requests.
RASTER_BYTES = 512 << 20
#: Freed memory of this size or more goes back to the system; what is less is kept up to ``KEPT_BYTES``, for a page that
#: is given back and asked for again, with each block that GDAL decodes, costs time. Parameters of glibc's malloc.h.
RETURNED_BYTES, _M_MMAP_THRESHOLD = 8 << 20, -3
KEPT_BYTES, _M_TRIM_THRESHOLD = 16 << 20, -1
#: No more threads than a store has connections.
MOST_THREADS = 64
#: Holds slots for so many requests in a limit that processes share; a flow run's task sets it.
shared_limit: ContextVar[Callable[[int], AbstractContextManager[None]]] = ContextVar(
    "shared_limit", default=lambda _requests: nullcontext()
)


def count_threads(settings: Settings) -> int:
    """Return how many scenes may be under way at a time, most of them waiting.

    The package GEES2Downloader downloads one raster at a time, so that more would only wait for each other.
    """
    if settings.downloader == "gees2downloader":
        return settings.workers
    if has_earth_engine(settings) and any(METHODS[name].needs_earth_engine for name in settings.ladder):
        return min(MOST_THREADS, settings.workers + CONCURRENT_REQUESTS)
    return settings.workers


def has_earth_engine(settings: Settings) -> bool:
    """Return True if an account is named; a service account's key file names its project itself."""
    return bool(settings.earthengine_project) or settings.earthengine_credentials != "default"


def give_back_rasters() -> None:
    """Let a raster's memory go back to the system once it is freed, where the C library is glibc.

    It would rather keep up to 32 MB for the thread that freed it, which is a tile of 20 m for each of many threads.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, RETURNED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


class Memory:
    """Room for ``most`` bytes; what alone is larger is let in alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait for room for ``size`` bytes and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._most)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


class Pipeline:
    """What the scenes of one process share."""

    def __init__(self, settings: Settings) -> None:
        give_back_rasters()
        self.memory = Memory(RASTER_BYTES)
        self.turns = threading.BoundedSemaphore(settings.workers)
