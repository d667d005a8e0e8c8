"""Run many scenes at a time, in threads or on a Dask cluster, and what those of one process share.

How a queue of scenes keeps Earth Engine busy
---------------------------------------------
A scene waits some seconds for Earth Engine, then computes for half a second, then waits for the store. So there are as
many threads as scenes may wait (``count_threads``), and three limits apply to what they do at the same time:

1. requests in flight, by ``masking.earth_engine.pacing.Places``: as many as the quota allows or the service can take;
2. pixels in memory, by ``Memory``: a scene begins to download once there is room for its rasters, and releases the room
   once its files are encoded;
3. computing, by ``turns``: ``CLOUDMASK_WORKERS`` scenes at a time derive and encode.

A scene reserves memory before it takes a turn, and never waits for memory during its turn, so scenes cannot deadlock.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import islice
from queue import Queue
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.masking.earth_engine.pacing import CONCURRENT_REQUESTS
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.runs.candidate import Candidate, build_failure, find_fault
from pc_cloudmask.runs.report import SceneOutcome
from pc_cloudmask.settings import Settings
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from dask.distributed import Client

#: Retries of a scene whose error is retryable; the adapters retry single requests themselves.
RETRIES = 2
#: Pause before the first retry; doubled for each further one.
RETRY_DELAY_S = 2.0
logger = logging.getLogger(__name__)
T = TypeVar("T")
#: Set, in the jobs of one call of ``run_overlapped``, once its caller has stopped reading.
_abandoned: ContextVar[Event] = ContextVar("abandoned", default=Event())  # noqa: B039 - nobody sets this one
SceneWork = Callable[[Candidate], SceneOutcome]


class Runner(Protocol):
    """Runs one function over many candidates."""

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield outcomes as scenes end; raise an error that ends the run only after those of all scenes begun."""
        ...


class ThreadRunner:
    """Runs scenes in ``workers`` threads of this process: numpy, GDAL and the network release the GIL."""

    def __init__(self, workers: int, *, retry_delay_s: float = RETRY_DELAY_S) -> None:
        self._workers = workers
        self._retry_delay_s = retry_delay_s

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which scenes end."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="scene")
        stopping, abandoned = Event(), _abandoned.get()
        fault: CloudmaskError | None = None

        def attempt(candidate: Candidate) -> SceneOutcome | None:
            if stopping.is_set() or abandoned.is_set():
                return None
            try:
                return attempt_scene(work, candidate, self._retry_delay_s, stopping)
            except CloudmaskError:
                stopping.set()
                raise

        try:
            # Each in its own context, so that the log can distinguish runs and items.
            futures = [pool.submit(copy_context().run, attempt, each) for each in candidates]
            for future in as_completed(futures):
                try:
                    outcome = future.result()
                except CloudmaskError as error:
                    fault = fault or error
                    continue
                if outcome is not None:
                    yield outcome
            if fault:
                raise fault
        finally:
            # An interrupted run starts no further scene or attempt, and lets those under way finish.
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _pass_on(
    job: Callable[[], Iterator[T]], results: Queue[tuple[T] | Future[None]], stopping: Event
) -> None:
    """Put what ``job`` yields into ``results``, until ``stopping`` is set."""
    _abandoned.set(stopping)
    with closing(cast("Generator[T]", job())) as values:
        for value in values:
            results.put((value,))
            if stopping.is_set():
                return


def run_overlapped(jobs: Iterable[Callable[[], Iterator[T]]], width: int) -> Iterator[T]:
    """Yield what ``jobs`` yield, as it comes, with ``width`` jobs running at a time, each in a thread.

    A job is taken once a thread is free for it. If the caller stops reading, the jobs stop at their next result, and a
    ``ThreadRunner`` inside them starts no further scene.

    Raises:
        Exception: the first error of a job, once all jobs that had begun have ended.
    """
    results: Queue[tuple[T] | Future[None]] = Queue()
    stopping = Event()
    waiting = iter(jobs)
    under_way: set[Future[None]] = set()
    fault: BaseException | None = None
    with ThreadPoolExecutor(width, thread_name_prefix="batch") as pool:
        try:
            while True:
                try:
                    while not fault and len(under_way) < width and (job := next(waiting, None)):
                        future = pool.submit(copy_context().run, _pass_on, job, results, stopping)
                        under_way.add(future)
                        future.add_done_callback(results.put)
                except Exception as error:
                    fault = error  # raised once the jobs under way have ended
                if not under_way:
                    break
                result = results.get()
                if isinstance(result, Future):
                    under_way.discard(result)
                    fault = fault or result.exception()
                else:
                    yield result[0]
        finally:
            stopping.set()
    if fault:
        raise fault


def attempt_scene(
    work: SceneWork, candidate: Candidate, retry_delay_s: float, stopping: Event | None = None
) -> SceneOutcome:
    """Return the outcome of ``work``, retried where that can help, until ``stopping``; raise what must end the run."""
    stopping = stopping or Event()
    for attempt in range(RETRIES + 1):
        try:
            return work(candidate)
        except Exception as error:
            if (fault := find_fault(error)) is error:
                raise
            if fault:
                raise fault from error
            may_pass = isinstance(error, CloudmaskError) and error.retryable
            if may_pass and attempt < RETRIES and not stopping.wait(retry_delay_s * 2**attempt):
                continue
            if isinstance(error, CloudmaskError):
                logger.info("%s failed: %s", candidate.scene.id, error)
            else:
                logger.exception("%s: unexpected error", candidate.scene.id)
            return build_failure(candidate.scene.id, error, candidate.fingerprint)
    raise AssertionError("the last attempt returns")


#: Bytes of downloaded rasters that a process holds: 16 full tiles of 20 m; ten of these wait for forty requests.
RASTER_BYTES = 512 << 20
#: Freed memory blocks of at least this size are returned to the system. Smaller ones are kept, up to ``KEPT_BYTES``,
#: because returning a page and requesting it again for each block that GDAL decodes costs time. Parameters in glibc's
#: malloc.h.
RETURNED_BYTES, _M_MMAP_THRESHOLD = 8 << 20, -3
KEPT_BYTES, _M_TRIM_THRESHOLD = 16 << 20, -1
#: No more threads than a store has connections.
MOST_THREADS = 64
#: Holds slots for a number of requests in a limit that processes share; set by the task of a flow run.
shared_limit: ContextVar[Callable[[int], AbstractContextManager[None]]] = ContextVar(
    "shared_limit", default=lambda _requests: nullcontext()
)


def count_threads(settings: Settings) -> int:
    """Return how many scenes may be under way at a time, most of them waiting.

    The package GEES2Downloader downloads one raster at a time, so more scenes would only wait for each other.
    """
    if settings.downloader == "gees2downloader":
        return settings.workers
    if has_earth_engine(settings) and any(METHODS[name].needs_earth_engine for name in settings.ladder):
        return min(MOST_THREADS, settings.workers + CONCURRENT_REQUESTS)
    return settings.workers


def has_earth_engine(settings: Settings) -> bool:
    """Return True if an account is configured; a service account's key file names its project itself."""
    return bool(settings.earthengine_project) or settings.earthengine_credentials != "default"


def give_back_rasters() -> None:
    """Make glibc, if it is the C library, return a raster's memory to the system once it is freed.

    By default it keeps up to 32 MB for the thread that freed it: a tile of 20 m for each of many threads.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, RETURNED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


class Memory:
    """Room for ``most`` bytes; a larger request is let in when nothing else is."""

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


#: Scenes submitted per worker thread: enough to keep it busy, few enough to keep the scheduler small.
SCENES_AT_ONCE = 4
#: Options of a cluster on this machine, which other machines cannot reach.
CLUSTER_OPTIONS: Mapping[str, Any] = {
    "threads_per_worker": 1,
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.ERROR,
}


class DaskRunner:
    """Runs scenes on the workers of ``client``'s cluster, for the most compute-intensive method.

    Workers create their own adapters, from the settings sent with a scene and the credentials in their environment. The
    scenes of a worker that dies run again elsewhere: every effect is idempotent.
    """

    def __init__(self, client: Client, *, retry_delay_s: float) -> None:
        self._client = client
        self._retry_delay_s = retry_delay_s

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which scenes end; a later run retries one that the cluster lost."""
        from dask.distributed import as_completed  # noqa: PLC0415 - optional and heavy

        attempt = partial(attempt_scene, work, retry_delay_s=self._retry_delay_s)
        waiting = iter(candidates)
        under_way: dict[Any, Candidate] = {}
        fault: CloudmaskError | None = None
        ended = as_completed(loop=self._client.loop)

        def send(count: int) -> None:
            for candidate in islice(waiting, count):
                future = self._client.submit(attempt, candidate, pure=False)
                under_way[future] = candidate
                ended.add(future)

        try:
            send((sum(self._client.nthreads().values()) or 1) * SCENES_AT_ONCE)
            for future in ended:
                candidate, outcome = under_way.pop(future), None
                try:
                    outcome = future.result()
                except CloudmaskError as error:
                    fault = fault or error
                except Exception as error:
                    logger.warning("%s: the cluster lost it: %s", candidate.scene.id, error)
                    outcome = build_failure(candidate.scene.id, error, candidate.fingerprint)
                if outcome is not None:
                    yield outcome
                send(0 if fault else 1)
                future.release()
            if fault:
                raise fault
        finally:
            self._client.cancel(list(under_way))


def find_scheduler() -> str | None:
    """Return ``DASK_SCHEDULER_ADDRESS``, None if not set; raise ``SettingsError`` if Dask is not installed."""
    try:
        import dask.distributed  # noqa: PLC0415 - as above
    except ImportError as missing:
        raise SettingsError(f"CLOUDMASK_RUNNER=dask needs Dask: {tell_extra('dask')}") from missing
    address: str | None = dask.config.get("scheduler-address", None)
    return address


@contextmanager
def open_dask_runner(workers: int, *, retry_delay_s: float = RETRY_DELAY_S) -> Iterator[DaskRunner]:
    """Open a runner on the cluster that ``DASK_SCHEDULER_ADDRESS`` names, else on ``workers`` local processes."""
    address = find_scheduler()
    from dask.distributed import Client, LocalCluster  # noqa: PLC0415 - as above

    with ExitStack() as stack:
        cluster = address or stack.enter_context(LocalCluster(n_workers=workers, **CLUSTER_OPTIONS))
        try:
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            if address is None:
                raise
            raise SettingsError(f"DASK_SCHEDULER_ADDRESS {address}: no scheduler answers there") from error
        yield DaskRunner(client, retry_delay_s=retry_delay_s)


def open_runner(settings: Settings) -> AbstractContextManager[Runner]:
    """Open the runner selected by ``settings``, or raise ``SettingsError``: no package, or a cluster out of reach."""
    if settings.runner == "threads":
        return nullcontext(ThreadRunner(count_threads(settings)))
    return open_dask_runner(settings.workers)
