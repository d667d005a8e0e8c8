"""The jobs, without Prefect: ingest, watch, backfill, and the plan of a dry run.

Entry points: ``ingest.ingest``, ``watch.watch``, ``backfill.plan_shards``, ``plan.plan_ingest``, each given a
``context`` that holds a run's settings and adapters; ``request`` is what a user asks for, ``report`` what a run
answers; ``runners`` and ``dask`` work on many scenes at a time.
"""
