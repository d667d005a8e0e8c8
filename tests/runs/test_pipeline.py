"""What scenes of one process share, and jobs that overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from pc_cloudmask.errors import SourceUnavailable
from pc_cloudmask.runs.runners import MOST_THREADS, Memory, count_threads, run_overlapped
from pc_cloudmask.settings import Settings

WAIT_S = 20.0


def test_scenes_wait_side_by_side_only_where_earth_engine_is_asked() -> None:
    assert count_threads(Settings()) == 4
    assert count_threads(Settings(earthengine_project="p")) == 44
    assert count_threads(Settings(earthengine_project="p", method="csmask")) == 4
    assert count_threads(Settings(earthengine_project="p", workers=60)) == MOST_THREADS
    assert count_threads(Settings(earthengine_project="p", downloader="gees2downloader")) == 4


def test_memory_lets_in_what_there_is_room_for_and_what_is_too_large_alone() -> None:
    memory, entered, leave = Memory(100), threading.Semaphore(0), threading.Event()

    def work(size: int) -> None:
        with memory.hold(size):
            entered.release()
            leave.wait(WAIT_S)

    threads = [threading.Thread(target=work, args=(40,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=WAIT_S)
    assert entered.acquire(timeout=WAIT_S)
    assert not entered.acquire(timeout=0.05)
    leave.set()
    assert entered.acquire(timeout=WAIT_S)
    for thread in threads:
        thread.join(WAIT_S)
    with memory.hold(1000):
        pass
    with memory.hold(100):
        pass


def yield_all(values: list[int]) -> Iterator[int]:
    yield from values


def test_jobs_overlap_and_a_slow_one_holds_up_no_other() -> None:
    started = threading.Event()

    def slow() -> Iterator[int]:
        assert started.wait(WAIT_S)
        yield 0

    def quick(number: int) -> Iterator[int]:
        started.set()
        yield number

    jobs: list[Callable[[], Iterator[int]]] = [slow, *(partial(quick, number) for number in range(1, 9))]
    assert sorted(run_overlapped(iter(jobs), 2)) == list(range(9))


def test_one_at_a_time_keeps_the_order_and_asks_for_a_job_once_it_has_its_turn() -> None:
    asked: list[int] = []

    def list_jobs() -> Iterator[Callable[[], Iterator[int]]]:
        for number in range(3):
            asked.append(number)
            yield partial(yield_all, [number, number])

    found = []
    for value in run_overlapped(list_jobs(), 1):
        found.append(value)
        assert len(asked) == value + 1
    assert found == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("breaks", ["job", "list of jobs"])
def test_a_fault_ends_no_job_that_was_begun(breaks: str) -> None:
    failed = threading.Event()

    def fail() -> Iterator[int]:
        yield 1
        failed.set()
        raise SourceUnavailable("no answer")

    def go_on() -> Iterator[int]:
        assert breaks != "job" or failed.wait(WAIT_S)
        yield from range(2, 5)

    def list_jobs() -> Iterator[Callable[[], Iterator[int]]]:
        yield go_on
        if breaks == "job":
            yield fail
        raise SourceUnavailable("no answer")

    found: list[int] = []
    with pytest.raises(SourceUnavailable):
        found.extend(run_overlapped(list_jobs(), 2))
    assert set(found) - {1} == {2, 3, 4}


def test_who_stops_reading_stops_the_jobs() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    values = run_overlapped(iter([endless]), 1)
    assert next(values) == 1
    values.close()
    assert closed.wait(WAIT_S)
