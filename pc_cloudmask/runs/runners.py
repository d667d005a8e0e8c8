"""What runs scenes side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from contextvars import ContextVar, copy_context
from queue import Queue
from threading import Event
from typing import Protocol, TypeVar, cast

from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.runs.candidate import Candidate, build_failure, find_fault
from pc_cloudmask.runs.report import SceneOutcome

#: Further attempts at a scene whose error is retryable; the adapters retry single requests themselves.
RETRIES = 2
#: Pause before the first further attempt; each next one doubles it.
RETRY_DELAY_S = 2.0
logger = logging.getLogger(__name__)
T = TypeVar("T")
#: Is set once whoever reads what ``run_overlapped`` yields has stopped, in the jobs of that call.
_abandoned: ContextVar[Event] = ContextVar("abandoned", default=Event())  # noqa: B039 - nobody sets this one
SceneWork = Callable[[Candidate], SceneOutcome]


class Runner(Protocol):
    """Runs one function over many candidates."""

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which scenes end.

        Raises:
            CloudmaskError: one that ends the run; first come the outcomes of all scenes that were begun.
        """
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
            futures = [
                # Each in a context of its own, so that the log tells runs and items apart.
                pool.submit(copy_context().run, attempt, candidate)
                for candidate in candidates
            ]
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
            # An interrupted run starts no further scene or attempt and lets those under way end whole.
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
    """Yield what ``jobs`` yield, as it comes; ``width`` of them are under way at a time, each in a thread.

    A job is asked for once there is a thread for it. Who stops reading stops the jobs at what they yield next,
    and before that the scenes that a ``ThreadRunner`` has not begun.

    Raises:
        Exception: the first of a job, once all that were begun have ended.
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
                    fault = error  # once those under way have ended
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
    """Return the outcome of ``work``, tried again where that can help, until ``stopping``.

    Raises:
        CloudmaskError: one that ends the run, and is no failure of the scene.
    """
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
