"""The service that runs for years: what is new, late, changed or gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
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
    problems: list[str] = []
    budget = Budget(settings, settings.request_budget, options.limit)
    ingestion = Ingestion(wiring, runner, observer, budget=budget)
    withdrawals = Withdrawals(wiring, settings.withdraw_limit)

    def is_late() -> bool:
        return options.seconds is not None and time.monotonic() - started >= options.seconds

    def guard(name: str, error: CloudmaskError) -> None:
        """Note ``error`` where a later run may fare better, else let it end this one."""
        if not (error.retryable or isinstance(error, SourceError)):
            raise error
        logger.warning("%s: %s", name, error)
        problems.append(f"{name}: {error}")

    try:
        ingestion.begin(noted=list_states(wiring.store))
        retry_due_scenes(wiring, ingestion)
    except SourceError as error:
        guard("scenes to try again", error)
    except CloudmaskError as error:
        guard("this run", error)
        areas = {}  # what every area needs is out of reach
    out_of_reach: set[str] = set()
    # One area's history waits for what is new in every other: it may use up all that a run may do, for days.
    for whole, (name, area) in product((False, True), areas.items()):
        if name in out_of_reach:
            continue
        try:
            AreaWatch(wiring, ingestion, withdrawals, (name, area), is_late).scan(options.rings, whole=whole)
        except SourceError as error:
            guard(f"area {name}", error)
            out_of_reach.add(name)
        except CloudmaskError as error:
            guard(f"area {name}", error)
            break
    return build_report(
        ingestion.outcomes,
        time.monotonic() - started,
        withdrawn=tuple(sorted(withdrawals.withdrawn)),
        deferred=ingestion.deferred,
        problems=tuple(problems),
        transfer=wiring.read_transfer(),
    )
