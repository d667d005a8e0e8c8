"""The publish protocol: putting items into a store so that the catalog above them cannot break.

Entry points: ``publisher.Publisher`` publishes, links, withdraws and recovers; ``check.check_catalog``
proves the catalog whole or mends it; ``mirror`` keeps its items as geoparquet; ``census.read_census``
counts; ``scene_states`` and ``area_states`` remember scenes that wait or failed, and watched areas.
"""
