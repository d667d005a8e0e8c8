"""The jobs, without Prefect: ingest, watch, the shards of a backfill, the plan of a dry run, the census of gaps.

Entry points: ``ingest.ingest``, ``watch.watch`` and ``plan.plan_ingest``. Each takes a ``context`` (a run's settings
and adapters) and a ``request`` (what the user asks for); ``ingest`` and ``watch`` return a ``report``.
``watch.run_directly`` runs them in this process. ``area_state`` decides what the watch has to scan, ``candidate`` which
method may make a mask, ``plan.plan_shards`` cuts years into runs, and ``runners`` process many scenes at a time.
"""
