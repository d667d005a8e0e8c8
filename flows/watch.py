"""The service that runs for years: what is new, late, changed or gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from flows.area import Area
from flows.area_watch import AreaWatch
from flows.budget import Budget
from flows.due_scenes import retry_due_scenes
from flows.errors import CloudmaskError, SourceError
from flows.ingestion import Ingestion, Observer
from flows.publish.scene_states import list_states
from flows.report import Report, build_report
from flows.rings import Ring
from flows.runners import Runner
from flows.wiring import Wiring
from flows.withdrawals import Withdrawals

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What bounds one run: which rings, by default those that are due; scenes to publish; seconds after
    which a scan of everything is left to the next run.
    """

    rings: tuple[Ring, ...] | None = None
    limit: int | None = None
    seconds: float | None = None


def watch(
    wiring: Wiring,
    areas: Mapping[str, Area],
    runner: Runner,
    observer: Observer | None = None,
    options: WatchOptions | None = None,
) -> Report:
    """Reconcile ``areas`` with what is published, once.

    A source that is out of reach costs its area this run, and is in the report's ``problems``.

    Raises:
        CloudmaskError: what no later run can mend: settings, credentials, a store that refuses us.
    """
    options = options or WatchOptions()
    started = time.monotonic()
    settings = wiring.settings
    budget = Budget(settings, settings.request_budget, options.limit)
    ingestion = Ingestion(wiring, runner, observer, budget=budget)
    withdrawals = Withdrawals(wiring, settings.withdraw_limit)
    problems = _Problems()

    def is_late() -> bool:
        return options.seconds is not None and time.monotonic() - started >= options.seconds

    def scan(name: str, *, whole: bool) -> None:
        area = (name, areas[name])
        AreaWatch(wiring, ingestion, withdrawals, area, is_late).scan(options.rings, whole=whole)

    if _begin(wiring, ingestion, problems):
        _scan_areas(areas, scan, problems)
    return build_report(
        ingestion.outcomes,
        time.monotonic() - started,
        withdrawn=tuple(sorted(withdrawals.withdrawn)),
        deferred=ingestion.deferred,
        problems=tuple(problems.texts),
        transfer=wiring.read_transfer(),
    )


class _Problems:
    """What was out of reach of a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, name: str, error: CloudmaskError) -> None:
        """Note ``error`` where a later run may fare better, else let it end this one."""
        if not (error.retryable or isinstance(error, SourceError)):
            raise error
        logger.warning("%s: %s", name, error)
        self.texts.append(f"{name}: {error}")


def _begin(wiring: Wiring, ingestion: Ingestion, problems: _Problems) -> bool:
    """Try again what is due; whether what every area needs is in reach."""
    try:
        ingestion.begin(noted=list_states(wiring.store))
        retry_due_scenes(wiring, ingestion)
    except SourceError as error:
        problems.note("scenes to try again", error)
    except CloudmaskError as error:
        problems.note("this run", error)
        return False
    return True


def _scan_areas(areas: Iterable[str], scan: Callable[..., None], problems: _Problems) -> None:
    """What is new in each area, then each one's whole, which may use up all that a run may do, for days."""
    out_of_reach: set[str] = set()
    for whole, name in product((False, True), areas):
        if name in out_of_reach:
            continue
        try:
            scan(name, whole=whole)
        except SourceError as error:
            problems.note(f"area {name}", error)
            out_of_reach.add(name)
        except CloudmaskError as error:
            problems.note(f"area {name}", error)
            return
