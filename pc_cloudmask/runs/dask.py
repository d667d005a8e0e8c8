"""Run scenes on a Dask cluster, for the most compute-intensive method."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.runs.candidate import Candidate, build_failure
from pc_cloudmask.runs.report import SceneOutcome
from pc_cloudmask.runs.runners import RETRY_DELAY_S, SceneWork, attempt_scene
from pc_cloudmask.version import tell_extra

try:
    import dask
    from dask.distributed import Client, LocalCluster, as_completed
except ImportError as missing:
    raise SettingsError(f"CLOUDMASK_RUNNER=dask needs Dask: {tell_extra('dask')}") from missing
#: Scenes submitted per worker thread: enough to keep it busy, few enough to keep the scheduler small.
SCENES_AT_ONCE = 4
#: Options of a cluster on this machine, which other machines cannot reach.
CLUSTER_OPTIONS: Mapping[str, Any] = {
    "threads_per_worker": 1,
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.ERROR,
}
logger = logging.getLogger(__name__)


class DaskRunner:
    """Runs scenes on the workers of ``client``'s cluster.

    Workers create their own adapters, from the settings sent with a scene and the credentials in their environment. The
    scenes of a worker that dies run again elsewhere: every effect is idempotent.
    """

    def __init__(self, client: Client, *, retry_delay_s: float) -> None:
        self._client = client
        self._retry_delay_s = retry_delay_s

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which scenes end."""
        attempt = partial(attempt_scene, work, retry_delay_s=self._retry_delay_s)
        waiting = list(reversed(candidates))
        under_way: dict[Any, Candidate] = {}
        fault: CloudmaskError | None = None
        ended = as_completed(loop=self._client.loop)

        def send_next() -> None:
            candidate = waiting.pop()
            future = self._client.submit(attempt, candidate, pure=False)
            under_way[future] = candidate
            ended.add(future)

        threads = sum(self._client.nthreads().values()) or 1
        try:
            for _ in range(min(len(waiting), threads * SCENES_AT_ONCE)):
                send_next()
            if not under_way:
                return
            for future in ended:
                candidate = under_way.pop(future)
                try:
                    outcome = _read_outcome(future, candidate)
                except CloudmaskError as error:
                    fault = fault or error
                else:
                    yield outcome
                if waiting and not fault:
                    send_next()
                future.release()
            if fault:
                raise fault
        finally:
            self._client.cancel(list(under_way))


def find_scheduler() -> str | None:
    """Return the address in ``DASK_SCHEDULER_ADDRESS``; None if it is not set."""
    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _read_outcome(future: Any, candidate: Candidate) -> SceneOutcome:
    """Return how a scene ended; a later run retries one that the cluster lost.

    Raises:
        CloudmaskError: an error that ends the run.
    """
    try:
        outcome: SceneOutcome = future.result()
    except CloudmaskError:
        raise
    except Exception as error:
        logger.warning("%s: the cluster lost it: %s", candidate.scene.id, error)
        return build_failure(candidate.scene.id, error, candidate.fingerprint)
    return outcome


@contextmanager
def open_dask_runner(workers: int, *, retry_delay_s: float = RETRY_DELAY_S) -> Iterator[DaskRunner]:
    """Open a runner on the cluster that ``DASK_SCHEDULER_ADDRESS`` names, else on ``workers`` local processes.

    Raises:
        SettingsError: the scheduler cannot be reached.
    """
    address = find_scheduler()
    with ExitStack() as stack:
        cluster = address or stack.enter_context(LocalCluster(n_workers=workers, **CLUSTER_OPTIONS))
        try:
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            if address is None:
                raise
            raise SettingsError(f"DASK_SCHEDULER_ADDRESS {address}: no scheduler answers there") from error
        yield DaskRunner(client, retry_delay_s=retry_delay_s)
