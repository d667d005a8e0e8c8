"""The jobs, without Prefect: ingest, watch, backfill, and the plan of a dry run.

Entry points: ``ingest.ingest``, ``watch.watch``, ``plan.plan_ingest``, each given a ``context``, which holds a run's
settings and adapters, and a ``request``, which says what a user asks for; they return a ``report``. ``direct`` runs
them in this process. What the watch is due to scan is decided in ``area_state``; ``backfill.plan_shards`` cuts years
into runs; ``runners`` and ``dask`` work on many scenes at a time.
"""
