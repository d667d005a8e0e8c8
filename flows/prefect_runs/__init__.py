"""The jobs as Prefect flow runs: the only package that knows Prefect.

A flow adds names, retries, a state for each scene, artifacts and events; the work is done by the plain
functions. Prefect runs things at least once and holds no truth of its own: every effect is idempotent, no
result is persisted, and parameters are what the user asked for or a scene's id, never an href or a secret.

    jobs        the flows: ingest, watch, backfill
    runner      scenes as tasks, in threads or on Dask
    limits      global concurrency limits for Earth Engine and the source
    progress    what a run shows while it goes on, and emits for automations
    artifacts   what a run leaves to be looked at
"""

from flows.prefect_runs.jobs import backfill_flow, ingest_flow, run_flow, watch_flow
from flows.prefect_runs.progress import observer_of_run

__all__ = ["backfill_flow", "ingest_flow", "observer_of_run", "run_flow", "watch_flow"]
